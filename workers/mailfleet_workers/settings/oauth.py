"""Where an account's access tokens come from: the table `[accounts.NAME.oauth]`."""

import re
from typing import Self
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, field_validator, model_validator

from mailfleet.errors import SettingsError
from mailfleet_workers.accounts.oauth.client import ClientAuth, Grant, OAuthClient
from mailfleet_workers.secret import Secret
from mailfleet_workers.settings.problems import NOT_SHOWN, STRICT, Words, wrong

URL = "https://host/path in ASCII, without a login and a fragment"

_PROVIDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,59}")


class OAuthSettings(BaseModel):
    """`[accounts.NAME.oauth]`: an access token in place of a password (RFC 6749, XOAUTH2)."""

    model_config = STRICT

    token_url: str | None = Field(
        None,
        description="The token endpoint: `https://host/path`. Its certificate is verified, and it is asked directly.",
        json_schema_extra={"without": "login with a password, or `provider`"},
    )
    provider: str | None = Field(
        None,
        description="Who gives tokens in place of a token endpoint: what an installed package offers under that name in the"
        " entry point group `mailfleet.token_providers`.",
        json_schema_extra={"without": "`token_url`"},
    )
    client_id: str | None = Field(
        None,
        min_length=1,
        description="The client's id, as the provider registered it.",
        json_schema_extra={"without": "has to be said"},
    )
    client_secret: str | None = Field(
        None,
        description="Where the client's secret is: `env:NAME` or `file:/path`. The secret itself is refused.",
        json_schema_extra={"without": "none: a public client"},
    )
    refresh_token: str | None = Field(
        None,
        description="Where the first refresh token is: `env:NAME` or `file:/path`. One that the endpoint gives in its place is"
        " stored sealed, and used from then on.",
        json_schema_extra={"without": "has to be said for the grant `refresh_token`"},
    )
    scope: str | None = Field(
        None,
        min_length=1,
        description="What the token is for, in the provider's words, separated by spaces.",
        json_schema_extra={"without": "what the provider gives unasked"},
    )
    grant: Grant = Field(
        "refresh_token",
        description="How a token is asked for: `refresh_token` for a person's mailbox, `client_credentials` for an application"
        " of its own right.",
    )
    client_auth: ClientAuth = Field(
        "body", description="Where the client's secret is sent: in the `body`, or in a header (`basic`)."
    )
    ca_file: str | None = Field(
        None,
        min_length=1,
        description="A PEM file of the certificate authorities to trust for the token endpoint.",
        json_schema_extra={"without": "the system's authorities"},
    )
    timeout_s: float = Field(
        10,
        gt=0,
        le=60,
        description="How long one refresh may take. A worker that dies in it is replaced 5 s later.",
    )

    @property
    def used(self) -> bool:
        """Whether anything of it is set that says where tokens come from."""
        return any(
            one is not None
            for one in (self.token_url, self.provider, self.client_id, self.client_secret, self.refresh_token)
        )

    @field_validator("token_url")
    @classmethod
    def _check_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            parts = urlsplit(value)
            port = parts.port
        except ValueError:
            raise wrong(("", URL, NOT_SHOWN)) from None
        clean = value.isascii() and value.isprintable() and " " not in value and "#" not in value
        if not clean or parts.scheme != "https" or not parts.hostname or port == 0 or "@" in parts.netloc:
            raise wrong(("", URL, NOT_SHOWN))
        return value

    @field_validator("provider")
    @classmethod
    def _check_provider(cls, value: str | None) -> str | None:
        if value is not None and not _PROVIDER.fullmatch(value):
            raise wrong(("", "the name of an entry point", value))
        return value

    @field_validator("client_secret", "refresh_token")
    @classmethod
    def _check_secret(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                Secret(value)
            except SettingsError as error:
                raise wrong(("", error.expected, NOT_SHOWN)) from None
        return value

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if not self.used:
            return self
        if (self.token_url is None) == (self.provider is None):
            said = "none" if self.token_url is None else "both"
            raise wrong(("token_url", "either a token_url or a provider", Words(said)))
        if self.client_id is None:
            raise wrong(("client_id", "the client's id", Words("none")))
        if self.grant == "client_credentials" and self.refresh_token is not None:
            raise wrong(("refresh_token", "none, because grant is client_credentials", NOT_SHOWN))
        if self.provider is not None:
            if self.client_secret is None and self.refresh_token is None:
                expected = "`env:NAME` or `file:/path`: tokens are sealed with it before they are stored"
                raise wrong(("client_secret", expected, Words("none")))
        elif self.grant == "refresh_token" and self.refresh_token is None:
            raise wrong(("refresh_token", "`env:NAME` or `file:/path`, because of the grant", Words("none")))
        elif self.grant == "client_credentials" and self.client_secret is None:
            raise wrong(("client_secret", "`env:NAME` or `file:/path`, because of the grant", Words("none")))
        return self

    def client(self, name: str) -> OAuthClient | None:
        """What a worker needs; *name* is the account's, for errors. None where nothing is set."""
        if self.client_id is None:
            return None
        key = f"accounts.{name}.oauth"
        return OAuthClient(
            client_id=self.client_id,
            token_url=self.token_url,
            provider=self.provider,
            client_secret=_secret(self.client_secret, f"{key}.client_secret"),
            refresh_token=_secret(self.refresh_token, f"{key}.refresh_token"),
            scope=self.scope,
            grant=self.grant,
            client_auth=self.client_auth,
            ca_file=self.ca_file,
            timeout_s=self.timeout_s,
        )


def _secret(reference: str | None, key: str) -> Secret | None:
    return None if reference is None else Secret(reference, key=key)

"""One endpoint that is told of mails over HTTP: the table `[webhooks.NAME]`."""

import ipaddress
from typing import Self
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, field_validator, model_validator

from mailfleet.errors import SettingsError
from mailfleet_schema.names import EXPECTATION, InvalidName, check_name
from mailfleet_schema.webhook import ENDS, KINDS, Endpoint
from mailfleet_workers.secret import Secret
from mailfleet_workers.settings.problems import NOT_SHOWN, STRICT, Words, nearest, wrong
from mailfleet_workers.settings.texts import Texts

EVENTS = tuple(KINDS.values())
URL = "https://host/path in ASCII, without a login and a fragment"


class WebhookSettings(BaseModel):
    """`[webhooks.NAME]`: one endpoint that is told over HTTP what becomes of mails."""

    model_config = STRICT

    url: str | None = Field(
        None,
        description="Where events are posted: `https://host/path`; `http://` only on this machine, or with `plain_http`.",
        json_schema_extra={"without": "has to be said"},
    )
    plain_http: bool = Field(
        False, description="Whether `http://` may lead to another machine: everybody on the way can read it."
    )
    secret: str | None = Field(
        None,
        description="Where the secret is that signs events: `env:NAME` or `file:/path`. It is `whsec_` and 24 to 64 random"
        " bytes in base64; several, separated by spaces, all sign. The secret itself is refused.",
        json_schema_extra={"without": "has to be said"},
    )
    apps: Texts = Field(
        (), description="The apps of whose mails it is told.", json_schema_extra={"without": "all apps"}
    )
    events: Texts = Field(
        ENDS,
        min_length=1,
        description="What it is told of: `sent`, `failed`, `expired`, `cancelled`, `held`, `doubt`, `retried`.",
    )
    recipients: bool = Field(
        False, description="Whether events have the recipients' addresses, and reasons that quote them."
    )
    timeout_s: float = Field(10, gt=0, le=60, description="How long it may take to answer.")
    give_up_s: float = Field(
        259_200, gt=0, description="An event that it has not taken after so long is given up."
    )

    @field_validator("url")
    @classmethod
    def _check_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            parts = urlsplit(value)
            port = parts.port
        except ValueError:
            raise wrong(("", URL, NOT_SHOWN)) from None
        # What a URL must not have could change the request, or be a secret.
        clean = value.isascii() and value.isprintable() and " " not in value and "#" not in value
        if not clean or parts.scheme not in {"https", "http"} or not parts.hostname or port == 0:
            raise wrong(("", URL, NOT_SHOWN))
        if "@" in parts.netloc:
            raise wrong(("", URL, NOT_SHOWN))
        return value

    @field_validator("secret")
    @classmethod
    def _check_secret(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                Secret(value)
            except SettingsError as error:
                raise wrong(("", error.expected, NOT_SHOWN)) from None
        return value

    @field_validator("apps")
    @classmethod
    def _names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for position, name in enumerate(value):
            try:
                check_name("app", name)
            except InvalidName:
                raise wrong((f"[{position}]", EXPECTATION, name)) from None
        return value

    @field_validator("events")
    @classmethod
    def _kinds(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for position, one in enumerate(value):
            if one not in EVENTS:
                raise wrong((f"[{position}]", f"one of {', '.join(EVENTS)}{nearest(one, EVENTS)}", one))
        return value

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.url is None:
            raise wrong(("url", URL, Words("none")))
        if self.secret is None:
            raise wrong(("secret", "`env:NAME` or `file:/path`", Words("none")))
        parts = urlsplit(self.url)
        if parts.scheme == "http" and not self.plain_http and not _is_here(parts.hostname or ""):
            raise wrong(("url", "https://, or plain_http = true beside it", NOT_SHOWN))
        return self

    def endpoint(self, name: str) -> Endpoint:
        """Who is told, without how, under *name*."""
        return Endpoint(name, frozenset(self.apps), frozenset(self.events), self.recipients)

    def signing_secret(self, name: str) -> Secret:
        """The reference to the secret; *name* is the endpoint's, for errors."""
        assert self.secret is not None  # noqa: S101 - `_whole` has seen it
        return Secret(self.secret, key=f"webhooks.{name}.secret")


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

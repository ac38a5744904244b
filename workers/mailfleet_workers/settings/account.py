"""One account in the settings: where its server is, how to greet it, and where its password is kept."""

import re
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationInfo, field_validator, model_validator

from mailfleet.errors import InvalidMail, SettingsError
from mailfleet.validation.addresses import address
from mailfleet.validation.limits import DEFAULT_LIMITS
from mailfleet_schema.content import Address
from mailfleet_workers.account import Account, Mechanism, Proxy, Timeouts
from mailfleet_workers.limits.preset import UnknownPreset, preset
from mailfleet_workers.secret import Secret
from mailfleet_workers.settings.dsn import DsnSettings
from mailfleet_workers.settings.limits import AccountLimitSettings
from mailfleet_workers.settings.oauth import OAuthSettings
from mailfleet_workers.settings.problems import NOT_SHOWN, STRICT, Words, wrong
from mailfleet_workers.settings.replies import Replies, rules_from
from mailfleet_workers.settings.timeouts import TimeoutSettings

Tls = Literal["implicit", "starttls", "plain"]
#: What a preset says of one connection or message; the account's key of that name wins.
Figure = Literal["max_messages", "recipients_per_message", "max_message_bytes"]

#: The port that goes with each way to encrypt (RFC 8314 3.3, RFC 6409, RFC 5321).
PORTS: dict[Tls, int] = {"implicit": 465, "starttls": 587, "plain": 25}

#: After so many mails a connection is closed where neither a key nor a preset says it.
MAX_MESSAGES = 50

#: Said of an account that uses no proxy though `default` has one.
NO_PROXY = "none"

_HOST = re.compile(r"(?![.-])[A-Za-z0-9._-]{1,253}|[0-9A-Fa-f:.]{2,45}")


class AccountSettings(BaseModel):
    """`[accounts.NAME]`: one named SMTP configuration, with what it takes over from `default` (see `inherit`).

    Without `host` it means the embedded catching server.
    """

    model_config = STRICT

    host: str | None = Field(
        None,
        description="The server's name or address.",
        json_schema_extra={"without": "the catching server of the embedded mode"},
    )
    port: int | None = Field(
        None,
        ge=1,
        le=65535,
        description="The server's port.",
        json_schema_extra={"without": "465 for implicit, 587 for starttls, 25 for plain"},
    )
    tls: Tls | None = Field(
        None,
        description="How the connection is encrypted: `implicit`, `starttls` or `plain`. A certificate is always"
        " verified. `plain` sends every mail in the clear, has to be said, and is refused with a `username`.",
        json_schema_extra={"without": "implicit"},
    )
    username: str | None = Field(
        None, min_length=1, description="Who logs in.", json_schema_extra={"without": "no login"}
    )
    password: str | None = Field(
        None,
        description="Where the password is: `env:NAME` or `file:/path`. The password itself is refused.",
        json_schema_extra={"without": "no login"},
    )
    mechanism: Mechanism | None = Field(
        None,
        description="The mechanism of AUTH: `PLAIN`, `LOGIN`, `CRAM-MD5`; `XOAUTH2` with `oauth`. One is tried, and no other"
        " after a refusal.",
        json_schema_extra={"without": "the first of these that the server offers"},
    )
    oauth: OAuthSettings = Field(OAuthSettings())
    from_: str | None = Field(
        None,
        alias="from",
        description="The sender of mails that name none: `ada@example.net` or `Ada <ada@example.net>`.",
        json_schema_extra={"without": "every mail names its own"},
    )
    helo: str | None = Field(
        None,
        description="The name that we greet with.",
        json_schema_extra={"without": "this machine's full name, else its address"},
    )
    ca_file: str | None = Field(
        None,
        min_length=1,
        description="A PEM file of the certificate authorities to trust for this account.",
        json_schema_extra={"without": "the system's authorities"},
    )
    proxy: str | None = Field(
        None,
        description="A SOCKS5 proxy through which the server is reached: `socks5://host:port`, or"
        " `socks5://user:env:NAME@host:port` where it wants a password, which stands there as a reference. The proxy looks up"
        " the server's name. `none` for none where `default` has one.",
        json_schema_extra={"without": "a direct connection"},
    )
    preset: str | None = Field(
        None,
        description="A provider whose limits apply, with a plan if it has some: `m365`, `google-workspace/trial`."
        " `mailfleet presets` lists them; the keys of `limits` win one by one.",
        json_schema_extra={"without": "no limits but those below"},
    )
    limits: AccountLimitSettings = Field(AccountLimitSettings())
    max_messages: int | None = Field(
        None,
        ge=1,
        description="A connection is closed after so many mails.",
        json_schema_extra={"without": "the preset's, else 50"},
    )
    recipients_per_message: int | None = Field(
        None,
        ge=1,
        description="So many recipients go in one transaction; a mail to more goes in several.",
        json_schema_extra={"without": "the preset's, else any number"},
    )
    max_message_bytes: int | None = Field(
        None,
        ge=1,
        description="A larger mail, encoded, is never sent; the server is not asked.",
        json_schema_extra={"without": "the preset's, else what the server says"},
    )
    max_age_s: float = Field(300, gt=0, description="A connection is closed at this age.")
    max_idle_s: float = Field(8, gt=0, description="A connection is closed when it was idle for so long.")
    timeouts: TimeoutSettings = Field(TimeoutSettings())
    dsn: DsnSettings = Field(DsnSettings())
    replies: Replies = Field(
        (),
        description="Rules for what its server answers, searched before those of the host and mailfleet's own"
        " ([replies](replies.md)).",
    )
    dry_run: bool = Field(
        False,
        description="Whether this account never sends, whatever `delivery` says. Its mails end as sent, with reason dry_run.",
    )
    dry_run_prefix: str = Field(
        "[DRYRUN]",
        description="A mail whose subject begins so is not sent but ends as sent, with reason dry_run; empty for none.",
    )

    @field_validator("host", "helo")
    @classmethod
    def _check_host(cls, value: str | None) -> str | None:
        if value is not None and not _HOST.fullmatch(value):
            raise wrong(("", "a host name or address alone, in ASCII", value))
        return value

    @field_validator("preset")
    @classmethod
    def _check_preset(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                preset(value)
            except UnknownPreset as error:
                raise wrong(("", error.expected, value)) from None
        return value

    @field_validator("password")
    @classmethod
    def _check_password(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                Secret(value)
            except SettingsError as error:
                raise wrong(("", error.expected, NOT_SHOWN)) from None
        return value

    @field_validator("proxy")
    @classmethod
    def _check_proxy(cls, value: str | None) -> str | None:
        if value is not None and value != NO_PROXY:
            try:
                Proxy.parse(value)
            except SettingsError as error:
                shown = NOT_SHOWN if "@" in value else value
                raise wrong(("", f"{error.expected}; or {NO_PROXY}", shown)) from None
        return value

    @field_validator("from_")
    @classmethod
    def _check_from(cls, value: str | None) -> str | None:
        if value is not None:
            _address(value)
        return value

    @field_validator("port", "tls", "username", "password", "mechanism")
    @classmethod
    def _belongs_to_host(cls, value: Any, info: ValidationInfo) -> Any:
        # `host` is missing from the data when it was refused itself: one line is enough then.
        if value is not None and info.data.get("host", "") is None:
            shown = NOT_SHOWN if info.field_name == "password" else value
            raise wrong(("", "a host beside it, the catching server has its own", shown))
        return value

    @model_validator(mode="after")
    def _check_login(self) -> "AccountSettings":
        tokens = self.oauth.used
        if self.username is not None and self.password is None and not tokens:
            raise wrong(
                ("password", "`env:NAME` or `file:/path`, because there is a username", Words("none"))
            )
        if self.username is None and (self.password is not None or tokens):
            what = "oauth" if tokens else "a password"
            raise wrong(("username", f"a user name, because there is {what}", Words("none")))
        if self.password is not None and tokens:
            raise wrong(("password", "none, because there is oauth", NOT_SHOWN))
        if self.mechanism is not None and (self.mechanism == "XOAUTH2") != tokens:
            raise wrong(("mechanism", "XOAUTH2 with oauth, another one with a password", self.mechanism))
        if self.username is not None and self.tls == "plain":
            raise wrong(("tls", "implicit or starttls, because there is a username", self.tls))
        return self

    @property
    def sender(self) -> Address | None:
        """`from` in its stored form."""
        return None if self.from_ is None else _address(self.from_)

    def secret(self, name: str) -> Secret | None:
        """The reference to the password; *name* is the account's, for errors."""
        return None if self.password is None else Secret(self.password, key=f"accounts.{name}.password")

    def secrets(self, name: str) -> tuple[Secret, ...]:
        """The references to every secret; *name* is the account's, for errors."""
        proxy, client = self.proxy_of(name), self.oauth.client(name)
        login = () if client is None else client.secrets
        found = (self.secret(name), *login, None if proxy is None else proxy.password)
        return tuple(one for one in found if one is not None)

    def proxy_of(self, name: str) -> Proxy | None:
        """The proxy to go through; *name* is the account's, for errors."""
        if self.proxy is None or self.proxy == NO_PROXY:
            return None
        return Proxy.parse(self.proxy, key=f"accounts.{name}.proxy")

    def account(self, name: str, catcher: tuple[str, int] | None) -> Account:
        """What a worker needs, under *name*. *catcher* is where the catching server listens, None when there is none.

        Raises SettingsError when the account means the catching server and there is none.
        """
        tls: Tls
        if self.host is not None:
            tls = self.tls or "implicit"
            host, port = self.host, self.port or PORTS[tls]
        elif catcher is not None:
            tls, (host, port) = "plain", catcher
        else:
            raise SettingsError(
                f"accounts.{name}.host", "a host: only the embedded mode has a catching server", Words("none")
            )
        return Account(
            name=name,
            host=host,
            port=port,
            tls=tls,
            username=self.username,
            password=self.secret(name),
            oauth=self.oauth.client(name),
            mechanism=self.mechanism,
            sender=self.sender,
            helo=self.helo,
            ca_file=self.ca_file,
            timeouts=Timeouts(**self.timeouts.model_dump()),
            max_messages=self._figure("max_messages") or MAX_MESSAGES,
            recipients_per_message=self._figure("recipients_per_message"),
            max_message_bytes=self._figure("max_message_bytes"),
            dsn=self.dsn.reports(),
            max_age_s=self.max_age_s,
            max_idle_s=self.max_idle_s,
            # The catching server is in this process.
            proxy=None if self.host is None else self.proxy_of(name),
            dry_run=self.dry_run,
            replies=rules_from(self.replies, f"accounts.{name}.replies"),
        )

    def _figure(self, key: Figure) -> int | None:
        """What is set here, else what the preset says; None where nobody says it."""
        own: int | None = getattr(self, key)
        return own if own is not None or self.preset is None else getattr(preset(self.preset), key)


def _address(value: str) -> Address:
    try:
        return address(value, "from", DEFAULT_LIMITS)
    except InvalidMail as error:
        raise wrong(("", f"one address ({error.reason})", value)) from None

"""The settings themselves: every key with its meaning, unit and default on its field."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, Field, ValidationInfo, field_validator

from mailfleet.errors import SettingsError
from mailfleet_schema.engine import parse_url
from mailfleet_schema.names import EXPECTATION, InvalidName, check_name
from mailfleet_schema.statements.reconcile import Patience
from mailfleet_schema.states import ContentPolicy
from mailfleet_schema.topology import SHARED_APP
from mailfleet_schema.webhook import Endpoint
from mailfleet_workers.account import Account
from mailfleet_workers.settings.account import AccountSettings
from mailfleet_workers.settings.app import AppSettings
from mailfleet_workers.settings.inherit import DEFAULT, merge_all
from mailfleet_workers.settings.limits import HostSettings, LimitSettings
from mailfleet_workers.settings.outgoing import OutgoingSettings
from mailfleet_workers.settings.problems import NOT_SHOWN, STRICT, nearest, wrong
from mailfleet_workers.settings.redis import check_redis
from mailfleet_workers.settings.stores import StoreSettings
from mailfleet_workers.settings.timing import TimingSettings
from mailfleet_workers.settings.webhook import WebhookSettings

# As metrics and gates name a server. An address of IPv6 ends in digits that may be a port: it is taken as it is.
_SERVER = re.compile(
    r"(?:(?![.-])[a-z0-9._-]{1,253}(?::(?!(?:25|465|587)$)(?P<port>[1-9][0-9]{0,4}))?|[0-9a-f:.]{2,51})",
    re.ASCII,
)
_SERVER_EXPECTED = "a server's name in lower case, with its port unless that is 25, 465 or 587: smtp.example.com, mx.example.com:2525"


def _path(value: object) -> object:
    if not isinstance(value, str):
        return value
    if not value:
        raise wrong(("", "a path", value))
    return Path(value)


class PoolSettings(BaseModel):
    """`[pool]`: the command `mailfleet worker`, which looks after the worker processes of one machine."""

    model_config = STRICT

    listen: str = Field(
        "127.0.0.1:9402",
        description="Where it answers `/metrics`, `/healthz` and `/readyz`: `host:port`, with port 0 for any free"
        " one; empty for nowhere.",
    )

    @field_validator("listen")
    @classmethod
    def _address(cls, value: str) -> str:
        if value:
            host, _, port = value.rpartition(":")
            if not host or not port.isascii() or not port.isdigit() or int(port) > 65_535:
                raise wrong(("", "host:port, such as 127.0.0.1:9402, or nothing", value))
        return value


class LogSettings(BaseModel):
    """`[log]`: what worker processes write to standard error."""

    model_config = STRICT

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="From which level on: `debug`, `info`, `warning` or `error`."
    )
    format: Literal["json", "text"] = Field(
        "json", description="`json` is one object on each line, `text` is for people."
    )
    addresses: Literal["hashed", "plain", "none"] = Field(
        "hashed",
        description="How mail addresses appear: `hashed` (the same address gives the same word as long as the key is"
        " the same), `plain`, or `none`.",
    )
    address_key: str | None = Field(
        None,
        repr=False,
        description="The key of those hashes, as `env:NAME` or `file:/path`. Without it every start has its own.",
        json_schema_extra={"without": "a new one with every start"},
    )

    @field_validator("address_key")
    @classmethod
    def _reference(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("env:", "file:")):
            raise wrong(("", "env:NAME or file:/path", NOT_SHOWN))
        return value


def _named(field: str, *, optional: bool = False) -> Any:
    def check(value: object) -> object:
        if optional and value is None:
            return None
        try:
            return check_name(field, value)
        except InvalidName:
            raise wrong(("", EXPECTATION, value)) from None

    return BeforeValidator(check)


def _server(value: object) -> object:
    found = _SERVER.fullmatch(value) if isinstance(value, str) else None
    if found is None or (found["port"] and not 0 < int(found["port"]) < 65_536):
        raise wrong(("", _SERVER_EXPECTED, value))
    return value


class Settings(BaseModel):
    """Everything that can be set, checked as a whole. `load` builds it; tests may build it directly.

    On SQLite it is the embedded mode. `redis_url` None means the local limiter. URLs may carry passwords, so their
    fields are left out of the repr.
    """

    model_config = STRICT

    data_dir: Annotated[Path, BeforeValidator(_path)] = Field(
        Path("mailfleet-data"),
        description="Where this machine keeps its own files: `journal/`, and in embedded mode `mailfleet.db` and"
        " `caught/`. In a settings file, relative to that file.",
    )
    database_url: str = Field(
        default_factory=lambda data: f"sqlite:///{data.get('data_dir', '')}/mailfleet.db",
        repr=False,
        description="The database: `postgresql://user@host/name`, or `sqlite:///file` for the embedded mode. May be"
        " `env:NAME` or `file:/path`, and must be one of them in a file if it has a password.",
        json_schema_extra={"without": "mailfleet.db in data_dir"},
    )
    database_prepared: bool = Field(
        default=False,
        description="Whether workers let PostgreSQL prepare their statements once for each connection: less work for it."
        " Not through a pooler that gives every transaction another connection.",
    )
    broker_url: str | None = Field(
        None,
        repr=False,
        description="RabbitMQ: `amqp://user@host/vhost`, or `amqps://` for TLS; several servers of one cluster separated"
        " by `;`. May be `env:NAME` or `file:/path`, and must be one of them in a file if it has a password. With"
        " PostgreSQL only.",
        json_schema_extra={"without": "the in-process broker of the embedded mode"},
    )
    redis_url: str | None = Field(
        None,
        repr=False,
        description="Redis, where the limits of all workers are kept: `redis://host:6379/0`, `rediss://` for TLS, or"
        " `unix:///path/redis.sock`. May be `env:NAME` or `file:/path`, and must be one of them in a file if it has a"
        " password. Workers of a fleet need it as soon as anything of theirs is limited. With PostgreSQL only.",
        json_schema_extra={"without": "no limits; the embedded mode keeps its own"},
    )
    installation: Annotated[str | None, _named("installation", optional=True)] = Field(
        None,
        description="A name for this installation, such as `production`, which the database remembers. Workers whose settings have"
        " another one, or none, send nothing from it: so a copy of the whole disk is noticed.",
    )
    run_mode: Literal["nothing", "local", "develop", "test", "product"] = Field(
        "local",
        description="What this installation is, for mails that are meant for some run modes only: `nothing`, `local`,"
        " `develop`, `test` or `product`.",
    )
    delivery: Literal["dry_run", "redirect", "allowlist", "live"] = Field(
        "dry_run",
        description="What really leaves: `dry_run` stops before a connection is opened, `redirect` sends everything to"
        " `outgoing.redirect_to`, `allowlist` only to those of `outgoing.allow`, `live` sends. The"
        " catching server of the embedded mode always gets its mail.",
    )
    account_loaders: bool = Field(
        default=True,
        description="Whether installed packages are asked for accounts that stand in no settings (entry points of"
        " `mailfleet.accounts`). With `false` no code of theirs is loaded.",
    )
    accounts: dict[Annotated[str, _named("accounts")], AccountSettings] = Field(
        default_factory=lambda: {DEFAULT: AccountSettings()}
    )
    hosts: dict[Annotated[str, BeforeValidator(_server)], HostSettings] = Field(default_factory=dict)
    apps: dict[Annotated[str, _named("apps")], AppSettings] = Field(default_factory=dict)
    webhooks: dict[Annotated[str, _named("webhooks")], WebhookSettings] = Field(default_factory=dict)
    stores: dict[Annotated[str, _named("stores")], StoreSettings] = Field(default_factory=dict)
    limits: LimitSettings = Field(LimitSettings())
    outgoing: OutgoingSettings = Field(OutgoingSettings(), validate_default=True)
    timing: TimingSettings = Field(TimingSettings())
    pool: PoolSettings = Field(PoolSettings())
    log: LogSettings = Field(LogSettings())

    @field_validator("database_url")
    @classmethod
    def _check_database(cls, value: str) -> str:
        expected = "postgresql://user@host/name or sqlite:///file"
        try:
            url = parse_url("database_url", value)
        except ValueError:
            raise wrong(("", expected, NOT_SHOWN)) from None
        if url.get_backend_name() == "sqlite" and url.database in {None, "", ":memory:"}:
            raise wrong(("", f"{expected}: what is in memory only would be lost", value))
        return value

    @field_validator("broker_url")
    @classmethod
    def _check_broker(cls, value: str | None, info: ValidationInfo) -> str | None:
        from mailfleet.broker.rabbit.parameters import InvalidBrokerUrl, parse_broker_url

        if value is None:
            return None
        try:
            parse_broker_url("broker_url", value)
        except InvalidBrokerUrl as error:
            raise wrong(("", error.expected, NOT_SHOWN)) from None
        if str(info.data.get("database_url", "")).startswith("sqlite"):
            expected = "nothing beside SQLite: the embedded mode has its own broker; set database_url too"
            raise wrong(("", expected, NOT_SHOWN))
        return value

    @field_validator("redis_url")
    @classmethod
    def _check_redis(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None:
            return None
        check_redis(value)
        if str(info.data.get("database_url", "")).startswith("sqlite"):
            expected = "nothing beside SQLite: the embedded mode has its own limiter; set database_url too"
            raise wrong(("", expected, NOT_SHOWN))
        return value

    @field_validator("outgoing")
    @classmethod
    def _whom_delivery_means(cls, value: OutgoingSettings, info: ValidationInfo) -> OutgoingSettings:
        delivery = info.data.get("delivery")
        if delivery == "redirect" and not value.redirect_to:
            raise wrong(("redirect_to", "at least one address, because delivery is redirect", ()))
        if delivery == "allowlist" and not value.allow:
            raise wrong(("allow", "at least one address or @domain, because delivery is allowlist", ()))
        return value

    @field_validator("accounts", mode="before")
    @classmethod
    def _merged(cls, value: object) -> object:
        return merge_all(value) if isinstance(value, Mapping) else value

    @field_validator("apps")
    @classmethod
    def _known_accounts(cls, value: dict[str, AppSettings], info: ValidationInfo) -> dict[str, AppSettings]:
        known = info.data.get("accounts")
        if known is None:  # the accounts have problems of their own
            return value
        problems = [
            (f"{app}.accounts[{position}]", f"the name of an account{nearest(name, known)}", name)
            for app, each in value.items()
            for position, name in enumerate(each.accounts)
            if name not in known and "*" not in name
        ]
        if problems:
            raise wrong(*problems)
        return value

    @field_validator("apps")
    @classmethod
    def _names_in_also(cls, value: dict[str, AppSettings]) -> dict[str, AppSettings]:
        problems = []
        for app, each in value.items():
            for position, name in enumerate(each.also):
                try:
                    check_name("app", name)
                except InvalidName:
                    problems.append((f"{app}.also[{position}]", EXPECTATION, name))
        if problems:
            raise wrong(*problems)
        return value

    @classmethod
    def load(cls, environ: Mapping[str, str], path: Path | None = None) -> Self:
        """Defaults, then the file, then the variables of *environ*; later ones win.

        *path* None means what MAILFLEET_CONFIG names, else `mailfleet.toml` in the working directory if it is there.
        Raises `WrongSettings` (a SettingsError) with one line for every problem.
        """
        from mailfleet_workers.settings.sources import load

        return load(environ, path, model=cls).settings

    def app(self, name: str) -> AppSettings:
        """What is set for the app *name*, the defaults if it is not listed."""
        return self.apps.get(name) or AppSettings()

    def content_policy(self, app: str) -> ContentPolicy:
        """What becomes of the content of mails of *app* that do not say it themselves."""
        return ContentPolicy(self.app(app).content_policy)

    def shares(self, app: str) -> bool:
        """Whether *app*'s workers also send mail of other apps that is for everybody."""
        return app == SHARED_APP or self.app(app).shared

    def account(self, name: str, *, catcher: tuple[str, int] | None = None) -> Account:
        """The account *name* as a worker needs it.

        *catcher* is where the embedded catching server listens; accounts without a host mean it. Raises SettingsError
        for a name that is not set, and for an account without a host where there is no catching server.
        """
        found = self.accounts.get(name)
        if found is None:
            raise SettingsError("accounts", f"an account named {name}", sorted(self.accounts))
        return found.account(name, catcher)

    def usable(self, app: str) -> tuple[str, ...]:
        """The accounts of these settings that mails of *app* may be sent through."""
        return tuple(name for name in self.accounts if self.app(app).may_use(name))

    def endpoints(self) -> tuple[Endpoint, ...]:
        """Who is told of mails over HTTP."""
        return tuple(one.endpoint(name) for name, one in self.webhooks.items())

    def patience(self) -> Patience:
        """The times that the reconciler's statements need."""
        timing = self.timing
        return Patience(
            grace_s=timing.grace_s,
            step_s=timing.step_s,
            most_step_s=timing.most_step_s,
            max_next_s=timing.max_next_s,
            max_age_s=timing.max_age_s,
            settle_s=timing.settle_s,
            quiet_s=timing.quiet_s,
        )

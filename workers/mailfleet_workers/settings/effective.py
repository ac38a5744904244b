"""Every setting in effect with where it came from, and whether what it refers to is there: `mailfleet config check`."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from mailfleet.errors import SettingsError
from mailfleet_workers.accounts.oauth import providers
from mailfleet_workers.limits.book import Limits
from mailfleet_workers.limits.preset import preset
from mailfleet_workers.limits.resolve import limited, limits_of
from mailfleet_workers.settings.account import AccountSettings
from mailfleet_workers.settings.inherit import DEFAULT, inherits
from mailfleet_workers.settings.keys import dotted, in_file
from mailfleet_workers.settings.model import Settings
from mailfleet_workers.settings.sources import URLS, Loaded, separate
from mailfleet_workers.settings.stores import DIRECTORY
from mailfleet_workers.webhooks.signing import keys_of


@dataclass(frozen=True, slots=True)
class Effective:
    """One setting: its dotted key, its value as it is written in a file, and `default`, the file's or the variable's name.

    A password inside a URL is left out. Where nothing is set `value` is `none`, and `without` what that means.
    """

    key: str
    value: str
    origin: str
    without: str | None = None

    def as_json(self) -> dict[str, str | None]:
        return asdict(self)


def effective(loaded: Loaded[Settings]) -> list[Effective]:
    """All settings of *loaded*, in the order of `docs/settings.md`."""
    given = _given_accounts(loaded.origins)
    return [
        Effective(
            key,
            in_file(value),
            loaded.origins.get(key) or _taken_over(key, given),
            _without(field) if value is None else None,
        )
        for key, value, field in _values((), loaded.settings)
    ]


def effective_account(
    account: AccountSettings, given: Collection[str], default: Collection[str], origin: str
) -> list[Effective]:
    """All settings of the merged *account*, of which *given* come from *origin*; *default* are given to `default`."""
    return [
        Effective(
            key,
            in_file(value),
            origin if key in given else origin_of(key, given, default),
            _without(field) if value is None else None,
        )
        for key, value, field in _values((), account)
    ]


def origin_of(key: str, given: Collection[str], default: Collection[str]) -> str:
    """Where *key*, which is not *given* to an account, comes from; *default* are the keys given to `default`."""
    return f"accounts.{DEFAULT}" if key in default and inherits(key, given) else "default"


def _taken_over(key: str, given: Mapping[str, Collection[str]]) -> str:
    accounts, _, rest = key.partition(".")
    name, _, below = rest.partition(".")
    if accounts != "accounts" or name == DEFAULT:
        return "default"
    return origin_of(below, given.get(name, ()), given.get(DEFAULT, ()))


def _given_accounts(origins: Collection[str]) -> dict[str, set[str]]:
    """The keys that were given to each account."""
    found: dict[str, set[str]] = {}
    for key in origins:
        accounts, _, rest = key.partition(".")
        if accounts == "accounts" and rest:
            name, _, below = rest.partition(".")
            found.setdefault(name, set()).add(below)
    return found


def limits(settings: Settings) -> dict[str, Limits]:
    """The limits of every account, as they are without changes that operators made since."""
    embedded = settings.database_url.startswith("sqlite")
    # The catching server's port is not known before it listens; its limits are not looked up by it.
    return limits_of(settings, catcher=("catching-server", 25) if embedded else None)


def missing(settings: Settings, environ: Mapping[str, str]) -> list[SettingsError]:
    """What the settings refer to and is not there: secrets, authorities, providers of tokens, directories of stores."""
    problems: list[SettingsError] = []
    for name, account in settings.accounts.items():
        for secret in account.secrets(name):
            try:
                secret.reveal(environ)
            except SettingsError as error:
                # One line for what several accounts have taken over.
                if all((error.expected, error.value) != (one.expected, one.value) for one in problems):
                    problems.append(error)
        for key, file in (("ca_file", account.ca_file), ("oauth.ca_file", account.oauth.ca_file)):
            if file is not None and not Path(file).is_file():
                problems.append(SettingsError(f"accounts.{name}.{key}", "a readable file", file))
        provider = account.oauth.provider
        if provider is not None and not providers.known(provider):
            expected = f"an installed entry point of {providers.GROUP}"
            problems.append(SettingsError(f"accounts.{name}.oauth.provider", expected, provider))
    for name, webhook in settings.webhooks.items():
        try:
            keys_of(webhook.signing_secret(name), environ)
        except SettingsError as error:
            problems.append(error)
    problems += [
        SettingsError(f"stores.{name}.path", "a directory that is there", store.path)
        for name, store in settings.stores.items()
        if store.kind == DIRECTORY and not Path(store.path or "").is_dir()
    ]
    return problems


def notes(settings: Settings) -> list[str]:
    """What is allowed and still worth a word."""
    found = []
    for name, account in settings.accounts.items():
        if account.host is not None and account.tls == "plain":
            found.append(f"accounts.{name}: mail goes to {account.host} in the clear (tls is plain)")
        shared = [one for one in settings.accounts if _same_login(settings, one, name)]
        if shared and name != DEFAULT:
            found.append(
                f"accounts.{name}: logs in as accounts.{shared[0]} does, and each of them counts its limits for itself;"
                " limits of hosts hold for both"
            )
        if account.preset is not None and not preset(account.preset).documented:
            plans = ", ".join(f"{account.preset}/{plan}" for plan in preset(account.preset).plans)
            instead = f"; there is {plans}" if plans else ""
            found.append(
                f"accounts.{name}: preset {account.preset} has no documented figures and limits nothing{instead}"
            )
    known = limits(settings)
    used = {one.host for one in known.values()}
    found += [
        f'hosts."{host}": no account is on this server, so its limits hold for nobody'
        for host in settings.hosts
        if host not in used
    ]
    embedded = settings.database_url.startswith("sqlite")
    if settings.redis_url is None and not embedded:
        of_them = [f"accounts.{name}" for name, one in known.items() if limited(one)]
        if of_them:
            have = "has" if len(of_them) == 1 else "have"
            found.append(
                f"redis_url: {', '.join(of_them)} {have} limits, and workers that use them do not start without it"
            )
    if settings.limits.when_away == "share" and not embedded:
        found += _too_little(known, settings.limits.shares)
    if settings.delivery == "dry_run" and any(a.host is not None for a in settings.accounts.values()):
        found.append("delivery: nothing really leaves (dry_run); live sends")
    return found


def _same_login(settings: Settings, one: str, other: str) -> bool:
    """Whether account *other* stands behind *one* and logs in to the same server as the same user."""
    if list(settings.accounts).index(one) >= list(settings.accounts).index(other):
        return False
    a, b = settings.accounts[one], settings.accounts[other]
    return a.username is not None and (a.host, a.username) == (b.host, b.username)


def _too_little(known: Mapping[str, Limits], shares: int) -> Iterator[str]:
    """The accounts that one of *shares* parts of their limits lets send nothing."""
    # Not at the top: it brings redis, which only workers need.
    from mailfleet_workers.limits.share import TooLittle, part_of

    for name, one in known.items():
        part = part_of(one, shares)
        if isinstance(part, TooLittle):
            yield f"accounts.{name}: sends nothing while Redis is away, {part.rule} is too little for {shares} shares"


def _values(path: tuple[str, ...], model: BaseModel) -> Iterator[tuple[str, Any, FieldInfo]]:
    for name, field in type(model).model_fields.items():
        here = (*path, field.alias or name)
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from _values(here, value)
        elif isinstance(value, dict):
            for each, below in value.items():
                yield from _values((*here, each), below)
        else:
            shown = without_password(value) if name in URLS and value else value
            yield dotted(here), shown, field


def without_password(urls: str) -> str:
    """*urls*, one or several separated by `;`, as they may be shown."""
    return ";".join(_shown(url) for url in separate(urls))


def _shown(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return "a URL that cannot be read"
    login, at, host = parts.netloc.rpartition("@")
    user, colon, _ = login.partition(":")
    query = "&".join(_masked(part) for part in parts.query.split("&"))
    # urlunsplit would drop the empty host of sqlite:///x.
    return (
        f"{parts.scheme}://{user}{':***' if colon else ''}{at}{host}{parts.path}{'?' if query else ''}{query}"
    )


def _masked(part: str) -> str:
    name, equals, _ = part.partition("=")
    return f"{name}=***" if equals and "password" in name.lower() else part


def _without(field: FieldInfo) -> str | None:
    extra = field.json_schema_extra
    return str(extra["without"]) if isinstance(extra, dict) and "without" in extra else None

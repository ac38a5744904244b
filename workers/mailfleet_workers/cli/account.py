"""`mailfleet account`: the accounts of the settings and those in the database; storing one while workers run."""

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from mailfleet_workers.accounts.found import SETTINGS
from mailfleet_workers.accounts.loaders import installed
from mailfleet_workers.cli import screen
from mailfleet_workers.cli.context import Context, of
from mailfleet_workers.cli.failure import WRONG, Commands, Failure, complain
from mailfleet_workers.cli.mails import Json
from mailfleet_workers.cli.moments import short
from mailfleet_workers.cli.waits import operating
from mailfleet_workers.operators.accounts import (
    MOST_TEXT,
    Shown,
    Summary,
    given_now,
    read_document,
    read_words,
    remove,
    show,
    store,
    summaries,
)
from mailfleet_workers.operators.tokens import TokenState, token_states
from mailfleet_workers.settings.effective import Effective, effective

HELP = "Show accounts, and store them in the database, where workers find them while they run."

Name = Annotated[str, typer.Argument(metavar="NAME", help="The account's name.")]

commands = typer.Typer(cls=Commands, help=HELP, no_args_is_help=True)


@commands.command("list", short_help="List the accounts of the settings, and those that are stored.")
def list_command(ctx: typer.Context, as_json: Json = False) -> None:
    """List the accounts of the settings, and those that are stored in the database.

    What loaders know is not listed: they are asked for one name at a time (`account show`).
    """
    context = of(ctx)
    with context.reading() as connection:
        found = summaries(connection, context.settings)
    if as_json:
        screen.print_json({"accounts": [one.as_json() for one in found]})
        return
    now = datetime.now().astimezone()
    rows = [
        [screen.cell(one.name), screen.cell(one.origin), _state(one), screen.cell(_changed(one, now))]
        for one in found
    ]
    screen.output().print(screen.folded(["account", "from", "host", "changed"], rows))


def _state(one: Summary) -> Text:
    if one.problem is not None:
        return screen.cell(one.problem, "red")
    if not one.used:
        return screen.cell("not used: the settings have one of this name", "yellow")
    who = f", as {one.username}" if one.username else ""
    return screen.cell(f"{one.host or 'the catching server'}{who}")


def _changed(one: Summary, now: datetime) -> str:
    return "" if one.changed_at is None else f"{short(one.changed_at, now)}, version {one.version}"


@commands.command("show", short_help="Show what an account is made of, and where each setting comes from.")
def show_command(ctx: typer.Context, name: Name, as_json: Json = False) -> None:
    """Show an account as workers find it, merged with `default`, and where each setting comes from. Secrets are references.

    With `oauth` also the state of its access tokens, never a token. Asks the loaders that are installed here. Ends with status 2 when
    the account cannot be used.
    """
    found = _shown(of(ctx), name)
    if as_json:
        screen.print_json(found.as_json())
    elif found.problem is None:
        rows = [
            [
                screen.cell(one.key),
                _value(one),
                screen.cell(one.origin, "dim" if one.origin == "default" else ""),
            ]
            for one in found.settings
        ]
        screen.output().print(screen.folded(["setting", "value", "from"], rows))
        _print_tokens(found.tokens)
    if found.problem is not None:
        complain(*(f"{found.origin}: {line}" for line in found.problem.splitlines()))
        raise typer.Exit(WRONG)


def _shown(context: Context, name: str) -> Shown:
    if name in context.settings.accounts:
        start = f"accounts.{name}."
        settings = tuple(
            replace(one, key=one.key.removeprefix(start))
            for one in effective(context.loaded)
            if one.key.startswith(start)
        )
        tokens = _tokens(context, name) if context.settings.accounts[name].oauth.used else ()
        return Shown(name, SETTINGS, None, settings, tokens)
    loaders = installed(time.monotonic, asked=context.settings.account_loaders)
    try:
        with context.reading() as connection:
            return show(connection, context.settings, name, loaders)
    finally:
        for loader in loaders:
            loader.close()


def _tokens(context: Context, name: str) -> tuple[TokenState, ...]:
    """Those of an account of the settings, which can be shown without a database too."""
    try:
        with context.reading() as connection:
            return token_states(connection, name)
    except Failure as failure:
        complain(*(f"tokens are not shown: {line}" for line in failure.lines))
        return ()


def _print_tokens(tokens: Sequence[TokenState]) -> None:
    if not tokens:
        return
    now = datetime.now().astimezone()
    rows = [
        [
            screen.cell(f"{one.state}, being renewed" if one.renewing else one.state),
            screen.cell("" if one.expires_at is None else short(one.expires_at, now)),
            screen.cell(str(one.generation)),
            screen.cell("" if one.failed_at is None else f"{short(one.failed_at, now)}: {one.reason}", "red"),
            screen.cell(short(one.changed_at, now)),
        ]
        for one in tokens
    ]
    screen.output().print()
    screen.output().print(screen.folded(["token", "ends", "number", "last failure", "changed"], rows))


def _value(one: Effective) -> Text:
    return screen.cell(one.value) if one.without is None else screen.cell(f"none: {one.without}", "dim")


@commands.command("set", short_help="Store an account in the database, or change one.")
def set_command(
    ctx: typer.Context,
    name: Name,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE...]", help="Keys of [accounts.NAME]: port=465 limits.messages=14/s."
        ),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", "-f", metavar="FILE", help="TOML or JSON with all keys; - is standard input."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Store account NAME: all of it from FILE, or single keys, which change what is stored. An empty VALUE takes a key away.

    It is looked at as a whole before it is written. A password is a reference, env:NAME or file:/path, which workers look up; one that
    stands there itself is refused. Running workers follow within seconds. Where its login was refused it is tried again.
    """
    context = of(ctx)
    if bool(words) == (file is not None):
        raise Failure("account: give either keys, or --file with all of them")
    with operating(context) as engine:
        given = _read(file) if file is not None else _changed_keys(given_now(engine, name), words or ())
        found = store(engine, context.settings, name, given)
    if as_json:
        screen.print_json(found.as_json())
        return
    again = ", and its login is tried again" if found.opened else ""
    what = f"Account {name} is stored as version {found.version}; workers follow within seconds{again}."
    screen.output().print(screen.cell(what), soft_wrap=True)
    if not any(app.may_use(name) for app in context.settings.apps.values()):
        begins = name.partition("-")[0]
        hint = (
            f'No app of these settings may use it: apps.NAME.accounts = ["default", "{begins}-*"] lets one.'
        )
        screen.output().print(screen.cell(hint, "yellow"), soft_wrap=True)


def _read(file: Path) -> dict[str, object]:
    if str(file) == "-":
        return read_document(sys.stdin.read(MOST_TEXT + 1))
    with file.open(encoding="utf-8") as opened:
        try:
            return read_document(opened.read(MOST_TEXT + 1))
        except UnicodeDecodeError:
            raise Failure(f"{file}: expected text in UTF-8") from None


def _changed_keys(before: dict[str, object], words: Sequence[str]) -> dict[str, object]:
    found = dict(before)
    removed = [word.removesuffix("=") for word in words if word.endswith("=") and word.count("=") == 1]
    for key, value in read_words([word for word in words if word.removesuffix("=") not in removed]).items():
        known = found.get(key)
        found[key] = {**known, **value} if isinstance(known, dict) and isinstance(value, dict) else value
    for key in removed:
        table, _, below = key.rpartition(".")
        known = found.get(table)
        if not table:
            found.pop(key, None)
        elif isinstance(known, dict):
            found[table] = {name: value for name, value in known.items() if name != below}
    return found


@commands.command("remove", short_help="Forget a stored account.")
def remove_command(ctx: typer.Context, name: Name) -> None:
    """Forget the stored account NAME. Its mail waits from now on, and says that nobody knows the account."""
    context = of(ctx)
    with operating(context) as engine:
        remove(engine, name)
    screen.output().print(screen.cell(f"Account {name} is not stored any more."), soft_wrap=True)

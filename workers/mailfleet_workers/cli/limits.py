"""`mailfleet limits`: what every account may do, what of it is used, and changing it while workers run."""

import json
import logging
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.text import Text
from sqlalchemy import Engine

from mailfleet_schema.engine import read_only
from mailfleet_schema.statements.instance import instance_id
from mailfleet_schema.statements.limit import NAMES, LimitChange, changes
from mailfleet_workers.cli import screen
from mailfleet_workers.cli.context import Context, of
from mailfleet_workers.cli.failure import Commands
from mailfleet_workers.cli.grid import Cell
from mailfleet_workers.cli.mails import Json
from mailfleet_workers.cli.waits import came_back, operating, scope_of
from mailfleet_workers.limits.book import Book
from mailfleet_workers.operators.accounts import with_stored
from mailfleet_workers.operators.limits import (
    CATCHER,
    AccountStatus,
    Changed,
    LimitsStatus,
    RuleStatus,
    book_of,
    limit_scope,
    limits_status,
    read_limit,
    set_limit,
    unset_limit,
)
from mailfleet_workers.operators.scope import parse_scope
from mailfleet_workers.settings import Settings
from mailfleet_workers.views.spans import span

LIMITS = """List the limits of every account of the settings and the database, and how much of each is used.

A rule counts what is in flight and what a server answered within its window, of all workers together.
"""
EMBEDDED = "the embedded mode counts within the process that sends; from here nothing is seen of it"
NO_REDIS = "redis_url is not set: what is used is known in Redis only"

ScopeWord = Annotated[str, typer.Argument(metavar="SCOPE", help="account:NAME or host:NAME.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help=f"{', '.join(NAMES[:-1])} or {NAMES[-1]}.")]

commands = typer.Typer(cls=Commands, help=LIMITS, invoke_without_command=True)


@commands.callback()
def list_command(ctx: typer.Context, as_json: Json = False) -> None:
    if ctx.invoked_subcommand is not None:
        return
    found = _status(of(ctx))
    if as_json:
        screen.print_json(found.as_json())
        return
    console = screen.output()
    for part in _parts(found):
        console.print(part, soft_wrap=True) if isinstance(part, Text) else part.print(console)


def _status(context: Context) -> LimitsStatus:
    settings = context.settings
    in_force: list[LimitChange] = []
    instance = ""
    if context.database_exists() or not context.embedded:
        with context.reading() as connection:
            in_force, instance = changes(connection), instance_id(connection)
            settings = with_stored(connection, settings)
    if settings.redis_url is None:
        return limits_status(settings, in_force, None, EMBEDDED if context.embedded else NO_REDIS)
    # Not at the top: every command would pay for redis.
    from mailfleet_workers.limits.redis import RedisLimiter

    # That Redis is away is said in our own words.
    logging.getLogger("mailfleet_workers.limits").addHandler(logging.NullHandler())
    book = Book(book_of(settings, in_force))
    limiter = RedisLimiter(settings.redis_url, book, instance=instance, lease_s=settings.limits.lease_s)
    try:
        return limits_status(settings, in_force, limiter)
    finally:
        limiter.close()


def _settings(context: Context, engine: Engine) -> Settings:
    with read_only(engine) as connection:
        return with_stored(connection, context.settings)


def _parts(found: LimitsStatus) -> Iterator[Text | screen.Grid]:
    if found.trouble:
        yield screen.cell(f"What is used is not known: {found.trouble}.", "yellow")
    if not found.accounts:
        yield Text("No account has a server.")
    for number, account in enumerate(found.accounts):
        where = "the catching server" if account.host == CATCHER else account.host
        title = Text.assemble((account.account, "bold"), " at ", screen.cell(where))
        yield title if number == 0 and not found.trouble else Text.assemble("\n", title)
        rows = [*(_rule(one) for one in account.rules), *_connections(account)]
        if rows:
            yield screen.Grid(
                ["limit", "used", "in flight", "of", "next in"], rows, flexible=(0,), right=(1, 2, 3, 4)
            )
        else:
            yield Text("No limits.", style="dim")
        yield from (screen.cell(one, style) for one, style in _remarks(account))
    if found.changes:
        yield screen.heading("changed while running (`mailfleet limits unset` takes it back)")
        listed: list[list[Cell]] = [
            [f"{one.scope}:{one.key}", one.name, _shown(json.loads(one.value))] for one in found.changes
        ]
        yield screen.Grid(["scope", "limit", "now"], listed, flexible=(0, 2))


def _rule(one: RuleStatus) -> list[Cell]:
    wait = None if not one.wait_s else span(one.wait_s)
    style = "yellow" if wait else ""
    used = None if one.used is None else Text(str(one.used), style=style)
    return [one.rule, used, one.in_flight, one.limit, wait]


def _connections(one: AccountStatus) -> Iterator[list[Cell]]:
    for scope, used, most in (
        ("account", one.connections, one.connections_limit),
        ("host", one.host_connections, one.host_connections_limit),
    ):
        if most is not None:
            yield [f"{scope} connections", used, "", most, ""]


def _remarks(one: AccountStatus) -> Iterator[tuple[str, str]]:
    """What is to be said of *one* beside its rules, with a style."""
    gaps = [
        f"{gap} ms between logins{whose}"
        for gap, whose in ((one.login_gap_ms, ""), (one.host_login_gap_ms, " at its host"))
        if gap
    ]
    if gaps:
        yield "; ".join(gaps), "dim"
    if one.ready_in_s:
        yield "grants nothing yet: a worker has to tell Redis first what was sent before", "yellow"
    if one.waiting:
        ask = "process stands" if one.waiting == 1 else "processes stand"
        yield f"{one.waiting} {ask} in line", ""
    if one.parked_s:
        yield f"mail is put off up to {span(one.parked_s)} ahead", ""
    if one.login_failures:
        wait = f"; the next is tried in {span(one.login_wait_s)}" if one.login_wait_s else ""
        yield f"{screen.count(one.login_failures, 'login')} refused lately{wait}", "red"


@commands.command("set", short_help="Change a limit of an account or host while workers run.")
def set_command(
    ctx: typer.Context,
    scope: ScopeWord,
    name: Name,
    values: Annotated[
        list[str],
        typer.Argument(
            metavar="VALUE...",
            help="Rules such as 14/s 10000/d; or one number; none lifts rules, or the number of connections.",
        ),
    ],
    as_json: Json = False,
) -> None:
    """Let VALUE apply instead of what the settings say, until `limits unset`. Workers follow within seconds.

    It replaces all rules of that name: mailfleet limits set account:default messages 20/s "300 per 10 s".
    """
    context = of(ctx)
    asked = limit_scope(parse_scope(scope))
    change = read_limit(asked, name, values)
    with operating(context) as engine:
        scope_of(context, engine, scope)
        found = set_limit(engine, _settings(context, engine), change)
    _tell(context, found, as_json=as_json)


@commands.command("unset", short_help="Let the settings apply to a limit again.")
def unset_command(ctx: typer.Context, scope: ScopeWord, name: Name, as_json: Json = False) -> None:
    """Take back what `limits set` changed: the settings apply again."""
    context = of(ctx)
    asked = limit_scope(parse_scope(scope))
    with operating(context) as engine:
        scope_of(context, engine, scope)
        found = unset_limit(engine, _settings(context, engine), asked, name)
    _tell(context, found, as_json=as_json)


def _tell(context: Context, found: Changed, *, as_json: bool) -> None:
    if as_json:
        screen.print_json(found.as_json())
        return
    console = screen.output()
    if not found.changed:
        line = f"{found.scope}:{found.key} {found.name} was not changed; nothing to do."
        console.print(screen.cell(line), soft_wrap=True)
        return
    before, now = _shown(found.before), _shown(found.now)
    back = f", and {came_back(found.mails)}" if found.mails else ""
    what = (
        f"{found.scope}:{found.key} {found.name}: {now} (was {before}); workers follow within seconds{back}."
    )
    console.print(screen.cell(what), soft_wrap=True)
    if found.begins_in_s:
        new = f"A window is new: its mail waits {span(found.begins_in_s)}, until every worker counts in it."
        console.print(screen.cell(new, "dim"), soft_wrap=True)
    if context.settings.redis_url is None and not context.embedded:
        console.print(
            screen.cell("redis_url is not set: a fleet keeps its limits in Redis.", "yellow"), soft_wrap=True
        )


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)

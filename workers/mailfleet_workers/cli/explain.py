"""`mailfleet explain`: what a server's reply means, and which rule says so."""

import json
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from mailfleet.errors import SettingsError
from mailfleet_workers.accounts import directory
from mailfleet_workers.accounts.found import Broken, Known
from mailfleet_workers.accounts.loaders import installed
from mailfleet_workers.classify.explain import Explanation, explain, read_phase, read_reply, read_row
from mailfleet_workers.classify.rule import Rule
from mailfleet_workers.classify.rules import Rules
from mailfleet_workers.cli import screen
from mailfleet_workers.cli.context import Context, of
from mailfleet_workers.cli.failure import Failure
from mailfleet_workers.settings.replies import rules_of
from mailfleet_workers.smtp.base import Phase, Reply
from mailfleet_workers.smtp.connection import server_name
from mailfleet_workers.views.spans import span

HELP = """Say what a server's REPLY means: its class, who waits and for how long, and which rule says so.

REPLY is code and text as a log shows them: "550 5.1.1 User unknown". Text without a code is what was seen instead of a
reply: "timed out". Neither a database nor a settings file is needed; rules that the settings have for the host or the account
are used.

With --jsonl each line of FILE is an object with phase, code and text (or reply), and host; the same object is printed on a line, with
class, scope, wait_s, stated, effect, reason and rule.
"""

#: Who waits for an account that has no host.
_CATCHER = ("catching-server", 25)


@dataclass(frozen=True, slots=True)
class _Asked:
    """Whose rules speak: *host* where a row names none. *retry_s* is the installation's first back-off."""

    rules: Rules
    host: str
    retry_s: float

    def explain(self, phase: Phase, reply: Reply | None, seen: str, host: str | None) -> Explanation:
        return explain(
            reply,
            seen,
            phase,
            host=host or self.host,
            rules=self.rules,
            now=datetime.now(UTC),
            retry_s=self.retry_s,
        )


def explain_command(
    ctx: typer.Context,
    reply: Annotated[str | None, typer.Argument(metavar="REPLY", help="Code and text.")] = None,
    phase: Annotated[
        str, typer.Option(metavar="PHASE", help=f"Where it was said: {', '.join(Phase)}.")
    ] = Phase.RCPT.value,
    host: Annotated[
        str | None,
        typer.Option(metavar="HOST", help="Who said it: a server's name, a preset's key, or * for anybody."),
    ] = None,
    account: Annotated[
        str | None, typer.Option(metavar="NAME", help="The account that was used: its host and its rules.")
    ] = None,
    jsonl: Annotated[
        str | None,
        typer.Option(
            "--jsonl", metavar="FILE", help="Explain many, one JSON object a line; - reads standard input."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document instead of text.")] = False,
) -> None:
    if (reply is None) == (jsonl is None):
        raise Failure("explain: expected either REPLY or --jsonl FILE")
    asked = _asked(of(ctx), host, account)
    if jsonl is not None:
        _many(jsonl, asked)
        return
    text = (reply or "").strip()
    if not text:
        raise Failure('explain: expected a reply such as "550 5.1.1 User unknown", got nothing')
    try:
        where = read_phase(phase)
    except SettingsError as error:
        raise Failure(f"--{error}") from None
    found = asked.explain(where, read_reply(text), text, None)
    if as_json:
        said = {"phase": where.value, "host": asked.host, "reply": text, **found.as_json()}
        screen.print_json(said)
    else:
        _show(found, text, asked.host)


def _asked(context: Context, host: str | None, account: str | None) -> _Asked:
    rules, retry_s = rules_of(context.settings), context.settings.timing.try_next_s
    if account is None:
        return _Asked(rules, host or "*", retry_s)
    match _find(context, account):
        case Known(account=known):
            return _Asked(rules.under(known.replies), host or server_name(known), retry_s)
        case Broken(why):
            raise Failure(f"--account {account}: cannot be used: {why}")
        case None:
            names = ", ".join(sorted(context.settings.accounts))
            raise Failure(f"--account: expected the name of an account ({names}), got {account!r}")


def _find(context: Context, account: str) -> Known | Broken | None:
    with ExitStack() as stack:
        engine = None
        if account not in context.settings.accounts and context.database_exists():
            engine = context.engine()
            stack.callback(engine.dispose)
            stack.enter_context(context.expecting_database())
        # What the directory would log stands in our own line; without any handler Python prints it.
        logging.getLogger(directory.__name__).addHandler(logging.NullHandler())
        found = directory.Directory(
            context.settings,
            environ=context.environ,
            catcher=_CATCHER,
            engine=engine,
            loaders=installed(time.monotonic, asked=context.settings.account_loaders),
        )
        return found.find(account)


def _many(file: str, asked: _Asked) -> None:
    """Print a line for each; what is wrong ends it there, named by its line."""
    for number, line in enumerate(_lines(file), 1):
        if not line.strip():
            continue
        where = f"{file}: line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise Failure(f"{where}: expected a JSON object, got {error}") from None
        try:
            said = read_row(row)
        except SettingsError as error:
            raise Failure(f"{where}: {error}") from None
        _print_line(row, asked.explain(*said))


def _print_line(row: dict[str, Any], found: Explanation) -> None:
    """*row* with what was *found*; what stood under the same names goes to `given`."""
    said = found.as_json()
    given = {key: value for key, value in row.items() if key in said}
    text = json.dumps({**row, **said, **({"given": given} if given else {})}, ensure_ascii=True)
    sys.stdout.write(text + "\n")


def _lines(file: str) -> Iterator[str]:
    try:
        if file == "-":
            yield from sys.stdin
            return
        with Path(file).open(encoding="utf-8-sig") as lines:
            yield from lines
    except UnicodeDecodeError:
        raise Failure(f"{file}: expected UTF-8") from None


def _show(found: Explanation, text: str, host: str) -> None:
    console = screen.output()
    console.print(screen.cell(text, "bold"))
    rows: list[tuple[str, object]] = [
        ("said by", f"{host} at {found.phase}"),
        ("class", found.kind),
        ("scope", found.scope),
        ("wait_s", _wait(found)),
        ("effect", found.effect),
        ("reason", found.reason),
    ]
    if found.rule is not None:
        rows.append(("rule", found.rule.name))
        rows.append(("words", found.words))
        if isinstance(found.rule, Rule):
            rows.append(("source", found.rule.source))
    else:
        rows.append(("rule", "none: what the phase says"))
    console.print(screen.pairs(rows))


def _wait(found: Explanation) -> str | None:
    if found.wait_s is None:
        return None
    said = ", as the reply says" if found.stated else ""
    return f"{found.wait_s:g} ({span(found.wait_s)}{said})"

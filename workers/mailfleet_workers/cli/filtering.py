"""The options that say which mails, the same for lists and for what operators do."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import Annotated, Any

import typer

from mailfleet.errors import InvalidMail
from mailfleet_schema.hint import MAX_ID
from mailfleet_schema.states import Priority, State
from mailfleet_workers.cli.context import of
from mailfleet_workers.cli.durations import parse_duration
from mailfleet_workers.cli.failure import Failure
from mailfleet_workers.cli.sending.template import moment_of
from mailfleet_workers.operators.senders import accounts_that_send_as
from mailfleet_workers.settings import Settings
from mailfleet_workers.views import Filter


@dataclass(frozen=True, slots=True)
class _Option:
    type: Any
    default: Any
    option: Any

    def parameter(self, name: str) -> inspect.Parameter:
        return inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=self.default,
            annotation=Annotated[self.type, self.option],
        )


def _text(metavar: str, text: str, *names: str) -> _Option:
    return _Option(str | None, None, typer.Option(*names, metavar=metavar, help=text))


def _number(text: str, *names: str) -> _Option:
    return _Option(int | None, None, typer.Option(*names, metavar="ID", min=1, max=MAX_ID, help=text))


_OPTIONS = {
    "app": _Option(
        list[str] | None, None, typer.Option("--app", metavar="NAME", help="Of this app; repeatable.")
    ),
    "state": _Option(
        list[State] | None, None, typer.Option("--state", metavar="STATE", help="In this state; repeatable.")
    ),
    "failed": _Option(
        bool,
        False,
        typer.Option("--failed", help="Nothing is done and something failed, also if tried again."),
    ),
    "undone": _Option(bool, False, typer.Option("--undone", help="Nothing is done.")),
    "priority": _Option(
        Priority | None, None, typer.Option(metavar="PRIORITY", help="Of high, normal or bulk.")
    ),
    "account": _text("NAME", "Of this account."),
    "reason_has": _text("TEXT", "Whose reason has this in it."),
    "mark": _text("WORDS", 'With these words in the mark; "a phrase", or begin*.'),
    "recipient": _text("ADDRESS", "To, Cc or Bcc: an address, or @domain."),
    "sender": _text("ADDRESS", "From this address or @domain, also as its account's own."),
    "subject": _text("WORDS", 'With these words in the subject; "a phrase", or begin*.'),
    "ref": _Option(
        list[str] | None,
        None,
        typer.Option(
            "--ref", metavar="TEXT", help="About this type; again for its keys: --ref invoice --ref 17."
        ),
    ),
    "since": _text("TIME", "Stored at this time or later: ISO 8601, or 2h for two hours ago."),
    "until": _text("TIME", "Stored before this time."),
    "from_id": _number("Not older than this number.", "--from-id"),
    "before_id": _number("Older than this number.", "--before-id", "--before"),
}


def filtered(command: Callable[..., None]) -> Callable[..., None]:
    """*command* with the options of a filter, which it gets as `wanted`; its first argument is the context."""

    @wraps(command)
    def run(ctx: typer.Context, **values: Any) -> None:
        given = {name: values.pop(name) for name in _OPTIONS}
        command(ctx, wanted=_filter(of(ctx).settings, given), **values)

    own = inspect.signature(command)
    parameters = [one for one in own.parameters.values() if one.name != "wanted"]
    options = [option.parameter(name) for name, option in _OPTIONS.items()]
    # Those of a kind with a name only may stand in any order.
    first, rest = parameters[:1], [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in parameters[1:]]
    signature = own.replace(parameters=[*first, *options, *rest])
    run.__signature__ = signature  # type: ignore[attr-defined] # what typer reads
    run.__annotations__ = {one.name: one.annotation for one in signature.parameters.values()}
    return run


def _filter(settings: Settings, given: dict[str, Any]) -> Filter:
    if given["failed"] and given["undone"]:
        raise Failure("--failed and --undone: give one of them; what failed is undone")
    sender = given["sender"]
    return Filter(
        apps=tuple(given["app"] or ()),
        states=tuple(given["state"] or ()),
        outcome="failed" if given["failed"] else "undone" if given["undone"] else None,
        priority=given["priority"] and given["priority"].value,
        account=given["account"],
        reason=given["reason_has"],
        mark=given["mark"],
        recipient=given["recipient"],
        sender=sender,
        sender_accounts=accounts_that_send_as(settings, sender) if sender else (),
        subject=given["subject"],
        ref=tuple(given["ref"] or ()),
        since=_moment("--since", given["since"]),
        until=_moment("--until", given["until"]),
        from_id=given["from_id"],
        before_id=given["before_id"],
    )


def _moment(option: str, value: str | None) -> datetime | None:
    if value is None:
        return None
    try:
        return datetime.now(UTC) - timedelta(seconds=parse_duration(option, value))
    except Failure:
        pass  # it is no span
    try:
        return moment_of(value, option)
    except InvalidMail as error:
        raise Failure(f"{option}: {error.reason}, or 2h for two hours ago") from None

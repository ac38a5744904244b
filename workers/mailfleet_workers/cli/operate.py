"""`mailfleet cancel`, `requeue`, `release`, `confirm`, `copy` and `queue`: what operators do to mails."""

from collections.abc import Callable
from typing import Annotated

import typer

from mailfleet_schema.hint import MAX_ID
from mailfleet_schema.states import State
from mailfleet_workers.cli import screen
from mailfleet_workers.cli.context import of
from mailfleet_workers.cli.failure import Failure, complain
from mailfleet_workers.cli.filtering import filtered
from mailfleet_workers.cli.mails import Json
from mailfleet_workers.cli.waits import operating
from mailfleet_workers.operators.mails import OPERATIONS, Done, Left, by_filter, by_ids, count
from mailfleet_workers.views import Filter
from mailfleet_workers.views.mails import EVERY

Ids = Annotated[list[int] | None, typer.Argument(metavar="ID", help="Their numbers.", min=1, max=MAX_ID)]

HELP = {
    "cancel": """Cancel mails: they are not sent any more.

Those that are drafts, queued, held, or only prepared by a worker. What a server is being given now is not stopped.
""",
    "queue": "Queue drafts: each is sent at its time, or now.",
    "requeue": """Send mails again that failed, expired or were cancelled.

All their failures are allowed again, and recipients who were refused are tried again. Who has the mail does not get it twice.
""",
    "release": """Send mails that are held.

A mail is held when it is in doubt (a server may have it, and its policy is to ask a person) or when it has ended several
workers. `mailfleet why ID` says which. Releasing a mail in doubt may send it twice; `confirm` is for one that has arrived.
""",
    "confirm": "Count held mails as sent: somebody has seen that they arrived.",
    "copy": "Send mails once more, to everybody, that were sent.",
}
SHORT = {
    "cancel": "Cancel mails.",
    "queue": "Queue drafts.",
    "requeue": "Send mails again that failed, expired or were cancelled.",
    "release": "Send mails that are held.",
    "confirm": "Count held mails as sent.",
    "copy": "Send mails once more that were sent.",
}
_DONE = {
    "cancel": "cancelled",
    "queue": "queued",
    "requeue": "queued again",
    "release": "released",
    "confirm": "counted as sent",
    "copy": "sent once more",
}
_PLURAL = {name: ", ".join(source.value for source in one.sources) for name, one in OPERATIONS.items()}


def command(name: str) -> Callable[..., None]:
    """The command *name*."""

    @filtered
    def run(
        ctx: typer.Context,
        ids: Ids = None,
        wanted: Filter = EVERY,
        everything: Annotated[bool, typer.Option("--all", help="Every mail.")] = False,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count, change nothing.")] = False,
        reason: Annotated[
            str | None, typer.Option(metavar="TEXT", help="Why, for whoever looks at them.")
        ] = None,
        as_json: Json = False,
    ) -> None:
        if bool(ids) == (everything or wanted != EVERY):
            raise Failure(f"{name}: expected either numbers of mails, or a filter (--app, --state, …, --all)")
        operation, policy_of = OPERATIONS[name], of(ctx).settings.content_policy
        with operating(of(ctx)) as engine:
            if ids and dry_run:
                raise Failure(f"{name}: --dry-run counts what a filter finds; it has no numbers beside it")
            if ids:
                done = by_ids(engine, operation, ids, reason=reason, policy_of=policy_of)
                _tell(name, done, as_json=as_json)
                raise typer.Exit(0 if not done.left else 1)
            found = (
                count(engine, operation, wanted)
                if dry_run
                else by_filter(engine, operation, wanted, reason=reason, policy_of=policy_of)
            )
        if as_json:
            screen.print_json({"mails": found, "dry_run": dry_run})
            return
        mails = screen.count(found, "mail", "mails")
        said = f"{mails} would be {_DONE[name]}; nothing was changed" if dry_run else f"{mails} {_DONE[name]}"
        screen.output().print(screen.cell(f"{said}."))

    return run


def _tell(name: str, done: Done, *, as_json: bool) -> None:
    if as_json:
        screen.print_json(done.as_json())
        return
    if done.changed:
        mails = screen.count(len(done.changed), "mail", "mails")
        screen.output().print(screen.cell(f"{mails} {_DONE[name]}."))
    for left in done.left:
        complain(_why(name, left))


def _why(name: str, left: Left) -> str:
    if left.state is None:
        return f"mail {left.id}: there is none with this number"
    if left.purged_at is not None and OPERATIONS[name].target is State.QUEUED:
        return f"mail {left.id}: its content was purged at {left.purged_at:%Y-%m-%d %H:%M:%S %Z}, there is nothing left to send"
    because = f" ({left.reason})" if left.reason else ""
    return f"mail {left.id}: is {left.state}{because}; `{name}` is for mails that are {_PLURAL[name]}"

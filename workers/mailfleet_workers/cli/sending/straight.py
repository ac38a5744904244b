"""One mail without a database, and how a command says what became of it."""

import logging
from dataclasses import asdict
from typing import assert_never

from mailfleet.mail import Mail
from mailfleet.results import Invalid
from mailfleet_workers.cli import screen
from mailfleet_workers.cli.context import Context
from mailfleet_workers.cli.failure import Failure, complain
from mailfleet_workers.notice.notice import Notice
from mailfleet_workers.notice.results import Dropped, Failed, NotYet, Result, Sent, Uncertain, word

FAILED, NOT_YET, UNCERTAIN = 1, 3, 4
_SENT = {
    "dry_run": 'This was a dry run; delivery = "live" in the settings sends.',
    "partial": "A server took the mail over, but not for every recipient.",
    "redirected": "A server took the mail over, for others than those it names (delivery).",
    "restricted": "A server took the mail over, for those who may get mail here (delivery).",
}


def send_straight(context: Context, app: str, mail: Mail, *, as_json: bool) -> int:
    """Send *mail* once, and say what became of it; the status to end with. Raises Failure for a mail that is wrong."""
    # Its result is said here, not in a log.
    logging.getLogger("mailfleet_workers").addHandler(logging.NullHandler())
    with Notice(context.settings, app, environ=context.environ) as notice:
        return _tell(notice.post(mail), as_json=as_json)


def _tell(result: Result, *, as_json: bool) -> int:
    """Show *result*; its status."""
    match result:
        case Sent(reason=reason):
            status, said = 0, _SENT.get(reason or "", "A server took the mail over.")
        case Failed(reason=reason):
            status, said = FAILED, f"The mail will not be taken as it is: {reason}."
        case NotYet(reason=reason):
            status, said = NOT_YET, f"The mail was not sent now: {reason}."
        case Uncertain(reason=reason):
            status, said = UNCERTAIN, f"A server may have the mail: {reason}."
        case Invalid(field, reason):
            raise Failure(f"{field}: {reason}")
        case Dropped(reason):  # only what was emitted
            raise Failure(reason)
        case _:
            assert_never(result)
    if as_json:
        screen.print_json({"result": word(result), **asdict(result)})
    elif status:
        reply = getattr(result, "reply", None)
        complain(said, *([f"the server said: {reply.code} {reply.text}"] if reply else []))
    else:
        screen.output().print(screen.cell(said))
    return status

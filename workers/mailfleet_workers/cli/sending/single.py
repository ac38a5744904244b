"""One mail, and the verb's own answer: from plain data or options, saved or sent, or a stored one once more."""

import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, assert_never

from mailfleet.errors import MailfleetError
from mailfleet.mail import Mail
from mailfleet.mailer_base import DEADLINE_S
from mailfleet.plain import mail_of
from mailfleet.results import (
    Conflict,
    Failed,
    Invalid,
    Pending,
    Refused,
    Retry,
    Scheduled,
    Sent,
    Skipped,
    Unknown,
)
from mailfleet.tinymail import Answer, code_of
from mailfleet_workers.cli import screen
from mailfleet_workers.cli.context import Context
from mailfleet_workers.cli.failure import WRONG, complain
from mailfleet_workers.cli.sending.checking import Check, Planned
from mailfleet_workers.cli.sending.handover import WAIT_S, open_mailer
from mailfleet_workers.operators import sending
from mailfleet_workers.views import mails_of
from mailfleet_workers.views.base import plain


@dataclass(frozen=True, slots=True)
class Single:
    """What is asked for. *mail* makes it, or plain data, or the number of a stored one."""

    mail: Callable[[], Mail | Mapping[str, Any]] | int
    save: bool = False
    retry: bool | None = None
    force: bool = False
    wait_s: float | None = None
    code: bool = False
    as_json: bool = False


def run(context: Context, app: str, single: Single) -> int:
    """Do it and tell what became of it; the exit status."""
    wait_s = single.wait_s if single.wait_s is not None else (WAIT_S if context.embedded else DEADLINE_S)
    with ExitStack() as stack:
        mail = single.mail if isinstance(single.mail, int) else single.mail()
        stored = mail if isinstance(mail, int) else _stored(mail)
        if stored is not None:
            app = _app_of(context, stored) or app
        if not isinstance(mail, int):
            _check(context, app, mail)
        _, mailer, _ = open_mailer(context, app, stack)
        stack.callback(mailer.close)
        with context.expecting_database():
            answer: int | Answer
            if isinstance(mail, int):
                answer = sending.again(mailer, mail, wait_s, retry=single.retry, force=single.force)
            elif single.save:
                answer = sending.save(mailer, mail)
            else:
                answer = sending.send(mailer, mail, wait_s, retry=single.retry, force=single.force)
    return _tell(answer, single)


def _check(context: Context, app: str, mail: Mail | Mapping[str, Any]) -> None:
    """Whether *app* may send *mail* by these settings. Raises Failure."""

    def made() -> Mail:
        if isinstance(mail, Mail):
            return mail
        own = {sending.ID, sending.VERSION}
        return mail_of({key: value for key, value in mail.items() if key not in own})

    check = Check(context.settings, app, datetime.now(UTC))
    for _ in check.run([Planned("", made)]):
        pass


def _stored(mail: Mail | Mapping[str, Any]) -> int | None:
    number = mail.get(sending.ID) if isinstance(mail, Mapping) else None
    return number if isinstance(number, int) else None


def _app_of(context: Context, mail_id: int) -> str | None:
    if not 0 < mail_id < 2**63:
        return None
    with context.reading() as connection:
        found = mails_of(connection, [mail_id])
    return found[0].app if found else None


def _tell(answer: int | Answer, single: Single) -> int:
    status, said = (0, f"Mail {answer} is saved.") if isinstance(answer, int) else _words(answer)
    number = answer if isinstance(answer, int) else code_of(answer)
    if single.code:
        sys.stdout.write(f"{number}\n")
    elif single.as_json:
        screen.print_json(_document(answer, number, saved=single.save))
    elif status:
        complain(said)
    else:
        screen.output().print(screen.cell(said))
    return status


def _document(answer: int | Answer, number: int, *, saved: bool) -> dict[str, Any]:
    if isinstance(answer, int):
        return {"answer": "saved", "mail_id": answer}
    values = {"reason": str(answer)} if isinstance(answer, MailfleetError) else plain(answer)
    document = {"answer": type(answer).__name__.lower(), **values}
    return document if saved else document | {"code": number}


def _words(answer: Answer) -> tuple[int, str]:
    """The exit status, and a sentence."""
    match answer:
        case Sent(mail_id, _, reply, _, reason):
            said = f": {reply.code} {reply.text}" if reply else ""
            return 0, f"Mail {mail_id} is sent{f' ({reason})' if reason else ''}{said}."
        case Scheduled(mail_id, due_at):
            return (
                0,
                f"Mail {mail_id} is stored and will be sent at {due_at.astimezone():%Y-%m-%d %H:%M:%S %Z}.",
            )
        case Pending(mail_id, state, _, reason):
            return 0, f"Mail {mail_id} is {state}{f' ({reason})' if reason else ''}; it will be sent."
        case Retry(mail_id, due_at, reason):
            at = f"{due_at.astimezone():%Y-%m-%d %H:%M:%S %Z}"
            return 1, f"mail {mail_id}: {reason}; it is tried again at {at}"
        case Failed(mail_id, state, reason):
            return 1, f"mail {mail_id}: is {state} ({reason})"
        case Skipped(mail_id, state, reason):
            return 1, f"mail {mail_id}: is {state} and left as it is ({reason})"
        case Unknown(mail_id):
            return 1, f"mail {mail_id}: there is none with this number"
        case Invalid(field, reason):
            return WRONG, f"{field}: {reason}"
        case Conflict(_, key, mail_id):
            return WRONG, f"idempotency_key: {key!r} is that of mail {mail_id}, which is another mail"
        case Refused(reason):
            return 1, reason
        case MailfleetError():
            return 1, str(answer)
        case _:
            assert_never(answer)

"""What operators send: a mail from plain data, new or in place of a stored one, and a stored mail once more.

For the command line and for REST. Expected outcomes are values, errors among them: `mailfleet.tinymail.code_of` makes
TinyMail's integers of all of them.
"""

from collections.abc import Mapping
from typing import Any

from mailfleet import Mailer
from mailfleet.errors import InvalidMail, MailfleetError
from mailfleet.mailer_base import DEADLINE_S
from mailfleet.preparing import MailLike
from mailfleet.results import Invalid, Unknown
from mailfleet.tinymail import Answer
from mailfleet_schema.hint import MAX_ID

#: Keys of plain data that say which stored mail it replaces, and which version of it was seen.
ID, VERSION = "id", "version"


def send(
    mailer: Mailer,
    mail: MailLike,
    deadline_s: float = DEADLINE_S,
    *,
    retry: bool | None = None,
    force: bool = False,
) -> Answer:
    """Send *mail* as `Mailer.auto`: now, or at its time. Plain data with an `id` replaces what that mail says first.

    With `version` it is replaced only if nobody else was faster; without one, whatever it says now.
    """
    target = save(mailer, mail) if isinstance(mail, Mapping) and mail.get(ID) is not None else None
    if target is None:
        return mailer.auto(mail, deadline_s, retry=retry, force=force)
    if not isinstance(target, int):
        return target
    return mailer.auto(target, deadline_s, retry=retry, force=force)


def save(mailer: Mailer, mail: MailLike) -> int | Answer:
    """Store *mail* as a draft, or replace what a stored mail says, as `send` does; its id, or what is wrong."""
    try:
        if not isinstance(mail, Mapping) or mail.get(ID) is None:
            plain = (
                {key: value for key, value in mail.items() if key != ID}
                if isinstance(mail, Mapping)
                else mail
            )
            return mailer.save(plain)
        number, version, rest = _parts(mail)
        mailer.edit(number, rest, version=mailer.status(number).version if version is None else version)
    except MailfleetError as error:
        return _answer(error)
    return number


def again(
    mailer: Mailer,
    mail_id: int,
    deadline_s: float = DEADLINE_S,
    *,
    retry: bool | None = None,
    force: bool = False,
) -> Answer:
    """Send the stored mail *mail_id* now. *force* goes beyond its limits by one try or copy, *retry* None leaves its own."""
    if not 0 < mail_id <= MAX_ID:
        return Unknown(mail_id)
    return mailer.post(mail_id, deadline_s, retry=retry, force=force)


def _parts(mail: Mapping[str, Any]) -> tuple[int, int | None, dict[str, Any]]:
    number, version = mail[ID], mail.get(VERSION)
    for name, value in ((ID, number), (VERSION, version)):
        wrong = isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= MAX_ID
        if wrong and (name == ID or value is not None):
            raise InvalidMail(name, f"expected a whole number from 1 on, got {value!r:.60}")
    return number, version, {key: value for key, value in mail.items() if key not in {ID, VERSION}}


def _answer(error: MailfleetError) -> Answer:
    return Invalid(error.field, error.reason) if isinstance(error, InvalidMail) else error

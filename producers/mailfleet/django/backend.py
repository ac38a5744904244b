"""Django's own way of sending mail, into mailfleet: `send_mail`, `EmailMessage`, password resets, error mails."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from django.core.mail import EmailMessage
from django.core.mail.backends.base import BaseEmailBackend

from mailfleet.django.doors import mailer
from mailfleet.django.session import session
from mailfleet.emailmessage import from_email_message
from mailfleet.errors import InvalidMail
from mailfleet.mail import Mail, Priority

log = logging.getLogger(__name__)


class EmailBackend(BaseEmailBackend):  # type: ignore[misc] # Django has no types
    """Stores messages in the transaction that is open; workers send them once it is committed.

    Further arguments of `get_connection` are *account*, *priority* and *using*, the alias of the database. A message that
    cannot be sent at all raises InvalidMail with nothing written; with `fail_silently` it is left out, and logged.
    """

    def __init__(
        self,
        *args: Any,
        account: str | None = None,
        priority: Priority = "normal",
        using: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._account = account
        self._priority: Priority = priority
        self._using = using

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        """Store all of them or none; how many were stored. With `fail_silently`, each by itself."""
        messages = [one for one in email_messages if one.recipients()]
        where = session(self._using)
        if not self.fail_silently:
            return len(mailer().emit_many(self._mails(messages), session=where))
        stored = 0
        for one in messages:
            try:
                mailer().emit(self._mail(one), session=where)
                stored += 1
            except InvalidMail as error:
                log.warning("a message was not stored: %s is wrong", error.field)
        return stored

    def _mails(self, messages: Sequence[EmailMessage]) -> list[Mail]:
        mails = []
        for position, message in enumerate(messages):
            try:
                mails.append(self._mail(message))
            except InvalidMail as error:
                raise InvalidMail(f"mails[{position}].{error.field}", error.reason) from error
        return mails

    def _mail(self, message: EmailMessage) -> Mail:
        # Whom it goes to is in the lists; the headers may say something else, and have no Bcc.
        mail = from_email_message(message.message(), to=message.to, cc=message.cc, bcc=message.bcc)
        return replace(mail, account=self._account, priority=self._priority)

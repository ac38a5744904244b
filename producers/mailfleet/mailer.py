"""The door for applications: a mail into the application's own transaction, or sent at once with a verdict."""

import time
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from mailfleet.enlisted import SyncSession
from mailfleet.mailer_base import DEADLINE_S, MailerBase
from mailfleet.posting import (
    Posting,
    Wish,
    checked_id,
    queued,
    start_again,
    start_posting,
    start_sending,
    store_for_later,
)
from mailfleet.preparing import MailLike, Sendable
from mailfleet.results import Pending, Result, Scheduled, Sent, raised
from mailfleet.status import Status


class Mailer(MailerBase):
    """Mails of one *app*. Make one for each process and share it: it is safe in several threads, and over forks.

    What it is made with stands in `mailfleet.mailer_base`.
    """

    # Into a transaction.

    def emit(
        self,
        mail: Sendable,
        session: SyncSession | None = None,
        *,
        retry: bool | None = None,
        force: bool = False,
    ) -> int:
        """Store *mail* in *session*'s transaction; its id. It is sent once that is committed, and not otherwise.

        *session* is a Session, a scoped_session, a Core Connection or `mailfleet.django.session()`; without one the mail is committed here. After a
        commit of a Core Connection call `publish`, or workers find the mail some seconds later.

        A mail with an idempotency key that was used before with the same payload is not stored again: the answer is
        the first one's id. Raises InvalidMail and IdempotencyConflict, with nothing written, and whatever the
        database raises; without a session also SendRefused, where it would wait for a transaction in which this
        thread emitted and which is still open (on SQLite any, on PostgreSQL one with the same idempotency key).
        Never waits for a broker.

        The id of a stored mail of this app is queued for the time that it has, or now: a draft, or one that failed or expired
        and may still be tried. *force* goes beyond its `max_fail`, `max_done` and `expires_at` by one try, and sends again
        what was sent or cancelled. *retry* None leaves the mail's own. Raises UnknownMail, and SendSkipped where it is left
        as it is: a worker has it, it is held, in doubt, sent or spent.
        """
        if not isinstance(mail, int):
            return self._writer.write([self._preparation.one(mail, retry=retry)], session)[0]
        number = checked_id(mail)
        found = self._writer.again([number], session, at_once=False, force=force, retry=retry)
        return queued(number, found.get(number))

    def save(self, mail: MailLike, session: SyncSession | None = None) -> int:
        """Store *mail* as a draft, which nobody sends: `emit`, `send` and `post` take its id. As `emit` otherwise."""
        return self._writer.write([self._preparation.draft(mail)], session)[0]

    def edit(self, mail_id: int, mail: MailLike, *, version: int, session: SyncSession | None = None) -> int:
        """Replace what the stored mail *mail_id* says and how it is sent; its new version.

        *version* is the one that was seen (`status`; a new mail's is 1). State, sums and Message-ID stay, and the time of one
        that is given none. A mail that is being sent, held, in doubt or sent is nobody's to edit. Raises InvalidMail,
        UnknownMail and EditConflict, with nothing written.
        """
        return self._writer.edit(mail_id, self._preparation.changed(mail), version, session)

    def status(self, mail_id: int) -> Status:
        """How far the mail *mail_id* of this app is. Raises UnknownMail."""
        return self._writer.status(mail_id)

    def emit_many(self, mails: Iterable[MailLike], session: SyncSession | None = None) -> list[int]:
        """Store *mails* in a few statements; their ids in order. As `emit`, and all of them or none.

        InvalidMail names the mail too: `mails[3].to[0]`.
        """
        return self._writer.write(self._preparation.all(mails), session)

    def publish(self) -> int:
        """Hint the mails emitted on Core connections whose transactions are committed by now; how many that is.

        Needed after a Core commit only, and after the commit of a connection that a Session had joined. Harmless
        when repeated or forgotten: a mail without a hint is found some seconds later.
        """
        return self._writer.publish()

    def cancel(self, mail_id: int, session: SyncSession | None = None) -> bool:
        """Cancel the mail *mail_id* of this app; True if it will not be sent.

        False if it is sent or ended already, is being given to a server at this moment, or is unknown. With
        *session* it takes effect when that is committed.
        """
        return self._writer.cancel(mail_id, session)

    # At once.

    def send(
        self,
        mail: Sendable,
        deadline_s: float = DEADLINE_S,
        *,
        retry: bool | None = None,
        force: bool = False,
    ) -> Sent | Pending:
        """Store *mail*, have it sent before others, and wait for the verdict.

        Pending comes at *deadline_s*, or at once if the mail has to wait longer; it will be sent. Raises SendFailed
        when it never will, RetryScheduled when it was tried and will be again, and InvalidMail, IdempotencyConflict
        or SendRefused with nothing written.

        The mail has a transaction of its own. `send` is refused where it would wait for itself: in a worker's thread,
        on SQLite inside an open write transaction, and for an idempotency key that an open one has just stored.

        The id of a stored mail is sent now, whatever its time; what else may become of it stands at `emit`.
        """
        if isinstance(mail, int):
            posting = start_again(self._writer, mail, deadline_s, Wish(force, retry))
            return raised(self._followed(posting)[0])
        row = self._preparation.one(mail, urgent=True, retry=retry)
        return raised(self._followed(start_sending(self._writer, [row], deadline_s))[0])

    def send_many(self, mails: Iterable[MailLike], deadline_s: float = DEADLINE_S) -> list[Sent | Pending]:
        """As `send` for all of *mails* together: stored all or none, then waited for until one deadline.

        If some were not sent, raises the error of the first of them when all have an answer; `post_many` tells what
        became of each.
        """
        rows = self._preparation.all(mails, urgent=True)
        return [raised(one) for one in self._followed(start_sending(self._writer, rows, deadline_s))]

    def post(
        self,
        mail: Sendable,
        deadline_s: float = DEADLINE_S,
        *,
        retry: bool | None = None,
        force: bool = False,
    ) -> Result:
        """As `send`, with every outcome as a value.

        Nothing that concerns the mail is raised; what the database raises still is.
        """
        return self.post_many([mail], deadline_s, retry=retry, force=force)[0]

    def post_many(
        self,
        mails: Iterable[Sendable],
        deadline_s: float = DEADLINE_S,
        *,
        retry: bool | None = None,
        force: bool = False,
    ) -> list[Result]:
        """As `post` for each of *mails*, in order. One that is refused does not hinder the others."""
        wish = Wish(force, retry)
        return self._followed(start_posting(self._writer, self._preparation, mails, deadline_s, wish))

    def auto(
        self,
        mail: Sendable,
        deadline_s: float = DEADLINE_S,
        *,
        retry: bool | None = None,
        force: bool = False,
    ) -> Result | Scheduled:
        """As `post` if the mail is due; one whose time is to come is stored, and sent then."""
        later = store_for_later(self._writer, self._preparation, mail, Wish(force, retry))
        return self.post(mail, deadline_s, retry=retry, force=force) if later is None else later

    # Itself.

    def close(self, deadline_s: float = 2.0) -> bool:
        """Publish what is committed, waiting at most *deadline_s*, and close what this mailer opened; True if all went.

        Not needed at the end of a process, which does the same. The mailer may be used again.
        """
        return self._writer.close(deadline_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _followed(self, posting: Posting) -> list[Result]:
        waiting = posting.waiting
        while waiting.open:
            waiting.take(self._writer.look(waiting.open))
            if waiting.open:
                time.sleep(waiting.step_s())
        return posting.results()

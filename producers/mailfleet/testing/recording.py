"""A mailer that sends nothing: the real one's verbs over a writer that only remembers."""

from collections.abc import Callable
from datetime import UTC, datetime

from mailfleet.async_mailer import AsyncMailer
from mailfleet.mailer import Mailer
from mailfleet.results import Outcome, Sent
from mailfleet.testing.memory import MemoryWriter
from mailfleet.testing.recorded import Recorded, Wanted, complaint
from mailfleet.validation import DEFAULT_LIMITS, Limits


def _sent(one: Recorded) -> Outcome:
    return Sent(one.id)


class RecordingMailer(Mailer):
    """A `Mailer` for tests: checks every mail as the real one does, sends nothing and needs no database.

    With a session, a mail counts when the session's outermost commit comes, also if a test has wrapped that into a
    transaction which it will roll back; on a Connection when its commit begins. *outcome* says what `send` and `post`
    get to hear, for instance `lambda one: Failed(one.id, "failed", "no such user")`; without it everything is sent.

    Two things are simpler than the real ones: `cancel`, `edit` and what is done by id take effect at once whatever session they are given, and an
    idempotency key is taken only once its first mail is committed.
    """

    def __init__(
        self,
        app: str,
        *,
        outcome: Callable[[Recorded], Outcome] = _sent,
        limits: Limits = DEFAULT_LIMITS,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        super().__init__(app, limits=limits, clock=clock)
        self._memory = MemoryWriter(app, outcome)
        self._writer = self._memory

    @property
    def mails(self) -> list[Recorded]:
        """Everything committed, in that order, cancelled mails too."""
        return list(self._memory.mails)

    @property
    def sent(self) -> list[Recorded]:
        """What would be sent: `mails` without the cancelled ones. Mails that are due later are among them."""
        return [one for one in self._memory.mails if one.id not in self._memory.cancelled]

    def clear(self) -> None:
        """Forget everything; ids begin at 1 again."""
        self._memory.clear()

    def as_async(self) -> AsyncMailer:
        """The same mailer with coroutines; what it takes is recorded here."""
        return AsyncMailer.over(self)

    def assert_sent(
        self,
        *,
        to: str | None = None,
        subject: str | None = None,
        contains: str | None = None,
        tag: str | None = None,
        key: str | None = None,
        count: int | None = None,
    ) -> list[Recorded]:
        """The mails that would be sent and match everything given; AssertionError if there are none, or not *count*.

        *to* is any recipient (Cc and Bcc too), *subject* the whole subject, *contains* stands in subject, text or
        HTML, *key* is the idempotency key. Without *count*, one or more will do.
        """
        wanted = Wanted(to, subject, contains, tag, key)
        sent = self.sent
        found = [one for one in sent if wanted.matches(one)]
        if (count is None and not found) or (count is not None and len(found) != count):
            raise AssertionError(complaint(wanted, count, len(found), sent))
        return found

    def assert_nothing_sent(self) -> None:
        """AssertionError if anything would be sent."""
        self.assert_sent(count=0)

"""The same door for asyncio: nothing here blocks the loop.

With an AsyncSession or AsyncConnection, statements run on it as SQLAlchemy's own do. Everything without a session
uses ordinary connections in threads (`asyncio.to_thread`), whatever driver the application has.
"""

import asyncio
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeAlias, TypeVar

from mailfleet.mailer_base import DEADLINE_S, MailerBase
from mailfleet.posting import Posting, start_posting, start_sending
from mailfleet.preparing import MailLike
from mailfleet.results import Pending, Result, Sent, raised
from mailfleet.writer import SyncSession

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_scoped_session

#: Where an asyncio application's own transaction is.
AnySession: TypeAlias = "AsyncSession | async_scoped_session[Any] | AsyncConnection"

T = TypeVar("T")


class AsyncMailer(MailerBase):
    """As `Mailer`, with coroutines for verbs; it is made with the same things. Share one for each process.

    *engine* stays a synchronous one (or a URL): it is for everything without a session, and is used in threads.
    """

    @classmethod
    def over(cls, mailer: MailerBase) -> Self:
        """The same mailer with coroutines: one app, database, broker and queue."""
        made = cls.__new__(cls)
        made.__dict__.update(mailer.__dict__)
        return made

    # Into a transaction.

    async def emit(self, mail: MailLike, session: "AnySession | None" = None) -> int:
        """Store *mail* in *session*'s transaction; its id. As `Mailer.emit`."""
        row = self._preparation.one(mail)
        return (await self._on(session, lambda own: self._writer.write([row], own)))[0]

    async def emit_many(self, mails: Iterable[MailLike], session: "AnySession | None" = None) -> list[int]:
        """Store *mails*, all of them or none; their ids in order. As `Mailer.emit_many`."""
        rows = self._preparation.all(mails)
        return await self._on(session, lambda own: self._writer.write(rows, own))

    async def publish(self) -> int:
        """Hint what was emitted on AsyncConnections and is committed by now. As `Mailer.publish`."""
        return self._writer.publish()

    async def cancel(self, mail_id: int, session: "AnySession | None" = None) -> bool:
        """Cancel *mail_id*; True if it will not be sent. As `Mailer.cancel`."""
        return await self._on(session, lambda own: self._writer.cancel(mail_id, own))

    # At once.

    async def send(self, mail: MailLike, deadline_s: float = DEADLINE_S) -> Sent | Pending:
        """Store *mail*, have it sent before others, and wait for the verdict. As `Mailer.send`."""
        posting = await asyncio.to_thread(
            lambda: start_sending(self._writer, [self._preparation.one(mail, urgent=True)], deadline_s)
        )
        return raised((await self._followed(posting))[0])

    async def send_many(
        self, mails: Iterable[MailLike], deadline_s: float = DEADLINE_S
    ) -> list[Sent | Pending]:
        """As `send` for all of *mails* together. As `Mailer.send_many`."""
        posting = await asyncio.to_thread(
            lambda: start_sending(self._writer, self._preparation.all(mails, urgent=True), deadline_s)
        )
        return [raised(one) for one in await self._followed(posting)]

    async def post(self, mail: MailLike, deadline_s: float = DEADLINE_S) -> Result:
        """As `send`, with every outcome as a value. As `Mailer.post`."""
        return (await self.post_many([mail], deadline_s))[0]

    async def post_many(self, mails: Iterable[MailLike], deadline_s: float = DEADLINE_S) -> list[Result]:
        """As `post` for each of *mails*, in order. As `Mailer.post_many`."""
        posting = await asyncio.to_thread(start_posting, self._writer, self._preparation, mails, deadline_s)
        return await self._followed(posting)

    # Itself.

    async def close(self, deadline_s: float = 2.0) -> bool:
        """Publish what is committed, and close what this mailer opened. As `Mailer.close`."""
        return await asyncio.to_thread(self._writer.close, deadline_s)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _on(self, session: "AnySession | None", act: Callable[[SyncSession | None], T]) -> T:
        """*act* on the synchronous side of *session*; in a thread if there is none."""
        if session is None:
            return await asyncio.to_thread(act, None)
        from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_scoped_session

        if isinstance(session, async_scoped_session):
            session = session()
        if isinstance(session, AsyncSession | AsyncConnection):
            return await session.run_sync(act)
        raise TypeError(
            "session: expected an AsyncSession, an async_scoped_session or an AsyncConnection (Mailer takes the others),"
            f" got {type(session).__name__}"
        )

    async def _followed(self, posting: Posting) -> list[Result]:
        waiting = posting.waiting
        while waiting.open:
            waiting.take(await asyncio.to_thread(self._writer.look, waiting.open))
            if waiting.open:
                await asyncio.sleep(waiting.step_s())
        return posting.results()

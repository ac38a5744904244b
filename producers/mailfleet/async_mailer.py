"""The same door for asyncio: nothing here blocks the loop.

With an AsyncSession or AsyncConnection, statements run on it as SQLAlchemy's own do. Everything without a session
uses ordinary connections in threads (`asyncio.to_thread`), whatever driver the application has.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeAlias, TypeVar

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

    async def emit(
        self,
        mail: Sendable,
        session: "AnySession | None" = None,
        *,
        retry: bool | None = None,
        force: bool = False,
    ) -> int:
        """Store *mail* in *session*'s transaction, or queue a stored one; its id. As `Mailer.emit`."""
        if not isinstance(mail, int):
            row = await self._prepared(lambda: self._preparation.one(mail, retry=retry))
            return (await self._on(session, lambda own: self._writer.write([row], own)))[0]
        number = checked_id(mail)
        found = await self._on(
            session,
            lambda own: self._writer.again([number], own, at_once=False, force=force, retry=retry),
        )
        return queued(number, found.get(number))

    async def save(self, mail: MailLike, session: "AnySession | None" = None) -> int:
        """Store *mail* as a draft. As `Mailer.save`."""
        row = await self._prepared(lambda: self._preparation.draft(mail))
        return (await self._on(session, lambda own: self._writer.write([row], own)))[0]

    async def edit(
        self, mail_id: int, mail: MailLike, *, version: int, session: "AnySession | None" = None
    ) -> int:
        """Replace what the stored mail *mail_id* says; its new version. As `Mailer.edit`."""
        row = await self._prepared(lambda: self._preparation.changed(mail))
        return await self._on(session, lambda own: self._writer.edit(mail_id, row, version, own))

    async def status(self, mail_id: int) -> Status:
        """How far the mail *mail_id* is. As `Mailer.status`."""
        return await asyncio.to_thread(self._writer.status, mail_id)

    async def emit_many(self, mails: Iterable[MailLike], session: "AnySession | None" = None) -> list[int]:
        """Store *mails*, all of them or none; their ids in order. As `Mailer.emit_many`."""
        # What makes them stays in this task.
        given = list(mails) if isinstance(mails, Iterator) else mails
        rows = await self._prepared(lambda: self._preparation.all(given))
        return await self._on(session, lambda own: self._writer.write(rows, own))

    async def publish(self) -> int:
        """Hint what was emitted on AsyncConnections and is committed by now. As `Mailer.publish`."""
        return self._writer.publish()

    async def cancel(self, mail_id: int, session: "AnySession | None" = None) -> bool:
        """Cancel *mail_id*; True if it will not be sent. As `Mailer.cancel`."""
        return await self._on(session, lambda own: self._writer.cancel(mail_id, own))

    # At once.

    async def send(
        self,
        mail: Sendable,
        deadline_s: float = DEADLINE_S,
        *,
        retry: bool | None = None,
        force: bool = False,
    ) -> Sent | Pending:
        """Store *mail*, or take a stored one, have it sent before others, and wait for the verdict. As `Mailer.send`."""

        def start() -> Posting:
            if isinstance(mail, int):
                return start_again(self._writer, mail, deadline_s, Wish(force, retry))
            row = self._preparation.one(mail, urgent=True, retry=retry)
            return start_sending(self._writer, [row], deadline_s)

        return raised((await self._followed(await asyncio.to_thread(start)))[0])

    async def send_many(
        self, mails: Iterable[MailLike], deadline_s: float = DEADLINE_S
    ) -> list[Sent | Pending]:
        """As `send` for all of *mails* together. As `Mailer.send_many`."""
        posting = await asyncio.to_thread(
            lambda: start_sending(self._writer, self._preparation.all(mails, urgent=True), deadline_s)
        )
        return [raised(one) for one in await self._followed(posting)]

    async def post(
        self,
        mail: Sendable,
        deadline_s: float = DEADLINE_S,
        *,
        retry: bool | None = None,
        force: bool = False,
    ) -> Result:
        """As `send`, with every outcome as a value. As `Mailer.post`."""
        return (await self.post_many([mail], deadline_s, retry=retry, force=force))[0]

    async def post_many(
        self,
        mails: Iterable[Sendable],
        deadline_s: float = DEADLINE_S,
        *,
        retry: bool | None = None,
        force: bool = False,
    ) -> list[Result]:
        """As `post` for each of *mails*, in order. As `Mailer.post_many`."""
        wish = Wish(force, retry)
        posting = await asyncio.to_thread(
            start_posting, self._writer, self._preparation, mails, deadline_s, wish
        )
        return await self._followed(posting)

    async def auto(
        self,
        mail: Sendable,
        deadline_s: float = DEADLINE_S,
        *,
        retry: bool | None = None,
        force: bool = False,
    ) -> Result | Scheduled:
        """As `post` if the mail is due; one whose time is to come is stored. As `Mailer.auto`."""
        wish = Wish(force, retry)
        later = await asyncio.to_thread(store_for_later, self._writer, self._preparation, mail, wish)
        return await self.post(mail, deadline_s, retry=retry, force=force) if later is None else later

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

    async def _prepared(self, prepare: Callable[[], T]) -> T:
        """What *prepare* makes; in a thread where it may read files, which stands still for as long as a disk does."""
        return await asyncio.to_thread(prepare) if self._preparation.shelves else prepare()

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

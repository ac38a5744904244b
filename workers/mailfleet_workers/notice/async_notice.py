"""`AsyncNotice`: the verbs of `Notice` as coroutines; threads do the work."""

import asyncio
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Literal, Self

from mailfleet.preparing import MailLike
from mailfleet_workers.account import Account
from mailfleet_workers.notice.notice import Notice
from mailfleet_workers.notice.results import Result
from mailfleet_workers.settings import Settings


class AsyncNotice:
    """What it is made with, promises and does not promise stands in `Notice`, of which it is made or which it makes."""

    def __init__(self, settings: Settings | Notice, app: str = "notice", **options: Any) -> None:
        self._notice = settings if isinstance(settings, Notice) else Notice(settings, app, **options)

    @classmethod
    def from_env(cls, app: str = "notice", **options: Any) -> Self:
        """As `Notice.from_env`."""
        return cls(Notice.from_env(app, **options))

    async def send(self, mail: MailLike, account: str | Account | None = None) -> Literal[True]:
        """As `Notice.send`."""
        return await asyncio.to_thread(self._notice.send, mail, account)

    async def send_many(
        self, mails: Iterable[MailLike], account: str | Account | None = None
    ) -> Literal[True]:
        """As `Notice.send_many`."""
        return await asyncio.to_thread(self._notice.send_many, mails, account)

    async def post(self, mail: MailLike, account: str | Account | None = None) -> Result:
        """As `Notice.post`."""
        return await asyncio.to_thread(self._notice.post, mail, account)

    async def post_many(
        self, mails: Iterable[MailLike], account: str | Account | None = None
    ) -> list[Result]:
        """As `Notice.post_many`."""
        return await asyncio.to_thread(self._notice.post_many, mails, account)

    async def emit(self, mail: MailLike, account: str | Account | None = None) -> "asyncio.Future[Result]":
        """As `Notice.emit`; the future that is returned can be awaited, and need not be."""
        return (await self.emit_many([mail], account))[0]

    async def emit_many(
        self, mails: Iterable[MailLike], account: str | Account | None = None
    ) -> "list[asyncio.Future[Result]]":
        """As `Notice.emit_many`."""
        futures = await asyncio.to_thread(self._notice.emit_many, mails, account)
        return [asyncio.wrap_future(one) for one in futures]

    async def flush(self, deadline_s: float) -> bool:
        """As `Notice.flush`."""
        return await asyncio.to_thread(self._notice.flush, deadline_s)

    async def close(self, deadline_s: float = 10.0) -> bool:
        """As `Notice.close`."""
        return await asyncio.to_thread(self._notice.close, deadline_s)

    def counts(self) -> Mapping[str, int]:
        """As `Notice.counts`."""
        return self._notice.counts()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

"""`Notice`: mail without a database, for what must be said when the database is down (TinyMail's MailNotice)."""

import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from mailfleet.errors import InvalidMail, SettingsError
from mailfleet.preparing import MailLike
from mailfleet.results import Invalid
from mailfleet.validation import DEFAULT_LIMITS, Limits
from mailfleet_schema.names import EXPECTATION, InvalidName, check_name
from mailfleet_workers.account import Account
from mailfleet_workers.notice import processes
from mailfleet_workers.notice.brake import Brake
from mailfleet_workers.notice.letter import Letter, Writing
from mailfleet_workers.notice.outbox import Entry, Outbox
from mailfleet_workers.notice.results import Dropped, NoticeNotSent, Result, Sent, word
from mailfleet_workers.notice.round import Round
from mailfleet_workers.settings import Settings
from mailfleet_workers.settings.replies import rules_of
from mailfleet_workers.smtp.connection import SmtpTransport
from mailfleet_workers.smtp.pool import ConnectionPool
from mailfleet_workers.telemetry.meter import SILENT, Meter

log = logging.getLogger(__name__)


class Notice:
    """Sends mail straight to the server of an account, from this process, with no database and no broker.

    What it shares with workers: validation, the message's bytes, TLS and AUTH, verdicts, `delivery` (dry run unless it is
    said otherwise), redirection, run modes, dry-run prefixes; limits, as far as Redis answers within a moment.

    What it does not promise. There is no row: no history, no retry, nothing is found by `mailfleet show`, and what this
    process has not sent when it ends is gone. A mail is tried once: at most one copy, perhaps none. Where the server falls
    silent after the whole mail, the answer is `Uncertain`. While Redis is away, or has lost its memory, mails go without
    permits and may exceed limits. What operators have changed in the database, limits and gates, is not known here.

    Fields that need a row are refused: `lazy`, a `due_at` to come, `idempotency_key`, `max_done` above 1. `max_fail`, `retry`,
    `on_doubt`, `ref`, `tags` and `content_policy` mean nothing here. A mail without text and HTML is invalid.

    *app* is whose accounts may be used and whose name metrics and the limiter hear. *catcher* is where a catching server of
    ours listens, for accounts without a host. *on_result* hears of every emitted mail, in the thread that sent it; what it
    raises is logged. *exit_s* is how long an ending process waits for what was emitted.

    An account is given by name (the settings', merged as they merge), as an `Account` of the caller's own, or by the mail.

    Thread-safe. Reads and connects to nothing until a mail is sent. A forked child has its own, and nothing of what its
    parent emitted.
    """

    def __init__(
        self,
        settings: Settings,
        app: str = "notice",
        *,
        environ: Mapping[str, str] | None = None,
        catcher: tuple[str, int] | None = None,
        on_result: Callable[[Result], None] | None = None,
        limits: Limits = DEFAULT_LIMITS,
        meter: Meter = SILENT,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        exit_s: float = 10.0,
    ) -> None:
        try:
            self._app = check_name("app", app)
        except InvalidName as error:
            raise SettingsError("app", EXPECTATION, app) from error
        self._settings = settings
        self._environ = os.environ if environ is None else environ
        self._catcher = catcher
        self._on_result = on_result
        self._meter = meter
        self._clock = clock
        self.exit_s = exit_s
        self._rules = rules_of(settings)
        self._writing = Writing(settings, app, clock=clock, limits=limits, catcher=catcher)
        self._outbox = Outbox(self._send_entries, self._drop)
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._begin()
        processes.register(self)

    @classmethod
    def from_env(
        cls,
        app: str = "notice",
        environ: Mapping[str, str] = os.environ,
        path: Path | None = None,
        *,
        on_result: Callable[[Result], None] | None = None,
        meter: Meter = SILENT,
    ) -> Self:
        """With the settings of the file *path* (None: as workers find it) and the MAILFLEET_* variables in *environ*.

        Raises SettingsError.
        """
        settings = Settings.load(environ, path)
        return cls(settings, app, environ=environ, on_result=on_result, meter=meter)

    def _begin(self) -> None:
        """What is made anew after a fork and after the end: connections to servers and to Redis."""
        self._brake = Brake(self._settings, self._app, catcher=self._catcher, meter=self._meter)
        self._connections = ConnectionPool(self._transport, time.monotonic, meter=self._meter)

    def _transport(self, account: Account) -> SmtpTransport:
        return SmtpTransport(account, environ=self._environ, meter=self._meter)

    # Now.

    def send(self, mail: MailLike, account: str | Account | None = None) -> Literal[True]:
        """Send *mail* now; True when a server took it over, or when this is a dry run (`post` says which).

        Raises InvalidMail with nothing sent, and NoticeNotSent with the result.
        """
        return self.send_many([mail], account)

    def send_many(self, mails: Iterable[MailLike], account: str | Account | None = None) -> Literal[True]:
        """Send *mails* now, over one connection for each account; True when a server took all of them over.

        Raises InvalidMail with nothing sent if one is wrong (`mails[3].to[0]`, of several), and NoticeNotSent, which has
        the result of each: one that is refused does not touch the others.
        """
        letters = self._letters(mails, account)
        for position, letter in enumerate(letters):
            if isinstance(letter, Invalid):
                self._told(letter, letter)
                prefix = f"mails[{position}]." if len(letters) > 1 else ""
                raise InvalidMail(f"{prefix}{letter.field}", letter.reason)
        results = self._send_letters(letters)
        if all(isinstance(one, Sent) for one in results):
            return True
        raise NoticeNotSent(results)

    def post(self, mail: MailLike, account: str | Account | None = None) -> Result:
        """Send *mail* now; what became of it, as a value whatever it is."""
        return self.post_many([mail], account)[0]

    def post_many(self, mails: Iterable[MailLike], account: str | Account | None = None) -> list[Result]:
        """As `post` for each of *mails*, in order, over one connection for each account."""
        return self._send_letters(self._letters(mails, account))

    # Later.

    def emit(self, mail: MailLike, account: str | Account | None = None) -> "Future[Result]":
        """Have *mail* sent by a thread of this process, and return at once: never raises for what may be wrong with it.

        The future has its result, which is also logged, counted, and told to `on_result`: nobody has to wait for it.
        """
        return self.emit_many([mail], account)[0]

    def emit_many(
        self, mails: Iterable[MailLike], account: str | Account | None = None
    ) -> "list[Future[Result]]":
        """As `emit` for each of *mails*, in order."""
        futures: list[Future[Result]] = []
        entries: list[Entry] = []
        for letter in self._letters(mails, account):
            if isinstance(letter, Letter):
                entries.append(Entry(letter))
                futures.append(entries[-1].future)
            else:
                done: Future[Result] = Future()
                self._told(letter, letter)
                self._answer(done, letter)
                futures.append(done)
        if entries:
            processes.finalize_in_child()
            self._outbox.put(entries)
        return futures

    def flush(self, deadline_s: float) -> bool:
        """Wait until every emitted mail has a result, at most *deadline_s*; whether all have."""
        return self._outbox.flush(deadline_s)

    def close(self, deadline_s: float = 10.0) -> bool:
        """Flush; what was not begun by then is dropped, which its future says. Returns whether everything had its turn."""
        flushed = self._outbox.flush(deadline_s)
        if not flushed:
            unfinished = self._outbox.abandon()
            log.warning("notices_unfinished", extra={"app": self._app, "mails": unfinished})
        self._connections.close()
        self._brake.close()
        self._begin()  # a notice may be used after its end: somebody may have something to say
        return flushed

    def counts(self) -> Mapping[str, int]:
        """How many mails of this process ended how: sent, dry_run, failed, not_yet, uncertain, invalid, dropped."""
        with self._lock:
            return dict(self._counts)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # For `processes`.

    def forked(self) -> None:
        """This process is a child of the one that made us."""
        self._counts, self._lock = Counter(), threading.Lock()
        self._outbox.forked()
        self._begin()

    @property
    def outbox(self) -> Outbox:
        return self._outbox

    # Below.

    def _letters(self, mails: Iterable[MailLike], account: str | Account | None) -> list[Letter | Result]:
        if isinstance(account, Account):
            self._brake.know(account)
        return [self._writing.letter(mail, account) for mail in mails]

    def _send_letters(self, letters: Sequence[Letter | Result]) -> list[Result]:
        """One result for each, in order; letters of one account together."""
        results: dict[int, Result] = {}
        by_account: dict[Account, dict[int, Letter]] = {}
        for position, letter in enumerate(letters):
            if isinstance(letter, Letter):
                by_account.setdefault(letter.way.account, {})[position] = letter
            else:
                self._told(letter, letter)
                results[position] = letter
        for batch in by_account.values():
            results |= self._send_batch(batch)
        return [results[position] for position in range(len(letters))]

    def _send_batch(self, letters: Mapping[int, Letter]) -> dict[int, Result]:
        positions, batch = list(letters), list(letters.values())
        results: dict[int, Result] = {}

        def told(n: int, result: Result) -> None:
            self._told(batch[n], result)
            results[positions[n]] = result

        self._round().send(batch, told)
        return results

    def _send_entries(self, entries: Sequence[Entry]) -> None:
        def told(n: int, result: Result) -> None:
            self._told(entries[n].letter, result)
            self._answer(entries[n].future, result)

        self._round().send([entry.letter for entry in entries], told)

    def _drop(self, entry: Entry, why: Dropped) -> None:
        self._told(entry.letter, why)
        self._answer(entry.future, why)

    def _round(self) -> Round:
        return Round(
            self._app, self._brake, self._connections, self._rules, meter=self._meter, now=self._clock
        )

    def _answer(self, future: "Future[Result]", result: Result) -> None:
        if future.set_running_or_notify_cancel():
            future.set_result(result)
        if self._on_result is not None:
            try:
                self._on_result(result)
            except Exception:
                log.exception("notice_hook_failed", extra={"app": self._app})

    def _told(self, letter: Letter | Result, result: Result) -> None:
        """Count and log *result*: nothing of the mail's content, and no address, is in the line."""
        account, host = "", ""
        if isinstance(letter, Letter):
            account, host = letter.way.account.name, letter.way.host
        said = word(result)
        with self._lock:
            self._counts[said] += 1
        self._meter.noticed(self._app, account, host, said)
        reply = getattr(result, "reply", None)
        fields = {
            "app": self._app,
            "account": account or None,
            "host": host or None,
            "result": said,
            "code": reply.code if reply else None,
            "enhanced": reply.enhanced if reply else None,
        }
        if isinstance(result, Sent):
            log.info("notice_sent", extra=fields)
        else:
            log.warning("notice_not_sent", extra=fields)

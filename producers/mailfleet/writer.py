"""What a mailer does with the database: insert checked mails, in whose transaction, and read how far they are.

Shared by `Mailer` and `AsyncMailer`; not an interface for applications. Everything here blocks for as long as the
database does.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar
from weakref import ref

from sqlalchemy import Connection, RootTransaction

from mailfleet.enlisted import SyncSession, enlisted
from mailfleet.errors import EditConflict, IdempotencyConflict, SendRefused, UnknownMail
from mailfleet.open_writes import is_held
from mailfleet.outlet import Outlet, row_of
from mailfleet.own_engine import OwnEngine
from mailfleet.publisher import CAPACITY, Row
from mailfleet.status import Status, statuses_of
from mailfleet.template_versions import with_versions
from mailfleet_schema.dialects import Executor
from mailfleet_schema.senders import Apps, hinted
from mailfleet_schema.statements.again import Again, Standing, queue_drafts, send_again
from mailfleet_schema.statements.edit import EDITABLE, Edited, NotEdited, edit_mail
from mailfleet_schema.statements.insert import MAX_DONE, Inserted, NewMail, insert_mails
from mailfleet_schema.statements.key import KeyTaken
from mailfleet_schema.statements.operate import CANCEL, operate
from mailfleet_schema.statements.webhook import registered_endpoints, tell
from mailfleet_schema.states import Priority, State

#: How long `send` waits for SQLite's write lock before it is refused.
SEND_PATIENCE_S = 1.0

T = TypeVar("T")

#: Stands for an app where a row is locked, not a key: no app has this name.
_MAIL = "#mail"


class Writer:
    """Writes the mails of *app* and hands what is committed to *outlet*."""

    def __init__(self, app: str, own: OwnEngine, outlet: Outlet, *, grace_s: float) -> None:
        self.app = app
        self._own = own
        self._outlet = outlet
        self._grace_s = grace_s
        # What was about to be committed on Core connections, until `publish`; the oldest is forgotten, and late.
        self._committing: deque[tuple[ref[RootTransaction] | None, Sequence[Row]]] = deque(maxlen=CAPACITY)

    # Verbs.

    def write(self, mails: Sequence[NewMail], session: SyncSession | None) -> list[int]:
        """Insert *mails* in *session*'s transaction, or in one of our own if it is None; their ids in order.

        Raises IdempotencyConflict, with nothing written.
        """
        if not mails:
            return []
        if session is None:
            return [one.mail_id for one in self.commit(mails)]
        with enlisted(session) as here:
            inserted = self._insert(here.executor, mails)
            known = _known(mails, inserted)
            drafts = self._again(queue_drafts(here.executor, known, app=self.app))
            here.note([*self._keys(mails), *_rows_of(known)])
            here.collect(self, [*self._rows(mails, inserted), *drafts])
        return [one.mail_id for one in inserted]

    def commit(self, mails: Sequence[NewMail], *, patience_s: float | None = None) -> list[Inserted]:
        """Insert *mails* in a transaction of our own, and commit.

        Raises SendRefused where that would wait for a transaction of this thread, or for SQLite's lock longer than
        *patience_s*; IdempotencyConflict, with nothing written.
        """
        self._refuse_if_held(self._keys(mails))
        with self._own.write(patience_s=patience_s) as connection:
            inserted = self._insert(connection, mails)
            known = _known(mails, inserted)
            self._refuse_if_held(_rows_of(known))
            drafts = self._again(queue_drafts(connection, known, app=self.app))
        self.committed([*self._rows(mails, inserted), *drafts])
        return inserted

    def cancel(self, mail_id: int, session: SyncSession | None) -> bool:
        """Cancel *mail_id* if it is still to be had."""
        return self._changed(
            [mail_id],
            lambda connection: _cancel(connection, self.app, mail_id),
            session,
            lambda _: (),
        )

    def again(
        self,
        ids: Sequence[int],
        session: SyncSession | None,
        *,
        at_once: bool,
        force: bool = False,
        retry: bool | None = None,
        urgent: bool = False,
        patience_s: float | None = None,
    ) -> dict[int, Again | Standing]:
        """Queue stored mails, as `statements.again.send_again`; *urgent* ones are `high` from then on."""
        priority = Priority.HIGH if urgent else None

        def act(connection: Executor) -> dict[int, Again | Standing]:
            return send_again(
                connection, ids, app=self.app, at_once=at_once, force=force, retry=retry, priority=priority
            )

        return self._changed(
            ids,
            act,
            session,
            lambda found: [one for one in found.values() if isinstance(one, Again)],
            patience_s,
        )

    def edit(self, mail_id: int, mail: NewMail, version: int, session: SyncSession | None) -> int:
        """Replace what mail *mail_id* says; its new version. Raises UnknownMail and EditConflict, with nothing written."""

        def act(connection: Executor) -> Edited:
            (new,) = with_versions(connection, self.app, [mail])
            edited = edit_mail(connection, self.app, mail_id, new, version=version, grace_s=self._grace_s)
            if edited is None:
                raise UnknownMail(mail_id)
            if isinstance(edited, NotEdited):
                raise EditConflict(mail_id, edited.version, _why_not_edited(edited, version, mail))
            return edited

        def queued(edited: Edited) -> list[Again]:
            if edited.state is not State.QUEUED or mail.reason is not None:
                return []
            return [Again(mail_id, edited.priority, 0, 0, edited.due_in_s, mail.apps)]

        return self._changed([mail_id], act, session, queued).version

    def look(self, ids: Sequence[int]) -> dict[int, Status]:
        """How far *ids* are."""
        with self._own.read() as connection:
            return statuses_of(connection, ids)

    def status(self, mail_id: int) -> Status:
        """How far *mail_id* is. Raises UnknownMail, also for another app's."""
        found = self.look([mail_id]).get(mail_id)
        if found is None or found.app != self.app:
            raise UnknownMail(mail_id)
        return found

    def publish(self) -> int:
        """Hint what was emitted on Core connections and is committed by now; how many mails that is."""
        published = 0
        for _ in range(len(self._committing)):
            try:
                transaction, rows = self._committing.popleft()
            except IndexError:  # another thread publishes too
                break
            still = None if transaction is None else transaction()
            if still is not None and still.is_active:
                self._committing.append((transaction, rows))
            else:
                self._outlet.put(rows)
                published += len(rows)
        return published

    def close(self, deadline_s: float) -> bool:
        """Publish what is committed, wait for it at most *deadline_s*, and close our own connections."""
        self.publish()
        flushed = self._outlet.flush(deadline_s)
        self._own.close()
        return flushed

    @property
    def outlet(self) -> Outlet:
        return self._outlet

    # What transactions tell.

    def committed(self, rows: Sequence[Row]) -> None:
        self._outlet.put(rows)

    def committing(self, connection: Connection, rows: Sequence[Row]) -> None:
        transaction = connection.get_transaction()
        # Weakly: an application that never publishes must not keep its connections from being collected.
        self._committing.append((None if transaction is None else ref(transaction), rows))

    # Below.

    def _changed(
        self,
        ids: Sequence[int],
        act: Callable[[Executor], T],
        session: SyncSession | None,
        queued: Callable[[T], Iterable[Again]],
        patience_s: float | None = None,
    ) -> T:
        """Let *act* change the mails *ids*, in *session*'s transaction or in one of our own; what is *queued* then is hinted.

        Raises SendRefused where a transaction of this thread, still open, has changed one of them.
        """
        locks = _rows_of(ids)
        if session is None:
            self._refuse_if_held(locks)
            with self._own.write(patience_s=patience_s) as connection:
                done = act(connection)
            self.committed(self._again(queued(done)))
            return done
        with enlisted(session) as here:
            done = act(here.executor)
            here.note(locks)
            here.collect(self, self._again(queued(done)))
        return done

    def _again(self, queued: Iterable[Again]) -> list[Row]:
        return [self._row(one.priority, one.mail_id, one.due_in_s, one.apps) for one in queued]

    def _row(self, priority: Priority, mail_id: int, due_in_s: float, apps: Apps) -> Row:
        to = hinted(self.app, apps, turn=mail_id)
        return row_of(self.app, priority, mail_id, due_in_s, to=to)

    def _insert(self, connection: Executor, mails: Sequence[NewMail]) -> list[Inserted]:
        try:
            mails = with_versions(connection, self.app, mails)
            return insert_mails(connection, self.app, mails, grace_s=self._grace_s)
        except KeyTaken as error:
            raise IdempotencyConflict(error.app, error.key, error.mail_id or 0) from error

    def _rows(self, mails: Sequence[NewMail], inserted: Sequence[Inserted]) -> list[Row]:
        # A mail that is not new was hinted when it was; a draft is for nobody, and one that is not for this run mode is for
        # the worker that a reconciler finds for it.
        return [
            self._row(mail.priority, one.mail_id, one.due_in_s, mail.apps)
            for mail, one in zip(mails, inserted, strict=True)
            if one.new and mail.state is State.QUEUED and mail.reason is None
        ]

    def _keys(self, mails: Sequence[NewMail]) -> list[tuple[str, str]]:
        return [(self.app, mail.key) for mail in mails if mail.key is not None]

    def _refuse_if_held(self, keys: Sequence[tuple[str, str]]) -> None:
        if self._own.database is not None and is_held(self._own.database, keys):
            raise SendRefused(
                "this thread has emitted in a transaction that is still open, and would wait for it (SQLite has one"
                " write lock, PostgreSQL one for each idempotency key): commit first, or give that session"
            )


def _cancel(connection: Executor, app: str, mail_id: int) -> bool:
    cancelled = operate(connection, CANCEL, [mail_id], apps=[app])
    if cancelled:
        # Workers do not see it; who is told of cancellations hears of the application's own too.
        tell(connection, registered_endpoints(connection), cancelled)
    return bool(cancelled)


def _known(mails: Sequence[NewMail], inserted: Sequence[Inserted]) -> list[int]:
    """Those that are emitted now and were stored before, by their idempotency keys: perhaps as drafts, which they are no more."""
    pairs = zip(mails, inserted, strict=True)
    found = [one.mail_id for mail, one in pairs if not one.new and mail.state is State.QUEUED]
    return list(dict.fromkeys(found))


def _rows_of(ids: Sequence[int]) -> list[tuple[str, str]]:
    """The rows *ids* as `open_writes` knows them."""
    return [(_MAIL, str(one)) for one in ids]


def _why_not_edited(found: NotEdited, version: int, mail: NewMail) -> str:
    if found.version != version:
        return f"version {version} was to be edited, it has version {found.version} by now"
    if found.state not in EDITABLE:
        return f"expected it to be {', '.join(EDITABLE)}, it is {found.state}"
    if found.doubted:
        return "a server may have it as it was: it is queued again out of doubt"
    if found.partly:
        return "some of its recipients have got it as it was"
    return f"max_done: expected more than the {found.sum_done} copies that are out, got {mail.max_done or MAX_DONE}"

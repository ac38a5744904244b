"""A record whose commit takes longer than its mail had left: recorded after its expiry, so nothing of it is said."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import event

from tests.integration.workers.office import Office
from tests.waiting import wait_until

ADA, BOB = "ada@example.net", "bob@example.net"
#: Long enough to be emitted, claimed and prepared in, on a busy machine too.
LEFT_S = 3.0


@contextmanager
def slow_commit(office: Office, until: datetime) -> Iterator[list[str]]:
    """The first record's commit takes until *until*; the list says that there was one."""
    dialect: Any = office.engine.dialect
    real = dialect.do_commit
    seen: list[str] = []

    def note(_cursor: Any, statement: str, _parameters: Any, _context: Any) -> None:
        if "SET phase = 'dot'" in statement:
            seen.append("recorded")

    def commit(connection: Any) -> None:
        if seen == ["recorded"]:
            seen.append("waited")
            wait_until(lambda: datetime.now(UTC) > until, 10, lambda: "the clock stands")
        real(connection)

    event.listen(office.engine, "do_execute", note)
    dialect.do_commit = commit
    try:
        yield seen
    finally:
        del dialect.do_commit
        event.remove(office.engine, "do_execute", note)


def test_one(office: Office) -> None:
    """No dot; the row goes back, and expires with the next pass."""
    until = datetime.now(UTC) + timedelta(seconds=LEFT_S)
    mail = office.emit(ADA, expires_at=until)
    with slow_commit(office, until) as seen:
        office.deliver(mail)
    assert seen[:2] == ["recorded", "waited"]
    assert office.server.dots == []
    office.reconciler().run_once()
    assert office.state(mail) == "expired: expires_at"
    office.nothing_is_left()


def test_in_a_chunk(chunks: Office) -> None:
    """Its neighbours, which have time, are sent."""
    until = datetime.now(UTC) + timedelta(seconds=LEFT_S)
    late = chunks.emit(ADA, expires_at=until)
    others = [chunks.emit(BOB), chunks.emit("carol@example.net", expires_at=until + timedelta(minutes=5))]
    with slow_commit(chunks, until) as seen:
        chunks.deliver(late, *others)
    assert seen[:2] == ["recorded", "waited"]
    chunks.reconciler().run_once()
    assert chunks.states([late, *others]) == ["expired: expires_at", "sent", "sent"]
    assert chunks.server.taken == [BOB, "carol@example.net"]
    chunks.nothing_is_left()

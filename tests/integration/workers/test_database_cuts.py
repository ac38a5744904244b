"""The connection to PostgreSQL ends at any byte of what a mail says over it: COMMITs in doubt among all else.

A cut on the way up keeps what the worker says from the server. A cut on the way down keeps the server's answer from the
worker, and with the answer to a COMMIT the knowledge of what was committed.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine, make_url, text

from mailfleet_schema.engine import open_engine
from mailfleet_schema.states import OnDoubt
from mailfleet_workers import ledger
from tests.integration.workers.office import Office
from tests.integration.workers.server_errors import wait_ended
from tests.stage.proxy import STRAIGHT, Fate, Proxy, Route
from tests.waiting import wait_until

UP, DOWN = "up", "down"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two tries a result waits for a moment only."""
    monkeypatch.setattr(ledger, "TRY_AGAIN_S", 0.005)


class Line:
    """An engine whose connections pass a proxy; the next new one goes by `route`, those after it straight."""

    def __init__(self, url: str) -> None:
        address = make_url(url)
        assert address.host is not None
        self.route = STRAIGHT
        self.proxy = Proxy((address.host, address.port or 5432), choose=self._choose)
        self.address = address

    @contextmanager
    def opened(self) -> Iterator[Engine]:
        with self.proxy:
            engine = open_engine(self.address.set(host="127.0.0.1", port=self.proxy.port))
            yield engine
            engine.dispose()

    def _choose(self, _number: int) -> Route:
        route, self.route = self.route, STRAIGHT
        return route


@contextmanager
def watching(line: Line) -> Iterator[Callable[[int], None]]:
    """Sees that a mail's record is committed, over a connection of its own."""
    engine = open_engine(line.address)

    def recorded(mail_id: int) -> None:
        with engine.connect() as connection:
            query = text("SELECT phase FROM mailfleet.mail WHERE id = :id")
            assert connection.execute(query, {"id": mail_id}).scalar_one() == "dot"

    yield recorded
    engine.dispose()


def one_way(office: Office, line: Line, *names: str) -> list[int]:
    """Emit a mail for each of *names*, then claim, record, send and settle them over one new connection."""
    route, line.route = line.route, STRAIGHT
    # Only the other policies are sent in chunks.
    policy = OnDoubt.HOLD if len(names) == 1 else OnDoubt.RESEND_ONCE
    mails = [office.emit(f"{name}@example.net", on_doubt=policy) for name in names]
    office.engine.dispose()
    line.route = route
    office.hint(*mails)
    office.deliver()
    # What comes after is over good connections, however short these mails were.
    office.engine.dispose()
    return mails


def finish(office: Office, mails: list[int]) -> None:
    """Passes and hints over good connections; each mail is sent, once."""
    wait_ended(office.engine)
    for _ in range(3):
        office.reconciler().run_once()
        office.hint(*mails)
        office.deliver()
    assert office.states(mails) == ["sent"] * len(mails)
    assert [office.attempts(mail) for mail in mails] == [["accepted"]] * len(mails)
    taken = [address for address, mail in office.ids.items() if mail in mails]
    assert [office.server.taken.count(address) for address in taken] == [1] * len(taken)


def lengths(office: Office, line: Line, chunk: int) -> dict[str, int]:
    """How many bytes go up and down while mails take their way undisturbed."""
    before = len(line.proxy.passed)
    mails = one_way(office, line, *(f"measured{n}" for n in range(chunk)))
    wait_until(lambda: line.proxy.open == 0, 10, lambda: "the connection does not end")
    up, down = line.proxy.passed[before:][-1]
    finish(office, mails)
    return {UP: up, DOWN: down}


def check(line: Line, directory: Path, *, chunk: int, cuts: int, seed: int) -> None:
    """Cut at *cuts* bytes of a chunk's conversation in each direction, in two ways."""
    rng = random.Random(seed)
    with line.opened() as engine, watching(line) as recorded:
        office = Office(engine, directory, chunk=chunk)
        # Not over the line: what the test asks must not be what is cut.
        office.server.at_dot = lambda envelope: recorded(office.ids[envelope.recipients[0]])
        try:
            for direction, length in lengths(office, line, chunk).items():
                for byte in sorted(rng.sample(range(1, length + 1), min(cuts, length))):
                    fate = rng.choice((Fate.END, Fate.RESET))
                    line.route = Route(**{f"cut_{direction}": byte}, fate=fate)
                    mails = one_way(office, line, *(f"{direction}{byte}-{n}" for n in range(chunk)))
                    try:
                        finish(office, mails)
                    except AssertionError as error:
                        error.add_note(f"{fate} after {byte} of {length} bytes {direction}, seed {seed}")
                        raise
            office.nothing_is_left()
        finally:
            office.connections.close()
            office.journal.close()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("chunk", [1, 8])
@pytest.mark.parametrize(
    ("cuts", "seed"), [pytest.param(6, 17), pytest.param(500, 18, marks=pytest.mark.acceptance)]
)
def test_cut_anywhere(migrated_url: str, tmp_path: Path, chunk: int, cuts: int, seed: int) -> None:
    """Wherever the connection ends, every mail is sent once and none is in doubt; one by one also under `hold`."""
    check(Line(migrated_url), tmp_path, chunk=chunk, cuts=cuts, seed=seed)

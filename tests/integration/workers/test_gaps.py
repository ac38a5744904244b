"""A heartbeat that stood still and goes on: the database may know the worker still, but what it held may be others'."""

from collections.abc import Callable

from mailfleet.failpoints import arm
from mailfleet_schema.statements.reconcile import take_back
from mailfleet_schema.states import OnDoubt
from tests.integration.workers.office import PATIENCE, Office
from tests.integration.workers.server import accept, first

ADA = "ada@example.net"


def gap(office: Office, *, taken: bool = True) -> Callable[[], None]:
    """A pause of 40 s, in which another worker takes what it can see; then the heart beats before anybody else wakes.

    The other one could not retire this worker: something that it held was locked at that moment.
    """

    def pause() -> None:
        office.now += 40
        if taken:
            with office.engine.begin() as connection:
                assert take_back(connection, [office.worker_id], PATIENCE, most=10).doubt
        assert office.pulse.run_once()

    return pause


def test_between_record_and_dot(office: Office) -> None:
    """A mail that others put into doubt gets no dot from the one who was away."""
    mail = office.emit(ADA, on_doubt=OnDoubt.HOLD)
    arm("after_record", gap(office))
    office.deliver(mail)
    assert office.server.dots == []
    assert office.state(mail) == "doubt: quiet worker"


def test_in_the_body_of_a_recorded_mail(chunks: Office) -> None:
    """The same in a chunk, which is recorded before its bodies are sent."""
    mail, other = chunks.emit(ADA), chunks.emit("bob@example.net")
    chunks.server.script(ADA, first(gap(chunks), accept))
    chunks.deliver(mail, other)
    assert chunks.states([mail, other]) == ["doubt: quiet worker"] * 2
    assert chunks.server.taken == []


def test_nobody_took_it(office: Office) -> None:
    """Where nobody came by, the mail is given back and sent by a claim that has no gap."""
    mail = office.emit(ADA)
    pauses = [gap(office, taken=False)]
    arm("after_record", lambda: pauses.pop()() if pauses else None)
    office.deliver(mail)
    assert office.server.dots == []
    assert office.state(mail).startswith("queued: withheld")
    office.let_pass(10)
    office.deliver(mail)
    assert office.state(mail) == "sent"

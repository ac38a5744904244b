"""Renderers that are slow, hang, or end their worker, and whom that keeps from being sent: nobody else."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from mailfleet import Rendered, registry, renderer
from mailfleet_schema.statements.gate import close_gate
from mailfleet_workers.contained import Containment
from mailfleet_workers.recovery import recover
from mailfleet_workers.rendering import Renderers
from tests.integration.workers.office import PATIENCE, Office
from tests.integration.workers.test_lazy_mail import content, equip, lazy, sums

BOB = "bob@example.net"

pytestmark = pytest.mark.tinymail("55")


@pytest.fixture(autouse=True)
def nothing_registered() -> Iterator[None]:
    """Every test registers its own."""
    registry.forget()
    yield
    registry.forget()


def test_one_that_hangs_costs_its_mail_an_attempt(office: Office) -> None:
    """After the time limit the mail waits as after any failure, and the worker goes on."""
    ends = threading.Event()
    renderer("bill")(lambda _: Rendered(text=f"{ends.wait(60)}"))
    equip(office, Renderers(timeout_s=0.05))
    mail, plain = lazy(office), office.emit(BOB)
    office.deliver(mail, plain)
    assert office.states([mail, plain]) == ["queued: retry: render: not done within 0.05 s", "sent"]
    assert sums(office, mail) == (1, 1, 0)
    ends.set()


def test_too_many_that_hang_let_mail_wait(office: Office) -> None:
    """No thread is left for renderers: their mail comes back later, and no attempt is counted."""
    ends = threading.Event()
    renderer("bill")(lambda _: Rendered(text=f"{ends.wait(60)}"))
    equip(office, Renderers(timeout_s=0.05, containment=Containment("test", most_lost=1)))
    first, second = lazy(office), lazy(office, to=BOB)
    office.deliver(first, second)
    assert office.states([first, second]) == [
        "queued: retry: render: not done within 0.05 s",
        "queued: render: too many renderers hang",
    ]
    assert sums(office, second) == (0, 0, 0)
    assert office.row(second)["interruptions"] == 0
    ends.set()


def test_a_drain_waits_for_no_renderer(office: Office) -> None:
    """It is given up and rendered elsewhere; nothing is counted."""
    ends = threading.Event()
    began = threading.Event()

    @renderer("bill")
    def bill(parameter: Any) -> Rendered:
        began.set()
        return Rendered(text=f"{ends.wait(60)}")

    equip(office, Renderers(timeout_s=60, stop=office.stop))
    mail = lazy(office)
    office.hint(mail)
    working = threading.Thread(target=office.sender.run_once)
    working.start()
    assert began.wait(10)
    office.stop.set()
    working.join(10)
    assert not working.is_alive()
    assert office.state(mail) == "queued"
    assert sums(office, mail) == (0, 0, 0)
    ends.set()


class Ended(BaseException):
    """The process ends here, without a word."""


def test_a_process_that_dies_of_it_is_an_interruption(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal has it as begun: the third time it is held, and a neighbour is sent."""

    def ends(*_: Any) -> Any:
        raise Ended

    mail, plain = lazy(office), office.emit(BOB)
    for number in range(3):
        worker = Office(office.engine, office.directory, server=office.server, chunk=8)
        monkeypatch.setattr(worker.desk.renderers, "render", ends)
        worker.hint(mail, plain)
        with pytest.raises(Ended):
            worker.deliver()
        recover(office.engine, worker.directory, [worker.worker_id], PATIENCE)
        assert office.row(mail)["interruptions"] == number + 1
    assert office.states([mail, plain]) == ["held: poison", "sent"]


def test_a_slow_renderer_keeps_nobody_waiting(office: Office) -> None:
    """While one is at it, what else waits for the account is in the heap again, for other threads."""
    waiting: list[int] = []

    @renderer("bill")
    def bill(parameter: Any) -> Rendered:
        batch = office.heap.take(most=10, high_only=False, timeout_s=0)
        assert batch is not None
        waiting.extend(row.id for row in batch.rows)
        office.heap.put_back(batch.rows)
        office.heap.finished(batch.account)
        return Rendered(text="x")

    first, second = lazy(office), office.emit(BOB)
    office.deliver(first, second)
    assert waiting == [second]
    assert office.states([first, second]) == ["sent", "sent"]


@pytest.mark.parametrize(("scope", "key"), [("account", "default"), ("recipient", "example.net")])
def test_what_waits_behind_a_gate_is_not_rendered(office: Office, scope: str, key: str) -> None:
    """It would be stale when the gate opens; then it is rendered."""
    calls: list[Any] = []

    @renderer("bill")
    def bill(parameter: Any) -> Rendered:
        calls.append(parameter)
        return Rendered(text="x")

    mail = lazy(office)
    with office.engine.begin() as connection:
        close_gate(connection, scope=scope, key=key, seconds=600.0, reason="busy")
    office.know_gates()
    office.deliver(mail)
    assert office.state(mail).startswith("queued: ")
    assert (calls, content(office, mail)["text"]) == ([], None)
    office.let_pass(800)
    office.know_gates()
    office.deliver(mail)
    assert office.state(mail) == "sent"


def test_others_can_have_the_connection_meanwhile(office: Office) -> None:
    """A thread that renders has lent its connection, and what it had sent before is settled."""
    before = office.emit(BOB)
    seen: list[Any] = []

    @renderer("bill")
    def bill(parameter: Any) -> Rendered:
        way = office.way("billing", "default")
        assert way is not None
        idle = office.connections.idle(way.account)
        seen.append((office.state(before), idle is not None))
        if idle is not None:
            office.connections.give_back(idle, None)
        return Rendered(text="x")

    mail = lazy(office, to="cat@example.net")
    office.deliver(before, mail)
    assert seen == [("sent", True)]
    assert office.state(mail) == "sent"

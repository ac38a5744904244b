"""Around the final dot: what is kept when the connection does not survive, and cuts inside the body."""

import socket
import threading

import pytest

from mailfleet_workers.catcher import (
    Action,
    Catcher,
    Cut,
    Default,
    Delay,
    Event,
    Hold,
    Keep,
    Latch,
    MemoryStore,
    Plan,
    Receipt,
    Reset,
    Say,
    Script,
    Silent,
    Step,
)
from tests.integration.catcher.client import DEADLINE_S, Client, Ending, Reply, connect

MIB = 1024 * 1024


@pytest.mark.parametrize("then", [Default(), Say(250, "2.0.0 late"), Delay(0.01), Keep(Cut())])
def test_receipt_comes_before_the_answer(then: Action) -> None:
    """An accepted mail is in the store while its client still waits, and stays there when the client is killed."""
    store, latch = MemoryStore(), Latch()

    with Catcher(store, Plan({Step.EOD: [Hold(latch, then)]})) as catcher:
        client = Client(catcher.port)
        client.hello()
        client.begin()
        client.send(b"Subject: first\r\n\r\n.\r\n")
        latch.wait_for_arrival(deadline_s=10)
        assert [receipt.message for receipt in store] == [b"Subject: first\r\n\r\n"]
        assert client.outcome(0.02) == "silence"

        client.kill()
        latch.release()

        with connect(catcher.port) as other:
            other.hello()
            assert other.mail(b"Subject: second\r\n\r\n").code == 250
        assert catcher.faults == ()
    assert [receipt.message[9:14] for receipt in store] == [b"first", b"secon"]


def test_refusal_after_a_wait_keeps_nothing() -> None:
    """A mail that will be refused is not in the store while its client waits either."""
    store, latch = MemoryStore(), Latch()

    script = Plan({Step.EOD: Hold(latch, Say(550, "5.7.1 no"))})
    with Catcher(store, script) as catcher, connect(catcher.port) as client:
        client.hello()
        client.begin()
        client.send(b".\r\n")
        latch.wait_for_arrival(deadline_s=10)
        assert len(store) == 0
        latch.release()
        assert client.reply().code == 550

    assert len(store) == 0


@pytest.mark.parametrize(
    ("then", "ending"),
    [
        (Cut(), "eof"),
        (Reset(), "reset"),
        (Silent(), "silence"),
        (Delay(0.01, Cut()), "eof"),
        (Say(451, "4.3.0 lost it"), Reply(451, "4.3.0 lost it")),
    ],
)
def test_kept_although_not_accepted(then: Action, ending: Reply | Ending) -> None:
    """A mail can be kept whatever its client gets to see: the doubt of RFC 1047."""
    store = MemoryStore()

    with Catcher(store, Plan({Step.EOD: Keep(then)})) as catcher, connect(catcher.port) as client:
        client.hello()
        client.begin()
        client.send(b".\r\n")

        assert client.outcome(0.2 if ending == "silence" else 10) == ending
    assert len(store) == 1


@pytest.mark.parametrize(
    ("action", "endings"),
    [
        (Cut(), ["eof"]),
        (Reset(), ["reset"]),
        (Say(421, "4.3.2 restarting"), [Reply(421, "4.3.2 restarting"), "eof"]),
        (Say(250, "2.0.0 unasked"), [Reply(250, "2.0.0 unasked"), "silence"]),
        (Silent(), ["silence"]),
    ],
)
def test_after_the_reply(action: Action, endings: list[Reply | Ending]) -> None:
    """What a script does after the reply does not keep the client from reading it."""
    store = MemoryStore()

    with Catcher(store, Plan({Step.AFTER_REPLY: action})) as catcher, connect(catcher.port) as client:
        client.hello()
        assert client.mail().code == 250
        seen = [client.outcome(0.2 if ending == "silence" else 10) for ending in endings]

    assert seen == endings
    assert len(store) == 1


def test_reply_is_on_its_way_before_the_script_hears_of_it() -> None:
    """When a script is asked what to do after the reply, the client can read that reply."""
    read, was_read = threading.Event(), []

    def script(event: Event) -> Action:
        if event.step is Step.AFTER_REPLY:
            was_read.append(read.wait(DEADLINE_S))
        return Default()

    with Catcher(MemoryStore(), script) as catcher, connect(catcher.port) as client:
        client.hello()
        assert client.mail().code == 250
        read.set()
        assert client.command("NOOP").code == 250

    assert was_read == [True]


def test_queue_id_is_the_receipts_number() -> None:
    """The usual reply names the receipt's number as queue id."""
    store = MemoryStore()

    with Catcher(store) as catcher, connect(catcher.port) as client:
        client.hello()
        texts = [client.mail().text for _ in range(2)]

    assert texts == ["2.0.0 Ok: queued as 1", "2.0.0 Ok: queued as 2"]


def test_mail_that_cannot_be_stored_is_refused() -> None:
    """When the store fails, the client reads 451 and not 250, and the fault is told."""

    class Full(MemoryStore):
        def _keep(self, receipt: Receipt) -> Receipt:
            raise OSError(28, "No space left on device")

    with Catcher(Full()) as catcher, connect(catcher.port) as client:
        client.hello()

        assert client.mail().code == 451
        assert client.command("NOOP").code == 250
        assert [type(fault) for fault in catcher.faults] == [OSError]


def at(count: int, action: Action) -> Script:
    """A script that acts once *count* bytes of a body have arrived."""

    def script(event: Event) -> Action:
        return action if event.step is Step.BODY and event.body_bytes >= count else Default()

    return script


def send_until_it_fails(client: Client, size: int) -> int:
    """Send up to *size* bytes of body, each in small blocks; how many could be sent."""
    block = b"x" * 1022 + b"\r\n"
    sent = 0
    try:
        while sent < size:
            client.send(block)
            sent += len(block)
    except (BrokenPipeError, ConnectionResetError, TimeoutError):
        pass
    return sent


@pytest.mark.parametrize("action", [Cut(), Reset()])
def test_cut_inside_the_body(action: Action) -> None:
    """A connection can be cut at a byte count of the body; nothing is kept."""
    store = MemoryStore()

    with Catcher(store, at(1 * MIB, action)) as catcher, connect(catcher.port) as client:
        client.hello()
        client.begin()

        assert 1 * MIB <= send_until_it_fails(client, 64 * MIB) < 64 * MIB
    assert len(store) == 0


def test_even_the_smallest_body_can_be_cut() -> None:
    """The body step comes before the dot is looked at, also when both arrive in one segment."""
    store = MemoryStore()

    with Catcher(store, Plan({Step.BODY: Cut()})) as catcher, connect(catcher.port) as client:
        client.hello()
        client.begin()
        client.send(b".\r\n")

        assert client.outcome() == "eof"
    assert len(store) == 0


def test_reply_inside_the_body() -> None:
    """A refusal in the middle of the body can be read by a client that is still sending, then comes the end."""
    store = MemoryStore()
    too_much = Say(552, "5.3.4 That is enough")

    with Catcher(store, at(1 * MIB, too_much)) as catcher, connect(catcher.port) as client:
        client.hello()
        client.begin()
        client.send(b"x" * 2 * MIB)

        assert client.outcome() == Reply(552, "5.3.4 That is enough")
        assert client.outcome() == "eof"
    assert len(store) == 0


def test_server_that_stops_reading() -> None:
    """A silent server does not read on inside a body, so its client gets stuck in sending."""
    with (
        Catcher(MemoryStore(), at(1 * MIB, Silent())) as catcher,
        connect(catcher.port) as client,
    ):
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
        client.hello()
        client.begin()
        client.socket.settimeout(0.3)

        assert 1 * MIB <= send_until_it_fails(client, 64 * MIB) < 64 * MIB


def test_slow_reader_takes_the_mail_in_the_end() -> None:
    """Delays inside the body slow the client down and lose nothing."""
    store = MemoryStore()
    message = b"x" * 1022 + b"\r\n"

    script = Plan({Step.BODY: [Delay(0.02)] * 5})
    with Catcher(store, script) as catcher, connect(catcher.port) as client:
        client.hello()

        assert client.mail(message * 4096).code == 250
    assert store.receipts()[0].message == message * 4096

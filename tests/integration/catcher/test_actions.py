"""Every action at every step, seen from the client's side of the wire."""

import smtplib
import time

import pytest

from mailfleet_workers.catcher import (
    Action,
    Catcher,
    Cut,
    Default,
    Delay,
    Drip,
    Endless,
    Event,
    Hold,
    Keep,
    Latch,
    Long,
    MemoryStore,
    Plan,
    Raw,
    Reset,
    Say,
    Silent,
    Step,
)
from tests.integration.catcher.client import Client, Ending, Reply, connect
from tests.waiting import wait_until

STEPS = [
    Step.CONNECT,
    Step.EHLO,
    Step.MAIL,
    Step.RCPT,
    Step.DATA,
    Step.EOD,
    Step.RSET,
    Step.NOOP,
    Step.VRFY,
    Step.QUIT,
]

USUAL = {
    Step.CONNECT: 220,
    Step.EHLO: 250,
    Step.MAIL: 250,
    Step.RCPT: 250,
    Step.DATA: 354,
    Step.EOD: 250,
    Step.RSET: 250,
    Step.NOOP: 250,
    Step.VRFY: 252,
    Step.QUIT: 221,
}

_ROUTE = [
    (Step.EHLO, b"EHLO client.test\r\n"),
    (Step.MAIL, b"MAIL FROM:<a@x.test>\r\n"),
    (Step.RCPT, b"RCPT TO:<b@x.test>\r\n"),
    (Step.DATA, b"DATA\r\n"),
    (Step.EOD, b"Subject: x\r\n\r\nbody\r\n.\r\n"),
]


def go_to(client: Client, step: Step) -> None:
    """Say everything up to and including *step*, and read everything before its reply."""
    if step is Step.CONNECT:
        return
    assert client.reply().code == 220
    if step in (Step.RSET, Step.NOOP, Step.VRFY, Step.QUIT):
        client.send(f"{step} {'x' if step is Step.VRFY else ''}".rstrip().encode() + b"\r\n")
        return
    for passed, said in _ROUTE:
        client.send(said)
        if passed is step:
            return
        assert client.reply().code in (250, 354)


def meet(step: Step, action: Action, patience_s: float = 10.0) -> tuple[Reply | Ending, float, int]:
    """What a client sees where *action* is taken at *step*, after how many seconds, and the mails kept."""
    store = MemoryStore()
    outcome: Reply | Ending
    with Catcher(store, Plan({step: action})) as catcher:
        begin = time.monotonic()
        try:
            with connect(catcher.port) as client:
                go_to(client, step)
                outcome = client.outcome(patience_s)
        except ConnectionResetError:
            # A reset in place of the greeting may come before connect() returns.
            assert step is Step.CONNECT
            outcome = "reset"
        taken = time.monotonic() - begin
        assert catcher.faults == ()
    return outcome, taken, len(store)


@pytest.mark.parametrize("step", STEPS)
def test_default(step: Step) -> None:
    """By default each step gets its usual positive reply."""
    outcome, _, _ = meet(step, Default())

    assert isinstance(outcome, Reply)
    assert outcome.code == USUAL[step]


@pytest.mark.parametrize("step", STEPS)
def test_say(step: Step) -> None:
    """A reply of several lines arrives as one reply, at every step."""
    outcome, _, kept = meet(step, Say(452, "4.3.1 first\n4.3.1 second\n4.3.1 third"))

    assert outcome == Reply(452, "4.3.1 first\n4.3.1 second\n4.3.1 third")
    assert kept == 0


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("reply", [Say(421, "4.3.2 going down"), Say(535, "5.7.8 no, and bye", close=True)])
def test_say_and_close(step: Step, reply: Say) -> None:
    """421, and any reply that says so, is followed by an end of file and not by a reset."""
    with Catcher(MemoryStore(), Plan({step: reply})) as catcher, connect(catcher.port) as client:
        go_to(client, step)
        # More input than the server will ever read must not turn the reply into a reset.
        client.send(b"NOOP\r\n" * 100)

        assert client.outcome() == Reply(reply.code, reply.text)
        assert client.outcome() == "eof"


@pytest.mark.parametrize("step", STEPS)
def test_cut(step: Step) -> None:
    """A cut is an end of file without a reply, and nothing is kept."""
    outcome, _, kept = meet(step, Cut())

    assert outcome == "eof"
    assert kept == 0


@pytest.mark.parametrize("step", STEPS)
def test_reset(step: Step) -> None:
    """A reset arrives as one, and nothing is kept."""
    outcome, _, kept = meet(step, Reset())

    assert outcome == "reset"
    assert kept == 0


@pytest.mark.parametrize("step", STEPS)
def test_silent(step: Step) -> None:
    """Silence is no reply and no end of the connection, and nothing is kept."""
    outcome, _, kept = meet(step, Silent(), patience_s=0.2)

    assert outcome == "silence"
    assert kept == 0


@pytest.mark.parametrize("step", STEPS)
def test_delay(step: Step) -> None:
    """A delayed action comes after its seconds and not before."""
    outcome, taken, _ = meet(step, Delay(0.1, Delay(0.1)))

    assert isinstance(outcome, Reply)
    assert outcome.code == USUAL[step]
    assert taken >= 0.2


@pytest.mark.parametrize("step", STEPS)
def test_drip(step: Step) -> None:
    """A dripping reply takes its time per byte and arrives whole; a dripping refusal refuses."""
    outcome, taken, kept = meet(step, Drip(Say(451, "4.3.0 slow\n4.3.0 no"), 0.005))

    assert outcome == Reply(451, "4.3.0 slow\n4.3.0 no")
    assert taken >= 0.005 * len("451-4.3.0 slow\r\n451 4.3.0 no\r\n")
    assert kept == 0


@pytest.mark.parametrize("step", STEPS)
def test_dripping_default(step: Step) -> None:
    """The usual reply can drip too."""
    outcome, _, _ = meet(step, Drip(Default(), 0.0001))

    assert isinstance(outcome, Reply)
    assert outcome.code == USUAL[step]


@pytest.mark.parametrize("step", STEPS)
def test_hold(step: Step) -> None:
    """A held step is not answered before the test releases it."""
    latch = Latch()
    with Catcher(MemoryStore(), Plan({step: Hold(latch)})) as catcher, connect(catcher.port) as client:
        go_to(client, step)
        latch.wait_for_arrival(deadline_s=10)
        assert client.outcome(0.05) == "silence"
        latch.release()
        outcome = client.outcome()

    assert isinstance(outcome, Reply)
    assert outcome.code == USUAL[step]


@pytest.mark.parametrize("step", STEPS)
def test_raw(step: Step) -> None:
    """Raw bytes arrive as they are, and keep nothing."""
    store = MemoryStore()
    with Catcher(store, Plan({step: Raw(b"what?\0\r\n")})) as catcher, connect(catcher.port) as client:
        go_to(client, step)

        assert client.socket.recv(100) == b"what?\0\r\n"
    assert len(store) == 0


@pytest.mark.parametrize("step", STEPS)
def test_long(step: Step) -> None:
    """The usual reply of every step can be a line of a million bytes, and has its effect all the same."""
    outcome, _, kept = meet(step, Long(size=1_000_000))

    assert isinstance(outcome, Reply)
    assert outcome.code == USUAL[step]
    assert len(outcome.text.splitlines()[-1]) == 1_000_000 - len("250 \r\n")
    assert kept == (step is Step.EOD)


def test_long_refusal() -> None:
    """Only the last line of a reply is long, and a refusal refuses."""
    outcome, _, kept = meet(Step.EOD, Long(Say(554, "5.6.0 first\nlast"), size=100))

    assert outcome == Reply(554, "5.6.0 first\n" + "last".ljust(100 - len("554 \r\n"), "x"))
    assert kept == 0


@pytest.mark.parametrize("step", STEPS)
def test_endless(step: Step) -> None:
    """An endless reply says its code in every line, comes as long as it is read, and ends with the client."""
    store = MemoryStore()
    with Catcher(store, Plan({step: Endless()})) as catcher:
        with connect(catcher.port) as client:
            go_to(client, step)
            heard = b""
            while len(heard) < 1_000_000:
                heard += client.socket.recv(65_536)
            lines = heard.split(b"\r\n")[:-1]
            assert {line[:4] for line in lines} == {b"%d-" % USUAL[step]}
        wait_until(lambda: catcher.open_sessions == 0, 10, lambda: "it still speaks")
        assert catcher.faults == ()
    assert len(store) == (step is Step.EOD)


def test_refused_commands_have_no_effect() -> None:
    """A refused RCPT is no recipient, a refused DATA begins no body, a refused MAIL no transaction."""
    store = MemoryStore()
    script = Plan(
        {
            Step.MAIL: [Say(451, "4.3.0 no")],
            Step.RCPT: [Default(), Say(550, "5.1.1 unknown")],
            Step.DATA: [Say(451, "4.3.0 no")],
        }
    )
    lines = [
        *["EHLO c.test", "MAIL FROM:<a@x.test>", "RCPT TO:<b@x.test>"],
        *["MAIL FROM:<a@x.test>", "RCPT TO:<b@x.test>", "RCPT TO:<c@x.test>", "RCPT TO:<d@x.test>"],
        *["DATA", "NOOP", "DATA"],
    ]

    with Catcher(store, script) as catcher, connect(catcher.port) as client:
        client.reply()
        codes = [client.command(line).code for line in lines]
        client.send(b".\r\n")
        client.reply()

    assert codes == [250, 451, 503, 250, 250, 550, 250, 451, 250, 354]
    assert store.receipts()[0].recipients == ("b@x.test", "d@x.test")


def test_other_positive_replies_have_effect() -> None:
    """A 2xx with another text is as good as the usual one."""
    store = MemoryStore()
    script = Plan({step: Say(251, "so be it") for step in (Step.EHLO, Step.MAIL, Step.RCPT, Step.EOD)})

    with Catcher(store, script) as catcher, connect(catcher.port) as client:
        client.reply()
        assert client.command("EHLO c.test").code == 251
        assert client.command("MAIL FROM:<a@x.test>").code == 251
        assert client.command("RCPT TO:<b@x.test>").code == 251
        assert client.command("DATA").code == 354
        client.send(b".\r\n")
        assert client.reply() == Reply(251, "so be it")

    assert len(store) == 1


def test_refusing_greeting() -> None:
    """After a 554 greeting everything but QUIT is out of order (RFC 5321 3.1)."""
    script = Plan({Step.CONNECT: Say(554, "No SMTP service here")})

    with Catcher(MemoryStore(), script) as catcher, connect(catcher.port) as client:
        assert client.reply().code == 554
        assert client.command("EHLO c.test").code == 503
        assert client.command("QUIT").code == 221


def test_earlier_replies_leave_before_a_wait() -> None:
    """Pipelined commands in front of a slow one are answered without waiting for it, those behind it after it."""
    latch = Latch()
    with Catcher(MemoryStore(), Plan({Step.RCPT: [Hold(latch)]})) as catcher, connect(catcher.port) as client:
        client.hello()
        client.send(b"MAIL FROM:<a@x.test>\r\nRCPT TO:<b@x.test>\r\nRCPT TO:<c@x.test>\r\nDATA\r\n")

        assert client.reply().text == "2.1.0 Ok"
        assert client.outcome(0.05) == "silence"
        latch.release()
        assert [client.reply().code for _ in range(3)] == [250, 250, 354]


def test_events_tell_the_story() -> None:
    """A script is asked once per step, in order, and told what is known at it."""
    asked: list[Event] = []

    def script(event: Event) -> Action:
        asked.append(event)
        return Default()

    with Catcher(MemoryStore(), script) as catcher, connect(catcher.port) as client:
        client.hello()
        client.mail(b"..x\r\n")
        client.mail()
        client.command("QUIT")
        port = client.socket.getsockname()[1]

    one_mail = [Step.MAIL, Step.RCPT, Step.DATA, Step.BODY, Step.EOD, Step.AFTER_REPLY]
    assert [event.step for event in asked] == [Step.CONNECT, Step.EHLO, *one_mail, *one_mail, Step.QUIT]
    assert [event.message_number for event in asked] == [1] * 8 + [2] * 6 + [3]
    assert {(event.session_id, event.peer) for event in asked} == {(1, ("127.0.0.1", port))}
    _, ehlo, mail, rcpt, data, body, eod, after = asked[:8]
    assert [event.argument for event in (ehlo, mail, rcpt)] == ["client.test", "a@x.test", "b@x.test"]
    assert [event.sender for event in (ehlo, mail, rcpt)] == [None, None, "a@x.test"]
    assert [event.recipients for event in (rcpt, data)] == [(), ("b@x.test",)]
    assert [event.body_bytes for event in (data, body, eod)] == [0, 5, 5]
    assert [event.message for event in (body, eod, after)] == [b"", b".x\r\n", b".x\r\n"]
    assert [event.helo for event in (ehlo, mail)] == [None, "client.test"]
    assert [event.time for event in asked] == sorted(event.time for event in asked)


def test_faulty_script_ends_the_session_and_is_told() -> None:
    """A script that raises, or returns no action, is answered with 421 and found in the faults."""
    answers = iter([RuntimeError("broken"), "nonsense"])

    def script(event: Event) -> Action:
        if event.step is not Step.MAIL:
            return Default()
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[return-value] # on purpose

    with Catcher(MemoryStore(), script) as catcher:
        for _ in range(2):
            with connect(catcher.port) as client:
                client.hello()
                assert client.command("MAIL FROM:<a@x.test>").code == 421
                assert client.outcome() == "eof"

        assert [type(fault) for fault in catcher.faults] == [RuntimeError, TypeError]


def test_smtplib_sees_a_quit_refused_after_an_accepted_mail() -> None:
    """QUIT can be answered with 421 after a mail was accepted, which smtplib raises out of its with block."""
    store = MemoryStore()
    script = Plan({Step.QUIT: Say(421, "4.4.2 idle for too long")})

    with (
        Catcher(store, script) as catcher,
        pytest.raises(smtplib.SMTPResponseException),
        smtplib.SMTP("127.0.0.1", catcher.port, timeout=10) as client,
    ):
        client.sendmail("a@x.test", ["b@x.test"], b"Subject: x\r\n\r\n")

    assert len(store) == 1


def test_keep_elsewhere_is_its_action() -> None:
    """Keep means nothing before the final dot."""
    outcome, _, kept = meet(Step.RCPT, Keep(Say(550, "5.1.1 no")))

    assert outcome == Reply(550, "5.1.1 no")
    assert kept == 0

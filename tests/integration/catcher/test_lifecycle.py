"""Starting, stopping, and many clients at once."""

import smtplib
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import mailfleet_workers
from mailfleet_workers.catcher import Catcher, Hold, Latch, MemoryStore, Plan, Silent, Step
from tests.integration.catcher.certificate import CERTIFICATE, KEY
from tests.integration.catcher.client import DEADLINE_S, Client, connect


def catcher_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("mailfleet-catcher")]


def test_fifty_sessions_at_once() -> None:
    """Fifty sessions that are open at the same time are all served, and counted."""
    store, latch = MemoryStore(), Latch()

    def send(index: int) -> None:
        with smtplib.SMTP("127.0.0.1", catcher.port, timeout=30) as client:
            for number in range(3):
                client.sendmail(f"s{index}@x.test", [f"n{number}@x.test"], b"Subject: x\r\n\r\n")

    with Catcher(store, Plan({Step.EHLO: Hold(latch)})) as catcher, ThreadPoolExecutor(50) as pool:
        done = [pool.submit(send, index) for index in range(50)]
        latch.wait_for_arrival(50, deadline_s=30)
        assert catcher.open_sessions == 50
        latch.release()
        for future in done:
            future.result(30)
        receipts = store.wait_for(150, DEADLINE_S)
        assert (catcher.sessions_seen, catcher.peak_sessions) == (50, 50)

    assert {(r.sender, r.recipients) for r in receipts} == {
        (f"s{index}@x.test", (f"n{number}@x.test",)) for index in range(50) for number in range(3)
    }
    assert [receipt.number for receipt in receipts] == list(range(1, 151))


def test_stop_leaves_nothing() -> None:
    """Stopping ends the thread and every connection, whatever it was waiting for; the store keeps what it has."""
    store, latch = MemoryStore(), Latch()
    script = Plan({Step.MAIL: Hold(latch), Step.NOOP: Silent()})
    catcher = Catcher(store, script)
    catcher.start()
    clients = [Client(catcher.port) for _ in range(3)]
    for client in clients:
        client.hello()
    clients[0].send(b"MAIL FROM:<a@x.test>\r\n")
    clients[1].send(b"NOOP\r\n")
    latch.wait_for_arrival(deadline_s=10)
    assert catcher_threads() == ["mailfleet-catcher"]

    catcher.stop()

    assert catcher_threads() == []
    assert [client.outcome() in ("eof", "reset") for client in clients] == [True] * 3
    with pytest.raises(ConnectionRefusedError):
        Client(catcher.port)
    # Released too late: nobody waits any more, and nothing is raised.
    latch.release()
    for client in clients:
        client.close()
    catcher.stop()


STOP_WITH_OPEN_CONNECTIONS = """
import gc, socket, ssl, sys, threading
from mailfleet_workers.catcher import *

context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1])
verifying = ssl.create_default_context(cafile=sys.argv[1])
latch = Latch()
script = Plan({
    Step.NOOP: Silent(), Step.VRFY: Delay(60), Step.RSET: Hold(latch), Step.RCPT: Drip(Default(), 5),
    Step.QUIT: Say(421, "closing"),
})

def to(catcher, *commands):
    connection = socket.create_connection(("127.0.0.1", catcher.port), timeout=10)
    file = connection.makefile("rb")
    file.readline()
    for command in ("HELO c.test", *commands[:-1]):
        connection.sendall(command.encode() + b"\\r\\n")
        file.readline()
    for command in commands[-1:]:
        connection.sendall(command.encode() + b"\\r\\n")
    return connection, file

with Catcher(MemoryStore(), script, tls=context) as plain:
    with Catcher(MemoryStore(), script, tls=context, implicit_tls=True) as implicit:
        alive = [
            to(plain), to(plain, "NOOP"), to(plain, "VRFY x"), to(plain, "RSET"), to(plain, "QUIT"),
            to(plain, "MAIL FROM:<a@x.test>", "RCPT TO:<b@x.test>"), to(plain, "STARTTLS"),
        ]
        body = to(plain, "MAIL FROM:<a@x.test>")
        alive.append(body)
        # A TCP connection without a handshake, and one that has had it.
        alive.append(socket.create_connection(("127.0.0.1", implicit.port)))
        encrypted = verifying.wrap_socket(
            socket.create_connection(("127.0.0.1", implicit.port)), server_hostname="localhost"
        )
        encrypted.recv(100)
        alive.append(encrypted)
        latch.wait_for_arrival(deadline_s=10)
assert [thread.name for thread in threading.enumerate()] == ["MainThread"], threading.enumerate()
for one in alive:
    for part in (one if isinstance(one, tuple) else (one,)):
        part.close()
gc.collect()
print("stopped")
"""


def test_stop_with_open_connections_warns_of_nothing(tmp_path: Path) -> None:
    """In development mode, with warnings as errors, a stop with connections in every state says nothing."""
    pem = tmp_path / "catcher.pem"
    pem.write_text(KEY + CERTIFICATE)
    root = Path(mailfleet_workers.__path__[0]).parent

    ended = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", STOP_WITH_OPEN_CONNECTIONS, str(pem)],
        env={"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (ended.returncode, ended.stderr, ended.stdout) == (0, "", "stopped\n")


def test_restart_on_the_same_port() -> None:
    """A stopped catcher can be started again, and clients find it where it was."""
    store = MemoryStore()
    catcher = Catcher(store)
    ports = []

    for _ in range(2):
        with catcher, connect(catcher.port) as client:
            client.hello()
            assert client.mail().code == 250
            ports.append(catcher.port)

    assert ports[0] == ports[1]
    assert len(store) == 2


def test_taken_port_is_told() -> None:
    """A port that is taken raises at start, and leaves no thread."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        catcher = Catcher(MemoryStore(), port=taken.getsockname()[1])
        with pytest.raises(OSError, match="address already in use"):
            catcher.start()

    assert catcher_threads() == []


def test_misuse_is_told() -> None:
    """There is no port before the first start, and no second start of a running catcher."""
    catcher = Catcher(MemoryStore())
    with pytest.raises(RuntimeError, match="never started"):
        _ = catcher.port

    with catcher, pytest.raises(RuntimeError, match="runs already"):
        catcher.start()


def test_sessions_that_ended_are_not_open() -> None:
    """A closed connection is counted as seen and not as open."""
    with Catcher(MemoryStore()) as catcher:
        for _ in range(3):
            with connect(catcher.port) as client:
                client.hello()
                client.command("QUIT")
                assert client.outcome() == "eof"
        with connect(catcher.port) as last:
            last.hello()
            # The loop has handled the ends before it greeted this one.
            assert (catcher.sessions_seen, catcher.open_sessions) == (4, 1)

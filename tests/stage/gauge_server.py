"""`python -m tests.stage.gauge_server FILE`: a lean SMTP server that takes every mail and writes down when, exactly.

It has one thread, one monotonic clock and no opinion. On standard output it says its port; then it obeys lines on standard
input (`delay SECONDS`: how long the final dot's answer takes; `flush`: FILE is complete up to now) with `ok`, and ends with
that input. Each line of FILE is `KIND NANOSECONDS CONNECTION TEXT`, in the order of the events:

    O  a connection was opened; the text is the client's port
    M  MAIL came, before its answer
    T  a recipient came
    D  the final dot came; the text is the subject
    R  its answer leaves
    C  the connection is closed: by QUIT, before its answer, or by the client

What a client did before another one did something is read before it: a connection that was closed before the next was
opened is never counted beside it, and a mail's times lie between its client's first word and the answer that the client
hears, however busy the machine is.
"""

import heapq
import os
import selectors
import socket
import sys
import time
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import IO

_EHLO = b"250-gauge.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 SIZE 67108864\r\n"
_END = b"\r\n.\r\n"
_SUBJECT = b"\r\nSubject: "


@dataclass(eq=False)
class Guest:
    """One connection. `scanned` is None outside of a message, else how much of the buffer cannot hold its end."""

    number: int
    socket: socket.socket
    buffer: bytes = b""
    scanned: int | None = None
    waits: bool = False
    over: bool = False


@dataclass
class Server:
    """Serves until standard input ends."""

    listener: socket.socket
    log: IO[str]
    delay_s: float = 0.0
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    _guests: set[Guest] = field(default_factory=set)
    _due: list[tuple[float, int, Guest]] = field(default_factory=list)
    _numbers: "count[int]" = field(default_factory=count)
    _orders: bytes = b""
    _ended: bool = False

    def run(self) -> None:
        """One round after the other: what clients said, then who came, then what is due."""
        self.listener.setblocking(False)
        accept = partial(self._accept)
        self._selector.register(self.listener, selectors.EVENT_READ, accept)
        self._selector.register(sys.stdin.fileno(), selectors.EVENT_READ, self._obey)
        while not self._ended:
            timeout = max(0.0, self._due[0][0] - time.monotonic()) if self._due else None
            ready = [key.data for key, _ in self._selector.select(timeout)]
            # Of those who wait at the door one, who was there before this round: what was closed before is read by now.
            for act in sorted(ready, key=lambda act: act is accept):
                act()
            self._answer_due()
        for guest in list(self._guests):
            self._close(guest)
        self._selector.close()

    def _note(self, kind: str, number: int, text: object = "") -> None:
        self.log.write(f"{kind} {time.monotonic_ns()} {number} {text}\n")

    def _obey(self) -> None:
        data = os.read(sys.stdin.fileno(), 65536)
        self._ended = not data
        *lines, self._orders = (self._orders + data).split(b"\n")
        for line in lines:
            order, _, value = line.decode().partition(" ")
            if order == "delay":
                self.delay_s = float(value)
            self.log.flush()
            sys.stdout.write("ok\n")
            sys.stdout.flush()

    def _accept(self) -> None:
        try:
            client, (_, port) = self.listener.accept()
        except OSError:  # it went away at the door
            return
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        guest = Guest(next(self._numbers), client)
        self._guests.add(guest)
        self._note("O", guest.number, port)
        self._selector.register(client, selectors.EVENT_READ, partial(self._hear, guest))
        self._say(guest, b"220 gauge.test ESMTP\r\n")

    def _hear(self, guest: Guest) -> None:
        """Everything that has come, to the end if it is there."""
        ended = False
        while not guest.over:
            try:
                data = guest.socket.recv(262_144)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if not data:
                ended = True
                break
            guest.buffer += data
        self._converse(guest)
        if ended:
            self._close(guest)

    def _converse(self, guest: Guest) -> None:
        """Answer what is in the buffer, up to a message's end."""
        while not (guest.waits or guest.over):
            if guest.scanned is not None:
                if not self._take_message(guest):
                    return
                continue
            line, found, rest = guest.buffer.partition(b"\r\n")
            if not found:
                return
            guest.buffer = rest
            self._command(guest, line[:4].upper())

    def _command(self, guest: Guest, verb: bytes) -> None:
        match verb:
            case b"EHLO" | b"HELO":
                self._say(guest, _EHLO)
            case b"MAIL":
                self._note("M", guest.number)
                self._say(guest, b"250 2.1.0 ok\r\n")
            case b"RCPT":
                self._note("T", guest.number)
                self._say(guest, b"250 2.1.5 ok\r\n")
            case b"DATA":
                # The line end before it belongs to the end of a message without lines.
                guest.buffer, guest.scanned = b"\r\n" + guest.buffer, 0
                self._say(guest, b"354 go on\r\n")
            case b"RSET" | b"NOOP":
                self._say(guest, b"250 2.0.0 ok\r\n")
            case b"QUIT":
                # Whoever hears the answer may let somebody else open one.
                self._close(guest, b"221 2.0.0 bye\r\n")
            case _:
                self._say(guest, b"500 5.5.2 no\r\n")

    def _take_message(self, guest: Guest) -> bool:
        """Whether the message has come whole."""
        end = guest.buffer.find(_END, guest.scanned)
        if end < 0:
            guest.scanned = max(0, len(guest.buffer) - len(_END) + 1)
            return False
        message, guest.buffer = guest.buffer[:end], guest.buffer[end + len(_END) :]
        guest.scanned = None
        at = message.find(_SUBJECT)
        subject = message[at + len(_SUBJECT) :].partition(b"\r\n")[0] if at >= 0 else b""
        self._note("D", guest.number, subject.decode("ascii", "replace"))
        if self.delay_s:
            guest.waits = True
            heapq.heappush(self._due, (time.monotonic() + self.delay_s, guest.number, guest))
        else:
            self._answer(guest)
        return True

    def _answer_due(self) -> None:
        while self._due and self._due[0][0] <= time.monotonic():
            _, _, guest = heapq.heappop(self._due)
            if not guest.over:
                guest.waits = False
                self._answer(guest)
                self._converse(guest)

    def _answer(self, guest: Guest) -> None:
        self._note("R", guest.number)
        self._say(guest, b"250 2.0.0 ok\r\n")

    def _say(self, guest: Guest, reply: bytes) -> None:
        try:
            # Replies are short, and nobody may send so many commands that they find no room.
            guest.socket.send(reply)
        except OSError:
            self._close(guest)

    def _close(self, guest: Guest, farewell: bytes = b"") -> None:
        if guest.over:
            return
        guest.over = True
        self._guests.discard(guest)
        self._note("C", guest.number)
        self._selector.unregister(guest.socket)
        if farewell:
            self._say(guest, farewell)
        guest.socket.close()


def main() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener, open(sys.argv[1], "a") as log:  # noqa: PTH123 - the name comes from a command line
        sys.stdout.write(f"{listener.getsockname()[1]}\n")
        sys.stdout.flush()
        Server(listener, log).run()


if __name__ == "__main__":
    main()

"""A connection's input as command lines and body blocks in their order, and a script asked about each step.

What the commands mean is `Session`'s affair.
"""

import asyncio
import logging
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from mailfleet_workers.catcher import command
from mailfleet_workers.catcher.actions import Action, Default, Say
from mailfleet_workers.catcher.body import Body
from mailfleet_workers.catcher.channel import Channel, Done
from mailfleet_workers.catcher.script import Credentials, Event, Step
from mailfleet_workers.catcher.sessions import Sessions

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Transaction:
    """The mail in the making. `sender` is None before MAIL; `message` is empty before its end."""

    sender: str | None = None
    options: tuple[str, ...] = ()
    recipients: tuple[str, ...] = ()
    recipient_options: tuple[tuple[str, ...], ...] = ()
    body_bytes: int = 0
    message: bytes = b""


class Conversation(Channel):
    """A channel that reads lines, or blocks while there is a body to read."""

    def __init__(self, shared: Sessions) -> None:
        super().__init__()
        self._shared = shared
        self._number = 0
        self._peer = ("", 0)
        self._buffer = bytearray()
        self._body: Body | None = None
        self._transaction = Transaction()
        self._message_number = 1
        self._helo: str | None = None
        self._user: str | None = None
        self._heard: Callable[[], None] | None = None

    @abstractmethod
    def greet(self) -> None:
        """Say the first word."""

    @abstractmethod
    def on_line(self, line: bytes) -> None:
        """Handle one line of the client, without its end."""

    @abstractmethod
    def on_block(self, body: Body, block: bytes) -> None:
        """Handle what has come in while *body* is read; at least one byte."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self._shared.closing:
            self.abort()
            return
        host, port, *_ = transport.get_extra_info("peername") or ("", 0)
        self._peer = (host, port)
        self._number = self._shared.enter(self)
        if self._shared.tls is not None and self._shared.implicit_tls:
            self.encrypt(self._shared.tls, self.greet)
        else:
            self.greet()
            self.advance()

    def data_received(self, data: bytes) -> None:
        if self.ended:
            return
        self._buffer += data
        self.advance()

    def gone(self) -> None:
        self._shared.leave(self)

    def hear(self, then: Callable[[], None]) -> None:
        self._heard = then

    def reading_body(self) -> bool:
        return self._body is not None

    def advance(self) -> None:
        while not self.ended and not self.waiting:
            if self._body is None:
                line = self._next_line()
                if line is None:
                    break
                if self._heard is None:
                    self.on_line(line)
                else:
                    then, self._heard = self._heard, None
                    then()
            elif self._buffer:
                block = bytes(self._buffer)
                self._buffer.clear()
                self.on_block(self._body, block)
            else:
                break
        self.flush()

    def ask(self, step: Step, default: Say | None, done: Done, argument: str = "") -> None:
        """Let the script decide about *step* and carry it out."""
        self.perform(self.decide(step, argument), default, done)

    def refuse(self, reply: Say) -> None:
        """Answer without asking the script: what is out of order is not its affair."""
        self.perform(reply, None, nothing)

    def decide(self, step: Step, argument: str = "", credentials: Credentials | None = None) -> Action:
        """What the script wants at *step*; 421 when it fails to say."""
        script = self._shared.script
        if script is None:
            return Default()
        event = Event(
            session_id=self._number,
            step=step,
            peer=self._peer,
            time=self._shared.monotonic_clock(),
            argument=argument,
            sender=self._transaction.sender,
            recipients=self._transaction.recipients,
            message_number=self._message_number,
            body_bytes=self._transaction.body_bytes,
            message=self._transaction.message,
            helo=self._helo,
            user=self._user,
            tls=self.tls,
            credentials=credentials,
        )
        try:
            action = script(event)
            if not isinstance(action, Action):
                raise TypeError(f"the script returned {action!r} at {step}, which is no action")
        except Exception as fault:  # noqa: BLE001 - a faulty script must not hang its client
            self.fault(fault)
            return Say(421, "4.3.0 The script of this catcher failed")
        return action

    def fault(self, fault: Exception) -> None:
        """Remember what a script or a store raised."""
        self._shared.faults.append(fault)
        _log.error("catcher session %d failed", self._number, exc_info=fault)

    def _next_line(self) -> bytes | None:
        lenient = self._shared.lenient
        end = self._buffer.find(b"\n" if lenient else b"\r\n")
        if end < 0:
            if len(self._buffer) > command.MAX_LINE:
                self.refuse(Say(500, "5.5.2 Line too long", close=True))
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + (1 if lenient else 2)]
        return line.removesuffix(b"\r") if lenient else line


def nothing(_code: int) -> None:
    """There is nothing to do after the reply."""

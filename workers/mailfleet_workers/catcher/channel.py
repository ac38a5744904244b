"""One connection's socket side: replies leave in batches, actions are carried out, connections end in their ways.

A `Channel` knows nothing of SMTP commands; `Session` does. Everything runs in the event loop's thread and without
coroutines (the TLS handshake excepted): an action that takes time sets a timer and the rest of the input waits in
the buffer, so a pipelining client gets its replies in order (RFC 2920 3.2).
"""

import asyncio
import contextlib
import socket
import ssl
import struct
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import lru_cache, partial
from typing import assert_never

from mailfleet_workers.catcher.actions import (
    Action,
    Challenge,
    Cut,
    Default,
    Delay,
    Drip,
    Endless,
    Hold,
    Keep,
    Long,
    Raw,
    Reset,
    Say,
    Silent,
)

#: Called with the code of the reply that was sent, 0 when an action needs none or sent none that has a code.
Done = Callable[[int], None]

#: How long a closed connection still reads, so that unread input does not reset it before the client saw the reply.
_LINGER_S = 1.0
_HANDSHAKE_S = 10.0
#: An endless reply is said in pieces of so many bytes, the next one when less than that waits to be sent.
_PIECE = 65_536
_PIECE_S = 0.005


@lru_cache(maxsize=256)
def encode(reply: Say) -> bytes:
    """A reply as it goes over the wire, its last line marked as such (RFC 5321 4.2.1)."""
    lines = reply.text.split("\n")
    head = "".join(f"{reply.code:03d}-{line}\r\n" for line in lines[:-1])
    return f"{head}{reply.code:03d} {lines[-1]}\r\n".encode()


class Channel(asyncio.Protocol, ABC):
    """An accepted connection. `waiting` is True while an action takes its time, `ended` once nothing is answered."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._raw: asyncio.Transport | None = None
        self._transport: asyncio.Transport | None = None
        self._outgoing: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self._handshake: asyncio.Task[None] | None = None
        self.waiting = False
        self.ended = False
        self.tls = False

    @abstractmethod
    def advance(self) -> None:
        """Handle what has arrived, until the input or the channel's readiness ends; flush at the end."""

    @abstractmethod
    def hear(self, then: Callable[[], None]) -> None:
        """Call *then* when the client has said its next line, which means nothing else."""

    @abstractmethod
    def gone(self) -> None:
        """The connection is no more. May be called twice."""

    @abstractmethod
    def reading_body(self) -> bool:
        """Whether the client is sending a body, so that waiting means not to read."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not isinstance(transport, asyncio.Transport):
            raise TypeError(f"expected a stream transport, got {transport!r}")
        self._raw = self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the name belongs to asyncio
        self.ended = True
        self._stop_timer()
        self.gone()

    def abort(self) -> None:
        """Drop the connection at once, wherever it is."""
        self.ended = True
        self._stop_timer()
        if self._handshake is not None:
            self._handshake.cancel()
        if self._raw is not None:
            self._raw.abort()

    def send(self, data: bytes) -> None:
        """Send *data* with the next flush."""
        self._outgoing.append(data)

    def flush(self) -> None:
        """Give the replies collected so far to the socket in one piece."""
        if self._outgoing and self._transport is not None:
            self._transport.write(b"".join(self._outgoing))
            self._outgoing.clear()

    def perform(self, action: Action, default: Say | None, done: Done) -> None:
        """Carry out *action*, where `Default()` means *default* (None: nothing is to be said).

        *done* is called once the reply is on its way, now or later; never when the action ends the connection.
        """
        match action:
            case Default():
                if default is None:
                    done(0)
                else:
                    self._say(default, done)
            case Say():
                self._say(action, done)
            case Raw(data=data):
                self.send(data)
                done(0)
            case Keep(then=then):
                self.perform(then, default, done)
            case Delay(seconds=seconds, then=then):
                self._pause()
                self._timer = self._loop.call_later(seconds, self._go_on, then, default, done)
            case Hold(latch=latch, then=then):
                self._pause()
                latch.enter(partial(self._wake, then, default, done))
            case Challenge(text=text, then=then):
                self.send(encode(Say(334, text)))
                self.hear(partial(self.perform, then, default, done))
            case Drip(reply=reply) | Endless(reply=reply) | Long(reply=reply):
                said = default if isinstance(reply, Default) else reply
                if said is None:
                    done(0)
                else:
                    self._say_oddly(action, said, done)
            case Cut():
                self._end()
                if self._transport is not None:
                    self._transport.close()
            case Reset():
                self._end()
                self._reset()
            case Silent():
                if self.reading_body() and self._transport is not None:
                    self._transport.pause_reading()
                self._end()
            case _:
                assert_never(action)

    def hang_up(self) -> None:
        """Close after what was said: send no more, and read on for a while so that no reset overtakes the reply."""
        self._end()
        if self._transport is None:
            return
        if self._transport.can_write_eof():
            self._transport.write_eof()
            self._timer = self._loop.call_later(_LINGER_S, self._transport.close)
        else:
            self._transport.close()

    def encrypt(self, context: ssl.SSLContext, then: Callable[[], None]) -> None:
        """Do the server's side of a TLS handshake, then call *then*. What fails in it ends the connection."""
        self.flush()
        self.waiting = True
        if self._transport is not None:
            # No byte of the handshake may reach this protocol before the TLS layer stands between.
            self._transport.pause_reading()
            self._handshake = self._loop.create_task(self._encrypt(self._transport, context, then))

    async def _encrypt(
        self, plain: asyncio.Transport, context: ssl.SSLContext, then: Callable[[], None]
    ) -> None:
        try:
            transport = await self._loop.start_tls(
                plain,
                self,
                context,
                server_side=True,
                ssl_handshake_timeout=_HANDSHAKE_S,
                ssl_shutdown_timeout=_LINGER_S,
            )
        except OSError:
            transport = None
        except asyncio.CancelledError:
            self.connection_lost(None)
            raise
        finally:
            self._handshake = None
        if transport is None or plain.is_closing():
            # asyncio tells the protocol nothing when the connection is lost inside the handshake.
            self.connection_lost(None)
            return
        self._transport = transport
        self.tls = True
        self.waiting = False
        then()
        self.advance()

    def _say(self, reply: Say, done: Done) -> None:
        self.send(encode(reply))
        self._said(reply, done)

    def _said(self, reply: Say, done: Done) -> None:
        if reply.close or reply.code == 421:
            self.hang_up()
        else:
            done(reply.code)

    def _say_oddly(self, action: Drip | Endless | Long, reply: Say, done: Done) -> None:
        match action:
            case Drip(seconds_per_byte=pace):
                self._pause()
                self._drip(reply, encode(reply), pace, done)
            case Long(size=size):
                said = encode(reply).removesuffix(b"\r\n")
                begin = said.rfind(b"\n") + 1
                self.send(said[:begin] + said[begin:].ljust(size - 2, b"x") + b"\r\n")
                self._said(reply, done)
            case Endless():
                last = encode(reply).splitlines(keepends=True)[-1]
                line = last[:3] + b"-" + last[4:]
                self._end()
                self._flood(line * (_PIECE // len(line) + 1))
            case _:
                assert_never(action)

    def _flood(self, piece: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            if self._transport.get_write_buffer_size() < _PIECE:
                self._transport.write(piece)
            self._timer = self._loop.call_later(_PIECE_S, self._flood, piece)

    def _drip(self, reply: Say, rest: bytes, pace: float, done: Done) -> None:
        if rest:
            self._timer = self._loop.call_later(pace, self._drip_next, reply, rest, pace, done)
        else:
            self._ready()
            self._said(reply, done)
            self.advance()

    def _drip_next(self, reply: Say, rest: bytes, pace: float, done: Done) -> None:
        self.send(rest[:1])
        self.flush()
        self._drip(reply, rest[1:], pace, done)

    def _pause(self) -> None:
        self.flush()
        self.waiting = True
        if self.reading_body() and self._transport is not None:
            self._transport.pause_reading()

    def _ready(self) -> None:
        self.waiting = False
        self._timer = None
        if self._transport is not None:
            self._transport.resume_reading()

    def _wake(self, then: Action, default: Say | None, done: Done) -> None:
        # The latch may be released by any thread, also after the catcher has stopped and closed its loop.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._go_on, then, default, done)

    def _go_on(self, then: Action, default: Say | None, done: Done) -> None:
        if not self.ended:
            self._ready()
            self.perform(then, default, done)
            self.advance()

    def _end(self) -> None:
        self.flush()
        self.ended = True

    def _reset(self) -> None:
        if self._raw is not None:
            connection = self._raw.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._raw.abort()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

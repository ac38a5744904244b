"""One connection for publishing, from its opening to its end, in a thread of its own.

A session opens, is ready, and ends; it is never opened again, its owner makes another one. What it was asked to publish by
then has failed, whether or not the broker got it.
"""

import logging
import os
import threading
import time
from collections import deque
from typing import Any

import pika
from pika.adapters.select_connection import IOLoop
from pika.exceptions import ChannelClosedByBroker

from mailfleet.broker.rabbit.call import Call, NotPublished, Outcome
from mailfleet.broker.rabbit.declare import NOT_FOUND
from mailfleet.broker.rabbit.envelope import Envelope
from mailfleet.broker.rabbit.parameters import Role
from mailfleet.broker.rabbit.quiet import quiet
from mailfleet.broker.rabbit.servers import GOODBYE_S, Servers, cut, reason
from mailfleet.failpoints import failpoint

_log = logging.getLogger("mailfleet.broker")

#: How long all servers together may take to be connected to, in seconds.
OPEN_S = 10.0


class Session:
    """Opens at once, to publish *first*. Other threads call `submit`, `give_up`, `close` and `join`; all else is its thread's.

    *idle_s*: it closes when nothing was published for so long. Raises RuntimeError or OSError when the process can have
    no more threads or files.
    """

    def __init__(self, servers: Servers, role: Role, first: Call, *, idle_s: float) -> None:
        self._servers = servers
        self._role: Role = role
        self._idle_s = idle_s
        self._lock = threading.Lock()
        # Under the lock: whether calls are still taken, and those not yet sent.
        self._accepting = True
        self._waiting: deque[Call] = deque([first])
        # The thread's own.
        self._untried: list[pika.ConnectionParameters] = []
        self._connection: Any = None
        self._channel: Any = None
        self._ready = False
        self._blocked: str | None = None
        self._tag = 0
        self._unconfirmed: dict[int, tuple[Call, Envelope]] = {}
        self._returned: set[str | None] = set()
        self._last_use = time.monotonic()
        self._loop = IOLoop()
        self._thread = threading.Thread(target=self._run, name="mailfleet-amqp", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            self._loop.close()
            raise

    # For other threads.

    def submit(self, call: Call) -> bool:
        """Publish *call* as soon as possible; False when this session takes no more."""
        with self._lock:
            if not self._accepting:
                return False
            self._waiting.append(call)
        self._loop.add_callback_threadsafe(self._send_waiting)
        return True

    def give_up(self, call: Call, cause: str) -> Outcome:
        """Nobody waits for *call* any longer; returns its outcome. A connection that let it down takes no more.

        While it opens or is blocked by an alarm it stays: another one would be no better.
        """
        outcome = call.end(NotPublished(cause))
        if self._ready and self._blocked is None:
            with self._lock:
                self._accepting = False
            self._loop.add_callback_threadsafe(self._cut_when_done)
        return outcome

    def close(self) -> None:
        """Close, politely and soon. Harmless when repeated."""
        self._loop.add_callback_threadsafe(lambda: self._end(NotPublished("the broker was closed")))

    def join(self, timeout_s: float) -> None:
        """Wait for the session's end, at most *timeout_s* seconds."""
        self._thread.join(timeout_s)

    # The session's thread.

    def _run(self) -> None:
        with quiet():
            try:
                self._untried = self._servers.parameters(self._role, os.getpid())
                self._open_next()
                self._loop.call_later(OPEN_S, self._on_open_timeout)
                self._loop.start()
            except OSError as error:  # a certificate file
                self._fail(NotPublished(reason(error)))
            except Exception as error:  # noqa: BLE001 - a mistake of ours or pika's, which nobody should wait for
                if self._accepting or not isinstance(error, AssertionError):
                    _log.exception("the publishing connection failed in a way that nobody expected")
                else:  # pika's, when it is closed in the middle of a handshake; the socket is closed by then
                    _log.debug("closed_before_open", exc_info=True)
                self._fail(NotPublished(reason(error)))
            self._fail(NotPublished("the connection ended"))
            self._loop.close()

    def _open_next(self) -> None:
        # pika could try all, but stops at the first whose name is not resolved, and cannot be stopped in a handshake.
        self._connection = pika.SelectConnection(
            self._untried.pop(0),
            on_open_callback=self._on_open,
            on_open_error_callback=self._on_open_error,
            on_close_callback=self._on_closed,
            custom_ioloop=self._loop,
        )

    def _on_open_error(self, _connection: Any, error: BaseException) -> None:
        if self._accepting and self._untried:
            self._open_next()
            return
        self._servers.failed()
        self._fail(NotPublished(f"no connection: {reason(error)}"))
        self._loop.stop()

    def _on_open(self, connection: Any) -> None:
        self._servers.answered(connection.params.host, connection.params.port)
        connection.add_on_connection_blocked_callback(self._on_blocked)
        connection.add_on_connection_unblocked_callback(self._on_unblocked)
        connection.channel(on_open_callback=self._on_channel)

    def _on_channel(self, channel: Any) -> None:
        self._channel = channel
        channel.add_on_close_callback(self._on_channel_closed)
        channel.add_on_return_callback(self._on_returned)
        channel.confirm_delivery(self._on_confirm, callback=self._on_ready)

    def _on_ready(self, _frame: Any) -> None:
        self._ready = True
        self._send_waiting()
        self._loop.call_later(self._idle_s, self._check_idle)

    def _send_waiting(self) -> None:
        while self._ready:
            with self._lock:
                if not self._waiting:
                    return
                call = self._waiting.popleft()
            if call.done:
                continue
            if self._blocked is not None:
                call.end(NotPublished(self._blocked))
                continue
            self._last_use = time.monotonic()
            for envelope in call.envelopes:
                self._tag += 1
                self._unconfirmed[self._tag] = (call, envelope)
                self._channel.basic_publish(
                    envelope.exchange,
                    envelope.routing_key,
                    envelope.body,
                    envelope.properties,
                    mandatory=True,
                )

    def _on_returned(self, _channel: Any, _method: Any, properties: Any, _body: bytes) -> None:
        # Its confirmation follows.
        self._returned.add(properties.message_id)

    def _on_confirm(self, frame: Any) -> None:
        # The broker has it, and nobody here knows yet.
        failpoint("before_confirm")
        method = frame.method
        taken = isinstance(method, pika.spec.Basic.Ack)
        for tag in self._tags_up_to(method.delivery_tag) if method.multiple else [method.delivery_tag]:
            if (found := self._unconfirmed.pop(tag, None)) is None:
                continue
            call, envelope = found
            returned = envelope.message_id in self._returned
            self._returned.discard(envelope.message_id)
            if taken:
                call.confirm(envelope, returned=returned)
            else:
                call.end(NotPublished("the broker refused a message: a queue is full or has no majority"))

    def _tags_up_to(self, last: int) -> list[int]:
        # They were sent, and so are kept, in order.
        tags = []
        for tag in self._unconfirmed:
            if tag > last:
                break
            tags.append(tag)
        return tags

    def _on_blocked(self, _connection: Any, frame: Any) -> None:
        """The server reads nothing from us: an alarm. What was sent may still be taken when it is over."""
        self._blocked = f"the broker takes nothing: {frame.method.reason}"
        for call, _ in self._unconfirmed.values():
            call.end(NotPublished(self._blocked))

    def _on_unblocked(self, _connection: Any, _frame: Any) -> None:
        self._blocked = None

    def _on_channel_closed(self, _channel: Any, error: Exception) -> None:
        self._ready = False
        if isinstance(error, ChannelClosedByBroker):
            self._end(NotPublished(reason(error), missing=error.reply_code == NOT_FOUND))

    def _on_closed(self, _connection: Any, error: Exception) -> None:
        self._fail(NotPublished(f"the connection was lost: {reason(error)}"))
        self._loop.stop()

    def _on_open_timeout(self) -> None:
        if not self._ready:
            self._end(NotPublished(f"no connection within {OPEN_S:g} s"))

    def _check_idle(self) -> None:
        left_s = self._last_use + self._idle_s - time.monotonic()
        with self._lock:
            busy = bool(self._waiting) or any(not call.done for call, _ in self._unconfirmed.values())
            idle = not busy and left_s <= 0
            if idle:
                self._accepting = False
        if idle:
            self._end(NotPublished("the connection was closed after idle time"))
        else:
            self._loop.call_later(max(0.1, left_s), self._check_idle)

    def _cut_when_done(self) -> None:
        with self._lock:
            calls = [*self._waiting, *(call for call, _ in self._unconfirmed.values())]
        if any(not call.done for call in calls):
            self._loop.call_later(0.05, self._cut_when_done)
        else:
            cut(self._connection)

    def _fail(self, outcome: NotPublished) -> None:
        with self._lock:
            self._accepting = False
            calls = [*self._waiting, *(call for call, _ in self._unconfirmed.values())]
            self._waiting.clear()
        self._unconfirmed.clear()
        for call in calls:
            call.end(outcome)

    def _end(self, outcome: NotPublished) -> None:
        """Fail what is left and close: with a word if the server listens, without one if it does not answer."""
        self._fail(outcome)
        connection = self._connection
        if not (connection.is_closing or connection.is_closed):
            connection.close()
            self._loop.call_later(GOODBYE_S, lambda: cut(connection))

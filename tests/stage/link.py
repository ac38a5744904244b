"""One connection through a proxy: what passes in each direction and when, and how it ends."""

import contextlib
import ctypes
import selectors
import socket
import struct
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, StrEnum, auto

#: setsockopt(2) of Linux: a filter program for incoming packets, and its removal; bpf(4): "keep so many bytes".
_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27
_BPF_RET = 0x06


class Fate(StrEnum):
    """What becomes of a connection at its byte."""

    END = "end"
    RESET = "reset"
    SILENCE = "silence"
    VANISH = "vanish"


@dataclass(frozen=True, slots=True)
class Route:
    """What one connection meets; the default passes everything.

    `latency_s` delays each direction. `cut_up` is how many bytes from the client pass before `fate` strikes, `cut_down`
    how many from the server; 0 strikes at the first one, None never. With `drip_s` the server's bytes pass one by one,
    so far apart.
    """

    latency_s: float = 0.0
    cut_up: int | None = None
    cut_down: int | None = None
    fate: Fate = Fate.END
    drip_s: float = 0.0


STRAIGHT = Route()


@dataclass(eq=False)
class Pipe:
    """One direction of a connection; `left` is how many bytes may still pass, None for any number."""

    source: socket.socket
    sink: socket.socket
    latency_s: float
    left: int | None
    pace_s: float = 0.0
    under_way: deque[tuple[float, bytes]] = field(default_factory=deque)
    size: int = 0
    passed: int = 0
    ended: bool = False

    def take(self, now: float, piece: int) -> None:
        """Read what the source has, an empty piece at its end."""
        data = self.source.recv(piece)
        self.ended = not data
        self.size += len(data)
        at = now + self.latency_s
        if not self.pace_s or not data:
            self.under_way.append((max(at, self._last()), data))
            return
        for n in range(len(data)):
            self.under_way.append((max(at, self._last()) + self.pace_s, data[n : n + 1]))

    def _last(self) -> float:
        return self.under_way[-1][0] if self.under_way else 0.0

    def give(self, now: float) -> bool:
        """Pass on what is due; True when the byte has come at which the connection meets its fate."""
        while self.under_way and self.under_way[0][0] <= now:
            at, data = self.under_way.popleft()
            if not data:
                with contextlib.suppress(OSError):
                    self.sink.shutdown(socket.SHUT_WR)
                return False
            allowed = data if self.left is None else data[: self.left]
            try:
                sent = self.sink.send(allowed) if allowed else 0
            except BlockingIOError:
                self.under_way.appendleft((at, data))
                return False
            self.size -= sent
            self.passed += sent
            if self.left is not None:
                self.left -= sent
                if self.left == 0:
                    return True
            if sent < len(data):
                self.under_way.appendleft((at, data[sent:]))
        return False


class Mood(Enum):
    PASSES = auto()
    MUTE = auto()
    FORGOTTEN = auto()


@dataclass(eq=False)
class Link:
    """A connection through the proxy."""

    client: socket.socket
    server: socket.socket
    route: Route
    room: int
    mood: Mood = Mood.PASSES

    def __post_init__(self) -> None:
        route = self.route
        self.up = Pipe(self.client, self.server, route.latency_s, route.cut_up)
        self.down = Pipe(self.server, self.client, route.latency_s, route.cut_down, route.drip_s)

    @property
    def pipes(self) -> tuple[Pipe, Pipe]:
        return self.up, self.down

    @property
    def over(self) -> bool:
        """Whether both sides have said goodbye, and heard it of each other."""
        return all(pipe.ended and not pipe.under_way for pipe in self.pipes)

    def events(self, now: float) -> Iterator[tuple[socket.socket, int]]:
        """What is to be waited for at each of its sockets."""
        for mine, other in ((self.up, self.down), (self.down, self.up)):
            read = not mine.ended and mine.size < self.room and self.mood is not Mood.MUTE
            write = self.mood is Mood.PASSES and other.under_way and other.under_way[0][0] <= now
            if read or write:
                yield mine.source, (selectors.EVENT_READ * read) | (selectors.EVENT_WRITE * bool(write))

    def waits(self, now: float) -> Iterator[float]:
        """In how many seconds something under way arrives."""
        if self.mood is Mood.PASSES:
            yield from (
                p.under_way[0][0] - now for p in self.pipes if p.under_way and p.under_way[0][0] > now
            )

    def vanish(self) -> None:
        self.mood = Mood.MUTE
        for side in (self.client, self.server):
            drop_packets(side)

    def heal(self) -> None:
        self.mood = Mood.PASSES
        for side in (self.client, self.server):
            let_packets(side)

    def close(self, *, reset: bool = False) -> None:
        for side in (self.client, self.server):
            if reset:
                side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            side.close()


def drop_packets(one: socket.socket) -> None:
    """The kernel throws away every packet for *one* before it is looked at, and acknowledges none."""
    program = ctypes.create_string_buffer(struct.pack("HBBI", _BPF_RET, 0, 0, 0))
    one.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(program)))


def let_packets(one: socket.socket) -> None:
    with contextlib.suppress(OSError):  # ENOENT: there was no filter
        one.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)

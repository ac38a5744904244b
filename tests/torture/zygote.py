"""A process without threads that has imported everything and forks processes for others on request.

Who asks is a client: it gets the new process's id, and its exit status when it has ended. Requests go through a socket
whose messages are JSON, with open files beside them. When the first client is gone, the zygote kills what it has forked
and ends: nothing of a storm outlives it.
"""

import contextlib
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

#: What a forked process does, with its arguments and its open files; the result is its exit status.
Entry = Callable[[list[str], list[int]], int]

_MOST_BYTES = 65_536
_MOST_FILES = 8
#: How long a client waits for a fork, in seconds.
ANSWER_S = 30.0


class Forked:
    """A process that the zygote forked for us, with the interface of `subprocess.Popen` as far as parents need it."""

    def __init__(self, forks: "Forks", pid: int) -> None:
        self.pid = pid
        self._forks = forks

    def poll(self) -> int | None:
        return self._forks.status_of(self.pid)

    def wait(self, timeout: float) -> int:
        until = time.monotonic() + timeout
        while (status := self._forks.status_of(self.pid, wait_s=0.05)) is None:
            if time.monotonic() > until:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)
        return status

    def terminate(self) -> None:
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        self._send(signal.SIGKILL)

    def _send(self, number: int) -> None:
        # One that has ended is known as such: its number may be somebody else's by now.
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


class Forks:
    """The client's side. For one thread."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._statuses: dict[int, int] = {}

    def fork(
        self, entry: str, arguments: Sequence[str], files: Sequence[int], environ: Mapping[str, str]
    ) -> Forked:
        """A new process that runs *entry* with copies of *files*; it has *environ* and nothing else of ours.

        Raises OSError when the zygote is gone or does not answer.
        """
        self._ask({"fork": entry, "arguments": list(arguments), "environ": dict(environ)}, files)
        until = time.monotonic() + ANSWER_S
        while time.monotonic() < until:
            answer = self._receive(1.0)
            if answer is not None and "forked" in answer:
                return Forked(self, int(answer["forked"]))
        raise TimeoutError("the zygote forks nothing")

    def client(self) -> socket.socket:
        """The socket of a further client."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._ask({"admit": True}, [theirs.fileno()])
        return ours

    def status_of(self, pid: int, wait_s: float = 0.0) -> int | None:
        """How a process that we asked for has ended, negative for a signal; None while it runs."""
        while pid not in self._statuses and self._receive(wait_s) is not None:
            pass
        return self._statuses.get(pid)

    def _ask(self, request: Mapping[str, Any], files: Sequence[int]) -> None:
        socket.send_fds(self._connection, [json.dumps(request).encode()], list(files))

    def _receive(self, wait_s: float) -> dict[str, Any] | None:
        readable, _, _ = select.select([self._connection], [], [], wait_s)
        if not readable:
            return None
        data = self._connection.recv(_MOST_BYTES)
        if not data:
            raise ConnectionError("the zygote is gone")
        answer: dict[str, Any] = json.loads(data)
        if "ended" in answer:
            self._statuses[int(answer["ended"])] = int(answer["status"])
        return answer


def start(entries: Mapping[str, Entry]) -> Forks:
    """Fork the zygote from this process, which must not have threads yet; its first client.

    *entries* are what can be forked, by name.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sys.stdout.flush()
    sys.stderr.flush()
    if os.fork() == 0:
        ours.close()
        _leave(lambda: _Zygote(theirs, entries).run())
    theirs.close()
    return Forks(ours)


def _leave(run: Callable[[], int]) -> NoReturn:
    """Run to the end of the process: what is below on the stack belongs to the process that forked."""
    status = 70
    try:
        status = run()
    except BaseException:  # noqa: BLE001 - nothing may return from here
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


@dataclass(slots=True)
class _Zygote:
    first: socket.socket
    entries: Mapping[str, Entry]
    clients: dict[int, socket.socket] = field(default_factory=dict)
    #: Who asked for a process that runs.
    asked: dict[int, int] = field(default_factory=dict)

    def run(self) -> int:
        os.setpgid(0, 0)  # Ctrl-C is for the storm, which then ends us
        # What is here stays as it is: neither the collector nor reference counts of garbage copy pages in each child.
        gc.collect()
        gc.disable()
        gc.freeze()
        wake, waker = os.pipe()
        for file in (wake, waker):
            os.set_blocking(file, False)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self.clients[self.first.fileno()] = self.first
        try:
            while self.first.fileno() in self.clients:
                readable, _, _ = select.select([wake, *self.clients], [], [])
                for file in readable:
                    if file == wake:
                        os.read(wake, 1024)
                    elif file in self.clients:
                        self._serve(self.clients[file], (wake, waker))
                self._reap()
        finally:
            for pid in self.asked:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        return 0

    def _serve(self, client: socket.socket, own: Sequence[int]) -> None:
        try:
            data, files, _, _ = socket.recv_fds(client, _MOST_BYTES, _MOST_FILES)
        except ConnectionError:
            data, files = b"", []
        if not data:
            del self.clients[client.fileno()]
            client.close()
            return
        request = json.loads(data)
        if "admit" in request:
            admitted = socket.socket(fileno=files[0])
            self.clients[admitted.fileno()] = admitted
            return
        pid = os.fork()
        if pid == 0:
            _leave(lambda: self._become(request, files, own))
        for file in files:
            os.close(file)
        self.asked[pid] = client.fileno()
        self._tell(client, {"forked": pid})

    def _become(self, request: Mapping[str, Any], files: list[int], own: Sequence[int]) -> int:
        """In the child: let go of what is the zygote's, and be the process that was asked for."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setpgid(0, 0)
        for file in own:
            os.close(file)
        for client in self.clients.values():
            client.close()
        os.environ.clear()
        os.environ.update(request["environ"])
        gc.enable()
        return self.entries[request["fork"]](request["arguments"], files)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            client = self.clients.get(self.asked.pop(pid, -1))
            if client is not None:
                self._tell(client, {"ended": pid, "status": os.waitstatus_to_exitcode(status)})

    def _tell(self, client: socket.socket, answer: Mapping[str, Any]) -> None:
        with contextlib.suppress(OSError):  # it is gone; we are told by its closed socket
            client.send(json.dumps(answer).encode())

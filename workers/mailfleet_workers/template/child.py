"""`python -m mailfleet_workers.template.child`: fills in templates for the worker that started it, and for nobody else.

It has no secret in its environment, opens no file to write, starts no process, and is given so much memory once and so much
processor time for each template: the kernel ends it where it takes more. When its socket closes, the worker is gone.
"""

import argparse
import math
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from mailfleet_workers.template.fill import Faulty, compile_parts, fill
from mailfleet_workers.template.wire import Gone, receive, send

#: Its exit status where not even the answer found memory.
NO_MEMORY = 3


def main(arguments: Sequence[str]) -> int:
    """Answer until the socket closes; the exit status."""
    parser = argparse.ArgumentParser(prog="mailfleet_workers.template.child")
    parser.add_argument("--socket", type=int, required=True)
    parser.add_argument("--memory", type=int, required=True)
    parser.add_argument("--cpu", type=int, required=True)
    given = parser.parse_args(arguments)
    # Meant for the worker, which still needs answers to drain.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _confine(given.memory)
    with socket.socket(fileno=given.socket) as worker:
        try:
            send(worker, {"ready": True})
            while True:
                request = receive(worker)
                _allow(given.cpu)
                answer = _answer(request)
                send(worker, answer)
                if "memory" in answer:
                    return 0  # what is left of it is in pieces
        except MemoryError:
            return NO_MEMORY
        except (Gone, OSError):
            return 0


def _answer(request: Mapping[str, Any]) -> dict[str, Any]:
    sources = request["sources"]
    try:
        if request["do"] == "compile":
            compile_parts(sources)
            return {"filled": {}}
        return {"filled": fill(sources, request["data"], request["most"])}
    except Faulty as error:
        return {"faulty": error.reason}
    except RecursionError:
        return {"faulty": "it nests too deep"}
    except MemoryError:
        return {"memory": True}


def _confine(memory: int) -> None:
    """So much *memory*, in bytes, beside what it has already; and no files, processes or cores."""
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - the kernel's, no path of ours
        has = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (has + memory, has + memory))
    for limit in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE, resource.RLIMIT_NPROC):
        resource.setrlimit(limit, (0, 0))


def _allow(seconds: int) -> None:
    """So many *seconds* of processor time from now on; the kernel counts from its start."""
    soft = math.ceil(time.process_time()) + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.getrlimit(resource.RLIMIT_CPU)[1]))


if __name__ == "__main__":
    status = main(sys.argv[1:])
    os._exit(status)

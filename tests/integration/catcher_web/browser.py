"""A headless Chromium that a test drives through a pipe, in the words of the Chrome DevTools Protocol."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from select import select
from typing import Any, Self

from tests.services.chromium import FLAGS, require

_FLAGS = (
    *FLAGS, "--remote-debugging-pipe",
    # A sandboxed frame would be a target of its own, with events of its own.
    "--disable-features=IsolateSandboxedIframes",
)  # fmt: skip


class Browser:
    """One page. Events that came so far are in `events`, each a name and its parameters."""

    def __init__(self, to: int, back: int) -> None:
        self._to = to
        self._back = back
        self._buffer = b""
        self._number = 0
        self._session: str | None = None
        self.events: list[tuple[str, Any]] = []

    def open(self) -> Self:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime"):
            self.call(f"{domain}.enable")
        return self

    def call(self, method: str, **parameters: Any) -> Any:
        """The result of *method*. Raises RuntimeError when the browser refuses it."""
        number = self._send(method, parameters)
        while True:
            answer = self._read(time.monotonic() + 30)
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def visit(self, address: str) -> list[tuple[str, Any]]:
        """Load *address* with all its frames; the events until then. Dialogs are closed and remain events."""
        self.events = []
        self.call("Page.navigate", url=address)
        deadline = time.monotonic() + 30
        while not any(name == "Page.loadEventFired" for name, _ in self.events):
            self._read(deadline)
        # What is on the screen was painted: by then animations, and refreshes without delay, have begun.
        self.call("Page.captureScreenshot")
        return self.events

    def address(self) -> str:
        """Where the page is now."""
        history = self.call("Page.getNavigationHistory")
        return str(history["entries"][history["currentIndex"]]["url"])

    def evaluate(self, expression: str) -> Any:
        """What *expression* gives in the page, after its promise."""
        return self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)[
            "result"
        ].get("value")

    def _send(self, method: str, parameters: dict[str, Any]) -> int:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        return self._number

    def _read(self, deadline: float) -> Any:
        while b"\0" not in self._buffer:
            ready, _, _ = select([self._back], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError("the browser says nothing")
            data = os.read(self._back, 1 << 20)
            if not data:
                raise EOFError("the browser is gone")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\0")
        message = json.loads(line)
        if "method" in message:
            self.events.append((message["method"], message["params"]))
            if message["method"] == "Page.javascriptDialogOpening":
                self._send("Page.handleJavaScriptDialog", {"accept": True})
        return message


@contextmanager
def browser(profile: Path, *flags: str) -> Iterator[Browser]:
    """A browser with an empty *profile*, which ends with the block. Raises MissingServiceError without Chromium."""
    chromium = str(require().browser)
    theirs, to = os.pipe()
    back, theirs_back = os.pipe()

    # The browser reads from descriptor 3 and writes to 4; a shell puts them there.
    command = f'exec "$0" "$@" 3<&{theirs} 4>&{theirs_back} {theirs}<&- {theirs_back}>&-'
    process = subprocess.Popen(
        ["bash", "-c", command, chromium, *_FLAGS, *flags, f"--user-data-dir={profile}"],
        pass_fds=(theirs, theirs_back),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(theirs)
    os.close(theirs_back)
    driven = Browser(to, back)
    try:
        yield driven.open()
        driven._session = None
        driven.call("Browser.close")
    finally:
        os.close(to)
        os.close(back)
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        process.wait()

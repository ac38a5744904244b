"""Hostile mails in a real browser: nothing runs, nothing leaves, nothing moves.

Needs Chromium: without it they fail, and say how to get it.
"""

import socket
import threading
from collections.abc import Iterator

import pytest

from tests.integration.catcher_web.browser import Browser, browser
from tests.integration.catcher_web.conftest import Site
from tests.integration.catcher_web.samples import receipt, with_html
from tests.integration.catcher_web.vectors import VECTORS
from tests.services.base import MissingServiceError
from tests.services.chromium import require
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.timeout(300),
]


class Canary:
    """A port that counts who connects."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._socket.getsockname()[1]}/"
        self.visits = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(10)

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            # A connection counts, also one without a word: it tells that a mail was opened.
            self.visits += 1
            connection.close()


@pytest.fixture
def canary() -> Iterator[Canary]:
    one = Canary()
    yield one
    one.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    try:
        require()
    except MissingServiceError as missing:
        pytest.fail(str(missing), pytrace=False)
    with browser(tmp_path_factory.mktemp("profile")) as one:
        yield one


def test_the_canary_sings(site: Site, canary: Canary, page: Browser) -> None:
    """The test would see a script, a dialog and a request: without the frame's policy there are all three."""
    html = f"<script>alert(1)</script><img src={canary.address}><link rel=preconnect href={canary.address}>"
    page.visit(f"data:text/html,{html}")

    assert "Page.javascriptDialogOpening" in [name for name, _ in page.events]
    wait_until(lambda: canary.visits > 0, 10, lambda: "nobody came")


def test_hostile_html_stays_in_its_frame(site: Site, canary: Canary, page: Browser) -> None:
    """Sixty hostile mails, in their frame and opened by themselves: no dialog, no request, no other address."""
    home = f"http://{site.service.http}"
    for name, vector in VECTORS.items():
        html = vector.replace("CANARY", canary.address).replace("\0", "")
        number = site.service.store.add(receipt(with_html(html, subject=name))).number
        for path in (f"/mails/{number}", f"/mails/{number}/html"):
            events = page.visit(home + path)
            asked = [e["request"]["url"] for kind, e in events if kind == "Network.requestWillBeSent"]
            blocked = {
                e["requestId"]
                for kind, e in events
                if kind == "Network.loadingFailed" and e.get("blockedReason")
            }
            foreign = [
                e["request"]["url"]
                for kind, e in events
                if kind == "Network.requestWillBeSent"
                and e["requestId"] not in blocked
                and not e["request"]["url"].startswith((home, "data:", "about:"))
            ]
            assert home + path in asked
            assert "Page.javascriptDialogOpening" not in [kind for kind, _ in events], (name, path)
            assert foreign == [], (name, path)
            assert page.address() == home + path, (name, path)
            assert canary.visits == 0, (name, path)


def test_images_of_the_mail_are_seen(site: Site, page: Browser) -> None:
    """The mail's own image is loaded in its frame, and a foreign one is not."""
    number = site.service.store.add(receipt(with_html("<img src='cid:logo@x'>"))).number

    events = page.visit(f"http://{site.service.http}/mails/{number}")
    loaded = [
        (event["response"]["url"].partition("?")[0].rpartition("/mails/")[2], event["response"]["status"])
        for name, event in events
        if name == "Network.responseReceived" and event["type"] == "Image"
    ]
    assert (f"{number}/inline/3", 200) in loaded


def test_list_renews_itself(site: Site, page: Browser) -> None:
    """An open list shows a new mail by itself, and breaks none of its own rules."""
    events = page.visit(f"http://{site.service.http}/")
    site.service.store.add(receipt(with_html("x", subject="came later")))

    page.evaluate(
        "new Promise(done => { const look = () => document.querySelector('.mail') ? done(1) : setTimeout(look, 50); look(); })"
    )
    assert page.evaluate("document.querySelector('.subject').textContent") == "came later"
    assert [event for name, event in events if name == "Runtime.exceptionThrown"] == []

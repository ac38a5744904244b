"""A stop while a server takes its time and more mail is hinted than a process may hold."""

import threading
import time
from pathlib import Path

from mailfleet_workers.catcher import Action, Default, Event, Step
from mailfleet_workers.embedded import Embedded
from tests.integration.embedded.test_embedded import mail, settings


def test_a_stop_does_not_wait_for_room(tmp_path: Path) -> None:
    """A hint whose mails find no room is let go at once: a stop takes as long as the mail that is under way."""
    at_dot = threading.Event()

    def hang(event: Event) -> Action:
        if event.step is Step.EOD:
            at_dot.set()
            fleet._pools["billing"]._drain.wait(60)
        return Default()

    apps = {"billing": {"threads": 1, "heap": 1}}
    with Embedded(settings(tmp_path, apps=apps), apps=["billing"], script=hang) as fleet:
        fleet.mailer("billing").emit_many([mail(number) for number in range(20)])
        assert at_dot.wait(20)
        began = time.monotonic()
        fleet.stop()
        assert time.monotonic() - began < 20

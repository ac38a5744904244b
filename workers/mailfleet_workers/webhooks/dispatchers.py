"""The dispatchers of one process: a thread for each endpoint of the settings, and none where there is none."""

import random
import threading
import time
from collections.abc import Mapping

from sqlalchemy import Engine

from mailfleet_schema.statements.webhook import register_endpoints
from mailfleet_workers.settings import Settings
from mailfleet_workers.telemetry.meter import SILENT, Meter
from mailfleet_workers.webhooks.dispatcher import Dispatcher

#: How long an end waits for requests that are being made, in seconds; what they come to is found out by the next process.
STOP_S = 2.0


class Dispatchers:
    """`start`, then `stop`; not to be started again."""

    def __init__(
        self,
        engine: Engine,
        settings: Settings,
        *,
        environ: Mapping[str, str],
        rng: random.Random,
        meter: Meter = SILENT,
    ) -> None:
        self._engine = engine
        self._endpoints = settings.endpoints()
        self._stop = threading.Event()
        self._dispatchers = {
            name: Dispatcher(engine, name, one, environ=environ, rng=rng, meter=meter)
            for name, one in settings.webhooks.items()
        }
        self._threads = [
            threading.Thread(
                target=one.run, args=(self._stop,), name=f"mailfleet-webhook-{name}", daemon=True
            )
            for name, one in self._dispatchers.items()
        ]

    def start(self) -> None:
        """Let everybody know of the endpoints, and begin. Raises what the database raises."""
        with self._engine.begin() as connection:
            register_endpoints(connection, self._endpoints)
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Post nothing more; `stop` does the rest."""
        self._stop.set()

    def stop(self) -> None:
        """Finish what is being posted, for a moment; then it is broken off, and posted again by others. Harmless when repeated."""
        self.end()
        until = time.monotonic() + STOP_S
        for thread, dispatcher in zip(self._threads, self._dispatchers.values(), strict=True):
            if thread.is_alive():
                thread.join(max(0.0, until - time.monotonic()))
                dispatcher.break_off()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(1.0)

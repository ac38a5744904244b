"""Bringing one endpoint its events: a thread of its own, so that no other endpoint waits for it.

Every worker process runs one for each endpoint; nobody leads. An event is posted until the endpoint takes it, or for
`give_up_s`; it may be posted twice, with the same id, when a process ends between the answer and its commit.
"""

import json
import logging
import random
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import assert_never

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from mailfleet.errors import SettingsError
from mailfleet_schema.statements import webhook_delivery
from mailfleet_schema.statements.webhook_delivery import DueEvent
from mailfleet_workers.settings.webhook import WebhookSettings
from mailfleet_workers.telemetry.meter import SILENT, Meter
from mailfleet_workers.webhooks.decision import Again, Delivered, GivenUp, decide
from mailfleet_workers.webhooks.posting import Answered, Poster, Unanswered
from mailfleet_workers.webhooks.signing import keys_of, signed

log = logging.getLogger(__name__)

#: Events that are taken together.
PAGE = 20
#: Who took a page reports within this time beside the endpoint's timeout, in seconds; else others take it.
LEASE_S = 60.0
#: Between two looks while nothing is found, at first and at most, in seconds.
IDLE_S, MOST_IDLE_S = 0.5, 5.0
#: How long events are kept after their end, in seconds: delivered ones a week, given-up ones a month.
DELIVERED_S, GIVEN_UP_S = 7 * 86_400.0, 30 * 86_400.0
#: Between two looks for events that are no longer kept, in seconds.
PURGE_S = 600.0
#: Events that are given up or removed in one transaction.
STRETCH = 500


@dataclass(frozen=True, slots=True)
class Round:
    """What one look came to; with `pause_s` the endpoint is left alone for so long."""

    delivered: int = 0
    failed: int = 0
    given_up: int = 0
    pause_s: float | None = None

    @property
    def found(self) -> int:
        return self.delivered + self.failed + self.given_up


class Dispatcher:
    """Posts the events of endpoint *name*, which is set up by *settings*. For one thread."""

    def __init__(
        self,
        engine: Engine,
        name: str,
        settings: WebhookSettings,
        *,
        environ: Mapping[str, str],
        rng: random.Random,
        meter: Meter = SILENT,
    ) -> None:
        assert settings.url is not None  # noqa: S101 - the settings have seen it
        self._engine = engine
        self._name = name
        self._secret = settings.signing_secret(name)
        self._give_up_s = settings.give_up_s
        self._lease_s = LEASE_S + settings.timeout_s
        self._environ = environ
        self._rng = rng
        self._meter = meter
        self._poster = Poster(name, settings.url, timeout_s=settings.timeout_s)
        self._failures = 0

    def run(self, stop: threading.Event) -> None:
        """Look after look until *stop*; what is being posted then is finished."""
        idle_s, purge_at = IDLE_S, 0.0
        while not stop.is_set():
            pause_s = idle_s = min(2 * idle_s, MOST_IDLE_S)
            try:
                done = self.run_once(stop)
                if done.found:
                    pause_s, idle_s = done.pause_s or 0.0, IDLE_S
                if time.monotonic() >= purge_at:
                    self.purge()
                    purge_at = time.monotonic() + PURGE_S
            except SQLAlchemyError as error:
                log.warning(
                    "webhooks_not_read", extra={"endpoint": self._name, "error": type(error).__name__}
                )
            except Exception:
                # A bug must not end what was promised.
                log.exception("webhooks_failed", extra={"endpoint": self._name})
            stop.wait(pause_s * self._rng.uniform(0.75, 1.25))
        self._poster.close()

    def break_off(self) -> None:
        """End the request that is being made; from another thread."""
        self._poster.break_off()

    def run_once(self, stop: threading.Event | None = None) -> Round:
        """Post a page of due events. Raises SQLAlchemyError; what was posted and not written is posted again."""
        with self._engine.begin() as connection:
            events = webhook_delivery.take_events(connection, self._name, most=PAGE, lease_s=self._lease_s)
        taken_at = time.monotonic()
        delivered = failed = given_up = 0
        for number, event in enumerate(events):
            ending = stop is not None and stop.is_set()
            answer = None if ending or time.monotonic() - taken_at > LEASE_S / 2 else self._post(event)
            ending = stop is not None and stop.is_set()
            if answer is None or (ending and isinstance(answer, Unanswered)):
                # The end of this process is no fault of the endpoint's.
                self._put_back(events[number:], 0.0)
                break
            match self._settle(event, answer):
                case Delivered():
                    delivered += 1
                    self._failures = 0
                    continue
                case Again(pause_s=pause_s):
                    failed += 1
                case GivenUp(pause_s=pause_s):
                    given_up += 1
            if pause_s is None:
                self._failures = 0  # it answers
            else:
                # It does not answer: the others would only wait for the same.
                self._failures += 1
                self._put_back(events[number + 1 :], pause_s)
                given_up += self._give_up_old()
                return Round(delivered, failed, given_up, pause_s)
        return Round(delivered, failed, given_up)

    def _settle(self, event: DueEvent, answer: Answered | Unanswered) -> Delivered | Again | GivenUp:
        """Write what follows from *answer*."""
        done = decide(
            answer,
            tries=event.tries,
            age_s=event.age_s,
            failures=self._failures,
            give_up_s=self._give_up_s,
            rng=self._rng,
        )
        with self._engine.begin() as connection:
            match done:
                case Delivered(code=code):
                    webhook_delivery.delivered(connection, event, code=code)
                case Again(code=code, error=error, due_in_s=due_in_s):
                    webhook_delivery.failed(connection, event, code=code, error=error, due_in_s=due_in_s)
                case GivenUp(code=code, error=error):
                    webhook_delivery.failed(connection, event, code=code, error=error, due_in_s=None)
                case _:
                    assert_never(done)
        self._tell(event, done)
        return done

    def _post(self, event: DueEvent) -> Answered | Unanswered:
        body = json.dumps(event.payload, separators=(",", ":")).encode()
        try:
            keys = keys_of(self._secret, self._environ)
        except SettingsError as error:
            return Unanswered(f"{error.key}: expected {error.expected}")
        headers = signed(event.event_id, body, at=int(time.time()), keys=keys)
        headers |= {"Content-Type": "application/json", "User-Agent": f"mailfleet/{version('mailfleet')}"}
        return self._poster.post(headers, body)

    def _tell(self, event: DueEvent, done: Delivered | Again | GivenUp) -> None:
        fields = {"endpoint": self._name, "event_id": event.event_id, "mail_id": event.mail_id}
        fields |= {"tries": event.tries + 1}
        match done:
            case Delivered(code=code):
                self._meter.webhook(self._name, "delivered")
                log.debug("webhook_delivered", extra=fields | {"code": code})
            case Again(code=code, error=error, due_in_s=due_in_s):
                self._meter.webhook(self._name, "failed")
                more = {"code": code, "error": error, "due_in_s": round(due_in_s, 3)}
                log.info("webhook_failed", extra=fields | more)
            case GivenUp(code=code, error=error):
                self._meter.webhook(self._name, "given_up")
                log.error("webhook_given_up", extra=fields | {"code": code, "error": error})
            case _:
                assert_never(done)

    def _put_back(self, events: Sequence[DueEvent], due_in_s: float) -> None:
        if events:
            with self._engine.begin() as connection:
                webhook_delivery.put_back(connection, events, due_in_s=due_in_s)

    def _give_up_old(self) -> int:
        """Give up what is too old, also untried: the endpoint has just failed to answer."""
        with self._engine.begin() as connection:
            old = webhook_delivery.give_up_old(
                connection,
                self._name,
                older_s=self._give_up_s,
                error="the endpoint does not answer",
                most=STRETCH,
            )
        if old:
            self._meter.webhook(self._name, "given_up", old)
            log.error("webhooks_given_up", extra={"endpoint": self._name, "events": old})
        return old

    def purge(self) -> int:
        """Remove events whose end, of whatever endpoint, is long ago; how many."""
        removed = 0
        while True:
            with self._engine.begin() as connection:
                page = webhook_delivery.purge(
                    connection, delivered_s=DELIVERED_S, given_up_s=GIVEN_UP_S, most=STRETCH
                )
            removed += page
            if page < STRETCH:
                return removed

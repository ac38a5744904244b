"""What a mailer is made with, whether its verbs block or are coroutines."""

import os
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Self

from sqlalchemy import URL, Engine

from mailfleet.broker.base import HintBroker
from mailfleet.broker.shared import producer_broker
from mailfleet.counters import Counts
from mailfleet.errors import SettingsError
from mailfleet.outlet import Outlet
from mailfleet.own_engine import OwnEngine
from mailfleet.preparing import Preparation
from mailfleet.run_mode import EXPECTED as RUN_MODE_EXPECTED
from mailfleet.run_mode import RUN_MODES
from mailfleet.settings import ProducerSettings
from mailfleet.validation import DEFAULT_LIMITS, Limits
from mailfleet.validation.attachments import NO_SHELVES, Shelves
from mailfleet.writer import Writer
from mailfleet_schema.names import EXPECTATION, InvalidName, check_name
from mailfleet_schema.states import OnDoubt

#: How long `send` and `post` wait for a verdict unless told otherwise.
DEADLINE_S = 30.0


def _utc_now() -> datetime:
    return datetime.now(UTC)


def _random_id() -> str:
    return uuid.uuid4().hex


class MailerBase:
    """Mails of one *app* (1 to 40 characters a-z, 0-9 and '-', beginning with a letter).

    *engine* is for everything without a session: `send`, `post`, and `emit` by itself. It is a synchronous SQLAlchemy
    Engine, or a URL that is opened when it is first needed; None allows `emit` with a session only.

    *broker* None hints through the embedded broker that runs in this process for *engine*'s database; if none does,
    nobody is hinted and workers find the mails by themselves some seconds later.

    *limits* bound every mail. *message_id_domain* is for mails that name no sender of their own, *on_doubt* for those
    that do not say it. *grace_s* is how long after its due time a mail that no hint brought is looked for; the workers'
    setting. *shelves* are the stores of attachments that are read here, when a mail is emitted: directories by their names,
    None for one that is not for this app. *run_mode* is the workers' setting: a mail that is not for it is stored, hinted to
    nobody and looked at by a worker later; None leaves its vote to the workers. *clock* gives aware times, *new_id* the left part of a Message-ID, different each time.
    """

    def __init__(
        self,
        app: str,
        *,
        engine: Engine | URL | None = None,
        broker: HintBroker | None = None,
        limits: Limits = DEFAULT_LIMITS,
        clock: Callable[[], datetime] = _utc_now,
        new_id: Callable[[], str] = _random_id,
        message_id_domain: str | None = None,
        on_doubt: OnDoubt | None = None,
        grace_s: float = 10.0,
        shelves: Shelves = NO_SHELVES,
        run_mode: str | None = None,
    ) -> None:
        try:
            check_name("app", app)
        except InvalidName as error:
            raise SettingsError("app", EXPECTATION, app) from error
        if run_mode is not None and run_mode not in RUN_MODES:
            raise SettingsError("run_mode", RUN_MODE_EXPECTED, run_mode)
        own = OwnEngine(engine)
        self._preparation = Preparation(
            limits, clock, new_id, message_id_domain, on_doubt, shelves, app, run_mode
        )
        self._writer = Writer(app, own, Outlet(broker, own.url), grace_s=grace_s)

    @classmethod
    def from_env(cls, app: str, environ: Mapping[str, str] = os.environ) -> Self:
        """A mailer with the settings of `mailfleet.toml` and the MAILFLEET_* variables in *environ*.

        Connects to nothing yet. Raises SettingsError. What each variable means is in `mailfleet.settings`.
        """
        settings = ProducerSettings.load(app, environ)
        return cls(
            app,
            engine=settings.database_url,
            broker=None if settings.broker_url is None else producer_broker(settings.broker_url, app),
            message_id_domain=settings.message_id_domain,
            on_doubt=settings.on_doubt,
            grace_s=settings.grace_s,
            shelves=settings.shelves,
            run_mode=settings.run_mode,
        )

    @property
    def app(self) -> str:
        """The app whose mails these are."""
        return self._writer.app

    def counts(self) -> Counts:
        """What became of hints in this process. Mailers that share a broker, or have none, share the counts."""
        return self._writer.outlet.counts()

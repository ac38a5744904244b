"""The demo's three servers, its embedded mailfleet, and its applications that write their mails."""

import random
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

from sqlalchemy.orm import Session

from mailfleet import Mail
from mailfleet_schema.engine import read_only
from mailfleet_workers.catcher import Catcher, DirectoryStore, Providers, Receipt
from mailfleet_workers.demo import plan as plans
from mailfleet_workers.demo.plan import APPS, Planned
from mailfleet_workers.demo.verdicts import Row, Verdict, count_copies, judge, read_rows
from mailfleet_workers.embedded import Embedded
from mailfleet_workers.settings import Settings

#: Accounts, and what their servers do beside what the recipients' domains say.
SERVERS = ("default", "qq", "daily")


@dataclass
class Stage:
    """Everything that runs in the demo; a context manager. *directory* gets the database and the caught mail."""

    directory: Path
    seed: int
    planned: Sequence[Planned] = field(init=False)
    numbers: dict[int, int] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.planned = plans.plan(self.seed)
        self._by_number = {one.number: one for one in self.planned}
        self._stack = ExitStack()
        self._lock = threading.Lock()
        self._writers: list[threading.Thread] = []
        self._faults: list[BaseException] = []
        self.servers: dict[str, Catcher] = {}

    def __enter__(self) -> Self:
        rng = random.Random(self.seed)
        for name in SERVERS:
            script = Providers(
                rng, grey_seconds=(3, 6), busy_refusals=plans.REFUSALS, quota_mails=plans.QUOTA
            )
            catcher = Catcher(DirectoryStore(self.directory / "caught" / name), script)
            self.servers[name] = self._stack.enter_context(catcher)
        self.fleet = self._stack.enter_context(Embedded(self._settings(), apps=APPS))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _settings(self) -> Settings:
        return Settings.model_validate(
            {
                "data_dir": self.directory,
                "database_url": f"sqlite:///{self.directory}/mailfleet.db",
                # To the three servers above and nowhere else: they listen on the loopback address.
                "delivery": "live",
                "accounts": {
                    name: {
                        "host": "127.0.0.1",
                        "port": server.port,
                        "tls": "plain",
                        "from": "Demo <demo@example.com>",
                    }
                    for name, server in self.servers.items()
                },
                "apps": {app: {"accounts": list(SERVERS), "threads": 4} for app in APPS},
                # The first wait after a cut connection would be a minute; the demo has not got that long.
                "timing": {"try_next_s": 5},
            }
        )

    def write(self) -> None:
        """Let the three applications write their mails, each in its own thread and transactions."""
        for app in APPS:
            thread = threading.Thread(target=self._write_app, args=(app,), name=f"demo-{app}")
            self._writers.append(thread)
            thread.start()

    def _write_app(self, app: str) -> None:
        try:
            mailer = self.fleet.mailer(app)
            for planned in self.planned:
                if planned.app == app:
                    with Session(self.fleet.engine) as session, session.begin():
                        mail_id = mailer.emit(self._timed(planned), session=session)
                    with self._lock:
                        self.numbers[mail_id] = planned.number
                    if planned.cancel:
                        mailer.cancel(mail_id)
            # What is rolled back was never there: this mail is counted nowhere and must not be caught.
            with Session(self.fleet.engine) as session:
                mailer.emit(
                    Mail(to="nobody.ever@example.net", subject="rolled back", text="-"), session=session
                )
                session.rollback()
        except BaseException as error:  # noqa: BLE001 - shown by whoever waits for the writers
            self._faults.append(error)

    def _timed(self, planned: Planned) -> Mail:
        if not (planned.cancel or planned.tomorrow):
            return planned.mail
        later = timedelta(days=1) if planned.tomorrow else timedelta(hours=1)
        return replace(planned.mail, due_at=datetime.now(UTC) + later)

    @property
    def written(self) -> bool:
        """Whether every application has written everything; raises what stopped one of them."""
        if self._faults:
            raise self._faults[0]
        return bool(self._writers) and not any(thread.is_alive() for thread in self._writers)

    def rows(self) -> list[Row]:
        with self._lock:
            numbers = dict(self.numbers)
        with read_only(self.fleet.engine) as connection:
            return read_rows(connection, numbers)

    def receipts(self) -> list[Receipt]:
        return [receipt for server in self.servers.values() for receipt in server.store.receipts()]

    def verdicts(self) -> list[Verdict]:
        """Every mail against its plan, now."""
        copies = count_copies(self.receipts())
        now = datetime.now(UTC)
        return sorted(
            (judge(self._by_number[row.number], row, copies[row.number], now) for row in self.rows()),
            key=lambda one: one.planned.number,
        )

    def strays(self) -> int:
        """Caught mails that no plan knows."""
        return sum(n for number, n in count_copies(self.receipts()).items() if number not in self._by_number)

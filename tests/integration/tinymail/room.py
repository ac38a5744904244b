"""A whole mailfleet in one process with a server that does as it is told, and every verb asked in the same way."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import text

from mailfleet import InvalidMail, Mail, Mailer, MailfleetError
from mailfleet.preparing import Sendable
from mailfleet.tinymail import Answer, code_of, planned
from mailfleet_workers.catcher import Action, Default, Event, Step
from mailfleet_workers.embedded import Embedded
from mailfleet_workers.settings import Settings
from tests.waiting import wait_until

APP, SENDER, ADA = "billing", "billing@example.com", "ada@example.net"
#: As TinyMail's tests have it: a retry comes soon, and still not within a verb's wait.
TRY_NEXT_S = 30.0
VERBS = ("send", "post", "emit")
QUICK = {"grace_s": 0.2, "step_s": 0.2, "reconcile_s": 0.2, "drain_s": 5.0, "try_next_s": TRY_NEXT_S}


class Server:
    """Does at each step what `says` has for it, or what `choose` says of this event; else what a well-meaning server does."""

    def __init__(self) -> None:
        self.says: dict[Step, Action] = {}
        self.choose: dict[Step, Callable[[Event], Action]] = {}
        self._lock = threading.Lock()
        self.asked = 0

    def __call__(self, event: Event) -> Action:
        if event.step is Step.EOD:
            with self._lock:
                self.asked += 1
        if event.step in self.choose:
            return self.choose[event.step](event)
        return self.says.get(event.step, Default())


class Room:
    """*fleet* with its server; ends with the fixture that made it."""

    def __init__(self, fleet: Embedded, server: Server) -> None:
        self.fleet = fleet
        self.server = server

    @property
    def mailer(self) -> Mailer:
        return self.fleet.mailer(APP)

    def asked(self, verb: str, what: Sendable, *, deadline_s: float = 20, **more: Any) -> tuple[Any, int]:
        """What *verb* answers or raises, and TinyMail's integer for it."""
        answer: Answer
        try:
            if verb == "emit":
                mail_id = self.mailer.emit(what, **more)
                return mail_id, planned(self.mailer.status(mail_id).due_at)
            answer = getattr(self.mailer, verb)(what, deadline_s, **more)
        except (MailfleetError, InvalidMail) as error:
            answer = error
        return answer, code_of(answer)

    def row(self, mail_id: int | None = None) -> Any:
        """The row *mail_id*, or the newest."""
        with self.fleet.engine.connect() as connection:
            query = text(
                "SELECT * FROM mailfleet_mail WHERE :id IS NULL OR id = :id ORDER BY id DESC LIMIT 1"
            )
            return connection.execute(query, {"id": mail_id}).one()

    def attempts(self, mail_id: int) -> Sequence[Any]:
        """The lines of its history, in order."""
        with self.fleet.engine.connect() as connection:
            query = text("SELECT * FROM mailfleet_mail_attempt WHERE mail_id = :id ORDER BY id")
            return connection.execute(query, {"id": mail_id}).all()

    def count(self) -> int:
        with self.fleet.engine.connect() as connection:
            return int(connection.execute(text("SELECT count(*) FROM mailfleet_mail")).scalar_one())

    def rests(self, *states: str, mail_id: int | None = None) -> Any:
        """The row when it has come to one of *states* and nothing is sent any more."""
        wait_until(
            lambda: (
                self.row(mail_id).state in states and self.row(mail_id).sum_send + self.row(mail_id).waits
            ),
            20,
            lambda: str(self.row(mail_id)),
        )
        return self.row(mail_id)


@contextmanager
def room(directory: Path, **more: Any) -> Iterator[Room]:
    """A room whose files are in *directory*; *more* are settings."""
    server = Server()
    timing = {**QUICK, **more.pop("timing", {})}
    settings = Settings.model_validate({"data_dir": directory, "timing": timing, **more})
    with Embedded(settings, apps=[APP], script=server) as fleet:
        yield Room(fleet, server)


def mail(**more: Any) -> Mail:
    """One that can be sent."""
    return Mail(**{"from_": SENDER, "to": [ADA], "subject": "Invoice 17", "text": "Hello", **more})


def in_ms(seconds: float) -> float:
    """TinyMail's integer for so many seconds from now."""
    return (datetime.now(UTC).timestamp() + seconds) * 1000

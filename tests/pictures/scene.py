"""A fleet worth a picture: two apps, workers on two hosts, a slow server, mail for later, messages nobody can use.

All of it is real: a broker and a database of their own, `mailfleet worker`, mails through `Mailer`. Only the hosts' names
are given, because those of a machine belong into no picture.
"""

import json
import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from unittest.mock import patch

from mailfleet import Mail
from mailfleet_schema.topology import DELAY_LEVELS, PARKED_QUEUE, delay_level_name
from mailfleet_workers.catcher import Action, Default, Delay, Event, Say, Step
from tests.services.management import Management
from tests.services.opening import open_postgres, open_rabbitmq
from tests.services.rabbitmq import PrivateRabbit
from tests.stage import Stage
from tests.waiting import wait_until

#: A person who may look and do no harm.
OPERATOR = "operator"
BACKLOG = "mailfleet.billing.normal"
#: Levels on which something waits for long enough to be seen.
LEVELS = tuple(delay_level_name(level) for level in range(4, DELAY_LEVELS))

#: A fleet's usual times (a stage has shorter ones), and few threads, so that a backlog needs few mails.
SETTINGS = {
    "TIMING__HEARTBEAT_S": "5",
    "TIMING__QUIET_S": "30",
    "TIMING__GRACE_S": "10",
    "TIMING__STEP_S": "10",
    "TIMING__MOST_STEP_S": "640",
    "TIMING__RECONCILE_S": "5",
    "APPS__BILLING__THREADS": "3",
    "APPS__BILLING__HEAP": "4",
    "APPS__CRM__THREADS": "4",
}
#: In how many seconds mails are due, and how many of them.
AHEAD: dict[str, Mapping[int, int]] = {
    "billing": {86_000: 7, 40_000: 11, 20_000: 5, 9_000: 8, 5_000: 3, 2_500: 4, 1_100: 6, 600: 9, 250: 6},
    "crm": {100_000: 4, 30_000: 2, 3_000: 5, 1_500: 2, 700: 3, 300: 12, 270: 4},
}
#: The applications' pace, and for how long they have worked when the pictures begin: the UI's charts show a minute.
PAUSE_S = 0.2
ROUNDS = 320
#: The same for what is due soon, which is emitted again and again.
SOON = (200, 100, 60, 40, 20)


def server(event: Event) -> Action:
    """What the SMTP server answers: slow to billing, and "come again later" for one domain."""
    if event.step is Step.EOD and event.sender and event.sender.startswith("invoices"):
        return Delay(1.5)
    if event.step is Step.RCPT and event.argument.endswith("@busy.example.net"):
        return Say(451, "4.3.2 Please come again later")
    return Default()


class Scene:
    """Use it as a context manager; then the broker has everything to be seen. Raises MissingServiceError."""

    def __init__(self, directory: Path) -> None:
        self.password = secrets.token_hex(16)
        self._directory = directory
        self._ending = ExitStack()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._applications, name="applications")
        self._failed: list[BaseException] = []
        self._rounds = 0

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            rabbit = self.rabbit = stack.enter_context(_private_rabbit())
            postgres = open_postgres()
            stack.callback(postgres.stop)
            self.management = rabbit.management
            self.url = rabbit.management_url
            self._prepare(rabbit.management)
            url = rabbit.amqp_url(user="mailfleet", password=self.password)
            stack.enter_context(
                patch("socket.gethostname", return_value="web-1")
            )  # whose web applications emit
            self.stage = Stage(self._directory, postgres.url(), url, script=server, settings=SETTINGS)
            stack.enter_context(self.stage)
            stack.callback(self._stop)
            self._fill()
            self._ending = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.close()

    def _stop(self) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(30)
        if self._failed:
            raise self._failed[0]

    def _prepare(self, management: Management) -> None:
        """The users, and names instead of the machine's."""
        management.call("PUT", "cluster-name", {"name": "mail"})
        management.create_user("mailfleet", self.password)
        management.grant("mailfleet")
        management.create_user(OPERATOR, self.password, "monitoring")
        management.grant(OPERATOR, configure="^$", write="^$", read=".*")

    def _fill(self) -> None:
        one = self.stage.parent("billing", "crm", "--processes", "1", "--host", "worker-1")
        two = self.stage.parent("billing", "--processes", "1", "--host", "worker-2")
        one.wait_ready(2)
        two.wait_ready(1)
        for app, ahead in AHEAD.items():
            for due_in_s, mails in ahead.items():
                for _ in range(mails):
                    self._emit(app, due_in_s=due_in_s)
        self._park()
        self._thread.start()
        self.wait_full()

    def wait_full(self) -> None:
        """Until a backlog, waits on all `LEVELS` and parked messages are there, and a minute's charts are full."""

        def counts() -> dict[str, int]:
            return {one["name"]: int(one.get("messages", 0)) for one in self.management.queues()}

        def full() -> bool:
            if self._failed:
                raise self._failed[0]
            found = counts()
            there = found[BACKLOG] >= 60 and all(found[name] for name in LEVELS) and found[PARKED_QUEUE] >= 4
            return there and self._rounds >= ROUNDS

        wait_until(full, 180, lambda: f"{counts()}", step_s=0.5)

    def connection_of(self, app: str, role: str) -> str:
        """RabbitMQ's own name of one connection of *app*."""
        for one in self.management.connections():
            said = one["client_properties"]
            if said.get("app") == app and said.get("role") == role:
                return str(one["name"])
        raise LookupError(f"{app} has no connection as {role}")

    def _applications(self) -> None:
        """What web applications do: single mails, all the time; and now and then one for later."""
        try:
            while not self._over.wait(PAUSE_S):
                self._rounds = number = self._rounds + 1
                self._emit("billing")
                if number % 4 == 0:
                    self._emit("crm")
                if number % 12 == 0:
                    self._emit("crm", domain="busy.example.net")
                if number % 20 == 0:
                    self._emit("billing", priority="high")
                    for due_in_s in SOON:
                        self._emit("billing", due_in_s=due_in_s)
        except BaseException as error:  # noqa: BLE001 - the thread that takes the pictures raises it
            self._failed.append(error)

    def _emit(
        self, app: str, *, due_in_s: int = 0, priority: Any = "normal", domain: str = "example.net"
    ) -> None:
        due = datetime.now(UTC) + timedelta(seconds=due_in_s) if due_in_s else None
        sender = "invoices@example.com" if app == "billing" else "news@example.com"
        self.stage.mailer(app).emit(
            Mail(
                from_=sender,
                to=[f"ada@{domain}"],
                subject="Hello",
                text="Hello",
                priority=priority,
                due_at=due,
            )
        )

    def _park(self) -> None:
        """What no worker understands; the first is of an application that is newer than its workers."""
        self._publish("billing.normal", json.dumps(_hint(v=2)))
        wait_until(lambda: self._parked() == 1, 30, lambda: "nothing was parked")
        self._publish("billing.normal", "to=ada@example.net&subject=Hello")
        self._publish("crm.bulk", json.dumps(_hint(app="billing")))
        self._publish(".".join([*f"{2:017b}", "shop", "normal"]), json.dumps(_hint()), "mailfleet.delay.01")

    def _parked(self) -> int:
        return int(self.management.queue(PARKED_QUEUE).get("messages", 0))

    def _publish(self, key: str, payload: str, exchange: str = "mailfleet.mail") -> None:
        properties = {
            "type": "mailfleet.look",
            "app_id": "billing",
            "message_id": json.loads(payload)["message_id"] if payload[0] == "{" else "1",
            "timestamp": int(datetime.now(UTC).timestamp()),
            "content_type": "application/json",
            "delivery_mode": 2,
            "headers": {"priority": "normal", "mails": 3, "from": "billing web-2 4711"},
        }
        self.management.publish(exchange, key, payload, **properties)


def _hint(**changes: Any) -> dict[str, Any]:
    """A hint's message as another language might write it, its argument changed."""
    return {
        "queue_name": "mailfleet.billing.normal",
        "actor_name": "mailfleet.look",
        "args": [{"v": 1, "app": "billing", "priority": "normal", "ids": [17, 18, 23]} | changes],
        "kwargs": {},
        "options": {},
        "message_id": "6a2f6a2e-93b8-4a7e-9a41-6f9c0c7f0d5e",
        "message_timestamp": int(datetime.now(UTC).timestamp() * 1000),
    }


@contextmanager
def _private_rabbit() -> Iterator[PrivateRabbit]:
    server = open_rabbitmq()
    try:
        if not isinstance(server, PrivateRabbit):
            raise TypeError(
                "the pictures change the broker's name and users: a RabbitMQ on this machine is needed"
            )
        yield server
    finally:
        server.stop()

"""What a storm passes over: a private PostgreSQL and RabbitMQ that may be killed, and the servers that take the mail."""

import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from sqlalchemy import text

from mailfleet_schema import migrations
from mailfleet_schema.dialects import POSTGRESQL
from mailfleet_schema.engine import open_engine, parse_url, read_only
from mailfleet_workers.catcher import Catcher, MemoryStore, Receipt
from tests.checker.audit import Audit
from tests.services.base import MissingServiceError
from tests.services.locate import find_postgres, find_rabbitmq
from tests.services.postgres import PrivatePostgres
from tests.services.rabbitmq import PrivateRabbit
from tests.services.virtual_host import VirtualHost
from tests.torture.plan import ACCOUNTS, APPS, Figures
from tests.torture.sink import COMMAND_S, DOT_S, Moods

#: The product's waiting times, scaled down; the promise is about their order, not about their length.
TIMING = {
    "heartbeat_s": 1.0,
    "grace_s": 1.0,
    "step_s": 4.0,
    "most_step_s": 16.0,
    "reconcile_s": 2.0,
    "try_next_s": 0.5,
    "drain_s": 5.0,
}
#: Whoever is silent before MAIL makes its host wait for a quarter of an hour: on a busy machine nobody shall seem so.
PATIENT_S = 30.0

_ENDS = """SELECT state, coalesce(reason, '') AS reason, count(*) AS mails FROM {mail} GROUP BY 1, 2"""


class Ground:
    """Use it as a context manager; everything is ended with it."""

    def __init__(self, directory: Path, seed: int, figures: Figures) -> None:
        self.directory = directory
        self.figures = figures
        self.moods = {name: Moods(seed, ailing=name == "ailing") for name in ACCOUNTS}
        self.sinks = {name: Catcher(MemoryStore(), script) for name, script in self.moods.items()}
        postgres, rabbit = find_postgres(), find_rabbitmq()
        if postgres is None or rabbit is None:
            raise MissingServiceError("a storm kills PostgreSQL and RabbitMQ: it needs both on this machine")
        self.postgres = PrivatePostgres(postgres, settings={"track_commit_timestamp": "on"})
        self.rabbit = PrivateRabbit(rabbit)
        self._ending = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            with ThreadPoolExecutor(2) as together:
                servers = [together.submit(server.start) for server in (self.postgres, self.rabbit)]
            # Both, before either is asked: what has started must be ended.
            stack.callback(self.postgres.stop, "immediate")
            stack.callback(self.rabbit.stop)
            for started in servers:
                started.result()
            self.vhost: VirtualHost = self.rabbit.vhost().create()
            self.engine = open_engine(parse_url("database_url", self.postgres.url()), pool_size=4)
            stack.callback(self.engine.dispose)
            migrations.upgrade(self.engine)
            self.audit = Audit.install(self.engine)
            for sink in self.sinks.values():
                stack.enter_context(sink)
            self._ending = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.close()

    def environ(self, host: str) -> dict[str, str]:
        """What the processes of *host* find in their environment; each host has a data directory of its own."""
        path = self.directory / f"{host}.toml"
        # A file, because it is read in a third of the time that as many variables take: workers here live for a second.
        path.write_text(self._settings(host))
        others = {key: value for key, value in os.environ.items() if not key.startswith("MAILFLEET_")}
        return others | {"MAILFLEET_CONFIG": str(path), "MAILFLEET_BROKER_URL": self.vhost.url}

    def _settings(self, host: str) -> str:
        figures = self.figures
        tables: dict[str, Mapping[str, object]] = {
            "timing": {**TIMING, "quiet_s": figures.quiet_s, "settle_s": figures.settle_s},
            "pool": {"listen": ""},
            "log": {"level": "warning"},
        }
        for name, sink in self.sinks.items():
            tables[f"accounts.{name}"] = {
                "host": sink.host,
                "port": sink.port,
                "tls": "plain",
                "from": "Fleet <fleet@example.com>",
                "helo": "fleet.example.com",
            }
            greeting_s = COMMAND_S if name == "ailing" else PATIENT_S
            tables[f"accounts.{name}.timeouts"] = {
                **dict.fromkeys(("connect", "ehlo"), greeting_s),
                **dict.fromkeys(("command", "data", "block", "quit"), COMMAND_S),
                "dot": DOT_S,
            }
        for app in APPS:
            tables[f"apps.{app}"] = {
                "accounts": list(ACCOUNTS),
                "threads": figures.threads,
                "heap": figures.heap,
            }
        head = {
            "data_dir": str(self.directory / host),
            "database_url": self.postgres.url(),
            "database_prepared": True,
            "delivery": "live",
        }
        lines = [_line(*item) for item in head.items()]
        for title, table in tables.items():
            lines += ["", f"[{title}]", *(_line(*item) for item in table.items())]
        return "\n".join(lines) + "\n"

    def receipts(self) -> list[Receipt]:
        """Every mail that any of the servers took."""
        return [receipt for sink in self.sinks.values() for receipt in sink.store.receipts()]

    def ends(self) -> dict[tuple[str, str], int]:
        """How many mails are in each state for each reason, "" for none."""
        with read_only(self.engine) as connection:
            found = connection.execute(text(POSTGRESQL.format(_ENDS)))
            return {(one.state, one.reason): one.mails for one in found}

    def faults(self) -> list[Exception]:
        """What our own servers did wrong."""
        return [fault for sink in self.sinks.values() for fault in sink.faults]


def _line(key: str, value: object) -> str:
    # Our values are JSON and TOML alike.
    return f"{key} = {json.dumps(value)}"

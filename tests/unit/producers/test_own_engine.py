"""The engine that a mailer opens by itself."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, make_url

from mailfleet import own_engine
from mailfleet.own_engine import OwnEngine


def test_threads_that_come_first_together_share_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several threads find no engine and open one each: one is used by all, so no connection is left with another."""
    together = threading.Barrier(4)

    def opened(*_: Any, **__: Any) -> Engine:
        together.wait(10)
        return create_engine("sqlite://")

    monkeypatch.setattr(own_engine, "open_engine", opened)
    own = OwnEngine(make_url("sqlite://"))
    used: list[Engine] = []

    def use(_: int) -> None:
        with own.read() as connection:
            used.append(connection.engine)
            together.wait(10)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(use, range(4)))
    own.close()
    assert len({id(engine.pool) for engine in used}) == 1

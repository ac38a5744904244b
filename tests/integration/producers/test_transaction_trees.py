"""Whatever an application does with its transactions: hinted is exactly what is stored."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, make_url
from sqlalchemy.orm import Session

from mailfleet import Mailer
from mailfleet_schema.engine import open_engine
from tests.integration.producers.databases import ids, mail
from tests.unit.producers.brokers import MemoryBroker

STEPS = st.lists(
    st.sampled_from(["emit", "emit", "savepoint", "release", "undo", "commit", "rollback"]), max_size=25
)


def play(steps: list[str], mailer: Mailer, target: Session | Connection) -> None:
    """Do *steps* on *target*; a step that does not fit is left out. What is open at the end is rolled back."""
    savepoints: list[Any] = []
    for step in steps:
        match step:
            case "emit":
                mailer.emit(mail(), target)
            case "savepoint":
                savepoints.append(target.begin_nested())
            case "release" if savepoints:
                savepoints.pop().commit()
            case "undo" if savepoints:
                savepoints.pop().rollback()
            case "commit" if not savepoints:
                target.commit()
            case "rollback":
                savepoints.clear()
                target.rollback()
            case _:
                pass
    target.rollback()


def hinted_is_stored(
    template: Path, directory: Path, steps: list[str], target_on: Callable[[Engine], Any]
) -> None:
    """Play *steps* on a new database and compare."""
    path = directory / "tree.db"
    shutil.copyfile(template, path)
    engine = open_engine(make_url(f"sqlite:///{path}"))
    try:
        broker = MemoryBroker()
        mailer = Mailer("billing", engine=engine, broker=broker)
        with target_on(engine) as target:
            play(steps, mailer, target)
            if isinstance(target, Connection):
                mailer.publish()
        assert mailer._writer.outlet.flush(5)

        assert sorted(broker.ids) == ids(engine)
    finally:
        engine.dispose()
        for file in directory.glob("tree.db*"):
            file.unlink()


@settings(max_examples=60)
@given(steps=STEPS)
def test_sessions(sqlite_template: Path, tmp_path_factory: Any, steps: list[str]) -> None:
    """In a Session, without anybody calling `publish`."""
    hinted_is_stored(sqlite_template, tmp_path_factory.mktemp("tree"), steps, Session)


@settings(max_examples=60)
@given(steps=STEPS)
def test_connections(sqlite_template: Path, tmp_path_factory: Any, steps: list[str]) -> None:
    """On a Core connection, with one `publish` at the end."""
    hinted_is_stored(sqlite_template, tmp_path_factory.mktemp("tree"), steps, lambda engine: engine.connect())

"""What `docs/wire.md` tells producers in other languages is true: its SQL runs, its hint is one, no column is missing."""

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine

from mailfleet.broker.message import decode
from mailfleet_schema.content import Address, AttachmentRef, StoredRef, file_from_json
from mailfleet_schema.dialects import POSTGRESQL
from mailfleet_schema.hint import Hint
from mailfleet_schema.statements.attachment import CHUNK_BYTES, read_attachment
from mailfleet_schema.statements.claim import claim
from mailfleet_schema.statements.content import contents_of
from mailfleet_schema.statements.insert import NewMail, insert_mails
from mailfleet_schema.statements.key import KeyOwner, reserve_keys
from mailfleet_schema.statements.reconcile import Patience, expire, look
from mailfleet_schema.statements.worker import register
from mailfleet_schema.states import Priority
from mailfleet_schema.tables import tables_of
from mailfleet_schema.topology import (
    ACTOR,
    DELAY_LEVELS,
    DELAY_OUT_EXCHANGE,
    MAIL_EXCHANGE,
    MAX_DELAY_S,
    PARKED_QUEUE,
    delay_level_name,
    delay_routing_key,
    queue_name,
)

PAGE = (Path(__file__).parents[3] / "docs" / "wire.md").read_text()
APP = "billing"


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def _sql(beginning: str) -> str:
    """The one SQL example that holds *beginning*."""
    (found,) = [block for block in _blocks("sql") if beginning in block]
    return found.replace(":mail_id", "%s")


@pytest.fixture
def foreign(postgres_engine: Engine) -> Iterator["psycopg.Connection[Any]"]:
    """A producer that knows nothing but SQL."""
    url = postgres_engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url) as connection:
        yield connection


def _run(connection: "psycopg.Connection[Any]", statement: str, *values: object) -> Any:
    with connection.transaction():
        cursor = connection.execute(statement.encode(), values)
        return cursor.fetchone() if cursor.description else None


def test_the_mail_of_the_example_is_sent(foreign: "psycopg.Connection[Any]", postgres_engine: Engine) -> None:
    """A worker claims it at once and reads what was meant."""
    (mail_id,) = _run(foreign, _sql("interval '10 seconds'"))
    with postgres_engine.begin() as connection:
        worker_id = register(connection, app=APP, host="here", pid=1, version="0")
        assert look(connection, [APP], Patience(), most=9) == []
        (row,) = claim(connection, ids=[mail_id], app=APP, worker_id=worker_id, room=1)
        assert (row.account, row.priority, row.max_fail, row.max_done) == ("default", Priority.NORMAL, 3, 1)
        content = contents_of(connection, [mail_id])[mail_id].content
    assert content.to == (Address("Ada Lovelace", "ada@example.net"),)
    assert content.cc == (Address("", "archive@example.com"),)
    assert content.from_ is None
    assert re.fullmatch(r"<[0-9a-f-]{36}@billing\.example\.com>", content.message_id)
    assert (content.subject, content.text) == ("Invoice 17", "Your invoice is ready.")
    assert content.html == "<p>Your invoice is ready.</p>"


def test_a_row_without_a_hint_is_found(foreign: "psycopg.Connection[Any]", postgres_engine: Engine) -> None:
    """A row that leaves everything to its defaults is looked at by the next pass."""
    (mail_id,) = _run(foreign, f"INSERT INTO mailfleet.mail (app) VALUES ('{APP}') RETURNING id")
    with postgres_engine.begin() as connection:
        assert [row.mail_id for row in look(connection, [APP], Patience(), most=9)] == [mail_id]


def test_the_mail_for_next_week_waits_and_is_sent(
    foreign: "psycopg.Connection[Any]", postgres_engine: Engine
) -> None:
    """It is neither looked at nor expired before its time, and found at its time."""
    (mail_id,) = _run(foreign, _sql("interval '7 days'"))
    with postgres_engine.begin() as connection:
        assert look(connection, [APP], Patience(), most=9) == []
        week = "SET due_at = due_at - i, wanted_at = wanted_at - i, look_at = look_at - i, created_at = created_at - i"
        connection.exec_driver_sql(
            f"UPDATE mailfleet.mail {week} FROM (SELECT interval '7 days 1 second') AS week (i)"
        )
    with postgres_engine.begin() as connection:
        assert expire(connection, [APP], Patience(), most=9) == set()
        assert [row.mail_id for row in look(connection, [APP], Patience(), most=9)] == [mail_id]


def test_the_attachment_of_the_example_is_read(
    foreign: "psycopg.Connection[Any]", postgres_engine: Engine
) -> None:
    """Content and reference belong together, and storing it twice is harmless."""
    for _ in range(2):
        _run(foreign, _sql("INSERT INTO mailfleet.attachment"))
    (reference,) = [
        AttachmentRef.from_json(json.loads(block)[0]) for block in _blocks("json") if "sha256" in block
    ]
    with postgres_engine.begin() as connection:
        content = read_attachment(connection, APP, reference.sha256)
    assert content == b"hello"
    assert (hashlib.sha256(content).hexdigest(), len(content)) == (reference.sha256, reference.size)
    assert f"{CHUNK_BYTES:,} bytes" in PAGE


@pytest.mark.tinymail("48")
def test_the_stored_file_of_the_example_is_one() -> None:
    """A worker understands it, and nothing is left out of it."""
    (value,) = json.loads(next(block for block in _blocks("json") if '"store"' in block))
    ref = file_from_json(value)
    assert ref == StoredRef("invoices", "2026/17.pdf", "invoice-17.pdf", "application/pdf")
    assert ref.as_json() == value


def test_the_key_of_the_example_is_a_key(foreign: "psycopg.Connection[Any]", postgres_engine: Engine) -> None:
    """A Python application that uses the same key finds the foreign producer's mail."""
    reserve, own = _sql("INSERT INTO mailfleet.mail_key"), _sql("UPDATE mailfleet.mail_key")
    assert _run(foreign, reserve) == ("invoice-17",)
    _run(foreign, own, 4711)
    assert _run(foreign, reserve) is None
    with postgres_engine.begin() as connection:
        assert reserve_keys(connection, APP, {"invoice-17": "v1"}) == {"invoice-17": KeyOwner(4711, "v1")}


def test_the_mail_is_found_by_its_reference(
    foreign: "psycopg.Connection[Any]", postgres_engine: Engine
) -> None:
    """The reading example finds the mail, by an index."""
    with postgres_engine.begin() as connection:
        content = (
            contents_of(connection, [_run(foreign, _sql("interval '10 seconds'"))[0]]).popitem()[1].content
        )
        (one,) = insert_mails(connection, APP, [NewMail(content, ref=("invoice", "17", None))], grace_s=10.0)
    query = _sql("c.ref_type = 'invoice'")
    assert _run(foreign, query)[:2] == (one.mail_id, "queued")
    with foreign.transaction():
        foreign.execute("SET LOCAL enable_seqscan = off")
        plan = "\n".join(line for (line,) in foreign.execute(f"EXPLAIN {query}".encode()))
    assert "mail_content_ref" in plan


def test_the_grants_of_the_example_name_what_is_there(foreign: "psycopg.Connection[Any]") -> None:
    """They are valid, said to the role that runs this."""
    role = foreign.info.user
    for statement in _sql("GRANT USAGE ON SCHEMA").strip().split(";\n"):
        _run(foreign, statement.replace(" TO billing", f' TO "{role}"'))


def test_the_hint_of_the_example_is_one() -> None:
    """A worker understands it, and nothing in it is more than what is documented."""
    (block,) = [block for block in _blocks("json") if "actor_name" in block]
    message = decode(block.encode(), queue_name(APP, Priority.NORMAL))
    assert Hint.from_argument(message.args[0]) == Hint(APP, Priority.NORMAL, (17, 18, 23))
    assert json.loads(block) == json.loads(json.dumps(message.asdict()))
    assert all(f"`{member}`" in PAGE for member in json.loads(block))


def test_the_names_are_those_of_the_code() -> None:
    """Exchange, queues, actor, and the delay that is written out."""
    names = [MAIL_EXCHANGE, PARKED_QUEUE, DELAY_OUT_EXCHANGE, ACTOR, queue_name(APP, Priority.HIGH)]
    names += [delay_level_name(DELAY_LEVELS - 1), delay_level_name(0)]
    assert all(f"`{name}`" in PAGE for name in names)
    assert [block.strip() for block in _blocks("text")] == [delay_routing_key(5, APP, Priority.NORMAL)]
    assert f"{MAX_DELAY_S:,} seconds" in PAGE
    assert f"{DELAY_LEVELS} bits" in PAGE


@pytest.mark.tinymail("17")
@pytest.mark.parametrize("name", ["mail", "mail_content"])
def test_every_column_is_described(name: str) -> None:
    """Those a producer writes each in its own line, the others together; and none that is not there."""
    section = PAGE.split(f"### `{name}`\n", 1)[1].split("\n###", 1)[0]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    described = [column for cell in cells for column in re.findall(r"`(\w+)`", cell)]
    table = getattr(tables_of(POSTGRESQL), name)
    assert sorted(described) == sorted(table.columns.keys())


def test_every_table_is_described() -> None:
    """For readers."""
    for table in tables_of(POSTGRESQL).metadata.sorted_tables:
        assert f"`{table.name}`" in PAGE

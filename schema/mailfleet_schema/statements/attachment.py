"""Attachments: content by app and SHA-256, in chunks, stored once however many mails share it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy.dialects import postgresql, sqlite

from mailfleet_schema.dialects import SQLITE, Dialect, Executor, dialect_of
from mailfleet_schema.statements.template import template
from mailfleet_schema.tables import tables_of

#: Bytes in one chunk: a 25 MiB attachment is a hundred rows, and nothing needs it whole in memory.
CHUNK_BYTES = 256 * 1024


@template
def _known(d: Dialect) -> str:
    return d.format(
        """
        SELECT sha256 FROM {attachment} WHERE app = :app AND sha256 {hashes} AND chunk = 0
        ORDER BY sha256 {key_share}
        """,
        hashes=d.in_names("hashes"),
    )


def held_attachments(connection: Executor, app: str, hashes: Sequence[str]) -> set[str]:
    """Those of *hashes* of *app* that are there; until the end of the caller's transaction nobody deletes them."""
    d = dialect_of(connection)
    bound = {"app": app, "hashes": d.bind_names(sorted(hashes))}
    return {row.sha256 for row in connection.execute(_known(d), bound)}


def store_attachments(connection: Executor, app: str, blobs: Mapping[str, bytes]) -> None:
    """Store *blobs* (SHA-256 in hex → content) of *app* that are not there yet.

    In order of the hash: two transactions that store the same files must not wait for each other in a circle. Until the
    end of the caller's transaction nobody deletes them: the mail that refers to them is seen then (see `purge`).
    """
    if not blobs:
        return
    d = dialect_of(connection)
    hashes = sorted(blobs)
    known = held_attachments(connection, app, hashes)
    table = tables_of(d).attachment
    statement = (sqlite.insert(table) if d is SQLITE else postgresql.insert(table)).on_conflict_do_nothing()
    first: Any = statement
    if d is not SQLITE:
        # What somebody else has stored since we looked is locked by this, or stored again if it is deleted meanwhile.
        key, kept = [table.c.app, table.c.sha256, table.c.chunk], {"created_at": table.c.created_at}
        first = postgresql.insert(table).on_conflict_do_update(index_elements=key, set_=kept)
    for sha256 in hashes:
        if sha256 not in known:
            for number, chunk in enumerate(_chunks(blobs[sha256])):
                row = {"app": app, "sha256": sha256, "chunk": number, "content": chunk}
                connection.execute(first if number == 0 else statement, row)


def _chunks(content: bytes) -> Iterator[bytes]:
    # An empty attachment is one empty chunk: it is there, unlike one that is missing.
    for start in range(0, max(len(content), 1), CHUNK_BYTES):
        yield content[start : start + CHUNK_BYTES]


@template
def _chunks_of(d: Dialect) -> str:
    return d.format("SELECT content FROM {attachment} WHERE app = :app AND sha256 = :sha256 ORDER BY chunk")


def read_attachment(connection: Executor, app: str, sha256: str) -> bytes | None:
    """The content of *sha256* of *app*, None when it is not there."""
    rows: Sequence[bytes] = [
        row.content
        for row in connection.execute(_chunks_of(dialect_of(connection)), {"app": app, "sha256": sha256})
    ]
    return b"".join(rows) if rows else None

"""Attachments are stored once for each app, in chunks, and come back byte for byte."""

import hashlib
import random

import pytest
from sqlalchemy import func, select

from mailfleet_schema.statements.attachment import CHUNK_BYTES, read_attachment, store_attachments
from tests.conformance.statements.bench import APP, Bench


def _named(*contents: bytes) -> dict[str, bytes]:
    return {hashlib.sha256(content).hexdigest(): content for content in contents}


def _chunks(bench: Bench) -> list[int]:
    """The sizes of all chunks, in order."""
    table = bench.tables.attachment
    query = select(func.length(table.c.content)).order_by(table.c.app, table.c.sha256, table.c.chunk)
    with bench.engine.begin() as connection:
        return list(connection.execute(query).scalars())


@pytest.mark.parametrize(
    ("size", "chunks"),
    [
        (0, [0]),
        (1, [1]),
        (CHUNK_BYTES, [CHUNK_BYTES]),
        (CHUNK_BYTES + 1, [CHUNK_BYTES, 1]),
        (25 * 2**20, [CHUNK_BYTES] * 100),
    ],
)
def test_content_is_cut_into_chunks(bench: Bench, size: int, chunks: list[int]) -> None:
    """A file of 25 MiB is a hundred rows of 256 KiB, an empty one is one empty row."""
    ((sha256, content),) = _named(random.Random(size).randbytes(size)).items()
    with bench.engine.begin() as connection:
        store_attachments(connection, APP, {sha256: content})
    assert _chunks(bench) == chunks
    with bench.engine.begin() as connection:
        assert read_attachment(connection, APP, sha256) == content


def test_content_is_stored_once(bench: Bench) -> None:
    """However many mails share a file, within a transaction and over several, it is there once for each app."""
    blobs = _named(b"same")
    for _ in range(2):
        with bench.engine.begin() as connection:
            store_attachments(connection, APP, blobs)
            store_attachments(connection, APP, blobs)
    assert _chunks(bench) == [4]
    with bench.engine.begin() as connection:
        store_attachments(connection, "news", blobs)
    assert _chunks(bench) == [4, 4]


def test_what_is_missing_is_none(bench: Bench) -> None:
    """A hash that is not there is None, unlike an empty file, and one app cannot read another's."""
    blobs = _named(b"", b"secret")
    empty, secret = sorted(blobs, key=lambda sha256: len(blobs[sha256]))
    with bench.engine.begin() as connection:
        store_attachments(connection, APP, blobs)
        store_attachments(connection, APP, {})
        assert read_attachment(connection, APP, empty) == b""
        assert read_attachment(connection, "news", secret) is None
        assert read_attachment(connection, APP, "0" * 64) is None

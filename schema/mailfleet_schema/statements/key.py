"""Idempotency keys: an application's own retry cannot make a second mail."""

from collections.abc import Mapping
from dataclasses import dataclass

from mailfleet_schema.dialects import Dialect, Executor, dialect_of
from mailfleet_schema.statements.template import template


@dataclass(frozen=True, slots=True)
class KeyOwner:
    """Whose a key is already."""

    mail_id: int
    payload_hash: str


class KeyTaken(Exception):  # noqa: N818 - reads as the fact it states
    """*key* belongs to mail *mail_id* (None: another mail of the same batch) with another payload; nothing was written."""

    def __init__(self, app: str, key: str, mail_id: int | None) -> None:
        owner = "another mail of the batch" if mail_id is None else f"mail {mail_id}"
        super().__init__(f"key {key!r} of {app} belongs to {owner} with another payload")
        self.app = app
        self.key = key
        self.mail_id = mail_id


_COLUMNS = {"app": "text", "key": "text", "payload_hash": "text"}


@template
def _insert(d: Dialect) -> str:
    # In order of the key, so that two transactions with several keys cannot wait for each other. A key without a mail
    # was left behind by a transaction that failed after it and was committed all the same: it is nobody's.
    return d.format(
        """
        INSERT INTO {mail_key} AS k (app, key, payload_hash, created_at)
        SELECT v.app, v.key, v.payload_hash, {now} FROM {rows} WHERE true ORDER BY v.key
        ON CONFLICT (app, key) DO UPDATE SET payload_hash = excluded.payload_hash, created_at = excluded.created_at
        WHERE k.mail_id IS NULL
        RETURNING key
        """,
        rows=d.rows("rows", _COLUMNS, "v"),
    )


@template
def _owners(d: Dialect) -> str:
    return d.format(
        "SELECT key, mail_id, payload_hash FROM {mail_key} WHERE app = :app AND key {keys} AND mail_id IS NOT NULL",
        keys=d.in_names("keys"),
    )


@template
def _forget(d: Dialect) -> str:
    return d.format(
        "DELETE FROM {mail_key} WHERE app = :app AND key {keys} AND mail_id IS NULL", keys=d.in_names("keys")
    )


@template
def _own(d: Dialect) -> str:
    return d.format(
        "UPDATE {mail_key} AS k SET mail_id = v.mail_id FROM {rows} WHERE k.app = :app AND k.key = v.key",
        rows=d.rows("rows", {"key": "text", "mail_id": "bigint"}, "v"),
    )


def _find(connection: Executor, d: Dialect, app: str, hashes: Mapping[str, str]) -> dict[str, KeyOwner]:
    rows = connection.execute(_owners(d), {"app": app, "keys": d.bind_names(list(hashes))})
    found = {row.key: KeyOwner(row.mail_id, row.payload_hash) for row in rows}
    for key, owner in found.items():
        if owner.payload_hash != hashes[key]:
            raise KeyTaken(app, key, owner.mail_id)
    return found


def reserve_keys(connection: Executor, app: str, hashes: Mapping[str, str]) -> dict[str, KeyOwner]:
    """Reserve the keys of *hashes* (key → payload hash) for mails that this transaction inserts.

    Returns the owners of those that are taken with the same payload; all others are now ours and must be given
    to `own_keys`. Waits for another transaction that is writing the same key. Raises KeyTaken, with
    nothing written, when a key has another payload.
    """
    if not hashes:
        return {}
    d = dialect_of(connection)
    taken = _find(connection, d, app, hashes)
    wanted = {key: value for key, value in hashes.items() if key not in taken}
    if not wanted:
        return taken
    rows = [{"app": app, "key": key, "payload_hash": value} for key, value in wanted.items()]
    won = {row.key for row in connection.execute(_insert(d), {"rows": d.bind_rows(rows)})}
    lost = {key: value for key, value in wanted.items() if key not in won}
    if lost:
        try:
            taken |= _find(connection, d, app, lost)
        except KeyTaken:
            connection.execute(_forget(d), {"app": app, "keys": d.bind_names(list(won))})
            raise
    return taken


def own_keys(connection: Executor, app: str, mails: Mapping[str, int]) -> None:
    """Say whose the reserved keys are: *mails* is key → mail id."""
    if mails:
        d = dialect_of(connection)
        rows = [{"key": key, "mail_id": mail_id} for key, mail_id in mails.items()]
        connection.execute(_own(d), {"app": app, "rows": d.bind_rows(rows)})

"""Removing what a mail said: its bodies, headers, parameter and files. Who got it, its subject and its history stay.

A file that several mails share goes with the last of them. Whoever stores a mail locks the files it refers to until its
commit (see `attachment`), which may be an application's long transaction: nobody here waits for it. Then the mail keeps
its reference, and `remove_left` tries again.
"""

from collections.abc import Callable, Iterable, Sequence

from sqlalchemy import TextClause

from mailfleet_schema.dialects import Dialect, Executor, dialect_of
from mailfleet_schema.statements.template import template
from mailfleet_schema.states import ContentPolicy

#: Mails stored beside each other share their files more often than others: so many are looked at before all.
NEAR = 200


def purges(own: ContentPolicy | None, of_app: ContentPolicy, *, lazy: bool) -> bool:
    """Whether a mail with policy *own* of an app whose setting is *of_app* loses its content when it is sent.

    `render_only` as an app's setting is about *lazy* mail; other mail has to be stored until it is sent, and no longer.
    """
    policy = own or of_app
    return policy is ContentPolicy.PURGE or (policy is ContentPolicy.RENDER_ONLY and not lazy)


def has_content(d: Dialect, mail_id: str) -> str:
    """A condition (SQL): the content of mail *mail_id* is there, as far as it ever was."""
    return d.format(
        "NOT EXISTS (SELECT 1 FROM {mail_content} AS c WHERE c.mail_id = {mail_id} AND c.purged_at IS NOT NULL)",
        mail_id=mail_id,
    )


@template
def _purge(d: Dialect) -> str:
    return d.format(
        """
        UPDATE {mail_content}
        SET text = NULL, html = NULL, headers = NULL, parameter = NULL, list_unsubscribe = NULL, purged_at = {clock}
        WHERE mail_id {ids} AND purged_at IS NULL
        RETURNING mail_id, CASE WHEN attachments IS NULL THEN 0 ELSE 1 END AS files
        """,
        ids=d.in_ids("ids"),
    )


def purge(connection: Executor, ids: Sequence[int]) -> set[int]:
    """Remove the contents of the mails *ids*; returns those that had one. Harmless when repeated.

    Call it in the transaction in which nobody needs them any more.
    """
    if not ids:
        return set()
    d = dialect_of(connection)
    rows = connection.execute(_purge(d), {"ids": d.bind_ids(sorted(ids))}).all()
    _release(connection, [row.mail_id for row in rows if row.files])
    return {row.mail_id for row in rows}


@template
def _policies(d: Dialect) -> str:
    return d.format(
        """
        SELECT c.mail_id, m.app, c.content_policy, c.renderer
        FROM {mail_content} AS c JOIN {mail} AS m ON m.id = c.mail_id WHERE c.mail_id {ids}
        """,
        ids=d.in_ids("ids"),
    )


def purge_sent(
    connection: Executor, ids: Sequence[int], policy_of: Callable[[str], ContentPolicy]
) -> set[int]:
    """As `purge`, of those of *ids*, just settled as sent, whose policy says so; *policy_of* is an app's setting."""
    if not ids:
        return set()
    d = dialect_of(connection)
    wanted = []
    for row in connection.execute(_policies(d), {"ids": d.bind_ids(ids)}):
        own = ContentPolicy(row.content_policy) if row.content_policy else None
        if purges(own, policy_of(row.app), lazy=row.renderer is not None):
            wanted.append(row.mail_id)
    return purge(connection, wanted)


@template
def _left(d: Dialect) -> str:
    return d.format(
        """
        SELECT mail_id FROM {mail_content} WHERE purged_at IS NOT NULL AND attachments IS NOT NULL
        ORDER BY mail_id LIMIT :most {skip_locked}
        """
    )


def remove_left(connection: Executor, *, most: int) -> int:
    """Remove files that somebody held when their mails were purged; of how many mails, *most* at most."""
    d = dialect_of(connection)
    ids = [row.mail_id for row in connection.execute(_left(d), {"most": most})]
    return _release(connection, ids)


@template
def _files(d: Dialect) -> str:
    return d.format(
        """
        SELECT c.mail_id, m.app, c.attachments FROM {mail_content} AS c JOIN {mail} AS m ON m.id = c.mail_id
        WHERE c.mail_id {ids} AND c.purged_at IS NOT NULL AND c.attachments IS NOT NULL
        """,
        ids=d.in_ids("ids"),
    )


@template
def _there(d: Dialect) -> str:
    return d.format(
        "SELECT sha256 FROM {attachment} WHERE app = :app AND sha256 {hashes} AND chunk = 0",
        hashes=d.in_names("hashes"),
    )


@template
def _locked(d: Dialect) -> str:
    return d.format(
        """
        SELECT sha256 FROM {attachment} WHERE app = :app AND sha256 {hashes} AND chunk = 0
        ORDER BY sha256 {skip_locked}
        """,
        hashes=d.in_names("hashes"),
    )


@template
def _unrefer(d: Dialect) -> str:
    return d.format(
        "UPDATE {mail_content} SET attachments = NULL WHERE mail_id {ids} AND purged_at IS NOT NULL",
        ids=d.in_ids("ids"),
    )


def _unused(d: Dialect, among: str) -> str:
    return d.format(
        """
        SELECT a.sha256 FROM {attachment} AS a
        WHERE a.app = :app AND a.sha256 {hashes} AND a.chunk = 0 AND NOT EXISTS (
            SELECT 1 FROM {mail_content} AS c JOIN {mail} AS m ON m.id = c.mail_id
            WHERE c.attachments IS NOT NULL AND {refers} AND m.app = :app{among}
        )
        """,
        hashes=d.in_names("hashes"),
        refers=d.json_has("c.attachments", "sha256", "a.sha256"),
        among=among,
    )


@template
def _unused_near(d: Dialect) -> str:
    return _unused(d, " AND c.mail_id > :low AND c.mail_id <= :high")


@template
def _unused_anywhere(d: Dialect) -> str:
    return _unused(d, "")


@template
def _delete(d: Dialect) -> str:
    return d.format(
        "DELETE FROM {attachment} WHERE app = :app AND sha256 {hashes}", hashes=d.in_names("hashes")
    )


def _release(connection: Executor, ids: Sequence[int]) -> int:
    """Let the purged mails *ids* refer to no file; of how many that was possible. Files that nobody refers to are deleted."""
    if not ids:
        return 0
    d = dialect_of(connection)
    by_app: dict[str, dict[int, set[str]]] = {}
    for row in connection.execute(_files(d), {"ids": d.bind_ids(ids)}):
        # What is still in a store is none of ours.
        hashes = {str(one["sha256"]) for one in d.read_json(row.attachments) if "sha256" in one}
        by_app.setdefault(row.app, {})[row.mail_id] = hashes
    return sum(_release_of(connection, d, app, by_app[app]) for app in sorted(by_app))


def _release_of(connection: Executor, d: Dialect, app: str, files: dict[int, set[str]]) -> int:
    every = {sha256 for hashes in files.values() for sha256 in hashes}
    locked = _hashes(connection, _locked(d), d, app, every)
    # In this order: what is not there now was not locked either.
    busy = _hashes(connection, _there(d), d, app, every - locked)
    free = sorted(mail_id for mail_id, hashes in files.items() if not hashes & busy)
    if not free:
        return 0
    connection.execute(_unrefer(d), {"ids": d.bind_ids(free)})
    # Who has the lock sees every mail that refers to it, and nobody refers to it anew: statements of their own see that.
    unused = {sha256 for mail_id in free for sha256 in files[mail_id]} & locked
    near = {"low": max(free), "high": max(free) + NEAR}
    unused = _hashes(connection, _unused_near(d), d, app, unused, **near)
    unused = _hashes(connection, _unused_anywhere(d), d, app, unused)
    if unused:
        connection.execute(_delete(d), {"app": app, "hashes": d.bind_names(sorted(unused))})
    return len(free)


def _hashes(
    connection: Executor, statement: TextClause, d: Dialect, app: str, hashes: Iterable[str], **more: int
) -> set[str]:
    asked = sorted(hashes)
    if not asked:
        return set()
    bound = {"app": app, "hashes": d.bind_names(asked), **more}
    return {row.sha256 for row in connection.execute(statement, bound)}

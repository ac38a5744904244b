"""Idempotency keys: one mail for each key, whoever comes second, and no mail at all for another payload."""

import pytest
from sqlalchemy import Engine, func, select
from sqlalchemy.exc import IntegrityError

from mailfleet_schema.statements.insert import Inserted, NewMail, insert_mails
from mailfleet_schema.statements.key import KeyOwner, KeyTaken, own_keys, reserve_keys
from tests.conformance.statements.bench import APP, CONTENT, GRACE_S, Bench


def _mail(key: str | None, payload: str = "same", **fields: object) -> NewMail:
    return NewMail(content=CONTENT, key=key, payload_hash=payload if key else None, **fields)  # type: ignore[arg-type]


def _insert(bench: Bench, *mails: NewMail, app: str = APP) -> list[Inserted]:
    with bench.engine.begin() as connection:
        return insert_mails(connection, app, mails, grace_s=GRACE_S)


def _counts(bench: Bench) -> dict[str, int]:
    with bench.engine.begin() as connection:
        return {
            name: connection.execute(
                select(func.count()).select_from(getattr(bench.tables, name))
            ).scalar_one()
            for name in ("mail", "mail_content", "mail_key", "attachment")
        }


def test_the_second_mail_is_the_first(bench: Bench) -> None:
    """The same key with the same payload names the mail that is there and inserts nothing."""
    (first,) = _insert(bench, _mail("k"))
    assert first.new
    before = _counts(bench)
    assert _insert(bench, _mail("k", blobs={"0" * 64: b"x"})) == [Inserted(first.mail_id, new=False)]
    assert _counts(bench) == before


def test_another_payload_is_refused(bench: Bench) -> None:
    """The same key with another payload raises KeyTaken with the first mail's id."""
    (first,) = _insert(bench, _mail("k"))
    with pytest.raises(KeyTaken) as caught:
        _insert(bench, _mail("k", "other"))
    assert (caught.value.app, caught.value.key, caught.value.mail_id) == (APP, "k", first.mail_id)


def test_a_refusal_writes_nothing(bench: Bench) -> None:
    """Even when the caller catches the error and commits, nothing of the whole batch is there."""
    _insert(bench, _mail("k"))
    before = _counts(bench)
    mails = [_mail("new"), _mail(None), _mail("k", "other", blobs={"0" * 64: b"x"})]
    with bench.engine.begin() as connection, pytest.raises(KeyTaken):
        insert_mails(connection, APP, mails, grace_s=GRACE_S)
    assert _counts(bench) == before
    assert _insert(bench, _mail("new", "yet another"))[0].new


def test_two_payloads_in_one_batch_are_refused(bench: Bench) -> None:
    """A batch that uses one key for two payloads is refused before anything is written."""
    with bench.engine.begin() as connection, pytest.raises(KeyTaken) as caught:
        insert_mails(connection, APP, [_mail("k"), _mail("k", "other")], grace_s=GRACE_S)
    assert caught.value.mail_id is None
    assert set(_counts(bench).values()) == {0}


def test_a_key_twice_in_one_batch_is_one_mail(bench: Bench) -> None:
    """Of equal mails in one batch the first is inserted and the others name it, in the order of the batch."""
    first, plain, again, other = _insert(bench, _mail("k"), _mail(None), _mail("k"), _mail("l"))
    assert again == Inserted(first.mail_id, new=False)
    assert [one.new for one in (first, plain, other)] == [True, True, True]
    assert len({first.mail_id, plain.mail_id, other.mail_id}) == 3
    assert _counts(bench)["mail"] == 3


def test_keys_belong_to_an_app(bench: Bench) -> None:
    """Two apps may use the same key."""
    assert _insert(bench, _mail("k"))[0].new
    assert _insert(bench, _mail("k", "other"), app="news")[0].new


def test_a_key_stays_taken_within_a_transaction(bench: Bench) -> None:
    """Two inserts in one transaction see each other's keys."""
    with bench.engine.begin() as connection:
        (first,) = insert_mails(connection, APP, [_mail("k")], grace_s=GRACE_S)
        assert insert_mails(connection, APP, [_mail("k")], grace_s=GRACE_S) == [
            Inserted(first.mail_id, new=False)
        ]


def test_a_rolled_back_key_is_free(bench: Bench) -> None:
    """A key lives with its mail's transaction."""
    with bench.engine.connect() as connection:
        transaction = connection.begin()
        insert_mails(connection, APP, [_mail("k")], grace_s=GRACE_S)
        transaction.rollback()
    assert _insert(bench, _mail("k", "other"))[0].new


def test_a_key_without_a_mail_is_nobodys(bench: Bench) -> None:
    """A key that was reserved by a transaction which then failed, and was committed all the same, can be used again."""
    with bench.engine.begin() as connection:
        assert reserve_keys(connection, APP, {"k": "h"}) == {}
    assert _insert(bench, _mail("k", "other"))[0].new


def test_a_failed_insert_does_not_swallow_the_next(sqlite_engine: Engine) -> None:
    """In SQLite an application may catch an error and commit; the key is free for the next try."""
    bench = Bench(sqlite_engine)
    with bench.engine.begin() as connection, pytest.raises(IntegrityError):
        insert_mails(connection, APP, [_mail("k", max_fail=-1)], grace_s=GRACE_S)
    assert _insert(bench, _mail("k"))[0].new


def test_keys_are_reserved_and_owned(bench: Bench) -> None:
    """Reserving tells whose a key is; owning says it for those that were free."""
    with bench.engine.begin() as connection:
        assert reserve_keys(connection, APP, {}) == {}
        assert reserve_keys(connection, APP, {"a": "1", "b": "2"}) == {}
        own_keys(connection, APP, {"a": 10, "b": 20})
        own_keys(connection, APP, {})
        taken = reserve_keys(connection, APP, {"b": "2", "c": "3", "a": "1"})
    assert taken == {"a": KeyOwner(10, "1"), "b": KeyOwner(20, "2")}


def test_odd_keys_are_keys(bench: Bench) -> None:
    """Quotes, braces, Unicode and length make no difference, and case does."""
    keys = ["'", '"', "{}", "%s", ":k", "Ω", "ω", "a" * 500, " ", "[1]", "\\"]
    assert all(one.new for one in _insert(bench, *(_mail(key) for key in keys)))
    assert not any(one.new for one in _insert(bench, *(_mail(key) for key in keys)))

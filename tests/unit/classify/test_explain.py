"""Replies as people and files write them, and what is said of each."""

from datetime import UTC, datetime
from typing import Any

import pytest

from mailfleet.errors import SettingsError
from mailfleet_workers.classify import Rules
from mailfleet_workers.classify.explain import Explanation, explain, read_reply, read_row
from mailfleet_workers.smtp.base import Phase, Reply
from mailfleet_workers.verdict import Scope


@pytest.mark.parametrize(
    ("text", "reply"),
    [
        ("550 5.1.1 no such user", Reply(550, "5.1.1 no such user")),
        ("550-5.1.1 no such\n550 5.1.1 user", Reply(550, "5.1.1 no such\n5.1.1 user")),
        ("550-5.1.1 no such\r\n  user", Reply(550, "5.1.1 no such\nuser")),
        ("  421", Reply(421, "")),
        ("421-", Reply(421, "")),
        ("timed out", None),
        ("5.1.1 no code", None),
        ("1234 hm", None),
    ],
)
def test_a_reply_is_read(text: str, reply: Reply | None) -> None:
    """With its code on every line or on the first; what has no code is no reply."""
    assert read_reply(text) == reply


def test_rows_say_the_same_in_several_ways() -> None:
    """Code and text, with the enhanced code in the text or beside it, or the whole reply."""
    expected = (Phase.RCPT, Reply(550, "5.1.1 unknown"))
    for row in (
        {"phase": "rcpt", "code": 550, "text": "5.1.1 unknown", "enhanced": "5.1.1", "host": None},
        {"phase": "rcpt", "code": "550", "text": "unknown", "enhanced": "5.1.1"},
        {"phase": "rcpt", "reply": "550 5.1.1 unknown"},
    ):
        assert read_row(row)[:2] == expected
    assert read_row({"phase": "eod", "reply": "timed out"})[1] is None


@pytest.mark.parametrize(
    ("row", "key"),
    [
        ([], "row"),
        ({"code": 550, "text": "x"}, "phase"),
        ({"phase": "helo", "code": 550, "text": "x"}, "phase"),
        ({"phase": "rcpt", "text": "x"}, "code"),
        ({"phase": "rcpt", "code": True, "text": "x"}, "code"),
        ({"phase": "rcpt", "code": 700, "text": "x"}, "code"),
        ({"phase": "rcpt", "code": "5x0", "text": "x"}, "code"),
        ({"phase": "rcpt", "code": 550}, "text"),
        ({"phase": "rcpt", "code": 550, "text": "x", "host": 3}, "host"),
        ({"phase": "rcpt", "reply": 550}, "reply"),
    ],
)
def test_a_wrong_row_is_named(row: Any, key: str) -> None:
    """By the key that is wrong."""
    with pytest.raises(SettingsError) as caught:
        read_row(row)
    assert caught.value.key == key


def _of(text: str, phase: Phase) -> Explanation:
    rules, now = Rules.builtin(), datetime(2026, 3, 1, tzinfo=UTC)
    return explain(read_reply(text), text, phase, host="*", rules=rules, now=now, retry_s=45)


@pytest.mark.parametrize(
    ("text", "phase", "kind", "scope", "wait_s"),
    [
        ("250 2.0.0 Ok: queued as 4X", Phase.EOD, "accepted", None, None),
        ("354 go on", Phase.DATA, "accepted", None, None),
        ("550 5.1.1 unknown user", Phase.RCPT, "stop", Scope.RECIPIENT, None),
        ("554 spam", Phase.EOD, "stop", Scope.MAIL, None),
        ("451 4.3.0 queue file write error", Phase.EOD, "retry", Scope.MAIL, 45),
        ("421 4.3.2 Service not available", Phase.CONNECT, "retry", Scope.HOST, 60),
        ("550 5.4.5 Daily quota exceeded", Phase.EOD, "wait", Scope.ACCOUNT, 86400),
        ("timed out", Phase.CONNECT, "wait", Scope.HOST, 900),
        ("timed out", Phase.MAIL, "retry", Scope.MAIL, 45),
        ("timed out", Phase.EOD, "uncertain", Scope.MAIL, None),
    ],
)
def test_class_scope_and_wait(
    text: str, phase: Phase, kind: str, scope: Scope | None, wait_s: float | None
) -> None:
    """Each kind of answer has all of it, and says what becomes of the mail."""
    found = _of(text, phase)
    assert (found.kind, found.scope, found.wait_s) == (kind, scope, wait_s)
    assert found.effect


def test_the_words_that_were_found_are_shown() -> None:
    """Those that the rule's pattern met, as the rule sees the text."""
    found = _of("550 5.4.5 Daily User Sending QUOTA exceeded", Phase.EOD)
    assert found.as_json()["rule"]["words"] == "daily user sending quota exceed"
    assert found.as_json()["rule"]["source"]

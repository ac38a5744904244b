import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailfleet.mail import Attachment, Lazy, Mail, Ref
from mailfleet.validation import Checked, validate
from tests.unit.validation.checking import MESSAGE_ID, NOW, check

LATER = NOW + timedelta(days=1)
LOGO = Attachment("a.png", b"png", "image/png", "logo")


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_the_smallest_document() -> None:
    """The hash is that of the documented JSON, written by hand."""
    hi = digest(b"Hi\n")
    document = f'{{"subject":"Hello","text":"{hi}","to":[["","ada@example.net"]],"v":1}}'
    assert check().payload_hash == digest(document.encode())


def test_the_whole_document() -> None:
    """Every member stands in the documented form."""
    checked = check(
        from_=("Zoë", "zoe@example.net"),
        to=[],
        cc=["a@example.net"],
        bcc=["b@example.net"],
        reply_to=["c@example.net"],
        html="é",
        text=None,
        headers=[("X-B", "1"), ("X-A", "2")],
        attachments=[Attachment("a.pdf", b"pdf")],
        inline=[LOGO],
        account="eu",
        priority="bulk",
        due_at=LATER.astimezone(timezone(timedelta(hours=2))),
        expires_at=LATER + timedelta(microseconds=1),
        mark="m",
        ref=("invoice", "17", ""),
        tags=["t"],
        run_modes=["-test"],
        max_fail=1,
        max_done=2,
        retry=False,
        on_doubt="hold",
        content_policy="purge",
        list_unsubscribe="https://example.net/",
        idempotency_key="k",
    )
    document = {
        "v": 1,
        "from": ["Zoë", "zoe@example.net"],
        "cc": [["", "a@example.net"]],
        "bcc": [["", "b@example.net"]],
        "reply_to": [["", "c@example.net"]],
        "subject": "Hello",
        "html": digest("é".encode()),
        "headers": [["X-B", "1"], ["X-A", "2"]],
        "files": [
            [digest(b"pdf"), "a.pdf", None, "attachment", None],
            [digest(b"png"), "a.png", "image/png", "inline", "logo"],
        ],
        "account": "eu",
        "priority": "bulk",
        "due_at": "2026-02-01T08:00:00.000000+00:00",
        "expires_at": "2026-02-01T08:00:00.000001+00:00",
        "mark": "m",
        "ref": ["invoice", "17", ""],
        "tags": ["t"],
        "run_modes": ["!test"],
        "max_fail": 1,
        "max_done": 2,
        "retry": False,
        "on_doubt": "hold",
        "content_policy": "purge",
        "list_unsubscribe": ["https://example.net/"],
    }
    text = json.dumps(document, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    assert checked.payload_hash == digest(text.encode())


def test_the_lazy_document() -> None:
    """A lazy mail's renderer and parameter are in it, keys in order."""
    document = '{"lazy":["invoice",{"a":[1,1.0,true,null],"é":"x"}],"subject":"Hello","to":[["","ada@example.net"]],"v":1}'
    checked = check(text=None, lazy=Lazy("invoice", {"é": "x", "a": (1, 1.0, True, None)}))
    assert checked.payload_hash == digest(document.encode())


def test_what_does_not_count() -> None:
    """The key, the Message-ID, the moment, and other ways to say the same change nothing."""
    mail = Mail(to="Ada <ada@example.NET>", text="Hi\n")
    reference = validate(mail, new_message_id=lambda: MESSAGE_ID, now=NOW).payload_hash
    other = replace(
        mail,
        to=[("Ada", "ada@example.net")],
        idempotency_key="k",
        account="default",
        headers={},
        attachments=[],
        tags=[],
        mark="",
    )
    checked = validate(other, new_message_id=lambda: "<2@example.net>", now=LATER)
    assert checked.payload_hash == reference


def test_stable_across_processes() -> None:
    """Another process with other hash seeds computes the same hash."""
    program = (
        "from tests.unit.validation.checking import check\n"
        "from mailfleet.mail import Lazy\n"
        "print(check(text=None, lazy=Lazy('x', dict.fromkeys('zyxabc', 1))).payload_hash)"
    )
    expected = check(text=None, lazy=Lazy("x", dict.fromkeys("abcxyz", 1))).payload_hash
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(p or "." for p in sys.path)},
            check=True,
            capture_output=True,
            text=True,
        )
        assert done.stdout.strip() == expected


CHANGES: list[dict[str, Any]] = [
    {"from_": "a@example.net"},
    {"to": ["Ada <ada@example.net>"]},
    {"to": ["ada@example.net", "ada@example.net"]},
    {"to": [], "cc": ["ada@example.net"]},
    {"to": [], "bcc": ["ada@example.net"]},
    {"reply_to": ["ada@example.net"]},
    {"subject": "Hello!"},
    {"subject": ""},
    {"text": "Hi"},
    {"text": None, "html": "Hi\n"},
    {"html": ""},
    {"attachments": [Attachment("a", b"")]},
    {"attachments": [Attachment("a", b"x")]},
    {"attachments": [Attachment("b", b"")]},
    {"attachments": [Attachment("a", b"", "text/plain")]},
    {"attachments": [Attachment("a", b"", None, "id")]},
    {"html": "", "inline": [Attachment("a", b"", None, "id")]},
    {"headers": {"X-A": "a"}},
    {"headers": {"X-A": "b"}},
    {"headers": {"X-B": "a"}},
    {"account": "eu"},
    {"priority": "high"},
    {"due_at": LATER},
    {"due_at": NOW - timedelta(days=1)},
    {"expires_at": LATER},
    {"mark": "m"},
    {"ref": Ref("m")},
    {"ref": Ref("m", "", "x")},
    {"ref": Ref("m", "x")},
    {"tags": ["m"]},
    {"run_modes": ["test"]},
    {"run_modes": ["!test"]},
    {"text": None, "lazy": Lazy("m")},
    {"text": None, "lazy": Lazy("m", 1)},
    {"text": None, "lazy": Lazy("m", 1.0)},
    {"text": None, "lazy": Lazy("m", True)},
    {"text": None, "lazy": Lazy("m", [])},
    {"text": None, "lazy": Lazy("m", {})},
    {"max_fail": 1},
    {"max_done": 1},
    {"retry": False},
    {"on_doubt": "resend"},
    {"content_policy": "keep"},
    {"list_unsubscribe": "https://example.net/"},
]


def test_every_change_changes_the_hash() -> None:
    """No two different mails share a hash."""
    hashes = [check(**change).payload_hash for change in [{}, *CHANGES]]
    assert len(set(hashes)) == len(hashes)


WORDS = st.sampled_from(["a", "b"])
ADDRESSES = st.lists(
    st.sampled_from(["a@x.example", "A <a@x.example>", ("A", "a@X.example"), "b@x.example"]), max_size=2
)
MAILS: Mapping[str, st.SearchStrategy[Any]] = {
    "to": ADDRESSES.map(lambda entries: [*entries, "z@x.example"]),
    "cc": ADDRESSES,
    "subject": st.sampled_from(["", "a", " a"]),
    "html": st.none() | st.sampled_from(["", "a"]),
    "headers": st.lists(st.tuples(st.sampled_from(["X-A", "X-B"]), WORDS), max_size=2),
    "attachments": st.lists(
        st.builds(Attachment, WORDS, st.sampled_from([b"", b"a"]), st.sampled_from([None, "a/b"])), max_size=2
    ),
    "due_at": st.sampled_from([None, NOW, LATER, LATER.astimezone(timezone(timedelta(hours=1)))]),
    "ref": st.none() | st.builds(Ref, WORDS, st.sampled_from(["", "a"])),
    "tags": st.lists(WORDS, max_size=2),
    "retry": st.booleans(),
    "max_fail": st.sampled_from([None, 1, 2]),
}


def payload(mail: Mail, checked: Checked) -> object:
    """What the hash must tell apart: the answer without identity, and what was said about types and times."""
    files = [*mail.attachments, *mail.inline]
    return (
        replace(checked, content=replace(checked.content, message_id=""), payload_hash="", due_at=None),
        [a.content_type for a in files],
        mail.due_at,
    )


@given(st.fixed_dictionaries(dict(MAILS)), st.data())
def test_equal_hash_is_equal_payload(fields: dict[str, Any], data: st.DataObject) -> None:
    """Two mails have one hash exactly if they say the same."""
    changed = data.draw(st.sets(st.sampled_from(sorted(MAILS)), max_size=2))
    first = Mail(text="x", **fields)
    second = replace(first, **{name: data.draw(MAILS[name]) for name in sorted(changed)})
    one, two = (validate(mail, new_message_id=lambda: MESSAGE_ID, now=NOW) for mail in (first, second))
    assert (one.payload_hash == two.payload_hash) == (payload(first, one) == payload(second, two))


@pytest.mark.parametrize("change", CHANGES)
def test_the_hash_is_repeatable(change: dict[str, Any]) -> None:
    """The same mail has the same hash again, and it is 64 hex digits."""
    checked = check(**change)
    assert check(**change).payload_hash == checked.payload_hash
    assert len(bytes.fromhex(checked.payload_hash)) == 32

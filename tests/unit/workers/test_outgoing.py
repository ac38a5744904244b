"""What an installation makes of a mail before it leaves."""

from dataclasses import replace

import pytest

from mailfleet_schema.content import Address, Content
from mailfleet_workers.outgoing import Leaving, Outgoing

ADA, BOB, EVE = (Address(name.title(), f"{name}@example.net") for name in ("ada", "bob", "eve"))
DEV = Address("", "dev@example.com")
CONTENT = Content("<1@x.test>", None, to=(ADA,), cc=(BOB,), bcc=(EVE,), subject="Hello", text="x")


def leaving(outgoing: Outgoing, content: Content = CONTENT, *, mark: str | None = None) -> Leaving:
    return outgoing.of(content, mail_id=17, mark=mark)


def test_nothing_is_made_of_it_by_default() -> None:
    """What was written is what leaves."""
    assert leaving(Outgoing()) == Leaving(CONTENT)


@pytest.mark.tinymail("45", "U11")
def test_each_field_is_forced_alone() -> None:
    """Who is in the others still gets the mail; a Cc is added where there was none."""
    found = leaving(Outgoing(force_to=(DEV,)))
    assert found.content == replace(CONTENT, to=(DEV,))
    alone = replace(CONTENT, cc=(), bcc=())
    assert leaving(Outgoing(force_cc=(DEV,)), alone).content == replace(alone, cc=(DEV,))
    assert leaving(Outgoing(force_bcc=(DEV,))).content == replace(CONTENT, bcc=(DEV,))
    assert found.note is None


@pytest.mark.tinymail("45", "U11")
def test_a_prefix_stands_before_the_subject() -> None:
    """With a blank, whatever the subject is."""
    assert leaving(Outgoing(force_prefix="TEST")).content.subject == "TEST Hello"
    assert leaving(Outgoing(force_prefix="TEST"), replace(CONTENT, subject="")).content.subject == "TEST "


@pytest.mark.tinymail("45", "D34")
def test_a_redirect_leaves_nobody_real() -> None:
    """Neither To, Cc nor Bcc; a header says who would have got it, but for Bcc."""
    found = leaving(Outgoing(redirect_to=(DEV,), force_cc=(BOB,)))
    assert found.content.recipients() == ("dev@example.com",)
    assert found.headers == (("X-Mailfleet-Redirected-From", "ada@example.net, bob@example.net"),)
    assert found.note == "redirected"
    secret = replace(CONTENT, to=(), cc=())
    assert leaving(Outgoing(redirect_to=(DEV,)), secret).headers == ()


@pytest.mark.parametrize(
    ("allowed", "left"),
    [
        ({"@example.net"}, ("ada@example.net", "bob@example.net", "eve@example.net")),
        ({"bob@example.net", "@example.org"}, ("bob@example.net",)),
        ({"eve@example.net"}, ("eve@example.net",)),
    ],
)
def test_only_those_who_are_allowed(allowed: set[str], left: tuple[str, ...]) -> None:
    """By address or domain, compared without case; the note says that somebody was left out."""
    shouting = replace(CONTENT, to=(Address("", "Ada@Example.NET"),))
    found = leaving(Outgoing(allowed=frozenset(allowed)), shouting)
    assert tuple(one.lower() for one in found.content.recipients()) == left
    assert found.note == (None if len(left) == 3 else "restricted")
    assert not found.dry_run


def test_a_domain_is_no_end_of_one() -> None:
    """`@example.net` is not everything that ends so."""
    near = replace(CONTENT, to=(Address("", "ada@evil-example.net"),), cc=(Address("", "a@sub.example.net"),))
    assert leaving(Outgoing(allowed=frozenset({"@example.net"})), near).content.recipients() == (
        "eve@example.net",
    )


def test_nobody_left_is_a_dry_run() -> None:
    """It is built as it was written, and counts as sent to those."""
    found = leaving(Outgoing(allowed=frozenset({"@nowhere.example"})))
    assert found == Leaving(CONTENT, dry_run=True)


@pytest.mark.tinymail("49")
def test_a_subject_may_ask_for_a_dry_run() -> None:
    """At its beginning, before any prefix is put there; an empty prefix is none."""
    dry = replace(CONTENT, subject="[DRYRUN] Hello")
    assert leaving(Outgoing(dry_run_prefix="[DRYRUN]", force_prefix="TEST"), dry).dry_run
    assert not leaving(Outgoing(dry_run_prefix="[DRYRUN]")).dry_run
    assert not leaving(Outgoing(dry_run_prefix="[DRYRUN]"), replace(CONTENT, subject="Re: [DRYRUN]")).dry_run
    assert not leaving(Outgoing(), dry).dry_run


@pytest.mark.tinymail("46", "U12")
def test_headers_to_find_it_by() -> None:
    """Id and mark; no mark, no header. What the application has put under these names does not stay."""
    outgoing = Outgoing(id_header="X-Biz-Id", mark_header="X-Biz-Mark")
    assert leaving(outgoing, mark="vip 7").headers == (("X-Biz-Id", "17"), ("X-Biz-Mark", "vip 7"))
    assert leaving(outgoing).headers == (("X-Biz-Id", "17"),)
    forged = replace(CONTENT, headers=(("x-biz-id", "4711"), ("X-A", "1"), ("X-BIZ-MARK", "other")))
    found = leaving(outgoing, forged)
    assert found.content.headers == (("X-A", "1"),)
    assert leaving(Outgoing(), forged).content.headers == forged.headers

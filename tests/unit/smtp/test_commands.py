"""What is said before DATA, by what a server offers: parameters, reports (RFC 3461), and who cannot be named."""

import re
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailfleet_workers.smtp.commands import Commands, original_recipient, xtext
from mailfleet_workers.smtp.envelope import Dsn, Envelope, dsn_of
from mailfleet_workers.smtp.message import InMemory

MESSAGE = b"Subject: hi\r\n\r\nHello\r\n"


@dataclass
class Offer:
    esmtp_features: dict[str, str] = field(default_factory=dict)


def commands(
    *recipients: str, offers: str = "", sender: str = "us@x.example", message: bytes = MESSAGE, **more: Any
) -> Commands:
    envelope = Envelope(sender, recipients or ("ada@x.example",), InMemory(message), **more)
    return Commands(envelope, Offer(dict.fromkeys(offers.split(), "")))


def lines(*recipients: str, **more: Any) -> list[str]:
    return [line.removesuffix("\r\n") for _, line in commands(*recipients, **more)]


@pytest.mark.parametrize(
    ("recipients", "sender", "needed"),
    [
        (("b@xn--bcher-kva.example",), "a@x.example", False),
        (("b@x.example",), "ä@x.example", True),
        (("b@x.example", "ü@x.example"), "a@x.example", True),
    ],
    ids=["no", "sender", "recipient"],
)
def test_smtputf8_is_needed_for_local_parts_only(
    recipients: tuple[str, ...], sender: str, needed: bool
) -> None:
    """Any address of the envelope that is not ASCII needs it, the sender's included."""
    assert commands(*recipients, sender=sender, offers="smtputf8").utf8 is needed


@pytest.mark.smtplib(16)
def test_a_server_without_smtputf8_is_told_of_the_others() -> None:
    """Who is no ASCII is kept back, with a reason; for the others the commands are ASCII, and nothing speaks against them."""
    said = commands("ada@x.example", "jörg@x.example", "bob@x.example")
    assert said.objection() is None
    assert not said.utf8
    assert said.kept_back == {
        "jörg@x.example": "the address is not ASCII and the server does not offer SMTPUTF8"
    }
    assert [address for address, _ in said] == [None, "ada@x.example", "bob@x.example"]


def test_a_header_that_is_not_ascii_speaks_against_the_whole_mail() -> None:
    """Everybody would get the header: a server without SMTPUTF8 can take it for nobody."""
    said = commands("ada@x.example", message="To: jörg@x.example\r\n\r\n".encode())
    assert "SMTPUTF8" in (said.objection() or "")


ASKED = Dsn("hdrs", "mail-7", ("failure", "delay"))


@pytest.mark.smtplib(15)
def test_reports_are_asked_for_where_they_are_offered() -> None:
    """RET and ENVID go with MAIL, NOTIFY and ORCPT with each RCPT."""
    assert lines("ada@x.example", "bob+x@x.example", offers="dsn size", dsn=ASKED) == [
        f"MAIL FROM:<us@x.example> SIZE={len(MESSAGE)} RET=HDRS ENVID=mail-7",
        "RCPT TO:<ada@x.example> NOTIFY=FAILURE,DELAY ORCPT=rfc822;ada@x.example",
        "RCPT TO:<bob+x@x.example> NOTIFY=FAILURE,DELAY ORCPT=rfc822;bob+2Bx@x.example",
    ]


@pytest.mark.smtplib(15)
def test_reports_are_not_asked_for_where_they_are_not_offered() -> None:
    """A server without DSN hears nothing of it: it would refuse the parameters."""
    assert lines(dsn=ASKED) == ["MAIL FROM:<us@x.example>", "RCPT TO:<ada@x.example>"]
    assert lines(offers="dsn") == ["MAIL FROM:<us@x.example>", "RCPT TO:<ada@x.example>"]


def test_each_part_of_a_wish_may_be_missing() -> None:
    """What is None or empty is not said."""
    assert lines(offers="dsn", dsn=Dsn(notify=("never",), orcpt=False)) == [
        "MAIL FROM:<us@x.example>",
        "RCPT TO:<ada@x.example> NOTIFY=NEVER",
    ]


def test_what_is_too_long_for_a_parameter_is_left_out() -> None:
    """RFC 3461 allows 100 characters of ENVID and 500 of ORCPT; a longer one would be refused with the mail."""
    long = "+" * 200 + "@x.example"
    assert lines(long, offers="dsn", dsn=Dsn("full", "=" * 40, ("success",))) == [
        "MAIL FROM:<us@x.example> RET=FULL",
        f"RCPT TO:<{long}> NOTIFY=SUCCESS",
    ]


@given(st.text(st.characters(codec="ascii"), max_size=60))
def test_xtext_can_be_read_back_and_ends_no_parameter(text: str) -> None:
    """Whatever stands in it: printable ASCII without space and `=`, `+` only before two hexadecimal digits (RFC 3461 4)."""
    said = xtext(text)
    assert re.fullmatch(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*", said)
    assert re.sub(r"\+([0-9A-F]{2})", lambda found: chr(int(found[1], 16)), said) == text


@given(st.text(st.characters(codec="utf-8", categories=["L", "N", "S", "P"]), min_size=1, max_size=30))
def test_an_original_recipient_is_said_in_ascii(local: str) -> None:
    """RFC 6533 3: every character can be read back, nothing else ends the parameter."""
    kind, _, said = original_recipient(f"{local}@x.example").partition(";")
    assert re.fullmatch(r"[!-<>-~]+", said)
    if kind == "utf-8":
        assert (
            re.sub(r"\\x\{([0-9A-F]+)\}", lambda found: chr(int(found[1], 16)), said) == f"{local}@x.example"
        )
    else:
        assert local.isascii()


@pytest.mark.parametrize(
    ("own", "default", "expected"),
    [
        (None, None, None),
        (None, Dsn(notify=("delay",)), Dsn(None, "mail-7", ("delay",))),
        (Dsn("full"), Dsn(notify=("delay",)), Dsn("full", "mail-7")),
        (Dsn(), Dsn(notify=("delay",)), None),
    ],
    ids=["nobody", "the account's", "its own", "none on purpose"],
)
def test_whose_wish_counts(own: Dsn | None, default: Dsn | None, expected: Dsn | None) -> None:
    """A mail's own wish stands for itself, also the wish for none; without one the account's does."""
    assert dsn_of(own, default, 7) == expected

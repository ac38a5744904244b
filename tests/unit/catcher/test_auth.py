"""The AUTH dialogue, without a network."""

import base64

import pytest

from mailfleet_workers.catcher.actions import Say
from mailfleet_workers.catcher.auth import Outcome, Prompt, begin
from mailfleet_workers.catcher.script import Credentials


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


EVERY = ("PLAIN", "LOGIN", "CRAM-MD5", "XOAUTH2")
XOAUTH2 = "user=ada@x.test\x01auth=Bearer t0ken\x01\x01"


def answer(outcome: Outcome, line: str) -> Outcome:
    assert isinstance(outcome, Prompt)
    return outcome.answer(line.encode())


def test_plain_at_once() -> None:
    """PLAIN with an initial response needs no prompt."""
    assert begin(f"PLAIN {b64('authz' + chr(0) + 'ada' + chr(0) + 'pässword')}") == Credentials(
        "PLAIN", "ada", "pässword"
    )


def test_plain_in_two_steps() -> None:
    """PLAIN without an initial response is prompted for with an empty challenge."""
    first = begin("plain")

    assert isinstance(first, Prompt)
    assert first.challenge == ""
    assert answer(first, b64("\0ada\0secret")) == Credentials("PLAIN", "ada", "secret")


@pytest.mark.parametrize("initial", [True, False])
def test_login(initial: bool) -> None:
    """LOGIN asks for the user, unless it came along, and for the password."""
    first = begin(f"LOGIN {b64('ada')}") if initial else answer(begin("LOGIN"), b64("ada"))

    assert isinstance(first, Prompt)
    assert base64.b64decode(first.challenge) == b"Password:"
    assert answer(first, b64("secret")) == Credentials("LOGIN", "ada", "secret")


@pytest.mark.parametrize("initial", [True, False])
def test_xoauth2(initial: bool) -> None:
    """XOAUTH2 carries a user and a token, at once or after an empty challenge."""
    line = b64(XOAUTH2)
    outcome = begin(f"XOAUTH2 {line}", EVERY) if initial else answer(begin("XOAUTH2", EVERY), line)

    assert outcome == Credentials("XOAUTH2", "ada@x.test", "t0ken")
    assert outcome.prove("t0ken")
    assert not outcome.prove("another")


def test_cram_md5() -> None:
    """The example of RFC 2195: the password is proved by its digest of the challenge, and not told."""
    stamp = "<1896.697170952@postoffice.reston.mci.net>"
    first = begin("CRAM-MD5", EVERY, stamp)

    assert isinstance(first, Prompt)
    assert base64.b64decode(first.challenge).decode() == stamp
    outcome = answer(first, b64("tim b913a602c7eda7a495b4e6e7334d3890"))
    assert isinstance(outcome, Credentials)
    assert (outcome.user, outcome.challenge) == ("tim", stamp)
    assert outcome.prove("tanstaaftanstaaf")
    assert not outcome.prove("another")


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (begin("CRAM-MD5"), 504),
        (begin("PLAIN AGEAYg==", ("LOGIN",)), 504),
        (begin("CRAM-MD5 eA==", EVERY), 501),
        (answer(begin("CRAM-MD5", EVERY), b64("digest-alone")), 501),
        (answer(begin("CRAM-MD5", EVERY), "*"), 501),
        (begin(f"XOAUTH2 {b64('user=ada auth=Bearer t0ken')}", EVERY), 501),
        (answer(begin("XOAUTH2", EVERY), "*"), 501),
        (begin(""), 504),
        (begin("PLAIN !!!"), 501),
        (begin("PLAIN ="), 501),
        (begin(f"PLAIN {b64('no nul')}"), 501),
        (answer(begin("PLAIN"), "*"), 501),
        (answer(begin("LOGIN"), "*"), 501),
        (answer(begin(f"LOGIN {b64('ada')}"), "*"), 501),
        (answer(begin("LOGIN"), base64.b64encode(b"\xff").decode()), 501),
    ],
)
def test_no_credentials(outcome: Outcome, code: int) -> None:
    """Unknown mechanisms, unreadable responses and a cancelled dialogue end it with a reply."""
    assert isinstance(outcome, Say)
    assert outcome.code == code

"""The AUTH dialogue, without a network."""

import base64

import pytest

from mailfleet_workers.catcher.auth import Outcome, Prompt, begin
from mailfleet_workers.catcher.script import Credentials, Say


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


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


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (begin("CRAM-MD5"), 504),
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

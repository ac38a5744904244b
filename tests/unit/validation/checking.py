"""Mails for the tests of validation, and one way to check them."""

from datetime import UTC, datetime
from typing import Any

import pytest

from mailfleet.errors import InvalidMail
from mailfleet.mail import Mail
from mailfleet.validation import Checked, Limits, validate

NOW = datetime(2026, 1, 31, 8, 0, tzinfo=UTC)
MESSAGE_ID = "<1.abc@mail.example.net>"


def check(limits: Limits | None = None, /, **fields: Any) -> Checked:
    """Validate a small mail that is right but for what *fields* change."""
    mail = Mail(**{"to": ["ada@example.net"], "subject": "Hello", "text": "Hi\n", **fields})
    return validate(mail, limits=limits or Limits(), new_message_id=lambda: MESSAGE_ID, now=NOW)


def refused(limits: Limits | None = None, /, **fields: Any) -> InvalidMail:
    """The refusal of such a mail; the test fails if there is none."""
    with pytest.raises(InvalidMail) as caught:
        check(limits, **fields)
    return caught.value

"""Database addresses: what is taken, and that no error shows a password."""

import re
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailfleet_schema.engine import parse_url

KEY = "MAILFLEET_DATABASE_URL"
SECRET = "s3cr3tPassw0rd"


@pytest.mark.parametrize(
    ("value", "rendered"),
    [
        ("postgresql://u@h/d", "postgresql+psycopg://u@h/d"),
        (
            "postgresql+psycopg://u:p@h:5432/d?sslmode=require",
            "postgresql+psycopg://u:p@h:5432/d?sslmode=require",
        ),
        ("postgresql+asyncpg://u@h/d", "postgresql+psycopg://u@h/d"),
        ("postgresql:///d?host=/run/postgresql", "postgresql+psycopg:///d?host=%2Frun%2Fpostgresql"),
        ("sqlite:///mailfleet.db", "sqlite:///mailfleet.db"),
        ("sqlite+aiosqlite:////var/lib/mailfleet.db", "sqlite:////var/lib/mailfleet.db"),
    ],
)
def test_addresses_are_taken(value: str, rendered: str) -> None:
    """With the driver that mailfleet brings, and everything else as it was."""
    assert parse_url(KEY, value).render_as_string(hide_password=False) == rendered


WRONG = [
    f"postgresql//u:{SECRET}@h/d",
    f"u:{SECRET}@h/d",
    f"postgresql://u:{SECRET}@h:port/d",
    f"postgresql://u:a@{SECRET}:b@h:x/d",
    f"postgres://u:{SECRET}@h/d",
    f"mysql://u:{SECRET}@h/d",
    f"mysql+pymysql://u:{SECRET}@h/d",
    f"://u:{SECRET}@h/d",
    "",
    " ",
    "postgresql",
]


def _shown(value: str) -> str:
    """Everything that a log could have of the error: its text and its whole traceback, with chained errors."""
    with pytest.raises(ValueError, match=f"^{KEY}: expected ") as caught:
        parse_url(KEY, value)
    # The lines of source code in a traceback are ours; what counts are the messages.
    return "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("value", WRONG, ids=lambda value: value.replace(SECRET, "…"))
def test_wrong_addresses_are_refused_without_showing_them(value: str) -> None:
    """The error names the key and what was expected; neither it nor what it came from shows the password."""
    shown = _shown(value)
    assert SECRET not in shown
    assert len(re.findall(r"^\w*Error: ", shown, re.MULTILINE)) == 1, "a cause or context is shown too"


@given(st.text(max_size=60), st.text(max_size=20))
def test_no_address_shows_its_password(before: str, after: str) -> None:
    """Wherever the password stands behind a colon, in whatever text: a wrong address is shown with nothing of it."""
    shown = ""
    try:
        parse_url(KEY, f"{before}:{SECRET}{after}")
    except ValueError as error:
        shown = "".join(traceback.format_exception(error))
    assert SECRET not in shown

"""What is a name of an app or account."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailfleet_schema.names import NAME, InvalidName, check_name, shown


@pytest.mark.parametrize("name", ["a", "billing", "a-b-c", "a0", "a" * 40, "x-"])
def test_names_are_taken(name: str) -> None:
    """1 to 40 characters a-z, 0-9 and '-', beginning with a letter."""
    assert check_name("app", name) == name


@pytest.mark.parametrize(
    "value",
    [
        "",
        "A",
        "0a",
        "-a",
        "a" * 41,
        "a_b",
        "a.b",
        "a b",
        "a\n",
        "\na",
        "ä",
        "a#",
        "a*",
        None,
        1,
        b"a",
        ["a"],
        True,
    ],
    ids=repr,
)
def test_everything_else_is_refused(value: object) -> None:
    """Dots, stars and line ends would be words, patterns and headers elsewhere."""
    with pytest.raises(InvalidName, match=r"^app: expected a name of 1 to 40") as caught:
        check_name("app", value)
    assert caught.value.field == "app"


@given(st.text())
def test_names_are_ascii_words(text: str) -> None:
    """Whatever is taken is one word of a routing key."""
    if NAME.fullmatch(text):
        assert text.isascii()
        assert not set(text) & set(".*#\n ")


def _deep(levels: int) -> object:
    value: object = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize("value", [10**5000, -(10**5000), _deep(100_000), {"a": _deep(100_000)}], ids=type)
def test_errors_can_always_be_shown(value: object) -> None:
    """A huge number or deep nesting cannot break the error message; then only its type is named."""
    with pytest.raises(InvalidName, match=f"got {type(value).__name__}$"):
        check_name("app", value)


def test_errors_are_short() -> None:
    """What is shown of a long value is short."""
    assert len(shown("x" * 10_000)) == 60
    assert shown(17) == "17"
    assert shown(None) == "None"

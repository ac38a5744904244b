import json
import math
from decimal import Decimal
from enum import IntEnum, StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailfleet.mail import Lazy
from mailfleet.validation import Checked, Limits
from mailfleet.validation.parameters import canonical
from tests.unit.validation.checking import check, refused


def checked(parameter: Any, limits: Limits | None = None) -> Checked:
    return check(limits, text=None, lazy=Lazy("invoice", parameter))


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


class Colour(StrEnum):
    RED = "red"


class Size(IntEnum):
    BIG = 3


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        (None, None),
        (True, True),
        (0, 0),
        (-(2**63), -(2**63)),
        (2**63 - 1, 2**63 - 1),
        (1.5, 1.5),
        (1e300, 1e300),
        ("é愛\n\x01", "é愛\n\x01"),
        ((1, [2, {"a": (3,)}]), [1, [2, {"a": [3]}]]),
        ({"": {}, "é": []}, {"": {}, "é": []}),
        ({"colour": Colour.RED, "size": Size.BIG}, {"colour": "red", "size": 3}),
        (nested(32), nested(32)),
    ],
)
def test_good_parameters(given: object, stored: object) -> None:
    """JSON passes; tuples become lists, enumerations their values."""
    lazy = checked(given).lazy
    assert lazy == Lazy("invoice", stored)  # type: ignore[arg-type] # any JSON
    assert lazy is not None
    assert json.loads(json.dumps(lazy.parameter)) == stored


@pytest.mark.parametrize(
    "bad",
    [
        "a\0",
        "\ud800",
        {"a\0": 1},
        {"\udfff": 1},
        [{"a": ["\0"]}],
        math.nan,
        math.inf,
        -math.inf,
        2**63,
        -(2**63) - 1,
        pytest.param(10**5000, id="huge"),
        b"x",
        {1: "a"},
        {None: "a"},
        {"a": {1, 2}},
        Decimal(1),
        object(),
        1j,
        nested(33),
        nested(100_000),
        "x" * 65_536,
        ["x" * 100] * 700,
        [0] * 65_536,
        list(range(40_000)),
    ],
)
def test_bad_parameters(bad: object) -> None:
    """What a database, JSON or another language cannot hold is refused, however deep it hides."""
    for value in (bad, [bad], {"a": bad}):
        error = refused(text=None, lazy=Lazy("invoice", value))  # type: ignore[arg-type] # on purpose
        assert error.field == "lazy.parameter"


def test_exactly_64_kb_passes() -> None:
    """The size that counts is that of the JSON without blanks, in UTF-8."""
    checked("x" * 65_534)
    checked("é" * 32_767)
    refused(text=None, lazy=Lazy("invoice", "x" * 65_535))
    refused(text=None, lazy=Lazy("invoice", "\n" * 65_534))


def test_a_parameter_that_contains_itself() -> None:
    """A circle ends at the depth limit."""
    circle: list[Any] = []
    circle.append(circle)
    assert refused(text=None, lazy=Lazy("invoice", circle)).field == "lazy.parameter"


def test_a_parameter_that_unfolds() -> None:
    """Thirty lists that each name the next twice would be a billion values; the budget ends it at once."""
    value: Any = []
    for _ in range(30):
        value = [value, value]
    assert refused(text=None, lazy=Lazy("invoice", value)).field == "lazy.parameter"


def test_the_parameter_is_a_copy() -> None:
    """What the application changes later does not change the checked mail."""
    items = [1]
    parameter = {"items": items}
    result = checked(parameter)
    items.append(2)
    assert result.lazy == Lazy("invoice", {"items": [1]})


@pytest.mark.parametrize("renderer", ["", "1a", "a b", "a/b", "a:b", "é", "_a", "x" * 101, None, 5])
def test_renderer_names(renderer: Any) -> None:
    """A renderer is a registered name, not a path or an expression."""
    assert refused(text=None, lazy=Lazy(renderer)).field == "lazy.renderer"


@pytest.mark.parametrize("lazy", ["invoice", ("invoice", None), {"renderer": "invoice"}, 0])
def test_lazy_of_wrong_type(lazy: object) -> None:
    """Lazy content is given as Lazy."""
    assert refused(text=None, lazy=lazy).field == "lazy"


def test_lazy_or_bodies() -> None:
    """A renderer writes the body, so a mail has either; one of them it must have."""
    assert refused(lazy=Lazy("invoice")).field == "lazy"
    assert refused(text=None, html="", lazy=Lazy("invoice")).field == "lazy"
    assert refused(text=None).field == "text"


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(codec=None), max_size=4), inner, max_size=4)
    ),
    max_leaves=20,
)


def storable(value: Any) -> bool:
    match value:
        case str():
            return "\0" not in value and not any("\ud800" <= c <= "\udfff" for c in value)
        case bool() | None:
            return True
        case int():
            return -(2**63) <= value < 2**63
        case float():
            return math.isfinite(value)
        case list():
            return all(map(storable, value))
        case _:
            return all(storable(key) and storable(item) for key, item in value.items())


@given(JSONS)
def test_any_json(value: Any) -> None:
    """Arbitrary JSON is stored as it is, or refused because something in it cannot be stored."""
    if storable(value):
        lazy = checked(value).lazy
        assert lazy is not None
        assert json.loads(canonical(lazy.parameter)) == value
        assert "\\u0000" not in canonical(lazy.parameter)
    else:
        assert refused(text=None, lazy=Lazy("invoice", value)).field == "lazy.parameter"

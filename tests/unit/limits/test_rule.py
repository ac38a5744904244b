"""Rules as people write them."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mailfleet_workers.limits.rule import (
    EXPECTED,
    LEAST_WINDOW_MS,
    MOST,
    MOST_WINDOW_MS,
    InvalidRule,
    Rate,
    Rule,
    Scope,
    Unit,
)

UNITS = {
    "ms": 1,
    "s": 1000,
    "sec": 1000,
    "second": 1000,
    "seconds": 1000,
    "m": 60_000,
    "min": 60_000,
    "minute": 60_000,
    "minutes": 60_000,
    "h": 3_600_000,
    "hour": 3_600_000,
    "hours": 3_600_000,
    "d": 86_400_000,
    "day": 86_400_000,
    "days": 86_400_000,
}

rates = st.builds(
    Rate,
    st.integers(1, MOST),
    st.one_of(
        st.integers(LEAST_WINDOW_MS, MOST_WINDOW_MS),
        # Whole seconds, minutes, hours and days, which are written shorter.
        st.sampled_from(sorted(set(UNITS.values()))).flatmap(
            lambda unit: st.integers(-(-LEAST_WINDOW_MS // unit), MOST_WINDOW_MS // unit).map(
                lambda count: count * unit
            )
        ),
    ),
)


@given(rates)
def test_a_rate_is_read_as_it_is_written(rate: Rate) -> None:
    """Writing and reading gives the same rate, of every length of window."""
    assert Rate.parse(str(rate)) == rate


@given(
    st.integers(1, MOST),
    st.integers(1, 100),
    st.sampled_from(sorted(UNITS)),
    st.sampled_from(["{}/{}{}", "{} / {} {}", "{} per {} {}", " {}/{}{} "]),
)
def test_every_unit_and_way_to_write(limit: int, count: int, unit: str, way: str) -> None:
    """`14/2s`, `14 / 2 s` and `14 per 2 seconds` are one rate."""
    window = count * UNITS[unit]
    assume(LEAST_WINDOW_MS <= window <= MOST_WINDOW_MS)

    assert Rate.parse(way.format(limit, count, unit)) == Rate(limit, window)


@given(st.text(max_size=20))
def test_other_texts_are_refused_in_one_way(text: str) -> None:
    """Whatever is written is a rate in the allowed range, or refused with what was expected."""
    try:
        rate = Rate.parse(text)
    except InvalidRule as error:
        said = str(error)
    else:
        said = EXPECTED
        assert 1 <= rate.limit <= MOST
        assert LEAST_WINDOW_MS <= rate.window_ms <= MOST_WINDOW_MS
    assert said == EXPECTED


@pytest.mark.parametrize(
    "text",
    [
        "",
        "14",
        "/s",
        "14/",
        "14/S",
        "0/s",
        "-1/s",
        "+1/s",
        "1.5/s",
        "1e3/s",
        "1_000/s",
        "1,000/d",
        "٣/s",
        "14/s/s",
        "14//s",
        "14/0s",
        "14/99ms",
        "14/32d",
        "14/745h",
        "100000001/d",
        "14 pers",
        "14per s",
        "14/week",
        "14/month",
        "14/s\n15/s",
        "9" * 400 + "/s",
    ],
)
def test_malformed_and_absurd_rules(text: str) -> None:
    """Nothing is guessed: what is no rule, or out of range, is refused."""
    with pytest.raises(InvalidRule):
        Rate.parse(text)


@pytest.mark.parametrize(
    ("text", "written"),
    [("60/60s", "60/min"), ("5/1500ms", "5/1500ms"), ("1 per 24 hours", "1/d"), ("300 per 10 s", "300/10s")],
)
def test_a_rate_is_written_in_its_largest_unit(text: str, written: str) -> None:
    """What is named in refusals and metrics has one form, however it was written."""
    assert str(Rate.parse(text)) == written


def test_a_rule_says_whose_and_what() -> None:
    """As metrics name it."""
    assert str(Rule(Scope.HOST, Unit.RECIPIENTS, Rate.parse("300/10s"))) == "host recipients 300/10s"

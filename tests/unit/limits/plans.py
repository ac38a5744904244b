"""Plans for hypothesis to choose from: rules of several windows, and arrivals that are hard on them."""

from hypothesis import strategies as st

from mailfleet_workers.limits.rule import Rate, Rule, Scope, Unit
from tests.unit.limits.oracle import Arrival, Plan

_WINDOWS_MS = (100, 300, 1000, 10_000, 60_000, 3_600_000, 86_400_000)

rules = st.lists(
    st.builds(
        Rule,
        st.sampled_from(Scope),
        st.sampled_from(Unit),
        st.builds(Rate, st.integers(1, 60), st.sampled_from(_WINDOWS_MS)),
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda rule: (rule.scope, rule.unit, rule.rate.window_ms),
)


def _groups(singles: bool) -> st.SearchStrategy[tuple[int, ...]]:
    one = st.just(1) if singles else st.integers(1, 5)
    return st.lists(one, min_size=1, max_size=12).map(tuple)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Saturated, in bursts, at the edges of a window, one and then a burst, and all of these mixed."""
    chosen = tuple(draw(rules))
    window = draw(st.sampled_from([rule.rate.window_ms for rule in chosen]))
    width = max(1, window // 120)
    after = draw(
        st.sampled_from(
            [
                st.integers(0, 2 * width),
                st.sampled_from([0, 0, 0, window // 2, window]),
                st.sampled_from([window - 1, window, window + 1, window + width, window + width + 1, 1]),
                st.sampled_from([window - width, width, width, 1]),
                st.integers(0, window),
            ]
        )
    )
    group = _groups(draw(st.booleans()))
    answers = st.sampled_from([0, 1, 10, 100, 1000, 4000])
    arrivals = st.builds(
        Arrival,
        after,
        st.integers(1, 4),
        group,
        answers,
        st.booleans(),
        st.sampled_from([0, 0, 0, 1, 12]),
        st.sampled_from([False, False, True]),
    )
    return Plan(chosen, tuple(draw(st.lists(arrivals, min_size=1, max_size=20))))

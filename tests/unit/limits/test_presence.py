"""Whether the limiter's server answers."""

import pytest

from mailfleet_workers.limits.base import LimiterUnavailable
from mailfleet_workers.limits.presence import AWAY_S, Presence


def test_a_server_that_is_away_is_not_asked_all_the_time() -> None:
    """After a failure nobody asks for a moment; then one does, and everybody hears when it answers."""
    now = [100.0]
    told: list[bool] = []
    presence = Presence(lambda: now[0], told.append)
    calls: list[float] = []

    def asked(*, fails: bool) -> str:
        calls.append(now[0])
        if fails:
            raise LimiterUnavailable("no answer in time")
        return "answer"

    def call(*, fails: bool) -> None:
        assert presence.of_call(asked, fails=fails) == "answer"

    for _ in range(3):
        with pytest.raises(LimiterUnavailable, match="no answer in time"):
            call(fails=True)
    assert calls == [100.0]
    assert str(presence.away) == "no answer in time"
    now[0] += AWAY_S
    with pytest.raises(LimiterUnavailable):
        call(fails=True)
    assert len(calls) == 2
    now[0] += AWAY_S
    call(fails=False)
    call(fails=False)
    assert len(calls) == 4
    assert told == [False, True]
    assert not presence.away

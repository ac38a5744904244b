"""The line of one account: who is still expected, and what an app is behind."""

from mailfleet_schema.states import Priority
from mailfleet_workers.limits.line import Line, Place

WEIGHTS = {"large": 3, "small": 1}
LARGE, SMALL = (Place("here", app, Priority.NORMAL) for app in WEIGHTS)


def test_an_app_that_was_served_just_now_still_competes() -> None:
    """While an app sends what it was granted it is not in line; a permit is kept for it for a moment all the same."""
    line = Line()
    line.serve(SMALL, 1, WEIGHTS, 0)
    line.serve(LARGE, 1, WEIGHTS, 10)
    assert line.standing(SMALL, WEIGHTS, 200).poorer == 1
    assert line.standing(LARGE, WEIGHTS, 200).poorer == 0
    assert line.standing(SMALL, WEIGHTS, 300).poorer == 0
    assert line.standing(SMALL, {"small": 1}, 200).poorer == 0


def test_what_is_in_line_is_not_counted_twice() -> None:
    """An app that was served and stands in line again has one permit kept for it, not two."""
    line = Line()
    line.serve(SMALL, 1, WEIGHTS, 0)
    line.serve(LARGE, 1, WEIGHTS, 0)
    line.stand(LARGE, 10, told_ms=100, slot=False, wanted=False)
    assert line.standing(SMALL, WEIGHTS, 20).poorer == 1


def test_a_line_is_over_when_nobody_came_for_long() -> None:
    """What apps have had is forgotten some seconds after the last grant, and not while anybody waits."""
    line = Line()
    line.serve(SMALL, 5, WEIGHTS, 0)
    assert not line.over(5_000)
    line.stand(SMALL, 9_900, told_ms=10_000, slot=False, wanted=False)
    assert not line.over(10_100)
    assert line.over(10_300)

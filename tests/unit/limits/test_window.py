"""One rule's count: where its waits come from when more wait than a window holds."""

from mailfleet_schema.states import Priority
from mailfleet_workers.limits.window import Window, class_limit


def used(window: Window, amount: int, now_ms: float) -> None:
    """*amount* permits granted and finished at once."""
    window.take(amount)
    window.finish(amount, now_ms)


def test_who_stands_behind_a_whole_window_waits_one_more() -> None:
    """The permits that become free next are taken by those before, and leave a window later."""
    window = Window(6000)
    used(window, 2, 0)
    used(window, 2, 3000)
    assert [window.free_at_ms(place, 4, 5000) for place in (1, 2, 3, 4)] == [6100, 6100, 9100, 9100]
    assert [window.free_at_ms(place, 4, 5000) for place in (5, 7, 9)] == [12200, 15200, 18300]


def test_of_what_is_in_flight_the_end_is_not_known() -> None:
    """Nothing in flight leaves before one window from now; what was given back is free now."""
    window = Window(6000)
    window.take(3)
    assert window.free_at_ms(1, 3, 1000) == 1000 + 6000 + 100
    assert window.releases(1000)[0][0] == 6100
    window.give_back(1)
    assert window.free_at_ms(1, 3, 1000) == 1000
    assert window.used(1000) == window.flight == 2


def test_the_part_of_bulk() -> None:
    """Bulk has all but the reserve, rounded down, and one at least; the others have everything."""
    assert [class_limit(10, priority, 0.25) for priority in Priority] == [10, 10, 7]
    assert class_limit(1, Priority.BULK, 0.9) == 1
    assert class_limit(3, Priority.BULK, 0.0) == 3

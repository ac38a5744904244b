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
    assert [window.free_at_ms(place, 4, 5000) for place in (1, 2, 3, 4)] == [6000, 6000, 9000, 9000]
    assert [window.free_at_ms(place, 4, 5000) for place in (5, 7, 9)] == [12000, 15000, 18000]


def test_of_what_is_in_flight_the_end_is_not_known() -> None:
    """Nothing in flight leaves before one window from now; what was given back is free now."""
    window = Window(6000)
    window.take(3)
    assert window.free_at_ms(1, 3, 1000) == 1000 + 6000
    assert window.releases(1000)[0][0] == 6000
    window.give_back(1)
    assert window.free_at_ms(1, 3, 1000) == 1000
    assert window.used(1000) == window.flight == 2


def test_a_bucket_leaves_a_window_after_its_last() -> None:
    """What is finished within one bucket, a 120th, is one entry: it leaves as a whole, not before any of it may and no later."""
    window = Window(12000)
    for at_ms in (100, 130, 199, 200):
        used(window, 1, at_ms)
    assert [window.used(at_ms) for at_ms in (12198, 12199, 12200)] == [4, 1, 0]


def test_what_was_told_is_as_young_as_its_bucket_may_be() -> None:
    """Another clock has measured it; what is finished later comes after it, or counts as late as it."""
    window = Window(12000)
    window.tell([(450.0, 3), (20.0, 2)], 1030)
    used(window, 1, 1040)
    assert [window.used(at_ms) for at_ms in (12599, 12600, 13099, 13100)] == [6, 3, 3, 0]


def test_the_part_of_bulk() -> None:
    """Bulk has all but the reserve, rounded down, and one at least; the others have everything."""
    assert [class_limit(10, priority, 0.25) for priority in Priority] == [10, 10, 7]
    assert class_limit(1, Priority.BULK, 0.9) == 1
    assert class_limit(3, Priority.BULK, 0.0) == 3

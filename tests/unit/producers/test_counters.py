"""Counters by app and priority."""

from mailfleet.counters import Counters, Counts


def test_counts_by_labels_and_in_total() -> None:
    """Each fate is counted for its app and priority, and the total is their sum."""
    counters = Counters()
    counters.add("emitted", [("billing", "high"), ("billing", "high"), ("news", "bulk")])
    counters.add("published", [("billing", "high")])
    counters.add("failed", [("news", "bulk")])
    counters.add("dropped", [("billing", "high")])

    assert counters.total() == Counts(emitted=3, published=1, failed=1, dropped=1)
    assert counters.by_labels() == {
        ("billing", "high"): Counts(emitted=2, published=1, dropped=1),
        ("news", "bulk"): Counts(emitted=1, failed=1),
    }


def test_nothing_counted_is_nothing() -> None:
    """New counters are all zero."""
    assert Counters().total() == Counts()

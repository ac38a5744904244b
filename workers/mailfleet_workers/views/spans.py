"""Spans of time in words: `40 s`, `3 min`, `in 5 h`, `2 d ago`."""


def span(seconds: float) -> str:
    """*seconds* in the unit that says it best; the sign is left out."""
    seconds = abs(seconds)
    for unit, length, enough in (("s", 1, 120), ("min", 60, 120), ("h", 3600, 48)):
        # Rounded first: 119.7 s is 2 min, not 120 s.
        count = round(seconds / length)
        if count < enough:
            return f"{count} {unit}"
    return f"{round(seconds / 86_400)} d"


def relative(seconds: float) -> str:
    """*seconds* from now: `in 3 min`, `3 min ago`, or `now`."""
    if abs(seconds) < 0.5:
        return "now"
    return f"in {span(seconds)}" if seconds > 0 else f"{span(seconds)} ago"

"""How a sentence may read on a slow machine."""

import math
import re


def readings(sentence: str, late_s: float) -> list[str]:
    """*sentence* as it may read when the database took *late_s* seconds: each span in seconds is longer or shorter by
    that. On a machine that is quick it is *sentence* alone.
    """
    most = 0 if late_s < 0.4 else math.ceil(late_s)
    found = [""]
    for number, part in enumerate(re.split(r"\b(\d+ s|now)\b", sentence)):
        said = [part]
        if number % 2:
            seconds = 0 if part == "now" else int(part.removesuffix(" s"))
            spans = [f"{max(0, seconds + late)} s" for late in range(-most, most + 1) if late]
            said += [f"{one} ago" for one in spans] if part == "now" else spans
        found = [beginning + one for beginning in found for one in said]
    return found

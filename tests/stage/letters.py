"""Renderers and a hook of an application, for workers that a test starts: `apps.NAME.import` names this module."""

import os
from pathlib import Path
from typing import Any

from mailfleet import Attempt, Rendered, on_attempt, renderer

#: Where a renderer remembers what it was asked for, whichever process it is in.
FOLDER = "LETTERS_FOLDER"
#: The hook stops a mail with this mark at its first attempt.
STOPPED = "stop-me"


def environ(folder: Path) -> dict[str, str]:
    """What the workers need beside the module's name."""
    return {FOLDER: str(folder), "PYTHONPATH": str(Path(__file__).parents[2])}


@renderer("letter")
def letter(parameter: Any) -> Rendered:
    """A text with the parameter in it."""
    return Rendered(text=f"Dear {parameter}")


@renderer("moody-letter")
def moody_letter(parameter: Any) -> Rendered:
    """The same, but the first time for each parameter it fails."""
    try:
        Path(os.environ[FOLDER], str(parameter)).touch(exist_ok=False)
    except FileExistsError:
        return letter(parameter)
    raise RuntimeError("not in the mood")


@on_attempt
def stop_what_is_marked(attempt: Attempt) -> bool:
    """Stops mails with that mark."""
    return attempt.mark == STOPPED

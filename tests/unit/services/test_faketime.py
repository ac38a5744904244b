"""Where the library of false clocks is looked for, and what is said where it is not."""

from pathlib import Path

import pytest

from tests.services.base import MissingServiceError
from tests.services.faketime import find, require

DEBIAN = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")


def test_debian_s_place() -> None:
    """It is found below the folder of the machine's own kind of processor."""
    assert find(lambda pattern: [DEBIAN] if DEBIAN.match(pattern) else []) == DEBIAN


def test_what_is_missing_is_said_with_the_remedy() -> None:
    """The message says which command helps."""
    with pytest.raises(MissingServiceError, match="apt-get install faketime"):
        require(lambda _pattern: [])

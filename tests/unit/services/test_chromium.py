"""Where Chromium is looked for, and what is said where it is not."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.services.base import MissingServiceError
from tests.services.chromium import Chromium, find, require


def having(*names: str) -> Callable[[str], str | None]:
    """A machine with just these programs."""
    return lambda name: f"/bin/{name}" if name in names else None


def test_debian_s_name_comes_first() -> None:
    """Of several browsers Debian's is taken, with its driver."""
    found = find(having("google-chrome", "chromium", "chromedriver"))
    assert found == Chromium(Path("/bin/chromium"), Path("/bin/chromedriver"))


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ((), "none is"),
        (("chromium",), "only /bin/chromium is"),
        (("chromedriver",), "only /bin/chromedriver is"),
    ],
)
def test_what_is_missing_is_said_with_the_remedy(names: tuple[str, ...], said: str) -> None:
    """Half of it is not enough; the message says what is there and which command helps."""
    with pytest.raises(MissingServiceError) as caught:
        require(having(*names))
    assert said in str(caught.value)
    assert "apt-get install chromium chromium-driver" in str(caught.value)

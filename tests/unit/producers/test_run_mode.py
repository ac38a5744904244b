"""The vote on the run mode."""

import pytest

from mailfleet.run_mode import accepts


@pytest.mark.tinymail("15", "U8")
@pytest.mark.parametrize(
    ("votes", "mode", "sent"),
    [
        ((), "product", True),
        ((), "nothing", True),
        (("product",), "product", True),
        (("product",), "local", False),
        (("Product",), "product", True),
        (("!test",), "product", True),
        (("!test",), "test", False),
        (("!test", "test"), "test", False),
        (("!b", "b"), "a", True),
        (("develop", "test"), "test", True),
        (("develop", "test"), "product", False),
        (("product",), "nothing", False),
        (("!test",), "nothing", False),
    ],
)
def test_the_vote(votes: tuple[str, ...], mode: str, *, sent: bool) -> None:
    """A veto wins, a veto of another mode is a yes, and only other modes is a no."""
    assert accepts(votes, mode) is sent

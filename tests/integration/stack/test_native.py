"""A stack without Docker: what is judged before and beside the servers."""

from pathlib import Path

import pytest

from tests.services.base import StartError
from tests.services.identity import server_user
from tests.stack.lasting import check_reachable
from tests.stack.native import Native
from tests.stack.state import State

HANGING = """
services:
  hanging:
    build: .
    healthcheck: {test: [CMD, python, -c, "import time; time.sleep(60)"], timeout: 1s}
"""


@pytest.mark.timeout(30)
def test_a_health_check_that_hangs_says_no(tmp_path: Path) -> None:
    """It has the time that the file gives it, and no longer: `make up` does not wait for ever."""
    file = tmp_path / "compose.yml"
    file.write_text(HANGING)
    stack = Native(State(tmp_path), {}, file)
    (tmp_path / "hanging").mkdir()
    assert not stack.healthy(stack.services["hanging"])


def test_a_place_that_is_closed_to_the_servers_user_is_named(tmp_path: Path) -> None:
    """The error says where, who and what helps. Whoever is not root runs the servers himself and gets everywhere."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    if (user := server_user("postgres")) is None:
        check_reachable(closed, user)
        return
    with pytest.raises(StartError, match=f"{closed}: .* user {user} may not go there.*--directory"):
        check_reachable(closed, user)
    check_reachable(Path("/tmp"), user)

"""The connections of one process to Redis: few, and whoever waits for one gets it."""

import threading
import time

import pytest

from mailfleet_workers.limits.base import LimiterUnavailable
from mailfleet_workers.limits.redis_script import MOST, TIMEOUT_S, Script
from tests.waiting import wait_until


def test_whoever_waits_for_a_connection_gets_it(redis_url: str) -> None:
    """While all are lent others wait; when all of them come back at once, none is forgotten."""
    script = Script(redis_url, lease_s=5.0, prefix="script")
    lent = [script._borrow()[0] for _ in range(MOST)]
    done: list[int] = []

    def call(number: int) -> None:
        script.call("smtp.example.com", "status")
        done.append(number)

    threads = [threading.Thread(target=call, args=(number,), daemon=True) for number in range(MOST)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(script._room._waiters) == MOST, 10, lambda: "not all wait")  # type: ignore[attr-defined]
    assert done == []
    for link in lent:
        script._give_back(link)
    wait_until(lambda: len(done) == MOST, 10, lambda: f"{len(done)} of {MOST} were called")
    script.close()


def test_who_waits_for_a_connection_waits_as_long_as_for_an_answer(redis_url: str) -> None:
    """While Redis hangs those that stand behind others have no answer either; renewals wait for nobody."""
    script = Script(redis_url, lease_s=5.0, prefix="script")
    lent = [script._borrow()[0] for _ in range(MOST)]
    since = time.monotonic()
    with pytest.raises(LimiterUnavailable, match="in time"):
        script.call("smtp.example.com", "status")
    assert TIMEOUT_S <= time.monotonic() - since < 4 * TIMEOUT_S
    for _ in range(2):
        _, answer = script.call("smtp.example.com", "renew", "owner", 0, "", "", "", "")
        assert answer == [b"yes"]
    for link in lent:
        script._give_back(link)
    script.call("smtp.example.com", "status")
    assert script._lent == 0
    script.close()

"""Eight worker processes on one account: no sliding window of any rule is over its limit at the server, and few are not full.

Judged at both ends of a mail: at its MAIL and at its final dot. Utilisation is the mean of all windows from the first
full one to the last mail, in a stretch of the run in which hardly anything of the
machine was withheld from it, if there is one.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path

import pytest

from mailfleet_workers.limits.rule import Rate
from tests.acceptance.limited import Allowed, Limited
from tests.services.virtual_host import VirtualHost

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(500)]

RUN_S, LONG_RUN_S = 25.0, 45.0
#: More than can be sent in that time, and in as many stretches as are looked at.
MAILS = 1_200
MANY = 3_600
DELAYED, HASTY = "tests.stage.delayed", "tests.stage.hasty"

Open = Callable[..., Limited]


@pytest.fixture
def opened(tmp_path: Path, migrated_url: str, rabbitmq: VirtualHost, redis_url: str) -> Iterator[Open]:
    """Opens a fleet with what is to be allowed, and how long the server takes for an answer."""
    with ExitStack() as stack:
        make: Callable[..., AbstractContextManager[Limited]] = partial(
            Limited.opened, tmp_path, migrated_url, rabbitmq, redis_url
        )
        yield lambda **more: stack.enter_context(make(**more))


def nobody_got_two(fleet: Limited) -> None:
    subjects = Counter(mail.subject for mail in fleet.gauge.seen().answered)
    assert max(subjects.values()) == 1


@pytest.mark.parametrize(("delay_ms", "least"), [(1, 0.95), (10, 0.95), (100, 0.87)])
def test_four_rules(opened: Open, delay_ms: int, least: float) -> None:
    """Whatever the server takes for an answer, no rule is broken, and 30 a second are used as far as they can be."""
    fleet = opened(delay_s=delay_ms / 1000)
    fleet.start()
    fleet.emit(MANY)
    stretch = fleet.run_undisturbed(RUN_S)
    second = next(use for use in fleet.judge(f"{delay_ms} ms", stretch) if use.rate == Rate.parse("30/s"))
    nobody_got_two(fleet)
    assert second.utilisation is not None
    assert second.utilisation >= least


@pytest.mark.parametrize("delay_ms", [1, 10, 100])
def test_permits_that_reach_the_server_late(opened: Open, delay_ms: int) -> None:
    """A tenth of the mails come up to half a second after their grants: no window is over its limit for that."""
    fleet = opened(delay_s=delay_ms / 1000)
    fleet.start(modules=[DELAYED])
    fleet.emit(MAILS)
    fleet.run(RUN_S)
    fleet.judge(f"{delay_ms} ms and delayed permits")
    nobody_got_two(fleet)


def test_a_rule_of_ten_seconds(opened: Open) -> None:
    """Where 300 in ten seconds limit, and 100 a second how fast they go, 98 % of them are used."""
    fleet = opened(allowed=Allowed(host=("100/s",), account=("300/10s", "100000/d")))
    fleet.start()
    fleet.emit(2 * MANY)
    stretch = fleet.run_undisturbed(LONG_RUN_S)
    ten = next(use for use in fleet.judge("10 s rule", stretch) if use.rate == Rate.parse("300/10s"))
    assert ten.utilisation is not None
    assert ten.utilisation >= 0.98


def test_what_counts_permits_at_their_grant_is_seen(opened: Open) -> None:
    """The same fleet without that guard breaks a rule: these tests would tell."""
    fleet = opened(delay_s=0.001)
    fleet.start(modules=[HASTY, DELAYED])
    fleet.emit(MAILS)
    seen = fleet.run(RUN_S)
    uses = seen.uses(fleet.allowed.rates)
    print(f"counted at the grant: {', '.join(map(str, uses))}")
    assert any(use.over for use in uses)

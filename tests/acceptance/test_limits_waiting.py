"""Ten thousand mails where three thousand may go in a minute: what waits costs next to nothing.

Each mail is told to the broker when it is written, and once more when it has to wait; nobody asks again and again.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.limited import APP, Allowed, Limited, wait_for
from tests.bench.memory import cpu_s
from tests.services.virtual_host import VirtualHost
from tests.waiting import wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(600)]

MAILS, A_MINUTE = 10_000, 3_000
PROCESSES = 8
#: How often an id may be published on average; an id counts once for each hint that it is in.
MOST_PUBLISHED = 2.0
MEASURED_S, MOST_OF_A_CORE = 30.0, 0.05
_PUBLISHED = re.compile(
    rf'^mailfleet_published_total\{{app="{APP}",priority="[a-z]+",result="published"\}} (\S+)$', re.MULTILINE
)


@pytest.fixture
def fleet(tmp_path: Path, migrated_url: str, rabbitmq: VirtualHost, redis_url: str) -> Iterator[Limited]:
    allowed = Allowed(host=(), account=(f"{A_MINUTE}/min",), connections=8)
    with Limited.opened(tmp_path, migrated_url, rabbitmq, redis_url, allowed=allowed, delay_s=0.001) as fleet:
        yield fleet


def published(fleet: Limited) -> int:
    """Ids in the hints of all workers so far."""
    return sum(
        int(float(count))
        for parent in fleet.stage.parents
        for count in _PUBLISHED.findall(parent.get("/metrics")[1])
    )


def processor_s(fleet: Limited) -> float:
    """What parents and workers have used so far."""
    return sum(cpu_s(pid) for pid in [*fleet.workers(), *(parent.pid for parent in fleet.stage.parents)])


def test_three_thousand_a_minute(fleet: Limited) -> None:
    """Ids are published twice at most on average, no attempt is counted, and while all wait the workers are idle."""
    fleet.start(hosts=2, processes=PROCESSES // 2)
    fleet.emit(MAILS)
    first = fleet.wait_mails(A_MINUTE, 50)[0]
    # All that was claimed has been given back by then.
    wait_until(lambda: set(fleet.stage.states()) == {"queued", "sent"}, 20, lambda: str(fleet.stage.states()))
    since = fleet.gauge.seen().answered[-1].mail_at + 2
    wait_for(since)
    used = processor_s(fleet)
    wait_for(since + MEASURED_S)
    used = processor_s(fleet) - used
    sent_meanwhile = len(fleet.gauge.seen().mails) - A_MINUTE
    measured_until = since + MEASURED_S - first

    came = fleet.wait_mails(MAILS, 240)
    wait_until(lambda: fleet.stage.states() == {"sent": MAILS}, 30, lambda: str(fleet.stage.states()))
    # Each id once by its producer.
    each = 1 + published(fleet) / MAILS
    failed = sum(row.sum_fail for row in fleet.stage.rows("sum_fail"))
    fleet.judge(
        f"{MAILS} mails at {A_MINUTE}/min in {came[-1] - first:.0f} s: {each:.2f} publishes for each, sum_fail"
        f" {failed}; while all wait {PROCESSES} workers use {used / MEASURED_S:.1%} of a core"
    )
    assert sent_meanwhile == 0, "not all waited"
    assert measured_until < 60
    assert failed == 0
    assert each <= MOST_PUBLISHED
    assert used / MEASURED_S < MOST_OF_A_CORE

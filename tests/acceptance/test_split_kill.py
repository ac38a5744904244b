"""kill -9 between the transactions of a mail that goes in several: every recipient has it, and only a doubt doubles any."""

import signal
from collections import Counter
from pathlib import Path

import pytest

from mailfleet_workers.catcher import Catcher, MemoryStore
from tests.acceptance.test_embedded_kill import run

RECIPIENTS, CAP = 9, 2


def taken(sink: Catcher) -> Counter[str]:
    return Counter(one for receipt in sink.store.receipts() for one in receipt.recipients)


@pytest.mark.parametrize(
    "point", ["after_claim", "after_body", "after_record", "after_dot", "after_reply", "after_settle"]
)
def test_a_mail_in_five_transactions_is_killed(tmp_path: Path, point: str) -> None:
    """Whoever was accepted is recorded with the end of their transaction: nobody is forgotten, and nobody has it twice.

    What was said after a dot and never answered is in doubt: that transaction's two recipients may have it twice.
    """
    with Catcher(MemoryStore()) as sink:
        plan = {
            "data_dir": str(tmp_path),
            "port": sink.port,
            "emit": 1,
            "on_doubt": "resend_once",
            "chunk": 1,
            "deadline_s": 30,
            "recipients": RECIPIENTS,
            "cap": CAP,
        }
        killed = run(plan, f"{point}=kill@3")
        assert killed.returncode == -signal.SIGKILL, (killed.stdout, killed.stderr)
        finished = run({**plan, "emit": 0})
        assert finished.returncode == 0, (finished.stdout, finished.stderr)
        assert '{"sent": 1}' in finished.stdout
        found = taken(sink)
        assert max(len(receipt.recipients) for receipt in sink.store.receipts()) == CAP
    assert set(found) == {f"person-0-{one}@example.net" for one in range(RECIPIENTS)}
    doubled = {one: count for one, count in found.items() if count > 1}
    assert len(doubled) <= (CAP if point == "after_dot" else 0), doubled
    assert set(doubled.values()) <= {2}

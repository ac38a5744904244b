"""A process that runs the embedded mode for the tests that kill it: `python -m tests.acceptance.embedded_child PLAN`.

PLAN is JSON: data_dir, port (of the sink), emit (how many mails), on_doubt, chunk, deadline_s; if need be recipients (of each mail) and
cap (of them in one transaction). The process prints `done` and the states when nothing is open any more. Failpoints come with MAILFLEET_FAILPOINTS.
"""

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from sqlalchemy import text

from mailfleet import Mail, failpoints
from mailfleet_workers.embedded import Embedded
from mailfleet_workers.settings import Settings

APP = "billing"


def settings(plan: dict[str, Any]) -> Settings:
    return Settings.model_validate(
        {
            "data_dir": plan["data_dir"],
            "delivery": "live",
            "accounts": {
                "default": {
                    "host": "127.0.0.1",
                    "port": plan["port"],
                    "tls": "plain",
                    "from": "Billing <billing@example.com>",
                    "recipients_per_message": plan.get("cap"),
                }
            },
            "apps": {APP: {"threads": 4}},
            # Waiting times are scaled down; their order is kept.
            "timing": {
                "heartbeat_s": 0.2,
                "quiet_s": 2.0,
                "settle_s": 0.5,
                "grace_s": 0.3,
                "step_s": 0.3,
                "most_step_s": 2.0,
                "reconcile_s": 0.2,
                "try_next_s": 0.2,
                "drain_s": 5.0,
            },
        }
    )


def main(plan: dict[str, Any]) -> int:
    with Embedded(settings(plan), apps=[APP], fixed_chunk=plan["chunk"]) as fleet:
        if plan["emit"]:
            mailer = fleet.mailer(APP)
            mailer.emit_many(
                [
                    Mail(
                        to=[f"person-{number}-{one}@example.net" for one in range(plan.get("recipients", 1))],
                        subject=f"Mail {number}",
                        text="x",
                        on_doubt=plan["on_doubt"],
                    )
                    for number in range(plan["emit"])
                ]
            )
            print("committed", flush=True)
        until = time.monotonic() + plan["deadline_s"]
        tick = threading.Event()
        while time.monotonic() < until:
            with fleet.engine.connect() as connection:
                query = text("SELECT state, count(*) FROM mailfleet_mail GROUP BY state")
                states = {row[0]: row[1] for row in connection.execute(query)}
            if not set(states) & {"queued", "sending", "doubt"}:
                print("done", json.dumps(states), flush=True)
                return 0
            tick.wait(0.05)
        print("late", json.dumps(states), flush=True)
        return 1


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    given["data_dir"] = Path(given["data_dir"])
    failpoints.arm_from(os.environ)
    sys.exit(main(given))

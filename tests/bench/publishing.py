"""What it costs to publish rows that are due at many different seconds: `python -m tests.bench.publishing`.

Each delay in a call of its own waits for its own confirmations; together they are waited for once.
"""

import os
import random
import time
from itertools import count

from mailfleet.broker.base import Batch
from mailfleet.broker.rabbit import RabbitBroker
from mailfleet_schema.hint import Hint
from mailfleet_schema.states import Priority
from tests.services.opening import open_rabbitmq

ROWS = 500
DELAYS = 300
ROUNDS = 5

_ids = count(1)


def draw(rng: random.Random) -> list[Batch]:
    """Hints for ROWS rows, each with one of DELAYS delays of an hour and more."""
    found: dict[int, list[int]] = {}
    for _ in range(ROWS):
        found.setdefault(3600 + rng.randrange(DELAYS), []).append(next(_ids))
    return [(delay_s, [Hint("billing", Priority.NORMAL, tuple(ids))]) for delay_s, ids in found.items()]


def one_after_another(broker: RabbitBroker, batches: list[Batch]) -> float:
    """Seconds."""
    began = time.monotonic()
    for delay_s, hints in batches:
        broker.publish(hints, delay_s=delay_s)
    return time.monotonic() - began


def together(broker: RabbitBroker, batches: list[Batch]) -> float:
    """Seconds."""
    began = time.monotonic()
    broker.publish_all(batches)
    return time.monotonic() - began


def main() -> None:
    """Print both, in turn, so that the machine's other work is the same for both."""
    rng = random.Random(7)
    server = open_rabbitmq()
    try:
        with server.vhost() as host:
            broker = RabbitBroker(host.url, app="billing", role="producer")
            broker.publish([Hint("billing", Priority.NORMAL, (next(_ids),))])
            for _ in range(ROUNDS):
                batches = draw(rng)
                print(
                    f"{ROWS} rows, {len(batches)} delays:"
                    f" one after another {one_after_another(broker, batches):.2f} s,"
                    f" together {together(broker, batches):.2f} s (load {os.getloadavg()[0]:.1f})"
                )
            broker.close()
    finally:
        server.stop()


if __name__ == "__main__":
    main()

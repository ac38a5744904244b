"""How full a server's windows get under several limiters: `python -m tests.bench.limiters`, half an hour on two cores.

Every limiter has the same four processes, traffic and Redis, one after another in one run, cell by cell. A mail arrives at the server
a while after its permit; what counts is when, by the server's own clock. The tables go into `docs/limits-compared.md`;
with names of limiters as arguments, or `--try`, only what was found is printed.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence

from tests.bench.arrivals import Arrivals
from tests.bench.cell import LONG, SHORT, Cell, Found, cells_of, together
from tests.bench.compared_page import write_page
from tests.bench.hammer import Hammer, Order
from tests.bench.kinds import KINDS
from tests.bench.slots_healed import Healed, heal
from tests.bench.traffic_shape import PERIOD, Shape
from tests.services.locate import find_redis
from tests.services.redis import PrivateRedis
from tests.stage.sliding import use_of
from tests.stage.withheld import Withheld

PROCESSES = 4
#: Seconds for one cell of each rate; a cell of bursts lasts for whole periods.
LENGTH_S = {SHORT: 12.0, LONG: 32.0}
#: A cell is run again, so many times in all, while more of the processors is withheld from this machine.
DISTURBED = 0.03
TRIES = 4


def measure(cell: Cell, hammer: Hammer, url: str, account: str) -> Found:
    """Run it; the account must be new. Raises ValueError when mails were lost between the processes and the server."""
    window_s = cell.rate.window_ms / 1000
    # Windows that begin with the clock's seconds are to begin with the cell, in which the bursts have their place.
    begin = ((time.time() + 0.5) // window_s + 1) * window_s
    withheld = Withheld()
    length_s = LENGTH_S[cell.rate]
    if cell.shape is Shape.EDGES:
        length_s = max(1, length_s // (PERIOD * window_s)) * PERIOD * window_s
    with Arrivals() as server:
        order = Order(
            kind=cell.kind,
            url=url,
            account=account,
            rates=cell.rates,
            shape=cell.shape,
            delay=cell.delay,
            begin=begin,
            length_s=length_s,
            server=server.address,
            seed=7,
            opener=False,
        )
        taken = hammer.strike(order, server)
        if taken != len(server.times):
            raise ValueError(f"{taken} permits, but {len(server.times)} mails arrived")
        uses = tuple(use_of(rate, server.times) for rate in cell.rates)
        return Found(cell, uses, taken, os.getloadavg()[0], withheld.share())


def compare(kinds: Sequence[str], url: str, *, cells: int | None = None) -> list[Found]:
    """Measure all cells, or the first so many, of each of *kinds*, and say what was found."""
    # Cell by cell, so that all limiters meet the same machine, whatever else it does.
    turns = [cell for column in zip(*map(cells_of, kinds), strict=True) for cell in column]
    found = []
    with Hammer(PROCESSES) as hammer:
        for number, cell in enumerate(turns if cells is None else turns[: cells * len(kinds)]):
            tries: list[Found] = []
            while len(tries) < TRIES and (not tries or tries[-1].withheld > DISTURBED):
                tries.append(measure(cell, hammer, url, f"{cell.kind}-{number}-{time.time_ns()}"))
            one = together(tries)
            print(
                f"{cell.kind:16} {cell.shape:9} {cell.delay.name:7} worst {one.worst:7.1%}  "
                + ", ".join(map(str, one.uses))
                + f"  {one.mails} mails, load {one.load:.1f}, {one.withheld:.1%} withheld in the best of {len(tries)}",
                flush=True,
            )
            found.append(one)
    return found


def main() -> int:
    """0 when what had to be measured was, and ours was nowhere above its limits."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument(
        "kinds", nargs="*", metavar="NAME", help=f"only these of {', '.join(KINDS)}; no page is written"
    )
    options.add_argument(
        "--try", dest="cells", type=int, help="only the first so many cells of each; no page is written"
    )
    asked = options.parse_args()
    if unknown := set(asked.kinds) - KINDS.keys():
        options.error(f"unknown: {', '.join(sorted(unknown))}; expected some of {', '.join(KINDS)}")
    programs = find_redis()
    if programs is None:
        print("this needs redis-server: `python -m tests.services.install`", file=sys.stderr)
        return 2
    with PrivateRedis(programs) as server:
        healed: list[Healed] = [] if asked.cells else heal(server.url, asked.kinds or None)
        found = compare(asked.kinds or list(KINDS), server.url, cells=asked.cells)
        if not asked.kinds and not asked.cells:
            write_page(found, healed, server.version)
    return 0


if __name__ == "__main__":
    sys.exit(main())

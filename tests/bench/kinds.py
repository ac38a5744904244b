"""All limiters that are measured beside each other, by a short name."""

from collections.abc import Mapping

from tests.bench.ours import OURS
from tests.bench.peers import PEERS
from tests.bench.takers import Kind

KINDS: Mapping[str, Kind] = {**PEERS, "mailfleet": OURS}

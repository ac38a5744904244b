"""A catching SMTP server: the end of the line in embedded mode, and test equipment that can misbehave on purpose.

`Catcher` listens, a `Store` keeps what it took over, a `Script` says what it does at each step of a conversation;
`Providers` is a script that answers as real providers do.
"""

from mailfleet_workers.catcher.actions import (
    Action,
    Challenge,
    Cut,
    Default,
    Delay,
    Drip,
    Endless,
    Hold,
    Keep,
    Long,
    Raw,
    Reset,
    Say,
    Silent,
)
from mailfleet_workers.catcher.latch import Latch
from mailfleet_workers.catcher.providers import Providers
from mailfleet_workers.catcher.script import Credentials, Event, Plan, Script, Step
from mailfleet_workers.catcher.server import Catcher
from mailfleet_workers.catcher.store import DirectoryStore, MemoryStore, Receipt, Store

__all__ = [
    "Action",
    "Catcher",
    "Challenge",
    "Credentials",
    "Cut",
    "Default",
    "Delay",
    "DirectoryStore",
    "Drip",
    "Endless",
    "Event",
    "Hold",
    "Keep",
    "Latch",
    "Long",
    "MemoryStore",
    "Plan",
    "Providers",
    "Raw",
    "Receipt",
    "Reset",
    "Say",
    "Script",
    "Silent",
    "Step",
    "Store",
]

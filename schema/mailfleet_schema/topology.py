"""Every name that RabbitMQ sees: exchanges, queues, routing keys; shared by all who publish and consume.

Only names and pure functions: whoever talks to a broker declares from them. `docs/wire.md` shows the same for
producers in other languages.
"""

from mailfleet_schema.names import check_name
from mailfleet_schema.states import Priority

#: Topic exchange; routes `<app>.<priority>` to the queue of that name.
MAIL_EXCHANGE = "mailfleet.mail"
#: What nobody can use goes to this fanout exchange, and from there into the queue of the same name.
PARKED_EXCHANGE = "mailfleet.parked"
PARKED_QUEUE = "mailfleet.parked"
#: The pool for mail that any application may send.
SHARED_APP = "shared"

#: The delay ladder has a level for each bit of the delay: 16 … 00, TTL 2^n seconds.
DELAY_LEVELS = 17
#: Where the ladder ends: what leaves it here goes on to the queue of its app and priority.
DELAY_OUT_EXCHANGE = "mailfleet.delay.out"
#: The longest delay the ladder can hold, in seconds (about 36 hours).
MAX_DELAY_S = 2**DELAY_LEVELS - 1

#: The dramatiq actor that every hint names.
ACTOR = "mailfleet.look"


def queue_name(app: str, priority: Priority) -> str:
    """The work queue of *app* for *priority*; raises InvalidName for what is no app name."""
    return f"mailfleet.{check_name('app', app)}.{priority.value}"


def routing_key(app: str, priority: Priority) -> str:
    return f"{check_name('app', app)}.{priority.value}"


def delay_level_name(level: int) -> str:
    """The exchange and queue of *level* (0 to 16)."""
    return f"mailfleet.delay.{level:02d}"


def delay_exchange(delay_s: int) -> str:
    """Where a message that waits *delay_s* seconds enters the ladder: at the level of its highest bit.

    From the top it would come to the same queue, but each level that it does not wait in is one more exchange to route
    through: up to 1.8 ms of a server's CPU for a message instead of 0.1. Raises ValueError outside 1 … MAX_DELAY_S.
    """
    return delay_level_name(_checked(delay_s).bit_length() - 1)


def delay_routing_key(delay_s: int, app: str, priority: Priority) -> str:
    """The 17 bits of *delay_s*, highest first, each a word, then `<app>.<priority>`.

    Raises ValueError outside 1 … MAX_DELAY_S: a longer delay is the reconciler's, a shorter one is none.
    """
    bits = ".".join(f"{_checked(delay_s):0{DELAY_LEVELS}b}")
    return f"{bits}.{routing_key(app, priority)}"


def _checked(delay_s: int) -> int:
    if not 1 <= delay_s <= MAX_DELAY_S:
        raise ValueError(f"delay_s: expected 1 to {MAX_DELAY_S}, got {delay_s}")
    return delay_s

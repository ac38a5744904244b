"""What becomes of a hint's message, by how its actor ended; dramatiq's own middleware would retry it instead.

Nothing raised: acknowledged. InvalidHint: parked. An exception whose class says `leave_unacknowledged = True`: left, it
goes to another process when this one closes. Anything else: acknowledged, because the rows will be looked at anyway, and
a hint that fails every time must not come back for ever.
"""

import logging
from typing import Any

from dramatiq import Broker
from dramatiq.broker import MessageProxy
from dramatiq.middleware import Middleware, SkipMessage

from mailfleet.broker.rabbit.consumer import OnParked
from mailfleet.broker.rabbit.delivery import Delivery
from mailfleet_schema.hint import InvalidHint

_log = logging.getLogger("mailfleet.broker")


class Fates(Middleware):
    """Tells *on_parked* of every message that an actor found to be no hint of its own."""

    def __init__(self, on_parked: OnParked) -> None:
        self._on_parked = on_parked

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:  # noqa: ARG002 - dramatiq's signature
        """Skip what another consumer gets, or already got: this one's was lost while the message waited for a thread."""
        if isinstance(message, Delivery) and message.stale:
            raise SkipMessage("its connection was lost, it comes again")

    def after_process_message(
        self,
        broker: Broker,  # noqa: ARG002 - dramatiq's signature
        message: MessageProxy,
        *,
        result: Any = None,  # noqa: ARG002 - same
        exception: BaseException | None = None,
    ) -> None:
        """Decide; the consumer does it."""
        if exception is None or not isinstance(message, Delivery):
            return
        if isinstance(exception, InvalidHint):
            message.fail()
            if not message.stale:
                self._on_parked(message.queue, "refused", str(exception).partition(", got")[0])
        elif getattr(type(exception), "leave_unacknowledged", False):
            message.left = True
        else:
            _log.warning("hint_failed", extra={"queue": message.queue, "error": type(exception).__name__})

"""A slot as the right to one open connection, for the pool of connections that does not know limits."""

from collections.abc import Callable

from mailfleet_workers.limits.base import Limiter, Login, Slot
from mailfleet_workers.smtp.base import Answer, Phase

#: A connection that died is not replaced if that takes longer, in seconds.
MOST_WAIT_S = 3.0
#: A server may learn so much later that a connection is gone which nobody said goodbye on, in seconds.
LINGER_S = 1.0
_REFUSED = range(500, 600)


class SlotRight:
    """*slot* of *limiter*; *wait* waits so many seconds, less when the worker is to stop."""

    def __init__(self, limiter: Limiter, slot: Slot, wait: Callable[[float], object]) -> None:
        self._limiter = limiter
        self._slot = slot
        self._wait = wait

    @property
    def token(self) -> str:
        return self._slot.token

    @property
    def held(self) -> bool:
        return self._limiter.holds(self._slot.token)

    def opened(self, refused: Answer | None) -> None:
        self._limiter.logged_in(self._slot, _login(refused))

    def again(self) -> bool:
        left_s = MOST_WAIT_S
        while (refusal := self._limiter.login(self._slot)) is not None:
            if refusal.wait_s > left_s:
                return False
            left_s -= max(refusal.wait_s, 0.01)
            self._wait(refusal.wait_s)
        return True

    def close(self, *, orderly: bool) -> None:
        self._limiter.close_slot(self._slot, linger_s=0.0 if orderly else LINGER_S)


def _login(refused: Answer | None) -> Login:
    if refused is None:
        return Login.DONE
    said_no = refused.phase is Phase.AUTH and refused.reply is not None and refused.reply.code in _REFUSED
    return Login.REFUSED if said_no else Login.FAILED

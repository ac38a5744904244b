"""How much a server takes at once: recipients in one transaction, bytes in one message.

What is set and what a preset says is the account's. What a server said only when it had enough (RFC 5321 4.5.3.1.10) is remembered for a
while, in this process: it spares the recipients that would be refused, and nothing depends on it.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import replace

from mailfleet_workers.account import Account
from mailfleet_workers.limits.book import Limits
from mailfleet_workers.limits.rule import Unit
from mailfleet_workers.outcome_recipients import turns
from mailfleet_workers.parcel import Parcel
from mailfleet_workers.verdict import Stop

#: What a server showed counts for so long, in seconds: it may have been a bad hour.
LEARNT_S = 3600.0


class Caps:
    """One process's; thread-safe. An account that changes in anything begins anew."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._learnt: dict[Account, tuple[int, float]] = {}

    def learn(self, account: Account, recipients: int) -> None:
        """*account* has shown that more than so many *recipients* (1 at least) do not go at once."""
        now = self._clock()
        with self._lock:
            self._learnt = {one: kept for one, kept in self._learnt.items() if kept[1] > now}
            self._learnt[account] = max(recipients, 1), now + LEARNT_S

    def refused(self, account: Account, recipients: int, limits: Limits | None) -> None:
        """No permit will ever be given for so many *recipients*, 2 at least, at once: the next try is with fewer."""
        rules = () if limits is None else limits.rules
        most = min((rule.rate.limit for rule in rules if rule.unit is Unit.RECIPIENTS), default=recipients)
        self.learn(account, most if most < recipients else recipients // 2)

    def recipients(self, account: Account) -> int | None:
        """How many recipients may go in one transaction of *account*; None for any number."""
        with self._lock:
            most, until = self._learnt.get(account, (None, 0.0))
        known = [account.recipients_per_message, most if until > self._clock() else None]
        return min((one for one in known if one is not None), default=None)

    def fit(self, parcel: Parcel, account: Account) -> Parcel | Stop:
        """*parcel* for those whose turn it is now, the others as its `rest`; or why it is never taken."""
        envelope, limit = parcel.envelope, account.max_message_bytes
        if limit is not None and (size := envelope.message.size) > limit:
            envelope.message.close()
            return Stop(f"message of {size} bytes exceeds the {limit} that account {account.name} allows")
        most = self.recipients(account)
        if most is None and not parcel.before:
            return parcel
        now, rest = turns(envelope.recipients, parcel.before, most)
        return replace(parcel, envelope=replace(envelope, recipients=now), rest=rest)

"""What is used of an account's limits, for people to look at."""

from dataclasses import dataclass

from mailfleet_workers.limits.rule import Rule


@dataclass(frozen=True, slots=True)
class RuleUse:
    """One rule: `used` counts, of it `in_flight` not answered yet; one more may be sent in `wait_s` seconds."""

    rule: Rule
    used: int
    in_flight: int
    wait_s: float


@dataclass(frozen=True, slots=True)
class Usage:
    """One account. `ready_in_s` is 0 as long as permits are granted; `waiting` processes stand in line; mails are parked
    up to `parked_s` seconds ahead; logins were refused `login_failures` times, and none is tried for `login_wait_s`.
    """

    account: str
    host: str
    ready_in_s: float
    rules: tuple[RuleUse, ...]
    connections: int
    host_connections: int
    waiting: int
    parked_s: float
    login_failures: int
    login_wait_s: float

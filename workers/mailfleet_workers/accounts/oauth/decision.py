"""What to do about a token, from its row alone: one pure decision."""

from dataclasses import dataclass
from typing import TypeAlias

from mailfleet_schema.statements.oauth_token import StoredToken

#: A token is not used for a login in its last seconds, at most a tenth of its life: the server may look at another clock.
LAST_S = 20.0


@dataclass(frozen=True, slots=True)
class Use:
    """The token of the row is good."""


@dataclass(frozen=True, slots=True)
class Renew:
    """It is time for another; `good` says that the one of the row can be used until then."""

    good: bool


@dataclass(frozen=True, slots=True)
class Await:
    """Somebody renews it, for `held_s` more at most."""

    held_s: float


@dataclass(frozen=True, slots=True)
class Rest:
    """There is none: the last try failed for `reason`, and it is too early for another."""

    reason: str


Decision: TypeAlias = Use | Renew | Await | Rest


def decide(
    row: StoredToken | None, *, lifetime_s: float | None, early_s: float, rejected: int | None
) -> Decision:
    """What to do about *row*, None: there is none.

    *lifetime_s* is that of its token, None where it cannot be read. It is renewed *early_s* before its end. *rejected* is
    the generation of a token that a server has refused.
    """
    if row is None:
        return Renew(good=False)
    left_s = row.left_s if row.left_s is not None else 0.0
    good = lifetime_s is not None and row.generation != rejected and left_s > min(LAST_S, lifetime_s / 10)
    held = row.held_s is not None and row.held_s > 0
    if good and (held or left_s > early_s):
        return Use()
    if not held:
        return Renew(good)
    if row.held_by is None:
        return Rest(row.reason or "unknown")
    return Await(row.held_s or 0.0)

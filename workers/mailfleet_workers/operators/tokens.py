"""The access tokens of an account, for people: how long they are good, what came last, why a refresh failed; never a token."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from mailfleet_schema.statements import oauth_token
from mailfleet_schema.statements.oauth_token import StoredToken
from mailfleet_workers.views.base import View


@dataclass(frozen=True, slots=True)
class TokenState(View):
    """One of an account's tokens. `state` is `good`, `ended` or `none` (there was none yet); `renewing`: a worker is about it.

    `generation` is how many there were, `expires_at` the end of the last. `failed_at` and `reason` are None since a refresh worked. An
    account has several while its workers have different secrets, and for a while after they changed: `name` tells them apart.
    """

    name: str
    state: str
    renewing: bool
    generation: int
    expires_at: datetime | None
    failed_at: datetime | None
    reason: str | None
    changed_at: datetime


def token_states(connection: Connection, account: str) -> tuple[TokenState, ...]:
    """The tokens of *account* that workers share, the one that changed last first."""
    return tuple(_state(one) for one in oauth_token.beginning(connection, f"{account}/"))


def _state(one: StoredToken) -> TokenState:
    left_s = None if one.sealed is None else one.left_s
    state = "none" if left_s is None else "good" if left_s > 0 else "ended"
    renewing = one.held_by is not None and one.held_s is not None and one.held_s > 0
    return TokenState(
        one.name,
        state,
        renewing,
        one.generation,
        one.expires_at,
        one.failed_at,
        one.reason,
        one.changed_at,
    )

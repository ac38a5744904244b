"""What operators see of webhooks, and trying again what was given up."""

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection, Engine

from mailfleet_schema.statements.webhook import registered_endpoints
from mailfleet_schema.statements.webhook_delivery import Standing, reopen, standings
from mailfleet_workers.views.base import View

#: Events in one transaction.
STRETCH = 500


@dataclass(frozen=True, slots=True)
class EndpointStatus(View):
    """How the events of one endpoint stand.

    `known`: workers were started with it; else nobody posts its events. `delivered` are those of the last week, `given_up` those of
    the last month. `oldest_s` is the age of the oldest open one, None if there is none; code and error are the newest failure's
    among open and given-up ones.
    """

    endpoint: str
    known: bool
    open: int = 0
    delivered: int = 0
    given_up: int = 0
    oldest_s: float | None = None
    last_code: int | None = None
    last_error: str | None = None


def list_webhooks(connection: Connection) -> tuple[EndpointStatus, ...]:
    """Every endpoint that workers know or that has events, by name."""
    known = {one.name for one in registered_endpoints(connection)}
    found: dict[str, dict[str, Standing]] = {name: {} for name in known}
    for one in standings(connection):
        found.setdefault(one.endpoint, {})[one.state] = one
    return tuple(_status(name, states, known=name in known) for name, states in sorted(found.items()))


def _status(name: str, states: dict[str, Standing], *, known: bool) -> EndpointStatus:
    counts = {state: one.events for state, one in states.items()}
    waiting = states.get("open")
    failing = [one for one in (waiting, states.get("given_up")) if one is not None and one.last_error]
    return EndpointStatus(
        name,
        known,
        open=counts.get("open", 0),
        delivered=counts.get("delivered", 0),
        given_up=counts.get("given_up", 0),
        oldest_s=None if waiting is None else waiting.oldest_s,
        last_code=failing[0].last_code if failing else None,
        last_error=failing[0].last_error if failing else None,
    )


def retry_webhooks(
    engine: Engine, endpoint: str | None = None, *, told: Callable[[int], None] = lambda _: None
) -> int:
    """Post events again that were given up, of *endpoint* or of all (None); how many. *told* hears how many so far.

    They count as new: each has its whole time once more. Broken off and repeated it goes on.
    """
    total = 0
    while True:
        with engine.begin() as connection:
            page = reopen(connection, endpoint, most=STRETCH)
        total += page
        told(total)
        if page < STRETCH:
            return total

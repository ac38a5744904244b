"""What a copy of a database has of its original and must not act on: events for applications that the original tells."""

from mailfleet_schema.dialects import Dialect, Executor, dialect_of
from mailfleet_schema.statements.template import template

#: The reason of what was ended, or put aside, because its original is elsewhere.
COPIED = "copied database"


@template
def _give_up_events(d: Dialect) -> str:
    return d.format(
        """
        WITH page AS MATERIALIZED (
            SELECT id AS event FROM {webhook_event} WHERE state = 'open' ORDER BY due_at LIMIT :most {skip_locked}
        )
        UPDATE {webhook_event} SET state = 'given_up', last_error = :reason, ended_at = {clock}
        FROM page WHERE id = page.event
        RETURNING id
        """
    )


def give_up_events(connection: Executor, *, most: int) -> int:
    """End at most *most* webhook events that are not delivered; to be repeated until it returns 0."""
    bound = {"most": most, "reason": COPIED}
    return len(connection.execute(_give_up_events(dialect_of(connection)), bound).fetchall())

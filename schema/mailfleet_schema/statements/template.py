"""From a template over a dialect's fragments to a prepared SQLAlchemy text, made once for each dialect."""

from collections.abc import Callable
from functools import cache

from sqlalchemy import TextClause, text

from mailfleet_schema.dialects import Dialect


def template(build: Callable[[Dialect], str]) -> Callable[[Dialect], TextClause]:
    """Cache *build*'s SQL for each dialect: parsing a text costs more than running it."""

    @cache
    def statement(dialect: Dialect) -> TextClause:
        return text(build(dialect))

    return statement

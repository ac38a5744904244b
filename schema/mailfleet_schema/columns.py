"""Types of columns that each dialect has in its own way."""

import json
from typing import Any

from sqlalchemy import BigInteger, DateTime, Integer, Text, TypeDecorator
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine.interfaces import Dialect as SqlalchemyDialect
from sqlalchemy.types import TypeEngine

from mailfleet_schema.dialects import SQLITE, dialect_named


class Instant(TypeDecorator[Any]):
    """A point in time: timestamptz in PostgreSQL, integer milliseconds since 1970 in SQLite; aware UTC in Python."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: SqlalchemyDialect) -> TypeEngine[Any]:
        if dialect.name == SQLITE.name:
            return dialect.type_descriptor(Integer())
        return dialect.type_descriptor(DateTime(timezone=True))

    def process_bind_param(self, value: Any, dialect: SqlalchemyDialect) -> Any:
        return dialect_named(dialect.name).bind_instant(value)

    def process_result_value(self, value: Any, dialect: SqlalchemyDialect) -> Any:
        return dialect_named(dialect.name).read_instant(value)


#: PostgreSQL bigint; SQLite makes a rowid only of an INTEGER primary key.
RowId = BigInteger().with_variant(Integer(), "sqlite")


class JsonText(TypeDecorator[Any]):
    """JSON as text, for SQLite: a column that is declared JSON turns the text of a number into a number there."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: SqlalchemyDialect) -> Any:  # noqa: ARG002 - the hook has it
        return None if value is None else json.dumps(value, ensure_ascii=False)

    def process_result_value(self, value: Any, dialect: SqlalchemyDialect) -> Any:  # noqa: ARG002 - the hook has it
        return None if value is None else json.loads(value)


#: none_as_null: None is SQL's NULL, not JSON's.
Json = JSONB(none_as_null=True).with_variant(JsonText(), "sqlite")

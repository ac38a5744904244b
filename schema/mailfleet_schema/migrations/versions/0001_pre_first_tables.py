"""The first tables. The SQL stands beside as it was released: a later change of `tables` is a later migration."""

from alembic import op

from mailfleet_schema.migrations.first.postgresql import POSTGRESQL
from mailfleet_schema.migrations.first.sqlite import SQLITE

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create every table and index, in the order of their references, and name the database."""
    for statement in POSTGRESQL if op.get_bind().dialect.name == "postgresql" else SQLITE:
        op.execute(statement)

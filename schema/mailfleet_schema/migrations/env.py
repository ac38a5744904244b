"""Alembic's entry: runs the migrations on the connection that `upgrade` hands over."""

from alembic import context

from mailfleet_schema.migrations import version_table_of

connection = context.config.attributes["connection"]
table = version_table_of(connection)
context.configure(
    connection=connection,
    transactional_ddl=True,
    version_table=table.name,
    version_table_schema=table.schema,
)
context.run_migrations()

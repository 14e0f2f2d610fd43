"""How alembic reaches the ledger: on the connection that ledger.database.upgrade hands it."""

from alembic import context

from consumer.ledger.database.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
    transaction_per_migration=False,
)
with context.begin_transaction():
    context.run_migrations()

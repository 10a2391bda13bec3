"""Alembic's entry: on the connection `app.db.migrate` hands over, or on the database the settings name."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

from app.db.engine import Database
from app.db.tables import Base
from app.settings import Settings


def run(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=connection.dialect.name == "sqlite")
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    database = Database(Settings().url)
    with database.engine.connect() as connection:
        run(connection)
        connection.commit()
    database.close()

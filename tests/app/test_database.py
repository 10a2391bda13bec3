"""Migrations, sessions, the store and the pool, each by itself."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from parts import Echo

from app.context import Context
from app.db import migrate
from app.db.engine import UNAVAILABLE, Database
from app.db.tables import Base, Product
from app.errors import NotFound, Unavailable
from app.pool import UNHEALTHY_AFTER, Pool
from app.settings import Settings
from app.store import Store
from inspection.evidence import NotAnImage


def test_the_migrations_make_the_tables(settings: Settings) -> None:
    database = Database(settings.url)
    migrate.upgrade(database)
    migrate.upgrade(database)
    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    assert migrate.revision(database) == migrate.HEAD
    assert ScriptDirectory(str(Path(migrate.__file__).parents[2] / "migrations")).get_current_head() == migrate.HEAD
    database.close()


def test_an_older_database_is_not_touched(settings: Settings) -> None:
    ctx = Context.open(settings, Echo())
    with ctx.database.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0000'")
    ctx.close()
    with pytest.raises(Unavailable, match="kensor db upgrade") as caught:
        Context.open(settings, Echo())
    assert caught.value.code == "database_outdated"


def test_a_database_that_is_away_is_one_kind_of_error() -> None:
    database = Database("postgresql+psycopg://nobody@127.0.0.1:1/none")
    with pytest.raises(UNAVAILABLE):
        database.ping()
    database.close()


def test_sqlite_is_set_up_for_a_record(tmp_path: Path) -> None:
    database = Database(Settings(_env_file=None, data=tmp_path).url)
    with database.engine.connect() as connection:
        said = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    assert said == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
    database.close()


def test_a_failed_transaction_leaves_nothing_and_frees_the_writer(settings: Settings) -> None:
    ctx = Context.open(settings, Echo())
    with pytest.raises(ZeroDivisionError), ctx.database.write() as session:
        session.add(Product(name="gone"))
        session.flush()
        raise ZeroDivisionError
    done: list[int] = []

    def write(n: int) -> None:
        with ctx.database.write() as session:
            session.add(Product(name=f"p{n}"))
        done.append(n)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    with ctx.database.read() as session:
        assert {row.name for row in session.query(Product)} == {f"p{n}" for n in done} == {f"p{n}" for n in range(12)}
    ctx.close()


@pytest.mark.parametrize("url", ["{tmp}/objects", "memory://kensor-test"])
def test_the_store_keeps_bytes_by_their_digest(tmp_path: Path, url: str) -> None:
    store = Store(url.format(tmp=tmp_path))
    digest = store.put(b"hello")
    assert store.put(b"hello") == digest
    assert store.get(digest) == b"hello"
    assert store.local(digest, tmp_path / "copies").read_bytes() == b"hello"
    assert (tmp_path / "copies").exists() == url.startswith("memory")
    with pytest.raises(NotFound):
        store.get("0" * 64)
    store.check()


class Loaded:
    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes

    def inspect(self, data: bytes, *, thresholds: Any = None) -> Any:
        if data == b"bad picture":
            raise NotAnImage("no")
        if data == b"device":
            raise RuntimeError("the device is gone")
        return data


def test_the_pool_loads_once_and_keeps_to_its_bytes() -> None:
    loads: list[str] = []

    def load(folder: Path) -> Loaded:
        loads.append(folder.name)
        return Loaded(40)

    pool = Pool(load, budget=100, threads=4)
    futures = [pool.submit("a", Path("a"), b"x") for _ in range(8)]
    assert all(future.result().outcome == b"x" for future in futures)
    assert loads == ["a"]
    for name in ("b", "a", "c"):
        pool.submit(name, Path(name), b"x").result()
    assert pool.nbytes == 80
    pool.submit("a", Path("a"), b"x").result()
    assert loads == ["a", "b", "c"]  # b was the least recently used
    pool.submit("b", Path("b"), b"x").result()
    assert loads == ["a", "b", "c", "b"]
    pool.close()
    assert pool.depth == 0


def test_a_recipe_that_fails_to_load_is_tried_again() -> None:
    answers = iter([OSError("no"), Loaded(1)])

    def load(_: Path) -> Loaded:
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer
        return answer

    pool = Pool(load, budget=1)
    assert isinstance(pool.submit("a", Path(), b"x").exception(), OSError)
    assert pool.submit("a", Path(), b"x").result().outcome == b"x"
    pool.close()


def test_a_lost_device_is_unhealthy_and_a_bad_picture_is_not() -> None:
    pool = Pool(lambda _: Loaded(1), budget=1)
    for _ in range(UNHEALTHY_AFTER):
        assert isinstance(pool.submit("a", Path(), b"bad picture").exception(), NotAnImage)
    assert pool.healthy
    for _ in range(UNHEALTHY_AFTER):
        assert isinstance(pool.submit("a", Path(), b"device").exception(), RuntimeError)
    assert not pool.healthy
    pool.submit("a", Path(), b"x").result()
    assert pool.healthy
    pool.close()

"""Migrations, sessions, the store and the pool, each by itself."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from hypothesis import given
from hypothesis import strategies as st
from parts import Echo
from sqlalchemy import event
from sqlalchemy.orm import Session

from app.context import Context
from app.db import migrate
from app.db.engine import UNAVAILABLE, Database
from app.db.queries import drift
from app.db.queries import inspections as queries
from app.db.queries.inspections import Filter
from app.db.tables import Base, Product, Recipe, new_id
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


def test_lists_of_a_large_record_look_only_at_what_they_show(tmp_path: Path) -> None:
    """SQLite, which keeps no statistics: nothing is sorted, and no more is read than an index or the page's end allows."""
    ctx = Context.open(Settings(_env_file=None, data=tmp_path), Echo())
    then = datetime(2026, 11, 1, tzinfo=UTC)
    judged_by = Recipe(product_id="p", number=2)
    looks: dict[str, Callable[[Session], Any]] = {
        "newest": lambda session: queries.newest(session, Filter(), None, 50),
        "of a product": lambda session: queries.newest(session, Filter(product="part"), None, 50),
        "of a day": lambda session: queries.newest(session, Filter(since=then, until=then + timedelta(days=1)), None, 50),
        "counts": lambda session: queries.verdict_counts(session, Filter(since=then)),
        "again": lambda session: queries.again(session, ["a", "b"], 2),
        "drift": lambda session: drift.stream(session, judged_by, None, 2000),
    }
    said: list[tuple[str, Any]] = []
    event.listen(ctx.database.engine, "before_cursor_execute", lambda *of: said.append((of[2], of[3])))
    plans = {}
    for name, look in looks.items():
        with ctx.database.read() as session:
            said.clear()
            look(session)
            statement, values = next(one for one in said if one[0].startswith("SELECT"))
            rows = session.connection().exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
            plans[name] = [row[3] for row in rows if "inspections" in row[3] or "TEMP" in row[3]]
    assert plans["newest"] == ["SCAN inspections USING INDEX sqlite_autoindex_inspections_1"]  # by falling id, to the page's end
    assert plans["of a product"] == ["SEARCH inspections USING INDEX ix_inspections_product_id_id (product_id=?)"]
    assert plans["of a day"] == ["SEARCH inspections USING INDEX sqlite_autoindex_inspections_1 (id>? AND id<?)"]
    assert plans["counts"][0].startswith("SEARCH inspections USING INDEX") and len(plans["counts"]) == 1
    assert plans["again"][0].startswith("SEARCH inspections USING INDEX ix_inspections_source_id (source_id=?)")
    assert "ix_inspections_product_id_recipe_number_id (product_id=? AND recipe_number=?)" in plans["drift"][0]
    ctx.close()


@given(st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)), st.integers(-60_000, 60_000))
def test_the_first_id_of_any_moment_is_an_id(when: datetime, later: int) -> None:
    assert str(UUID(queries.id_at(when, later))) == queries.id_at(when, later)
    assert queries.id_at(when, later) <= queries.id_at(when, later + 1)


def test_ids_tell_the_time() -> None:
    before = datetime.now(UTC)
    made = [new_id() for _ in range(50)]
    after = datetime.now(UTC) + timedelta(milliseconds=50)
    assert all(queries.id_at(before) <= one < queries.id_at(after) for one in made)


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

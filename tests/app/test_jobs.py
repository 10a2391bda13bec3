"""Jobs: leases, cancelling, resuming, a killed worker, and the report of flipped verdicts."""

from __future__ import annotations

import csv
import errno
import io
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from parts import BAD, GOOD, PNG, give_recipe, good, picture, refused

from app.context import Context
from app.db.queries import idempotency
from app.db.queries import jobs as queries
from app.db.tables import Idempotency, Inspection, Job, now
from app.runners import Local
from app.services import jobs as jobs_service
from app.services.reinspections import harmless
from app.settings import Settings
from app.task import LeaseLost, Task
from app.worker import MAX_ATTEMPTS, Worker
from inspection.enrolment import enroll
from inspection.evidence import Cancelled
from inspection.options import EnrolOptions


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second recipe: made of parts that all carry the defect, so that verdicts flip."""
    folder = tmp_path_factory.mktemp("recipe") / "other"
    odd = [picture(i, "stain") for i in range(300, 306)] + [BAD]
    enroll(odd, folder, product="part", options=EnrolOptions(image_size=128, coreset=200))
    return folder


@pytest.fixture
def judged(client: TestClient, part: str, ctx: Context, other: Path) -> str:
    """Six inspections by recipe 1, and a recipe 2."""
    for n in range(6):
        query = {"serial": "=1+1" if n == 1 else f"s{n}", "lot": "L"}
        good(client.post(f"{part}/inspections", params=query, content=BAD if n % 2 else GOOD, headers=PNG), 201)
    give_recipe(ctx, client, other)
    return part


def submit(client: TestClient, **more: Any) -> dict[str, Any]:
    job: dict[str, Any] = good(client.post("/v1/jobs", json={"type": "reinspect", "product": "part", "recipe": 2, **more}), 202)
    return job


def test_a_reinspection_reports_what_flipped(client: TestClient, judged: str, ctx: Context) -> None:
    job = submit(client, lot="L")
    assert (job["state"], job["total"]) == ("queued", 6)
    assert Worker(ctx).once()
    done = good(client.get(job["links"]["self"]))
    assert (done["state"], done["done"], done["failed"]) == ("done", 6, 0)
    report = good(client.get(job["links"]["report"]))
    assert report["flips"] == done["result"]["flips"]
    assert sum(report["flips"]["reject"].values()) == 3
    assert report["flips"]["reject"].get("reject", 0) == 0
    assert {row["from_verdict"] for row in report["rows"]} >= {"reject"}
    assert all(row["flipped"] for row in report["rows"])
    again = good(client.get(f"/v1/inspections?job={job['id']}"))["items"]
    assert {row["recipe"]["number"] for row in again} == {2}
    assert {row["source_id"] for row in again} == {row["id"] for row in good(client.get("/v1/inspections"))["items"]}
    assert good(client.get("/v1/reports/summary"))["inspections"] == 6
    table = list(csv.DictReader(io.StringIO(client.get(f"{job['links']['report']}?format=csv").text)))
    assert len(table) == 6
    assert table[1]["serial"] == "'=1+1"
    assert table[1]["from_verdict"] == "reject"


@pytest.mark.parametrize("text", ["=1", "+1", "-1", "@x", "\tx", "\r=1"])
def test_spreadsheet_formulas_are_made_harmless(text: str) -> None:
    assert harmless(text) == f"'{text}"
    assert harmless(-1.5) == -1.5
    assert harmless("s-1") == "s-1"


def test_what_cannot_be_reinspected(client: TestClient, judged: str) -> None:
    wrong = {"type": "reinspect", "product": "part", "recipe": 2}
    refused(client.post("/v1/jobs", json={**wrong, "recipe": 7}), 404, "unknown_recipe")
    refused(client.post("/v1/jobs", json={**wrong, "lot": "none"}), 422, "nothing_to_reinspect")
    refused(client.post("/v1/jobs", json={**wrong, "type": "evaluate"}), 422, "invalid")
    assert good(client.get("/v1/jobs"))["items"] == []


def test_a_lost_picture_is_that_pictures_error(client: TestClient, judged: str, ctx: Context) -> None:
    shown = good(client.get("/v1/inspections?limit=1"))["items"][0]
    Path(ctx.store.path(shown["image"]["sha256"])).unlink()
    job = submit(client)
    Worker(ctx).once()
    done = good(client.get(job["links"]["self"]))
    assert (done["state"], done["done"], done["failed"]) == ("done_with_errors", 6, 3)
    rows = good(client.get(job["links"]["report"]))["rows"]
    assert {row["error"] for row in rows if row["error"]} == {"object_gone"}
    ctx.store.put(BAD)
    good(client.post(f"{job['links']['self']}:resume"))
    Worker(ctx).once()
    assert good(client.get(job["links"]["self"]))["state"] == "done"


def test_a_store_that_is_away_is_no_pictures_error(
    client: TestClient, judged: str, ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = submit(client)
    with monkeypatch.context() as patched:
        patched.setattr(ctx.store, "_read", lambda sha256: (_ for _ in ()).throw(OSError(errno.EIO, "away")))
        Worker(ctx).once()
    ended = good(client.get(job["links"]["self"]))
    assert (ended["state"], ended["error"]["code"], ended["done"], ended["failed"]) == ("failed", "storage_unavailable", 0, 0)
    good(client.post(f"{job['links']['self']}:resume"))
    Worker(ctx).once()
    assert good(client.get(job["links"]["self"]))["state"] == "done"


def test_a_job_that_nobody_cancelled_goes_back_to_the_queue(client: TestClient, judged: str, ctx: Context) -> None:
    """As where the database was away for longer than the lease, and came back: between two pictures of a chunk."""
    job, looked = submit(client), iter([False, True, True, True])
    runner = Local(ctx.store, ctx.pool)
    recipe = good(client.get(f"{judged}/recipes/2"))["sha256"]
    images = [one["image"]["sha256"] for one in good(client.get("/v1/inspections"))["items"]]
    found = runner.run(recipe, ctx.settings.recipes / recipe, images, lambda: next(looked))
    assert len(found) == 1
    with pytest.raises(Cancelled):
        runner.run(recipe, ctx.settings.recipes / recipe, images, lambda: next(looked))

    class Stopped(Worker):
        def _do(self, task: Task) -> None:
            task.stop.set()
            super()._do(task)

    assert Stopped(ctx).once()
    assert good(client.get(job["links"]["self"]))["state"] == "queued"


def test_old_responses_are_forgotten_some_at_a_time(client: TestClient, part: str, ctx: Context) -> None:
    old = now() - timedelta(hours=25)
    with ctx.database.write() as session:
        rows = [
            Idempotency(
                key_id="k", token=str(n), fingerprint="0" * 64, status=201, response={}, created_at=old if n < 5 else now()
            )
            for n in range(6)
        ]
        session.add_all(rows)
    with ctx.database.write() as session:
        assert idempotency.purge(session, 3) == 3
    Worker(ctx)._tidy()
    with ctx.database.read() as session:
        assert [row.token for row in session.query(Idempotency)] == ["5"]


def test_a_job_is_cancelled_before_and_while_it_runs(client: TestClient, judged: str, ctx: Context) -> None:
    waiting = submit(client)
    assert good(client.post(f"{waiting['links']['self']}:cancel"))["state"] == "cancelled"
    assert not Worker(ctx).once()
    refused(client.post(f"{waiting['links']['self']}:cancel"), 409, "job_over")
    running = submit(client)
    with ctx.database.write() as session:
        assert queries.claim(session, "w", 60) is not None
    assert good(client.post(f"{running['links']['self']}:cancel"))["state"] == "cancelling"
    with ctx.database.write() as session:
        job = queries.get(session, running["id"])
        assert job is not None
        job.lease_until = now() - timedelta(seconds=1)
    assert Worker(ctx).once()
    assert good(client.get(running["links"]["self"]))["state"] == "cancelled"
    good(client.post(f"{running['links']['self']}:resume"))
    Worker(ctx).once()
    assert good(client.get(running["links"]["self"]))["state"] == "done"
    refused(client.post(f"{running['links']['self']}:resume"), 409, "not_resumable")


def test_a_worker_that_is_told_to_leave_hands_its_job_back(client: TestClient, judged: str, ctx: Context) -> None:
    job = submit(client)
    worker = Worker(ctx)
    worker.leave()
    worker.once()
    handed = good(client.get(job["links"]["self"]))
    assert (handed["state"], handed["attempts"]) == ("queued", 0)
    assert Worker(ctx).once()


def test_a_worker_that_leaves_amid_a_chunk_keeps_what_it_judged(
    client: TestClient, judged: str, ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, worker, judge = submit(client), Worker(ctx), ctx.pool.submit
    with monkeypatch.context() as patch:
        patch.setattr(ctx.pool, "submit", lambda *given: (worker.leave(), judge(*given))[1])
        assert worker.once()
    handed = good(client.get(job["links"]["self"]))
    assert (handed["state"], handed["attempts"], handed["done"]) == ("queued", 0, 1)
    assert Worker(ctx).once()
    ended = good(client.get(job["links"]["self"]))
    assert (ended["state"], ended["done"], ended["failed"]) == ("done", 6, 0)
    with ctx.database.read() as session:
        assert session.query(Inspection).filter(Inspection.job_id == job["id"]).count() == 6


def test_a_lease_is_one_workers_until_it_runs_out(client: TestClient, judged: str, ctx: Context) -> None:
    job = submit(client)
    with ctx.database.write() as session:
        first = queries.claim(session, "first", 0.2)
        assert first is not None
        task = Task.of(first, "first")
    with ctx.database.write() as session:
        assert queries.claim(session, "second", 60) is None
    time.sleep(0.3)
    with ctx.database.write() as session:
        second = queries.claim(session, "second", 60)
        assert second is not None
        assert (second.id, second.attempts) == (job["id"], 2)
    with pytest.raises(LeaseLost), ctx.database.write() as session:
        session.add_all([])
        task.hold(session)
    with ctx.database.write() as session:
        assert queries.beat(session, job["id"], "first", now(), "", 1, 1) is None


def test_a_job_that_kills_every_worker_ends_as_failed(client: TestClient, judged: str, ctx: Context) -> None:
    job = submit(client)
    with ctx.database.write() as session:
        row = queries.get(session, job["id"])
        assert row is not None
        row.attempts = MAX_ATTEMPTS
    Worker(ctx).once()
    ended = good(client.get(job["links"]["self"]))
    assert (ended["state"], ended["error"]["code"]) == ("failed", "worker_lost")


def test_many_workers_share_jobs_without_doing_one_twice(client: TestClient, judged: str, ctx: Context) -> None:
    made = [submit(client)["id"] for _ in range(3)]
    threads = [threading.Thread(target=Worker(ctx).once) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    shown = {job["id"]: job for job in good(client.get("/v1/jobs?state=done"))["items"]}
    assert set(shown) == set(made)
    assert {job["attempts"] for job in shown.values()} == {1}
    for job in made:
        assert len(good(client.get(f"/v1/inspections?job={job}"))["items"]) == 6


def test_what_a_killed_worker_began_its_successor_ends(client: TestClient, judged: str, ctx: Context, settings: Settings) -> None:
    """A real process, killed between two commits: no picture is judged twice, none is lost."""
    job = submit(client)
    slow = {**os.environ, **settings.model_copy(update={"chunk": 1}).environment()}
    code = (
        "import time, app.runners as r, app.worker as w\n"
        "run = r.Local.run\n"
        "def slowly(*a):\n    time.sleep(0.4)\n    return run(*a)\n"
        "r.Local.run = slowly\n"
        "from app.settings import Settings\n"
        "w.run_worker(Settings())\n"
    )
    victim = subprocess.Popen([sys.executable, "-c", code], env=slow)
    try:
        until = time.monotonic() + 60
        while len(good(client.get(f"/v1/inspections?job={job['id']}"))["items"]) < 2:
            assert time.monotonic() < until
            assert victim.poll() is None
            time.sleep(0.05)
    finally:
        victim.send_signal(signal.SIGKILL)
        victim.wait()
    assert good(client.get(job["links"]["self"]))["state"] == "running"
    until = time.monotonic() + 30
    while not Worker(ctx).once():
        assert time.monotonic() < until
        time.sleep(0.1)
    done = good(client.get(job["links"]["self"]))
    assert (done["state"], done["done"], done["attempts"]) == ("done", 6, 1)
    again = good(client.get(f"/v1/inspections?job={job['id']}"))["items"]
    assert len(again) == len({row["source_id"] for row in again}) == 6


def test_an_unforeseen_failure_is_a_failed_job_without_its_inside(
    client: TestClient, judged: str, ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    def boom(*_: Any) -> Any:
        raise RuntimeError("password=hunter2")

    job = submit(client)
    monkeypatch.setattr("app.runners.Local.run", boom)
    Worker(ctx).once()
    ended = client.get(job["links"]["self"])
    assert good(ended)["state"] == "failed"
    assert "hunter2" not in ended.text


def test_tables_refuse_what_no_service_would_write(client: TestClient, ctx: Context, part: str) -> None:
    from app.db.engine import CONFLICT

    with pytest.raises(CONFLICT), ctx.database.write() as session:
        session.add(Job(type="dance", product_id="none", params={}, created_by="t"))
    made = good(client.post(f"{part}/inspections", content=GOOD, headers=PNG), 201)
    with pytest.raises(CONFLICT), ctx.database.write() as session:
        row = session.get(Inspection, made["id"])
        assert row is not None
        row.verdict = "error"


def test_the_time_left_is_the_stages_own(client: TestClient, part: str, ctx: Context) -> None:
    good(client.post(f"{part}/images", files=[("files", ("a.png", picture(0)))]), 201)
    job = good(client.post(f"{part}/recipes", json={"backbone": "efficientnet_lite0", "image_size": 128}), 202)
    start = now()
    with ctx.database.write() as session:
        claimed = queries.claim(session, "me", 100)
        assert claimed is not None
        claimed.started_at = start - timedelta(hours=1)

    def beat(stage: str, done: int) -> Any:
        with ctx.database.write() as session:
            assert queries.beat(session, job["id"], "me", now() + timedelta(seconds=100), stage, done, 10) == "running"
        return good(client.get(f"/v1/jobs/{job['id']}"))["eta_s"]

    assert beat("features", 0) is None
    assert beat("features", 5) < 600  # not an hour
    with ctx.database.write() as session:
        begun = jobs_service.get(session, job["id"]).stage_at
        assert begun is not None and begun >= start
    assert beat("features", 6) < 600
    with ctx.database.write() as session:
        assert jobs_service.get(session, job["id"]).stage_at == begun
    assert beat("coreset", 1) < 600
    with ctx.database.write() as session:
        assert jobs_service.get(session, job["id"]).stage_at > begun

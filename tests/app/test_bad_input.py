"""What clients, networks and disks do to a service: a clear error in the envelope, nothing half-written, nothing poisoned."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any

import cv2
import numpy as np
import pytest
from fastapi.testclient import TestClient
from parts import BAD, GOOD, HERE, PNG, Echo, good, picture, refused

from app.context import DECODED, Context
from app.errors import Busy, Unavailable, describe
from app.main import create_app
from app.middleware import MANY, ONE_PICTURE, PLAIN, Edge
from app.pool import Pool
from app.routes import inspections
from app.settings import MIB, Settings
from inspection.image import decode

KEY = "a-long-enough-secret"


@pytest.fixture
def keyed(settings: Settings) -> TestClient:
    """A service with an administrator's key, and a caller without one."""
    with_key = Settings(**{**settings.model_dump(), "admin_key": KEY}, _env_file=None)
    return TestClient(create_app(with_key, Echo()), **HERE)


@pytest.mark.parametrize(
    "custom",
    [
        "[" * 5000,
        '{"a":' * 1200 + "1" + "}" * 1200,
        '{"a":' * 17 + "1" + "}" * 17,
        '{"a": "\\ud800"}',
        '{"\\udfff": 1}',
        '{"a": "\\u0000"}',
        '{"a": 1e999}',
        '{"a": NaN}',
        f'{{"a": {2**63}}}',
        f'{{"a": "{"x" * 8192}"}}',
        "[1]",
        "{",
    ],
    ids=lambda text: text[:12],
)
def test_a_custom_object_that_a_reader_could_not_read_again_is_refused(client: TestClient, part: str, custom: str) -> None:
    form = {"files": {"file": ("x", GOOD)}, "data": {"custom": custom}}
    refused(client.post(f"{part}/inspections", **form), 422, "invalid")
    assert good(client.get("/v1/inspections"))["items"] == []


def test_a_custom_object_comes_back_as_it_was(client: TestClient, part: str) -> None:
    custom = {"Infinity": "NaN", "deep": [[{"a": [1, -(2**63), 1.5, True, None, "ü"]}]]}
    body = good(client.post(f"{part}/inspections", params={"custom": json.dumps(custom)}, content=GOOD, headers=PNG), 201)
    assert body["custom"] == custom
    assert good(client.get("/v1/inspections"))["items"][0]["custom"] == custom
    wide = json.dumps({"注": "検" * 8000}, ensure_ascii=False)  # 24 kB, and within what is promised
    form = {"files": {"file": ("x", GOOD)}, "data": {"custom": wide}}
    assert good(client.post(f"{part}/inspections", **form), 201)["custom"] == json.loads(wide)


@pytest.mark.parametrize("origin", ["http://[", "http://", "[", b"\xff", "http://127.0.0.1/"])
def test_an_odd_origin_is_a_foreign_one(client: TestClient, origin: Any) -> None:
    refused(client.get("/v1/products", headers={"Origin": origin}), 403, "local_only")


@pytest.mark.parametrize("cursor", ["nan:x", "inf:x", "-1e999:x", "x", ":"])
def test_a_cursor_of_no_list_is_refused(client: TestClient, cursor: str) -> None:
    refused(client.get(f"/v1/inspections?sort=uncertainty&cursor={cursor}"), 422, "bad_cursor")


def test_a_stranger_is_refused_before_his_body_is_read(keyed: TestClient) -> None:
    form = {"Content-Type": "multipart/form-data; boundary=a"}
    with keyed:
        for path in (
            "/v1/products/x/images",
            "/v1/products/x/inspections:batch",
            "/v1/products/x/recipes:import",
            "/v1/products",
        ):
            big = {"Content-Length": str(1000 * MIB)}
            refused(keyed.post(path, headers=form | big, content=b"--a\r\n"), 401, "unauthenticated")
            refused(keyed.post(path, headers=form | big | {"Authorization": "Bearer no"}, content=b"-"), 401, "unauthenticated")
        good(keyed.get("/v1/products", headers={"Authorization": f"Bearer {KEY}"}))


def test_json_is_read_into_memory_and_therefore_small(client: TestClient) -> None:
    big = b'{"name":"' + b"x" * PLAIN
    body = refused(client.post("/v1/products", content=big, headers={"Content-Type": "application/json"}), 413, "too_large")
    assert body["details"] == {"limit": PLAIN}
    pieces = iter([b'{"name":"', b"x" * PLAIN])
    refused(client.post("/v1/products", content=pieces, headers={"Content-Type": "application/json"}), 413, "too_large")


def test_every_route_that_takes_files_may_take_large_ones(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    bodies = {
        path: set(operation["post"].get("requestBody", {"content": ()})["content"])
        for path, operation in paths.items()
        if "post" in operation
    }
    assert {path for path, kinds in bodies.items() if kinds == {"multipart/form-data"}} == {
        p for p in bodies if MANY.fullmatch(p)
    }
    assert [p for p in bodies if ONE_PICTURE.fullmatch(p)] == ["/v1/products/{product}/inspections"]
    assert sum(bool(MANY.fullmatch(path)) for path in bodies) == 3


def test_a_fault_amid_many_pictures_is_in_the_log(
    client: TestClient, part: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*of: Any) -> Any:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(inspections, "_judge", broken)
    response = client.post(f"{part}/inspections:batch", files=[("files", ("a.png", GOOD))])
    assert good(response)["items"][0]["error"]["code"] == "internal_error"
    (record,) = (one for one in caplog.records if one.levelno == logging.ERROR)
    assert response.headers["x-request-id"] in record.getMessage() and "a fault of ours" in record.getMessage()


def test_a_client_that_leaves_amid_its_body_is_no_fault_of_ours(
    client: TestClient, ctx: Context, part: str, caplog: pytest.LogCaptureFixture
) -> None:
    sent: list[Any] = []
    edge = client.app.middleware_stack  # type: ignore[attr-defined]
    while not isinstance(edge, Edge):
        edge = edge.app
    messages = iter([{"type": "http.request", "body": b"x", "more_body": True}, {"type": "http.disconnect"}])

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": f"{part}/inspections", "query_string": b"", "http_version": "1.1",
        "headers": [(b"host", b"127.0.0.1"), (b"content-type", b"image/png")], "client": ("127.0.0.1", 1),
        "app": client.app, "scheme": "http", "server": ("127.0.0.1", 80), "root_path": "", "state": {},
    }  # fmt: skip
    asyncio.run(edge(scope, receive, send))
    assert sent == []
    assert "internal_error" not in caplog.text
    lines = [line for line in client.get("/metrics").text.splitlines() if line.startswith("kensor_requests_total{")]
    counted = [line for line in lines if "/inspections" in line]
    assert [line.rpartition("status=")[2] for line in counted] == ['"4xx"} 1.0']


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EMFILE])
def test_a_disk_that_fails_anywhere_is_named(client: TestClient, part: str, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise OSError(number, "secret path")

    monkeypatch.setattr("app.services.recipes.recipe.import_file", fails)
    response = client.post(f"{part}/recipes:import", files={"file": ("r.zip", b"PK")})
    body = refused(response, 503, "storage_unavailable")
    assert "secret" not in response.text and "disk" in body["message"]
    assert response.headers["retry-after"]


def test_a_full_disk_under_sqlite_is_named() -> None:
    from sqlalchemy.exc import OperationalError

    full = OperationalError("INSERT", {}, Exception("database or disk is full"))
    assert describe(full)[:3] == (503, "storage_unavailable", "The database cannot be used: database or disk is full.")
    assert describe(OperationalError("x", {}, Exception("password=hunter2")))[1] == "database_unavailable"


def test_a_file_over_the_limit_is_not_read_whole(settings: Settings) -> None:
    small = settings.model_copy(update={"max_upload_mib": 1})
    read: list[int] = []

    with TestClient(create_app(small, Echo()), **HERE) as client:
        good(client.post("/v1/products", json={"name": "part"}), 201)
        original = SpooledTemporaryFile.read

        def counted(self: Any, *args: Any) -> Any:
            data = original(self, *args)
            read.append(len(data))
            return data

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(SpooledTemporaryFile, "read", counted)
            files = [("files", ("big.png", bytes(5 * MIB))), ("files", ("good.png", GOOD))]
            body = good(client.post("/v1/products/part/images", files=files), 201)
    assert max(read) <= MIB + 1
    assert [(r["filename"], r["code"]) for r in body["refused"]] == [("big.png", "image_too_large")]
    assert len(body["items"]) == 1


def test_a_file_name_is_kept_for_people_and_cannot_speak_to_a_terminal(client: TestClient) -> None:
    good(client.post("/v1/products", json={"name": "part"}), 201)
    odd = "..\\a/\x1b[31mred\n\x07.png"
    body = good(client.post("/v1/products/part/images", files=[("files", (odd, GOOD))]), 201)
    name = body["items"][0]["filename"]
    assert name.isprintable() and name.endswith(".png")


def test_a_stopping_pool_says_so(ctx: Context, tmp_path: Path) -> None:
    ctx.pool.close()
    with pytest.raises(Unavailable) as caught:
        ctx.pool.submit("0" * 64, tmp_path, GOOD)
    assert caught.value.code == "stopping"
    assert ctx.pool.depth == 0


def test_warnings_of_an_enrolment_name_the_users_own_files(client: TestClient, ctx: Context) -> None:
    from app.worker import Worker

    good(client.post("/v1/products", json={"name": "part"}), 201)
    same = cv2.imencode(".bmp", cv2.imdecode(np.frombuffer(GOOD, np.uint8), cv2.IMREAD_COLOR))[1].tobytes()
    files = [("files", ("sound one.png", GOOD)), ("files", ("again.bmp", same)), ("files", ("third.png", picture(7)))]
    good(client.post("/v1/products/part/images", files=files), 201)
    job = good(
        client.post("/v1/products/part/recipes", json={"backbone": "efficientnet_lite0", "image_size": 128, "coreset": 100}), 202
    )
    assert Worker(ctx).once()
    result = good(client.get(job["links"]["self"]))["result"]
    assert "again.bmp = sound one.png" in " ".join(result["warnings"])


def test_questions_that_a_dead_server_left_open_are_closed(client: TestClient, ctx: Context, part: str) -> None:
    from app.schemas.questions import QuestionIn
    from app.security import LOCAL
    from app.services import questions

    made = good(client.post(f"{part}/inspections", content=GOOD, headers=PNG), 201)
    old, new = (questions.open_question(ctx, made["id"], QuestionIn(question=text), LOCAL) for text in ("old?", "new?"))
    with ctx.database.write() as session:
        row = questions.queries.get(session, old)
        assert row is not None
        row.created_at -= timedelta(hours=1)
    patient = ctx.settings.model_copy(update={"engine_timeout": 3600.0})
    with ctx.database.write() as session:
        assert questions.abandon(session, patient) == 0
        assert questions.abandon(session, ctx.settings) == 1
    states = {q["id"]: q["state"] for q in good(client.get(f"/v1/inspections/{made['id']}/questions"))["items"]}
    assert states == {old: "interrupted", new: "open"}


def test_a_damaged_recipe_is_mended_by_taking_its_file_in_again(client: TestClient, ctx: Context, part: str) -> None:
    from app.services import recipes

    shown = good(client.get(f"{part}/recipes/1"))
    exported = client.get(f"{part}/recipes/1/export").content
    bank = recipes.folder(ctx, shown["sha256"]) / "memory_bank.safetensors"
    bank.write_bytes(bank.read_bytes()[:-1] + b"x")
    refused(client.post(f"{part}/inspections", content=GOOD, headers=PNG), 503, "recipe_refused")
    refused(client.get(f"{part}/recipes/1/export"), 503, "recipe_refused")
    assert good(client.post(f"{part}/recipes:import", files={"file": ("r.zip", exported)}), 201)["sha256"] == shown["sha256"]
    good(client.post(f"{part}/inspections", content=GOOD, headers=PNG), 201)
    assert not [path for path in ctx.settings.recipes.iterdir() if path.name.startswith(".")]


def test_waiting_pictures_are_bounded_in_bytes_and_one_is_always_taken(tmp_path: Path) -> None:
    started, go_on = threading.Event(), threading.Event()

    class Slow:
        nbytes = 1

        def inspect(self, data: bytes, *, thresholds: Any = None) -> Any:
            started.set()
            go_on.wait(10)

    pool = Pool(lambda _: Slow(), budget=1, queue_bytes=100)
    try:
        first = pool.submit("a", tmp_path, bytes(150))
        assert started.wait(5)
        with pytest.raises(Busy) as caught:
            pool.submit("a", tmp_path, b"x")
        assert caught.value.status == 429 and caught.value.retry_after
        go_on.set()
        first.result(5)
        again = [pool.submit("a", tmp_path, bytes(40)) for _ in range(2)]
        assert [future.result(5).outcome for future in again] == [None, None]
    finally:
        go_on.set()
        pool.close()


class Crowded:
    """Decodes slowly, and counts how many do so at once."""

    def __init__(self) -> None:
        self.lock, self.inside, self.most, self.many = threading.Lock(), 0, 0, 0

    def __call__(self, *args: Any, **more: Any) -> Any:
        with self.lock:
            self.inside, self.many = self.inside + 1, self.many + 1
            self.most = max(self.most, self.inside)
        time.sleep(0.02)
        with self.lock:
            self.inside -= 1
        return decode(*args, **more)


def test_few_pictures_are_decoded_at_once_however_many_ask(
    client: TestClient, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = good(client.post(f"{part}/inspections", content=BAD, headers=PNG), 201)
    monkeypatch.setattr("app.services.pictures.decode", crowded := Crowded())
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: client.get(made["links"]["overlay.png"]).status_code, range(16)))
    assert answers == [200] * 16
    assert crowded.most <= DECODED


def test_few_pictures_are_decoded_at_once_however_many_questions_come(
    client: TestClient, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = good(client.post(f"{part}/inspections", content=BAD, headers=PNG), 201)
    monkeypatch.setattr("app.services.questions.decode", crowded := Crowded())
    with ThreadPoolExecutor(8) as threads:
        posts = threads.map(lambda _: client.post(made["links"]["questions"], json={"question": "Where?"}), range(16))
        assert [answer.status_code for answer in posts] == [201] * 16
    assert crowded.many >= 16 and crowded.most <= DECODED


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("normals",), [1, 2]),
        (("warnings",), [{"a": 1}]),
        (("heatmap_max",), "x"),
        (("calibration", "thresholds", "reject"), -5),
        (("calibration", "thresholds", "review"), 1e30),
    ],
    ids=lambda value: str(value)[-20:],
)
def test_a_foreign_recipe_that_no_list_could_show_is_refused(
    client: TestClient, part: str, enrolled: Path, tmp_path: Path, path: tuple[str, ...], value: Any
) -> None:
    document = json.loads((enrolled / "recipe.json").read_text())
    at = document
    for name in path[:-1]:
        at = at[name]
    at[path[-1]] = value
    with zipfile.ZipFile(tmp_path / "r.zip", "w") as archive:
        archive.writestr("recipe.json", json.dumps(document))
        for name in document["files"]:
            archive.write(enrolled / name, name)
    files = {"file": ("r.zip", (tmp_path / "r.zip").read_bytes())}
    refused(client.post(f"{part}/recipes:import", files=files), 422, "recipe_refused")
    assert [item["number"] for item in good(client.get(f"{part}/recipes"))["items"]] == [1]

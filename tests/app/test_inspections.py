"""The main path: a picture to a recorded verdict, and all that is not a picture to a clear refusal."""

from __future__ import annotations

import errno
import hashlib
import io
import struct
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient
from parts import BAD, GOOD, HERE, PNG, Echo, good, picture, refused, served

from app.context import DECODED, Context
from app.main import create_app
from app.services import pictures
from app.settings import Settings
from inspection import calibration
from inspection.inspector import Inspector


def count(client: TestClient) -> int:
    return len(good(client.get("/v1/inspections?limit=500"))["items"])


def test_a_picture_becomes_a_recorded_verdict(client: TestClient, part: str, enrolled: Path) -> None:
    query = {
        "serial": "S1", "lot": "L1", "station": "st", "line": "2", "shift": "night", "measurement_id": "m",
        "captured_at": "2026-01-02T03:04:05+02:00", "custom": '{"torque": 1.5}', "is_simulated": "true",
    }  # fmt: skip
    response = client.post(f"{part}/inspections", params=query, content=BAD, headers=PNG)
    body = good(response, 201)
    assert response.headers["location"] == body["links"]["self"]
    expected = Inspector.load(enrolled).inspect(BAD)
    assert body["verdict"] == expected.verdict == "reject"
    assert body["raw_score"] == pytest.approx(expected.raw_score, rel=1e-6)
    reject = body["thresholds"]["reject"]
    assert body["score"] == pytest.approx(calibration.score(body["raw_score"], reject["raw"]))
    assert body["score"] > 0.5 == reject["score"] > body["thresholds"]["review"]["score"]
    assert body["margin"] == pytest.approx(body["raw_score"] / reject["raw"] - 1)
    assert body["recipe"] == {"number": 1, "sha256": expected.recipe_sha256}
    assert [f["id"] for f in body["findings"]] == [f.id for f in expected.findings]
    assert body["image"] == {"sha256": hashlib.sha256(BAD).hexdigest(), "width": 128, "height": 128}
    assert set(body["timings_ms"]) == {"decode", "queue", "features", "search", "map", "store"}
    assert (body["captured_at"], body["custom"], body["is_simulated"]) == ("2026-01-02T01:04:05Z", {"torque": 1.5}, True)
    kept = good(client.get(body["links"]["self"]))
    assert kept == {**body, "reviews": [], "revision": 0}
    assert client.get(body["links"]["image"]).content == BAD
    stored = client.get(body["map"]["url"])
    assert hashlib.sha256(stored.content).hexdigest() == body["map"]["sha256"]
    values = np.load(io.BytesIO(stored.content))
    np.testing.assert_allclose(values, expected.map, rtol=1e-5)
    assert values.dtype == np.float32
    for name in ("heatmap.png", "overlay.png"):
        drawn = cv2.imdecode(np.frombuffer(client.get(body["links"][name]).content, np.uint8), cv2.IMREAD_COLOR)
        assert drawn.shape == (128, 128, 3)


def test_a_good_part_does_not_glow(client: TestClient, part: str) -> None:
    def brightness(data: bytes) -> float:
        body = good(client.post(f"{part}/inspections", content=data, headers=PNG), 201)
        png = client.get(body["links"]["heatmap.png"]).content
        return float(cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_GRAYSCALE).max())

    assert brightness(GOOD) < 0.7 * brightness(BAD)


def test_a_form_and_a_raw_body_say_the_same(client: TestClient, part: str) -> None:
    raw = good(client.post(f"{part}/inspections?lot=7", content=BAD, headers=PNG), 201)
    form = good(client.post(f"{part}/inspections", files={"file": ("x.bin", BAD)}, data={"lot": "7"}), 201)
    same = ("verdict", "raw_score", "findings", "lot", "image")
    assert [raw[name] for name in same] == [form[name] for name in same]
    refused(client.post(f"{part}/inspections", files={"file": ("x", BAD)}, data={"typo": "7"}), 422, "invalid")
    refused(client.post(f"{part}/inspections", files={"other": ("x", BAD)}), 422, "file_missing")


def test_thresholds_can_be_overridden_and_it_is_recorded(client: TestClient, part: str) -> None:
    plain = good(client.post(f"{part}/inspections", content=GOOD, headers=PNG), 201)
    assert plain["verdict"] == "pass"
    raw = plain["raw_score"]
    query = {"threshold_review": raw * 0.5, "threshold_reject": raw * 0.9}
    strict = good(client.post(f"{part}/inspections", params=query, content=GOOD, headers=PNG), 201)
    assert (strict["verdict"], strict["raw_score"]) == ("reject", pytest.approx(raw))
    assert strict["thresholds"]["reject"] == {"raw": query["threshold_reject"], "score": 0.5, "overridden": True}
    wrong = {"threshold_review": 9e9, "threshold_reject": 1}
    refused(client.post(f"{part}/inspections", params=wrong, content=GOOD, headers=PNG), 422, "thresholds_refused")
    refused(client.post(f"{part}/inspections?threshold_reject=nan", content=GOOD, headers=PNG), 422, "invalid")


def test_a_line_may_ask_for_the_verdict_alone(client: TestClient, part: str) -> None:
    body = good(client.post(f"{part}/inspections?detail=verdict", content=GOOD, headers=PNG), 201)
    assert body["verdict"] == "pass"
    assert "findings" not in body
    assert "findings" in good(client.get(body["links"]["self"]))


def bomb() -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    size = struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(2**20))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def tiny() -> bytes:
    return cv2.imencode(".png", np.zeros((1, 1, 3), np.uint8))[1].tobytes()


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"", 415, "not_an_image"),
        (b"not a picture at all", 415, "not_an_image"),
        (GOOD[: len(GOOD) // 2], 415, "not_an_image"),
        (tiny(), 422, "image_unusable"),
        (bomb(), 413, "image_too_large"),
    ],
    ids=["empty", "text", "truncated", "one pixel", "bomb"],
)
def test_what_is_no_picture_gets_no_verdict_and_leaves_nothing(
    client: TestClient, part: str, ctx: Context, data: bytes, status: int, code: str
) -> None:
    refused(client.post(f"{part}/inspections", content=data, headers=PNG), status, code)
    assert count(client) == 0
    assert not Path(ctx.store.path(hashlib.sha256(data).hexdigest())).exists()


def test_a_picture_of_more_bytes_than_allowed(settings: Settings) -> None:
    with TestClient(create_app(settings.model_copy(update={"max_upload_mib": 1}), Echo()), **HERE) as client:
        good(client.post("/v1/products", json={"name": "part"}), 201)
        big = GOOD + b"\0" * 2**20
        refused(client.post("/v1/products/part/inspections", content=big, headers=PNG), 413, "image_too_large")
        refused(client.post("/v1/products/part/inspections", files={"file": ("a", big)}), 413, "image_too_large")


def test_the_wrong_address_or_type(client: TestClient, part: str) -> None:
    refused(client.post("/v1/products/none/inspections", content=GOOD, headers=PNG), 404, "unknown_product")
    refused(client.post(f"{part}/inspections?recipe=9", content=GOOD, headers=PNG), 404, "unknown_recipe")
    refused(client.post(f"{part}/inspections", json={}), 415, "unsupported_media_type")
    good(client.post("/v1/products", json={"name": "empty"}), 201)
    refused(client.post("/v1/products/empty/inspections", content=GOOD, headers=PNG), 409, "no_recipe")
    good(client.delete(part))
    refused(client.post(f"{part}/inspections", content=GOOD, headers=PNG), 409, "product_archived")


def test_a_repeated_request_is_done_once(client: TestClient, part: str) -> None:
    headers = {**PNG, "Idempotency-Key": "k1"}
    first = client.post(f"{part}/inspections?serial=1", content=GOOD, headers=headers)
    again = client.post(f"{part}/inspections?serial=1", content=GOOD, headers=headers)
    assert good(first, 201) == good(again, 201)
    assert again.headers["idempotency-replayed"] == "true"
    refused(client.post(f"{part}/inspections?serial=2", content=GOOD, headers=headers), 422, "idempotency_key_reused")
    refused(client.post(f"{part}/inspections?serial=1", content=BAD, headers=headers), 422, "idempotency_key_reused")
    assert count(client) == 1


def test_the_same_request_many_times_at_once_is_done_once(client: TestClient, part: str) -> None:
    headers = {**PNG, "Idempotency-Key": "at once"}
    refused(client.post(f"{part}/inspections", content=GOOD, headers=headers), 422, "invalid")  # a space in the key
    headers["Idempotency-Key"] = "at-once"
    with ThreadPoolExecutor(8) as threads:
        replies = list(threads.map(lambda _: client.post(f"{part}/inspections", content=GOOD, headers=headers), range(8)))
    assert len({good(reply, 201)["id"] for reply in replies}) == 1
    assert count(client) == 1


def test_a_failed_request_may_be_repeated(client: TestClient, part: str) -> None:
    headers = {**PNG, "Idempotency-Key": "retry"}
    refused(client.post(f"{part}/inspections", content=b"x", headers=headers), 415, "not_an_image")
    good(client.post(f"{part}/inspections", content=GOOD, headers=headers), 201)


def test_sixteen_clients_lose_no_row(client: TestClient, part: str) -> None:
    def post(n: int) -> str:
        data = BAD if n % 2 else GOOD
        body = good(client.post(f"{part}/inspections?serial={n}", content=data, headers=PNG), 201)
        assert body["verdict"] == ("reject" if n % 2 else "pass")
        return str(body["id"])

    with ThreadPoolExecutor(16) as threads:
        ids = list(threads.map(post, range(64)))
    listed = good(client.get("/v1/inspections?limit=500"))["items"]
    assert {row["id"] for row in listed} == set(ids)
    assert {row["serial"] for row in listed} == {str(n) for n in range(64)}


@pytest.mark.parametrize("database_url", [None], ids=["sqlite"])
def test_more_writers_than_threads_wait_for_each_other_only(settings: Settings, enrolled: Path) -> None:
    """Each took the one writer's lock before it had a thread to write in: with forty waiting, the first never got one."""
    with served(settings, Echo()) as address, httpx.Client(base_url=address, timeout=60, trust_env=False) as http:
        good(http.post("/v1/products", json={"name": "part"}), 201)
        names = [f"p{n}" for n in range(120)]
        with ThreadPoolExecutor(len(names)) as clients:
            made = list(clients.map(lambda name: http.post("/v1/products", json={"name": name}).status_code, names))
        assert made == [201] * len(names)  # 503 where the lock was waited for 15 s


@pytest.mark.parametrize("database_url", [None], ids=["sqlite"])
def test_a_gallery_leaves_threads_to_verdicts(settings: Settings, enrolled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go, begun = threading.Event(), list[str]()
    monkeypatch.setattr(pictures, "drawn", lambda *of: (begun.append(of[1]), go.wait(60), b"png")[2])
    with served(settings, Echo()) as address, httpx.Client(base_url=address, timeout=60, trust_env=False) as http:
        one = "/v1/inspections/01900000-0000-7000-8000-000000000000/overlay.png"
        with ThreadPoolExecutor(60) as clients:
            drawn = [clients.submit(http.get, one) for _ in range(60)]
            try:
                while len(begun) < DECODED:
                    time.sleep(0.01)
                time.sleep(0.5)  # for the others to come, and to wait
                assert good(http.get("/v1/inspections"))["items"] == [] and not any(each.done() for each in drawn)
                assert len(begun) == DECODED
            finally:
                go.set()
            assert {each.result().status_code for each in drawn} == {200}


def test_a_full_queue_is_told(settings: Settings) -> None:
    held = threading.Event()

    class Slow:
        nbytes = 1

        def inspect(self, data: bytes, *, thresholds: Any = None) -> Any:
            held.wait(20)
            raise RuntimeError("never mind")

    narrow = settings.model_copy(update={"queue_length": 1})
    with TestClient(create_app(narrow, Echo()), **HERE) as client:
        ctx: Context = client.app.state.context  # type: ignore[attr-defined]
        ctx.pool._load = lambda folder: Slow()  # the seam: what is judged is not the point
        running = [ctx.pool.submit("a", Path(), b"") for _ in range(2)]
        from app.db.tables import Product, Recipe

        with ctx.database.write() as session:
            product = Product(name="part", promoted=1)
            session.add(product)
            session.flush()
            session.add(Recipe(product_id=product.id, number=1, sha256="a" * 64, manifest={}, created_by="t"))
        response = client.post("/v1/products/part/inspections", content=GOOD, headers=PNG)
        refused(response, 429, "queue_full")
        assert int(response.headers["retry-after"]) >= 1
        held.set()
        assert all(isinstance(future.exception(), RuntimeError) for future in running)
        assert count(client) == 0


def test_one_bad_file_never_fails_the_rest(client: TestClient, part: str) -> None:
    files = [("files", ("a.png", GOOD)), ("files", ("b.txt", b"no")), ("files", ("c.png", BAD))]
    body = good(client.post(f"{part}/inspections:batch?lot=L", files=files))
    assert [(item["filename"], item["status"]) for item in body["items"]] == [("a.png", 201), ("b.txt", 415), ("c.png", 201)]
    assert body["items"][1]["error"]["code"] == "not_an_image"
    assert (body["done"], body["failed"]) == (2, 1)
    assert {row["lot"] for row in good(client.get("/v1/inspections"))["items"]} == {"L"}
    again = client.post(f"{part}/inspections:batch", files=files, headers={"Idempotency-Key": "x"})
    refused(again, 422, "idempotency_unsupported")


def test_lists_filter_sort_and_turn_pages(client: TestClient, part: str) -> None:
    made = [
        good(
            client.post(
                f"{part}/inspections?serial=s{n}&lot={n % 2}", content=picture(200 + n, "stain" if n == 2 else None), headers=PNG
            ),
            201,
        )
        for n in range(5)
    ]

    def pages(query: str) -> list[dict[str, Any]]:
        found, cursor = [], ""
        while True:
            page = good(client.get(f"/v1/inspections?limit=2&{query}{cursor}"))
            found += page["items"]
            if page["next_cursor"] is None:
                return found
            cursor = f"&cursor={page['next_cursor']}"

    assert [row["id"] for row in pages("")] == [row["id"] for row in reversed(made)]
    assert [row["serial"] for row in pages("lot=1")] == ["s3", "s1"]
    assert (
        {row["serial"] for row in pages("verdict=reject")}
        == {row["serial"] for row in made if row["verdict"] == "reject"}
        >= {"s2"}
    )
    unsure = pages("sort=uncertainty")
    assert [row["id"] for row in unsure] == [row["id"] for row in sorted(made, key=lambda row: abs(row["margin"]))]
    assert pages("serial=s3&product=part&recipe=1")[0]["id"] == made[3]["id"]
    assert pages("product=other") == pages("to=2020-01-01T00:00:00Z") == pages("recipe=2") == []
    assert len(pages("from=2020-01-01T00:00:00Z&reviewed=false")) == 5
    summary = good(client.get("/v1/reports/summary?product=part"))
    assert summary["inspections"] == 5 == sum(summary["verdicts"].values())


def test_reviews_stand_beside_the_verdict(client: TestClient, part: str) -> None:
    made = good(client.post(f"{part}/inspections", content=BAD, headers=PNG), 201)
    queue = f"/v1/queue?verdict={made['verdict']}"
    assert [row["id"] for row in good(client.get(queue))["items"]] == [made["id"]]
    body = {"decision": "pass", "comment": "dust", "finding": "f1", "expected_revision": 0}
    first = good(client.post(made["links"]["reviews"], json=body), 201)
    assert (first["revision"], first["reviewer"]) == (1, "local")
    stale = refused(client.post(made["links"]["reviews"], json=body), 409, "stale_revision")
    assert stale["details"] == {"revision": 1}
    refused(
        client.post(made["links"]["reviews"], json={**body, "finding": "f99", "expected_revision": 1}), 422, "unknown_finding"
    )
    good(client.post(made["links"]["reviews"], json={"decision": "reject", "expected_revision": 1}), 201)
    record = good(client.get(made["links"]["self"]))
    assert [(r["revision"], r["decision"]) for r in record["reviews"]] == [(1, "pass"), (2, "reject")]
    assert record["verdict"] == made["verdict"]
    assert good(client.get(queue))["items"] == []
    assert good(client.get("/v1/reports/summary"))["agreement"] == {"reject": {"reject": 1}}


def test_two_reviewers_at_once_one_is_told(client: TestClient, part: str) -> None:
    made = good(client.post(f"{part}/inspections", content=BAD, headers=PNG), 201)
    body = {"decision": "pass", "expected_revision": 0}
    with ThreadPoolExecutor(6) as threads:
        replies = list(threads.map(lambda _: client.post(made["links"]["reviews"], json=body).status_code, range(6)))
    assert sorted(replies) == [201, 409, 409, 409, 409, 409]


def test_a_full_disk_is_503_and_nothing_is_half_written(
    client: TestClient, part: str, ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("app.store.os.fsync", full)
        body = refused(client.post(f"{part}/inspections", content=GOOD, headers=PNG), 503, "storage_unavailable")
    assert "No space left" in body["message"]
    assert not [path for path in Path(ctx.store.root).rglob("*") if path.is_file()]
    assert count(client) == 0
    good(client.post(f"{part}/inspections", content=GOOD, headers=PNG), 201)


def test_a_stored_picture_that_was_changed_is_not_served(client: TestClient, part: str, ctx: Context) -> None:
    made = good(client.post(f"{part}/inspections", content=GOOD, headers=PNG), 201)
    path = Path(ctx.store.path(made["image"]["sha256"]))
    path.write_bytes(BAD)
    refused(client.get(made["links"]["image"]), 503, "object_damaged")
    path.unlink()
    refused(client.get(made["links"]["image"]), 404, "object_gone")

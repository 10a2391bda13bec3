"""Products, pictures, recipes: made by a job, numbered, promoted, carried."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from parts import BAD, GOOD, HERE, PNG, SEED, Echo, give_recipe, good, picture, refused

from app.context import Context
from app.main import create_app
from app.services import recipes
from app.settings import Settings
from app.worker import Worker
from inspection import normals
from inspection.drawn import drawn
from inspection.enrolment import enroll
from inspection.normals import read
from inspection.options import EnrolOptions

SMALL = {"backbone": "efficientnet_lite0", "image_size": 128, "coreset": 200}


def upload(client: TestClient, n: int = 4) -> None:
    files = [("files", (f"{i}.png", picture(i))) for i in range(n)]
    good(client.post("/v1/products/part/images", files=files), 201)


@pytest.fixture
def product(client: TestClient) -> str:
    good(client.post("/v1/products", json={"name": "part"}), 201)
    return "/v1/products/part"


def test_products_are_made_changed_archived_and_kept(client: TestClient, product: str) -> None:
    refused(client.post("/v1/products", json={"name": "part"}), 409, "product_exists")
    assert good(client.patch(product, json={"description": "a part"}))["description"] == "a part"
    assert good(client.delete(product))["archived_at"].endswith("Z")
    assert good(client.get("/v1/products"))["items"] == []
    assert len(good(client.get("/v1/products?archived=true"))["items"]) == 1
    refused(client.post(f"{product}/images", files=[("files", ("a", GOOD))]), 409, "product_archived")
    assert good(client.patch(product, json={"archived": False}))["archived_at"] is None


def test_pictures_are_kept_once_and_each_file_stands_alone(client: TestClient, product: str) -> None:
    files = [("files", ("a.png", GOOD)), ("files", ("b.png", b"no")), ("files", ("again.png", GOOD))]
    body = good(client.post(f"{product}/images?kind=normal", files=files), 201)
    assert (len(body["items"]), body["duplicates"]) == (1, 1)
    assert [(item["filename"], item["code"]) for item in body["refused"]] == [("b.png", "not_an_image")]
    again = good(client.post(f"{product}/images", files=files[:1]), 201)
    assert (again["duplicates"], again["items"][0]["id"]) == (1, body["items"][0]["id"])
    good(client.post(f"{product}/images", files=files[:1], data={"kind": "defect", "label": "stain"}), 201)
    shown = good(client.get(f"{product}/images?kind=defect"))["items"]
    assert [(row["label"], row["width"]) for row in shown] == [("stain", 128)]
    assert client.get(f"{product}/images/{shown[0]['id']}").content == GOOD
    assert client.delete(f"{product}/images/{shown[0]['id']}").status_code == 204
    refused(client.get(f"{product}/images/{shown[0]['id']}"), 404, "not_found")
    refused(client.post(f"{product}/images", files=[("files", ("b", b"no"))]), 415, "not_an_image")


def test_a_mask_belongs_to_one_picture_of_its_size(client: TestClient, product: str) -> None:
    import cv2
    import numpy as np

    def mask(side: int) -> bytes:
        return cv2.imencode(".png", np.zeros((side, side), np.uint8))[1].tobytes()

    one = [("files", ("a", BAD))]
    body = good(client.post(f"{product}/images", files=[*one, ("mask", ("m", mask(128)))], data={"kind": "test"}), 201)
    assert body["items"][0]["mask_sha256"]
    refused(client.post(f"{product}/images", files=[("files", ("a", GOOD)), ("mask", ("m", mask(64)))]), 422, "image_unusable")
    refused(client.post(f"{product}/images", files=[*one, *one, ("mask", ("m", mask(128)))]), 422, "invalid")


def test_enrolment_is_a_job_that_makes_a_recipe(client: TestClient, product: str, ctx: Context) -> None:
    refused(client.post(f"{product}/recipes", json=SMALL), 422, "enrolment_refused")
    upload(client)
    response = client.post(f"{product}/recipes", json={**SMALL, "promote": True})
    job = good(response, 202)
    assert response.headers["location"] == job["links"]["self"]
    assert Worker(ctx).once()
    done = good(client.get(job["links"]["self"]))
    assert (done["state"], done["result"]["recipe"], done["result"]["promoted"]) == ("done", 1, True)
    recipe = good(client.get(f"{product}/recipes/1"))
    assert recipe["sha256"] == done["result"]["sha256"]
    assert recipe["promoted"]
    assert recipe["thresholds"]["review"]["raw"] < recipe["thresholds"]["reject"]["raw"]
    assert len(recipe["calibration"]["held_out_scores"]) == 4
    assert good(client.post(f"{product}/inspections", content=BAD, headers=PNG), 201)["verdict"] == "reject"
    assert [path.name for path in ctx.settings.recipes.iterdir()] == [recipe["sha256"]]
    events = client.get(job["links"]["events"]).text
    assert events.startswith("event: done\n")


def test_pictures_of_a_distant_store_lie_on_disk_while_they_are_learned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them in memory would be as large as the plant's archive."""
    settings = Settings(_env_file=None, data=tmp_path, store_url=f"memory://{tmp_path.name}", no_worker=True)
    sources: list[object] = []
    monkeypatch.setattr(normals, "read", lambda source, limits: (sources.append(source), read(source, limits))[1])
    with TestClient(create_app(settings, Echo()), **HERE) as client:
        good(client.post("/v1/products", json={"name": "part"}), 201)
        upload(client)
        ctx = client.app.state.context  # type: ignore[attr-defined]
        for body in (SMALL, {"extends": 1}):
            if "extends" in body:
                good(client.post("/v1/products/part/images", files=[("files", ("n.png", picture(9)))]), 201)
            job = good(client.post("/v1/products/part/recipes", json=body), 202)
            assert Worker(ctx).once()
            assert good(client.get(job["links"]["self"]))["state"] == "done"
    assert sources and all(isinstance(source, Path) and "-pictures" in source.parent.name for source in sources)
    assert not list(settings.recipes.glob(".*"))


@pytest.mark.parametrize("database_url", [None], ids=["sqlite"])
def test_the_reference_expert_is_enrolled_promoted_and_judges(client: TestClient, product: str, ctx: Context) -> None:
    upload(client, 8)
    job = good(client.post(f"{product}/recipes", json={"expert": "reference", "image_size": 128}), 202)
    assert Worker(ctx).once()
    done = good(client.get(job["links"]["self"]))
    assert (done["state"], done["result"]["recipe"], done["result"]["promoted"]) == ("done", 1, False), done
    recipe = good(client.post(f"{product}/recipes/1:promote"))
    assert (recipe["expert"], recipe["promoted"]) == ("reference", True)
    assert "references.safetensors" in recipe["files"]
    sound = good(client.post(f"{product}/inspections", content=GOOD, headers=PNG), 201)
    assert (sound["verdict"], sound["findings"]) == ("pass", [])
    stained = good(client.post(f"{product}/inspections", content=BAD, headers=PNG), 201)
    assert (stained["verdict"], stained["recipe"]["number"], len(stained["findings"])) == ("reject", 1, 1)
    _, mask = drawn(SEED, 101, "stain", 128)
    x, y = stained["findings"][0]["peak_xy"]
    assert mask is not None and mask[y, x]


def test_two_enrolments_at_once_both_end_well(client: TestClient, product: str, ctx: Context) -> None:
    upload(client)
    jobs = [good(client.post(f"{product}/recipes", json={**SMALL, "seed": seed}), 202) for seed in (0, 1)]
    threads = [threading.Thread(target=Worker(ctx).once) for _ in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ends = [good(client.get(job["links"]["self"])) for job in jobs]
    assert [end["state"] for end in ends] == ["done", "done"], ends
    assert sorted(end["result"]["recipe"] for end in ends) == [1, 2]
    assert [row["number"] for row in good(client.get(f"{product}/recipes"))["items"]] == [2, 1]
    first = good(client.get(f"{product}/recipes?limit=1"))
    assert (len(first["items"]), first["next_cursor"]) == (1, "2")
    assert good(client.get(f"{product}/recipes?cursor=2"))["items"][0]["number"] == 1


def test_one_picture_makes_an_uncalibrated_recipe(client: TestClient, product: str, ctx: Context) -> None:
    upload(client, 1)
    good(client.post(f"{product}/recipes", json={**SMALL, "promote": True}), 202)
    Worker(ctx).once()
    job = good(client.get("/v1/jobs"))["items"][0]
    assert job["state"] == "done"
    assert not job["result"]["promoted"]
    assert any("Not promoted" in warning for warning in job["result"]["warnings"])
    refused(client.post(f"{product}/recipes/1:promote"), 409, "uncalibrated")
    good(client.post(f"{product}/recipes/1:promote", json={"force": True}))
    body = good(client.post(f"{product}/inspections", content=BAD, headers=PNG), 201)
    assert (body["verdict"], body["reasons"][0], body["score"], body["margin"]) == ("review", "uncalibrated", None, None)


def test_a_repeated_enrolment_request_makes_one_job(client: TestClient, product: str) -> None:
    upload(client, 1)
    headers = {"Idempotency-Key": "enroll-1"}
    ids = {good(client.post(f"{product}/recipes", json=SMALL, headers=headers), 202)["id"] for _ in range(2)}
    assert len(ids) == 1
    refused(client.post(f"{product}/recipes", json={**SMALL, "seed": 9}, headers=headers), 422, "idempotency_key_reused")


def test_promotion_and_rollback(client: TestClient, part: str, ctx: Context, enrolled: Path) -> None:
    refused(client.post(f"{part}:rollback"), 409, "nothing_to_roll_back")
    for number in (2, 3):
        assert give_recipe(ctx, client, enrolled) == number
    assert good(client.post(f"{part}:rollback"))["promoted"] == 2
    assert good(client.post(f"{part}:rollback"))["promoted"] == 1
    refused(client.post(f"{part}:rollback"), 409, "nothing_to_roll_back")
    assert good(client.post(f"{part}/recipes/3:promote"))["promoted"]
    assert good(client.post(f"{part}:rollback"))["promoted"] == 1
    refused(client.post(f"{part}/recipes/9:promote"), 404, "unknown_recipe")


def test_a_recipe_that_cannot_judge_any_more_is_not_rolled_back_to(client: TestClient, part: str, ctx: Context) -> None:
    scratch = ctx.settings.recipes / ".other"
    made = enroll([picture(n) for n in range(3)], scratch, product="part", options=EnrolOptions(image_size=64, coreset=50))
    give_recipe(ctx, client, scratch)
    shutil.rmtree(scratch)
    assert good(client.get(part))["promoted"] == 2
    first = good(client.get(f"{part}/recipes/1"))["sha256"]
    next((ctx.settings.recipes / first).glob("*.safetensors")).write_bytes(b"torn")
    refused(client.post(f"{part}:rollback"), 503, "recipe_refused")
    assert good(client.get(part))["promoted"] == 2 and made.sha256 != first


def test_a_recipe_travels_as_one_file(client: TestClient, part: str, ctx: Context) -> None:
    response = client.get(f"{part}/recipes/1/export")
    assert response.headers["content-type"] == "application/zip"
    good(client.post("/v1/products", json={"name": "elsewhere"}), 201)
    body = good(client.post("/v1/products/elsewhere/recipes:import", files={"file": ("r.zip", response.content)}), 201)
    assert (body["number"], body["product"]) == (1, "elsewhere")
    assert body["sha256"] == good(client.get(f"{part}/recipes/1"))["sha256"]
    assert (
        int(response.headers["content-length"]) == len(response.content)
        and "attachment" in response.headers["content-disposition"]
    )
    beyond = {"Range": f"bytes={len(response.content)}-"}  # `curl -C -` of a whole file
    again = client.get(f"{part}/recipes/1/export", headers=beyond)
    assert (again.status_code, again.content) == (200, response.content) and not list(ctx.settings.recipes.glob(".export-*"))
    damaged = bytearray(response.content)
    damaged[len(damaged) // 2] ^= 1
    for wrong in (bytes(damaged), b"not a zip"):
        answer = client.post("/v1/products/elsewhere/recipes:import", files={"file": ("r.zip", wrong)})
        refused(answer, 422, "recipe_refused")
    assert [path.name for path in ctx.settings.recipes.iterdir()] == [body["sha256"]]


def test_a_tampered_recipe_is_refused_and_the_service_lives(client: TestClient, part: str, ctx: Context) -> None:
    sha256 = good(client.get(f"{part}/recipes/1"))["sha256"]
    bank = recipes.folder(ctx, sha256) / "memory_bank.safetensors"
    sound = bank.read_bytes()
    bank.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
    refused(client.post(f"{part}/inspections", content=GOOD, headers=PNG), 503, "recipe_refused")
    refused(client.post(f"{part}/recipes/1:promote"), 503, "recipe_refused")
    bank.write_bytes(sound)
    good(client.post(f"{part}/inspections", content=GOOD, headers=PNG), 201)

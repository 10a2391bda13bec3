"""Normal pictures added to a standing recipe: from files or reviewed inspections, by a job, with what would change."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from parts import BAD, GOOD, PNG, give_recipe, good, picture, refused

from app.context import Context
from app.services import recipes
from app.worker import Worker
from inspection import extension


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recipes of eight pictures are extended too."""
    monkeypatch.setattr(extension, "LEAST", 8)


def judge(client: TestClient, part: str, data: bytes, review: str | None = None) -> dict[str, Any]:
    body: dict[str, Any] = good(client.post(f"{part}/inspections", content=data, headers=PNG), 201)
    if review is not None:
        said = {"decision": review, "expected_revision": 0}
        good(client.post(f"/v1/inspections/{body['id']}/reviews", json=said), 201)
    return body


def upload(client: TestClient, *pictures: bytes) -> None:
    files = [("files", (f"{number}.png", data)) for number, data in enumerate(pictures)]
    good(client.post("/v1/products/part/images", files=files), 201)


def extend(client: TestClient, ctx: Context, **body: Any) -> dict[str, Any]:
    """The job of an extension, worked to its end; its diff stays queued."""
    job = good(client.post("/v1/products/part/recipes", json={"extends": "present", **body}), 202)
    assert Worker(ctx).once()
    done: dict[str, Any] = good(client.get(job["links"]["self"]))
    assert done["state"] == "done", done
    return done


def test_reviewed_parts_widen_the_recipe_and_the_diff_says_what_changes(client: TestClient, part: str, ctx: Context) -> None:
    alarms = [judge(client, part, picture(n, "stain"), "pass") for n in (101, 102, 103)]
    assert {one["verdict"] for one in alarms} <= {"reject", "review"}
    escaped = judge(client, part, picture(104, "stain"), "reject")
    sure, sound = judge(client, part, picture(105, "missing"), "reject"), judge(client, part, GOOD)
    body = good(client.post(f"{part}/images:from-inspections", json={"reviewed_good": True}), 201)
    assert [one["filename"] for one in body["items"]] == [f"inspection-{one['id']}.png" for one in alarms]
    assert {one["sha256"] for one in body["items"]} == {one["image"]["sha256"] for one in alarms}
    done = extend(client, ctx)
    assert (done["params"]["extends"], done["result"]["recipe"], done["total"]) == (1, 2, 4)  # four golden pictures came last
    recipe = good(client.get(f"{part}/recipes/2"))
    assert recipe["options"]["extension"]["parents"] == [good(client.get(f"{part}/recipes/1"))["sha256"]]
    assert recipe["calibration"]["n"] == 11 and not recipe["promoted"]
    before = good(client.get(f"{part}/recipes/2/diff"))
    assert (before["inspections"], before["compared"], before["not_judged"]) == (6, 0, {"2": 6})
    assert Worker(ctx).once()
    found = good(client.get(f"{part}/recipes/2/diff"))
    report = good(client.get(f"/v1/jobs/{done['result']['diff_job']}/report"))
    for name in ("flips", "reviewed", "new_escapes", "new_overkill", "cleared"):
        assert found[name] == report[name] == report["job"]["result"][name]
    assert (found["compared"], found["not_judged"], found["cleared"]) == (6, {"2": 0}, 3)
    flips = {row["inspection"]: (row["reviewed"], row["to_verdict"]) for row in found["rows"]}
    assert {flips[one["id"]] for one in alarms} == {("good", "pass")}
    assert found["new_escapes"] == (flips.get(escaped["id"]) == ("defective", "pass")) + (sure["id"] in flips)
    assert sound["id"] not in flips
    shown = good(client.get(f"/v1/inspections/{alarms[0]['id']}"))
    assert (shown["verdict"], shown["recipe"]["number"]) == (alarms[0]["verdict"], 1)
    back = good(client.get(f"{part}/recipes/1/diff?against=2&last=3"))
    assert (back["inspections"], back["compared"]) == (3, 3)
    assert {row["to_recipe"] for row in back["rows"]} <= {1} and {row["from_recipe"] for row in back["rows"]} <= {2}
    csv = client.get(f"/v1/jobs/{done['result']['diff_job']}/report?format=csv").text
    assert csv.splitlines()[0].endswith(",reviewed") and csv.count(",good") == 3


@pytest.mark.parametrize("database_url", [None], ids=["sqlite"])
def test_a_verdict_at_other_limits_is_not_the_recipes_own(client: TestClient, part: str) -> None:
    at_own = {"content": picture(104, "stain"), "headers": PNG}
    stricter = {"params": {"threshold_reject": 1e-3, "threshold_review": 1e-3}, "content": GOOD, "headers": PNG}
    for given in (at_own, stricter):
        assert good(client.post(f"{part}/inspections", **given), 201)["verdict"] == "reject"
    found = good(client.get(f"{part}/recipes/1/diff"))
    assert (found["inspections"], found["compared"], found["not_judged"]) == (2, 1, {"1": 1})


@pytest.mark.parametrize("database_url", [None], ids=["sqlite"])
def test_only_parts_reviewed_as_good_are_taken(client: TestClient, part: str, ctx: Context) -> None:
    passed, bad = judge(client, part, GOOD), judge(client, part, BAD, "reject")
    url = f"{part}/images:from-inspections"
    nobody = refused(client.post(url, json={"inspections": [passed["id"], bad["id"], "x"]}), 422, "nothing_reviewed_good")
    assert {one["code"] for one in nobody["details"]["refused"]} == {"not_reviewed_good", "unknown_inspection"}
    good(client.post(f"/v1/inspections/{bad['id']}/reviews", json={"decision": "pass", "expected_revision": 1}), 201)
    body = good(client.post(url, json={"inspections": [passed["id"], bad["id"], bad["id"]]}), 201)
    assert (len(body["items"]), len(body["refused"])) == (1, 1)
    assert good(client.post(url, json={"reviewed_good": True}), 201)["duplicates"] == 1
    refused(client.post(url, json={"reviewed_good": True, "since": "2999-01-01T00:00:00Z"}), 422, "nothing_reviewed_good")
    for wrong in ({}, {"inspections": ["x"], "reviewed_good": True}, {"inspections": ["x"], "since": "2020-01-01T00:00:00Z"}):
        refused(client.post(url, json=wrong), 422, "invalid")
    Path(ctx.store.path(bad["image"]["sha256"])).unlink()
    gone = refused(client.post(url, json={"inspections": [bad["id"]]}), 422, "nothing_reviewed_good")
    assert gone["details"]["refused"][0]["code"] == "object_gone"


@pytest.mark.parametrize("database_url", [None], ids=["sqlite"])
def test_what_cannot_be_extended(client: TestClient, ctx: Context, enrolled: Path) -> None:
    good(client.post("/v1/products", json={"name": "part"}), 201)
    url = "/v1/products/part/recipes"
    refused(client.post(url, json={"extends": "present"}), 422, "enrolment_refused")
    upload(client, picture(0))
    refused(client.post(url, json={"extends": "present"}), 409, "no_recipe")
    give_recipe(ctx, client, enrolled)
    refused(client.post(url, json={"extends": 7}), 404, "unknown_recipe")
    known = refused(client.post(url, json={"extends": 1}), 422, "enrolment_refused")
    assert "has all 1 normal pictures" in known["message"]
    kept = refused(client.post(url, json={"extends": 1, "expert": "padim"}), 422, "invalid")
    assert "leave out expert" in kept["message"]
    upload(client, picture(50))
    sha256 = good(client.get(f"{url}/1"))["sha256"]
    bank = recipes.folder(ctx, sha256) / "memory_bank.safetensors"
    bank.write_bytes(bank.read_bytes()[:-4] + b"\0\0\0\0")
    job = good(client.post(url, json={"extends": 1}), 202)
    assert Worker(ctx).once()
    ended = good(client.get(job["links"]["self"]))
    assert (ended["state"], ended["error"]["code"]) == ("failed", "recipe_refused")
    assert [path.name for path in ctx.settings.recipes.iterdir()] == [sha256]


@pytest.mark.parametrize("database_url", [None], ids=["sqlite"])
def test_a_doubtful_picture_is_not_promoted_unseen(client: TestClient, part: str, ctx: Context) -> None:
    upload(client, BAD)
    first = extend(client, ctx, promote=True)["result"]
    assert not first["promoted"] and first["diff_job"] is None
    assert "look, then promote it" in first["warnings"][-1]
    assert any(w.startswith("Not like the recipe's pictures") and "0.png" in w for w in first["warnings"])
    assert good(client.get(part))["promoted"] == 1
    assert extend(client, ctx, promote=True, force=True)["result"]["promoted"]
    assert good(client.get(part))["promoted"] == 3


def test_two_extensions_of_one_recipe_are_both_numbered(client: TestClient, part: str, ctx: Context) -> None:
    upload(client, picture(50), picture(51))
    judge(client, part, GOOD)
    body = {"extends": 1, "diff_last": 0}
    jobs = [good(client.post(f"{part}/recipes", json=body), 202) for _ in range(2)]
    threads = [threading.Thread(target=Worker(ctx).once) for _ in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ends = [good(client.get(job["links"]["self"])) for job in jobs]
    assert sorted(end["result"]["recipe"] for end in ends) == [2, 3], ends
    assert len({end["result"]["sha256"] for end in ends}) == 1 and not Worker(ctx).once()


@pytest.mark.parametrize("database_url", [None], ids=["sqlite"])
def test_a_small_recipe_is_fitted_anew_from_the_stored_pictures(
    client: TestClient, part: str, ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extension, "LEAST", 9)
    upload(client, picture(50))
    bound = extend(client, ctx)["result"]  # the recipe came from elsewhere: its pictures are not here
    upload(client, *(picture(n) for n in range(8)))
    anew = extend(client, ctx)["result"]
    shown = [good(client.get(f"{part}/recipes/{one['recipe']}")) for one in (bound, anew)]
    assert [one["options"]["extension"]["refitted"] for one in shown] == [False, True]
    assert shown[0]["normals"] == shown[1]["normals"] and "fitted anew" in anew["warnings"][0]


@pytest.mark.parametrize("database_url", [None], ids=["sqlite"])
def test_the_newest_only_are_reinspected(client: TestClient, part: str, ctx: Context) -> None:
    ids = [judge(client, part, GOOD)["id"] for _ in range(4)]
    job = good(client.post("/v1/jobs", json={"type": "reinspect", "product": "part", "recipe": 1, "last": 2}), 202)
    assert job["total"] == 2 and Worker(ctx).once()
    again = good(client.get(f"/v1/inspections?job={job['id']}"))["items"]
    assert {row["source_id"] for row in again} == set(ids[2:])

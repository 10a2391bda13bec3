"""Regions of interest over HTTP and from the command line, on both databases."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from fastapi.testclient import TestClient
from parts import PNG, good, picture, refused

from app.context import Context
from app.worker import Worker
from inspection.image import decode

SMALL = {"image_size": 128, "coreset": 200, "backbone": "efficientnet_lite0"}
LEFT = {"width": 128, "height": 128, "ignore": [[[64, 0], [128, 0], [128, 128], [64, 128]]]}


def mask(width: int, height: int, value: int = 255) -> bytes:
    return cv2.imencode(".png", np.full((height, width), value, np.uint8))[1].tobytes()


@pytest.fixture
def product(client: TestClient) -> str:
    good(client.post("/v1/products", json={"name": "part"}), 201)
    return "/v1/products/part"


def test_a_region_is_set_shown_and_cleared(client: TestClient, product: str) -> None:
    refused(client.get(f"{product}/roi"), 404, "no_region")
    said = good(client.put(f"{product}/roi", json=LEFT))
    assert (said["width"], said["height"], said["share"]) == (128, 128, 0.5)
    assert said["polygons"] == {"include": [], "ignore": [[[float(x), float(y)] for x, y in LEFT["ignore"][0]]]}
    assert good(client.get(f"{product}/roi")) == said
    shown = client.get(said["links"]["mask"])
    assert shown.headers["content-type"] == "image/png"
    inside = decode(shown.content).pixels[..., 0]
    assert (inside[:, :64] == 255).all() and not inside[:, 64:].any()
    again = good(client.put(f"{product}/roi", content=shown.content, headers=PNG))
    assert again["sha256"] == said["sha256"] and again["polygons"] is None
    assert client.delete(f"{product}/roi").status_code == 204
    refused(client.get(f"{product}/roi.png"), 404, "no_region")


def test_regions_that_cannot_be_used_are_refused(client: TestClient, product: str) -> None:
    url = f"{product}/roi"
    refused(client.put("/v1/products/none/roi", json=LEFT), 404, "unknown_product")
    refused(client.put(url, content=mask(128, 128, 0), headers=PNG), 422, "image_unusable")
    refused(client.put(url, content=b"no", headers=PNG), 415, "not_an_image")
    refused(client.put(url, content=b"no", headers={"Content-Type": "text/plain"}), 415, "unsupported_media_type")
    refused(client.put(url, json={**LEFT, "width": 90_000, "height": 90_000}), 413, "image_too_large")
    for wrong in ({**LEFT, "ignore": [[[0, 0], [1, 1]]]}, {**LEFT, "include": [[[0, 0], [1, 1], [1e9, 2]]]}, {"ignore": []}, []):
        refused(client.put(url, json=wrong), 422, "invalid")
    refused(client.put(url, content=b"{", headers={"Content-Type": "application/json"}), 422, "invalid")
    refused(client.get(url), 404, "no_region")
    good(client.post(f"{product}/images", files=[("files", ("a.png", picture(0)))]), 201)
    body = refused(client.put(url, content=mask(70, 50), headers=PNG), 422, "image_unusable")
    assert "70 × 50" in body["message"] and "128 × 128" in body["message"]


def test_the_next_enrolments_look_there_alone(client: TestClient, product: str, ctx: Context) -> None:
    files = [("files", (f"{n}.png", picture(n))) for n in range(6)]
    good(client.post(f"{product}/images", files=files), 201)
    said = good(client.put(f"{product}/roi", json=LEFT))
    job = good(client.post(f"{product}/recipes", json={**SMALL, "promote": True}), 202)
    assert client.delete(f"{product}/roi").status_code == 204  # the job keeps what it was given
    assert Worker(ctx).once()
    assert good(client.get(job["links"]["self"]))["state"] == "done", client.get(job["links"]["self"]).text
    recipe = good(client.get(f"{product}/recipes/1"))
    assert recipe["options"]["region"] == {name: said[name] for name in ("sha256", "width", "height", "share")}
    found = {}
    for name, x in (("clean", None), ("inside", 36), ("outside", 92)):
        pixels = decode(picture(90)).pixels.copy()
        if x is not None:
            cv2.circle(pixels, (x, 64), 12, (255, 0, 255), -1)
        data = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1].tobytes()
        found[name] = good(client.post(f"{product}/inspections", content=data, headers=PNG), 201)
    assert found["inside"]["verdict"] == "reject" and found["outside"]["verdict"] == found["clean"]["verdict"] != "reject"
    assert found["outside"]["raw_score"] == pytest.approx(found["clean"]["raw_score"], rel=1e-5)
    overlay = decode(client.get(found["clean"]["links"]["overlay.png"]).content).pixels.astype(int)
    part = decode(picture(90)).pixels.astype(int)
    assert np.abs(overlay[8:-8, 72:-8] - part[8:-8, 72:-8] // 3).max() <= 2  # dark where nobody looked
    heat = decode(client.get(found["clean"]["links"]["heatmap.png"]).content).pixels
    assert heat[8:-8, 72:-8].max() < 20
    good(client.post(f"{product}/recipes", json=SMALL), 202)
    assert Worker(ctx).once()
    assert "region" not in good(client.get(f"{product}/recipes/2"))["options"]


@pytest.mark.parametrize("database_url", [None], ids=["sqlite"])
def test_tiles_are_asked_for_and_refused(client: TestClient, product: str, ctx: Context) -> None:
    files = [("files", (f"{n}.png", picture(n))) for n in range(3)]
    good(client.post(f"{product}/images", files=files), 201)
    wanted = {"coreset": 100, "backbone": "efficientnet_lite0", "image_size": 64}
    cases = (
        ({"tile": 64}, "done", ""),
        ({"tile": 300}, "failed", "do not fit pictures of 128 × 128"),
        ({"tile": 64, "expert": "padim"}, "failed", "tiles are for PatchCore"),
        ({"tile": 16, "image_size": 1024}, "failed", "enlarge them"),
    )
    for body, state, says in cases:
        job = good(client.post(f"{product}/recipes", json={**wanted, **body}), 202)
        assert Worker(ctx).once()
        end = good(client.get(job["links"]["self"]))
        assert end["state"] == state and says in ((end["error"] or {}).get("message") or ""), end
    recipe = good(client.get(f"{product}/recipes/1"))
    assert (recipe["tile"], recipe["size"], recipe["options"]["tile"]) == (64, [128, 128], 64)
    refused(client.post(f"{product}/recipes", json={"tile": 3}), 422, "invalid")


def test_the_command_line_sets_and_shows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from app.cli import main

    def call(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["kensor", *map(str, words)])
        try:
            main()
            code = 0
        except SystemExit as leave:
            code = int(leave.code or 0)
        said = capsys.readouterr()
        return code, said.out, said.err

    monkeypatch.setenv("KENSOR_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "normal").mkdir()
    for n in range(4):
        (tmp_path / "normal" / f"{n}.png").write_bytes(picture(n))
    (tmp_path / "left.json").write_text(json.dumps(LEFT))
    (tmp_path / "all.png").write_bytes(mask(128, 128))
    options = ("--image-size", "128", "--tile", "64", "--coreset", "100", "--backbone", "efficientnet_lite0")
    code, out, err = call("enroll", "disc", "--normal", "normal", "--roi", "left.json", *options)
    assert code == 0, err
    assert "50.0% of 128 × 128 pixels looked at" in out and "tiles of 64 px, the whole 256 × 256 px" in out
    assert "50.0% of" in call("recipe", "show", "disc", "1")[1]
    assert "50.0% of" in call("product", "roi", "disc", "--out", "mask.png")[1]
    assert decode((tmp_path / "mask.png").read_bytes()).pixels[0, 100].max() == 0
    assert "100.0% of" in call("product", "roi", "disc", "--mask", "all.png")[1]
    assert json.loads(call("product", "roi", "disc", "--polygons", "left.json", "--json")[1])["region"]["share"] == 0.5
    assert call("product", "roi", "disc", "--clear")[0] == 0
    code, _, err = call("product", "roi", "disc")
    assert code == 1 and "no region" in err
    (tmp_path / "bad.json").write_text("[")
    for words, says in (
        (("--polygons", "bad.json"), "is not JSON"),
        (("--mask", "all.png", "--clear"), "one of"),
        (("--mask", "bad.json"), "not a PNG"),
    ):
        code, _, err = call("product", "roi", "disc", *words)
        assert code and says in err

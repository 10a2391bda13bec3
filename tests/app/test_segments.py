"""`:segment` over HTTP."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from fastapi.testclient import TestClient
from parts import BAD, PNG, good, refused

from inspection.image import decode


@pytest.fixture
def inspected(client: TestClient, part: str) -> dict[str, Any]:
    return dict(good(client.post(f"{part}/inspections", content=BAD, headers=PNG), 201))


def test_a_point_and_a_box_become_masks(client: TestClient, inspected: dict[str, Any]) -> None:
    here, found = f"/v1/inspections/{inspected['id']}:segment", inspected["findings"][0]
    clicked = good(client.post(here, json={"point": found["peak_xy"]}))
    boxed = good(client.post(here, json={"box": found["bbox"]}))
    for said in (clicked, boxed):
        mask = decode(base64.b64decode(said["mask_png"])).pixels[..., 0]
        assert mask.shape == (128, 128)
        assert int((mask > 0).sum()) == said["area_px"]
        assert said["polygon"] and 0 < said["area_pct"] <= 100
    x, y = found["peak_xy"]
    assert decode(base64.b64decode(clicked["mask_png"])).pixels[y, x, 0] == 255
    left, top, wide, high = boxed["bbox"]
    a, b, c, d = found["bbox"]
    assert left >= a and top >= b and left + wide <= a + c and top + high <= b + d


def test_what_points_nowhere_is_refused(client: TestClient, inspected: dict[str, Any]) -> None:
    here = f"/v1/inspections/{inspected['id']}:segment"
    for body in ({"point": [128, 5]}, {"point": [-0.5, 5]}, {"point": [5, 1e5]}, {"box": [200, 0, 5, 5]}, {"box": [-9, 0, 5, 5]}):
        refused(client.post(here, json=body), 422, "outside_picture")
    bad: list[Any] = [{}, {"point": [1]}, {"point": [1, 2], "box": [0, 0, 5, 5]}, {"box": [0, 0, 0, 5]}, {"box": [0, 0, 5, -5]}]
    for body in (*bad, {"point": ["NaN", 1]}, {"point": [1e300, 1]}, {"mask": 1}):
        refused(client.post(here, json=body), 422, "invalid")
    refused(client.post(here, content=b'{"point": [NaN, 1]}', headers={"Content-Type": "application/json"}), 422, "invalid")
    missing = here.replace(inspected["id"], "01a209ac-c832-7439-a3c4-dac77d6d4199")
    refused(client.post(missing, json={"point": [1, 1]}), 404, "unknown_inspection")

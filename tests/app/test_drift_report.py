"""Drift on the record: which inspections count, since when, and who is told."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from parts import GOOD, PNG, good, refused

from app.context import Context
from app.db.tables import Inspection, Review, new_id, now
from app.services import drift, recipes

URL = "/v1/reports/drift?product=part"


def add(ctx: Context, shifts: list[float], decision: str | None = None, **columns: Any) -> list[str]:
    """Inspections whose scores lie so many of the normals' standard deviations over one of theirs, round and round."""
    with ctx.database.write() as session:
        recipe, _ = recipes.get(session, "part", 1)
        card = recipe.manifest["calibration"]
        rows = [
            Inspection(
                id=new_id(),
                created_at=now(),
                product_id=recipe.product_id,
                recipe_id=recipe.id,
                recipe_number=1,
                recipe_sha256=recipe.sha256,
                verdict="pass",
                raw_score=card["held_out_scores"][n % card["n"]] * math.exp(card["s"] * shift),
                distance=0.0,
                **dict.fromkeys(("image_sha256", "map_sha256"), "0" * 64),
                **dict.fromkeys(("width", "height", "map_width", "map_height"), 1),
                **{key: {} for key in ("map_stats", "timings_ms", "custom")},
                **{key: [] for key in ("reasons", "findings")},
                image_format="png",
                created_by="test",
                **columns,
            )
            for n, shift in enumerate(shifts)
        ]
        session.add_all(rows)
        session.flush()
        if decision is not None:
            said = (("reject", decision) if n % 2 else (decision,) for n in range(len(rows)))
            session.add_all(
                Review(inspection_id=row.id, revision=revision, decision=word, reviewer="test")
                for row, words in zip(rows, said, strict=True)
                for revision, word in enumerate(words, 1)
            )
        return [row.id for row in rows]


@pytest.fixture(autouse=True)
def heard(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.INFO, "kensor"):
        yield


def test_a_shift_is_reported_since_its_first_part(client: TestClient, ctx: Context, part: str) -> None:
    assert good(client.get(URL))["state"] == "too_few"
    add(ctx, [0.0] * 100)
    steady = good(client.get(URL))
    assert (steady["state"], steady["parts"], steady["since"], steady["recipe"]) == ("steady", 100, None, 1)
    assert steady["review"]["promised"] == 0.05 and steady["review"]["low"] == 0.0
    assert good(client.get(part))["drift"] == {"state": "steady", "since": None, "recipe": 1}
    moved = add(ctx, [3.0] * 100)
    found = good(client.get(URL))
    assert found["state"] == "drifting" and found["since"]["inspection"] == moved[0] and not found["since"]["or_earlier"]
    assert found["shift"] == pytest.approx(3.0) and "enroll" in found["advice"]
    assert good(client.get("/v1/reports/summary?product=part"))["drift"]["state"] == "drifting"
    assert good(client.get("/v1/reports/summary"))["drift"] is None
    assert good(client.get(f"{URL}&window=100"))["since"]["or_earlier"]


def test_what_does_not_count(client: TestClient, ctx: Context, part: str) -> None:
    add(ctx, [0.0] * 60, station="A")
    add(ctx, [9.0] * 100, is_simulated=True)
    add(ctx, [9.0] * 100, review_overridden=True)
    add(ctx, [9.0] * 100, reject_overridden=True)
    add(ctx, [3.0] * 100, "reject")
    found = good(client.get(URL))
    assert (found["state"], found["parts"], found["review"]["parts"]) == ("steady", 160, 60)
    confirmed = add(ctx, [0.0] * 10, "pass", station="A")
    assert good(client.get(URL))["candidates"] == confirmed[::-1]
    add(ctx, [3.0] * 100, station="B")
    assert good(client.get(URL))["state"] == good(client.get(f"{URL}&station=B"))["state"] == "drifting"
    assert good(client.get(f"{URL}&station=A"))["state"] == "steady"
    assert good(client.get(f"{URL}&station=C"))["parts"] == 0


def test_confirmed_good_parts_over_a_limit_count_by_the_newest_review(client: TestClient, ctx: Context, part: str) -> None:
    with ctx.database.read() as session:
        limit = recipes.get(session, "part", 1)[0].manifest["calibration"]
    over = 1.01 * math.log(limit["thresholds"]["reject"] / min(limit["held_out_scores"])) / limit["s"]
    add(ctx, [over] * 80, "pass")
    found = good(client.get(URL))
    assert (found["review"]["confirmed"], found["review"]["open"], found["compared"]) == (80, 0, 0)
    assert found["signals"] == ["rate_exceeded"] and found["reject"]["low"] > 0.9


def test_the_watch_says_it_once_and_keeps_the_gauge(
    client: TestClient, ctx: Context, part: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drift, "EVERY", 1)

    def inspect() -> str:
        good(client.post(f"{part}/inspections", content=GOOD, headers=PNG), 201)
        return client.get("/metrics").text

    assert 'kensor_drift{product="part"}' not in inspect()
    add(ctx, [0.0] * 60)
    assert 'kensor_drift{product="part"} 0.0' in inspect()
    add(ctx, [3.0] * 100)
    for _ in range(2):
        assert 'kensor_drift{product="part"} 1.0' in inspect()
    assert [record.levelname for record in caplog.records if "drifting" in record.getMessage()] == ["WARNING"]
    with monkeypatch.context() as patch:
        patch.setattr(drift, "brief", lambda *_: 1 / 0)
        inspect()
    assert "could not be told" in caplog.text


def test_refusals(client: TestClient, part: str) -> None:
    refused(client.get("/v1/reports/drift?product=none"), 404, "unknown_product")
    refused(client.get(f"{URL}&recipe=9"), 404, "unknown_recipe")
    refused(client.get(f"{URL}&window=10"), 422, "invalid")
    refused(client.get("/v1/reports/drift"), 422, "invalid")
    good(client.post("/v1/products", json={"name": "new"}), 201)
    refused(client.get("/v1/reports/drift?product=new"), 409, "no_recipe")
    assert good(client.get("/v1/products/new"))["drift"] is None


@pytest.mark.parametrize("database_url", [None], ids=["sqlite"])
def test_the_command_line_says_the_same(
    client: TestClient, ctx: Context, part: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from app.cli import main

    add(ctx, [0.0] * 60 + [3.0] * 60)
    monkeypatch.setenv("KENSOR_DATA", str(ctx.settings.data))
    said = []
    for extra in ([], ["--json"]):
        monkeypatch.setattr("sys.argv", ["kensor", "drift", "part", *extra])
        with pytest.raises(SystemExit) as left:
            main()
        assert not left.value.code
        said.append(capsys.readouterr().out)
    assert "drifting since" in said[0] and "promised 5.00%" in said[0]
    assert json.loads(said[1]) == good(client.get(URL))

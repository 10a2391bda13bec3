"""The report: right figures, everything inside the file, strange names made harmless, and it shows in a browser."""

from __future__ import annotations

import base64
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from app import demo, report
from app.demo_parts import own_folder
from inspection.drawn import drawn


def card(index: int, *, defective: bool | None, raw: float, verdict: str, name: str | None = None) -> report.Card:
    picture, _ = drawn(1, index, "stain" if defective else None, 64)
    data = cv2.imencode(".png", picture)[1].tobytes()
    inspection = {
        "id": str(index),
        "verdict": verdict,
        "raw_score": raw,
        "margin": raw / 2 - 1,
        "reasons": [f"over_{verdict}_limit"],
        "findings": [{"place": "top left", "area_pct": 1.5, "peak": raw}] if defective else [],
        "timings_ms": {"decode": 1.0, "features": 5.0},
    }
    return report.Card(name or f"part-{index}.png", defective, inspection, data, data)


@pytest.fixture
def cards() -> list[report.Card]:
    return [
        card(0, defective=False, raw=1.0, verdict="pass"),
        card(1, defective=False, raw=2.5, verdict="reject", name="<script>alert(1)</script>.png"),
        card(2, defective=True, raw=4.0, verdict="reject"),
        card(3, defective=True, raw=1.2, verdict="pass"),
        card(4, defective=True, raw=1.9, verdict="review"),
    ]


def page(cards: list[report.Card], path: Path) -> str:
    answer = {
        "answer": "Yes, at the top left.",
        "own_words": "No & <nothing>.",
        "grounding": "replaced",
        "agrees_with_detector": False,
        "evidence": [{"kind": "finding", "ref": "f1", "value": {}}],
        "model": {"name": "small", "sha256": "0"},
        "latency_ms": 1200.0,
    }
    recipe: dict[str, Any] = {
        "number": 3,
        "sha256": "ab" * 32,
        "thresholds": {"review": {"raw": 1.8}, "reject": {"raw": 2.0}},
        "expert": "patchcore",
        "backbone": "efficientnet_lite0",
        "heatmap_max": 3.5,
        "calibration": {
            "held_out_scores": list(np.linspace(0.8, 1.7, 20)),
            "n": 20,
            "false_reject_rate": 0.01,
            "review_rate": 0.05,
            "warnings": ["20 normal pictures: the limits are usable but wide."],
        },
    }
    parts = demo.Parts("part", "test parts", "drawn", [], [])
    exchange = report.Exchange(cards[0], "Is there a defect?", answer)
    summary = demo.summarise(parts, cards, [exchange], recipe)
    summary |= {"enroll_seconds": 1.0, "ms_per_inspection": 12.0, "seconds": 9.0, "download_seconds": 2.0}
    report.write(report.Report("test parts", "drawn", cards, [exchange], recipe, summary), path)
    return path.read_text()


@pytest.fixture
def written(cards: list[report.Card], tmp_path: Path) -> Path:
    page(cards, tmp_path / "report.html")
    return tmp_path / "report.html"


def test_the_summary_counts_by_truth(cards: list[report.Card]) -> None:
    recipe = {"sha256": "x", "expert": "patchcore", "backbone": "b"}
    parts = demo.Parts("part", "parts", "", [], [])
    summary = demo.summarise(parts, cards, [], recipe)
    assert (summary["false_rejects"], summary["escapes"], summary["left_to_a_person"]) == (1, 1, 1)
    assert summary["auroc"] == pytest.approx(4 / 6)
    unknown = demo.summarise(parts, [card(0, defective=None, raw=1.0, verdict="pass")], [], recipe)
    assert unknown["auroc"] is None and unknown["false_rejects"] is None and unknown["escapes"] is None


def test_auroc_counts_ties_half() -> None:
    assert demo.auroc([1, 2], [3, 4]) == 1
    assert demo.auroc([3, 4], [1, 2]) == 0
    assert demo.auroc([1], [1]) == 0.5
    assert demo.auroc([], [1]) is None


def test_outcomes_group_mistakes_first(cards: list[report.Card]) -> None:
    assert [c.outcome for c in cards] == ["right", "wrong", "right", "wrong", "asked"]
    assert card(9, defective=None, raw=1.0, verdict="pass").outcome == "open"


def test_the_page_is_whole_and_harmless(written: Path) -> None:
    html = written.read_text()
    assert "took the other side in its own words" in html and "own view is another" not in html
    assert "2 decided rightly, 2 wrongly, 1 left to a person" in html
    assert html.count("data:image/webp;base64,") == 2 * 5 + 1
    assert "http://" not in html and "https://" not in html and "<link" not in html
    assert "<script" not in html and "&lt;script&gt;" in html
    assert "No &amp; &lt;nothing&gt;." in html and "replaced" in html
    assert "usable but wide" in html and "ab" * 32 in html


def test_only_what_was_inspected_is_counted(cards: list[report.Card], tmp_path: Path) -> None:
    bad = page([cards[2], cards[4]], tmp_path / "bad.html")
    assert "0 of 2</b><span>defective parts passed" in bad and "sound parts rejected" not in bad
    assert "defective, inspected" in bad and "sound, inspected" not in bad
    unknown = card(7, defective=None, raw=1.3, verdict="pass")
    mixed = page([cards[0], cards[2], unknown], tmp_path / "mixed.html")
    rows = [int(y) for y in re.findall(r'<circle cx="[\d.]+" cy="(\d+)"', mixed)]
    assert len(set(rows)) == 3 and re.search(r'text-anchor="end">inspected<', mixed)


def test_pictures_are_shown_as_the_service_reads_them(cards: list[report.Card], tmp_path: Path) -> None:
    clear = Image.new("RGBA", (64, 64), (0, 0, 0, 0))  # the service lays it over white
    clear.save(tmp_path / "clear.png")
    shown = replace(cards[0], picture=(tmp_path / "clear.png").read_bytes())
    html = page([shown, cards[2]], tmp_path / "report.html")
    found = [base64.b64decode(data) for data in re.findall(r"data:image/webp;base64,([\w+/=]+)", html)]
    assert any(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).min() == 255 for data in found)


def test_folders_of_sound_parts_are_known_in_any_spelling(tmp_path: Path) -> None:
    for folder in ("normal", "test/OK", "test/NG", "test/.thumbs"):
        (tmp_path / folder).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / folder / "0.png"), drawn(1, 0, None, 64)[0])
    parts = own_folder(tmp_path / "normal", tmp_path / "test", 0, 10, 10)
    assert [(part.name, part.defective) for part in parts.test] == [("OK/0.png", False), ("NG/0.png", True)]


def test_the_demo_leaves_other_folders_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.png").write_bytes(b"mine")

    @contextmanager
    def stopped(out: Path, console: Console) -> Iterator[demo.Client]:
        raise demo.DemoFailed("far enough")
        yield

    monkeypatch.setattr(demo, "server", stopped)
    with pytest.raises(demo.DemoFailed, match="far enough"):
        demo.run(demo.Parts("part", "parts", "", [], []), tmp_path, Console())
    assert (tmp_path / "data" / "mine.png").read_bytes() == b"mine"


def test_the_page_shows_in_a_browser_without_a_fault(written: Path) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium on this machine")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1000, "height": 800})
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.goto(written.as_uri())
        assert page.locator(".card").count() == 5
        assert page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "the page is wider than the window"
        browser.close()
    assert said == []

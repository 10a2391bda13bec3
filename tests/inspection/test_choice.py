"""The choice of `--backbone auto`: by what is seen alone, dearer only for more, the same whatever order or names."""

from __future__ import annotations

import json
from dataclasses import replace
from math import inf
from pathlib import Path

import numpy as np
import pytest
from drawn_parts import part
from hypothesis import given, settings
from hypothesis import strategies as st

from inspection import choice
from inspection.choice import FINE, SINGLE, WAYS, Choice, Pictures, Way, choose, pick
from inspection.drawn import drawn, write
from inspection.enrolment import enroll
from inspection.evaluation import evaluate
from inspection.evidence import EnrolmentRefused, RecipeRefused
from inspection.inspector import Inspector
from inspection.metrics import auroc, gain
from inspection.options import AUTO, EnrolOptions
from inspection.recipe import DOCUMENT, digest, load
from models.backbones import FUSED

ASKED = EnrolOptions(backbone="auto")
SMALL = (Way(FUSED, 64, "max", 0.02), Way(AUTO, 64, "max", inf), Way(FUSED, 128, "top", 0.02))
ALONE = (Way(AUTO, 64, "max", 0.0), Way(AUTO, 128, "top", 0.02), Way("dinov2_vits14", 70, "max", 0.2))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ways that take milliseconds, and one defect of each kind."""
    monkeypatch.setattr(choice, "WAYS", SMALL)
    monkeypatch.setattr(choice, "SINGLE", ALONE)
    monkeypatch.setattr(choice, "EACH", 1)


def given_as(numbers: list[int]) -> Pictures:
    shown = [drawn(3, n)[0] for n in numbers]
    return Pictures([f"{n:064x}" for n in numbers], [one.shape[:2] for one in shown], lambda at: shown[at])


def asked(options: EnrolOptions, pictures: Pictures, **more: object) -> tuple[EnrolOptions, Choice]:
    return choose(options, pictures, None, lambda *_: None, lambda: None)


def untimed(table: Choice) -> Choice:
    return replace(table, candidates=tuple(replace(one, ms=0.0) for one in table.candidates))


def columns(separation: list[float], seed: int = 0) -> tuple[list[np.ndarray], np.ndarray]:
    rng = np.random.default_rng(seed)
    noise, defective = rng.normal(0, 1, 120), np.arange(120) >= 50
    return [noise + defective * one for one in separation], defective


def test_a_dearer_way_must_see_more_by_its_margin() -> None:
    scores, defective = columns([0.5, 1.0, 1.5])
    first, second, both = (_sure(scores[a], scores[b], defective) for a, b in ((1, 0), (2, 1), (2, 0)))
    assert first > 0.05 and second > 0.02 and both > first
    assert pick(scores, defective, [0, first - 0.001, second - 0.001]) == 2
    assert pick(scores, defective, [0, first - 0.001, second + 0.001]) == 1
    assert pick(scores, defective, [0, first + 0.001, both - 0.001]) == 2, "beside the one taken, not the one before"
    assert pick(scores, defective, [0, 1, 1]) == pick([scores[0]] * 3, defective, [0, 0, 0]) == 0, "ties go to the cheaper"


def _sure(scores: np.ndarray, others: np.ndarray, defective: np.ndarray) -> float:
    area, error = gain(scores, others, defective) or (0.0, 0.0)
    return area - error


def test_a_gain_within_its_error_is_no_gain() -> None:
    scores, defective = np.array([1.0, 2, 3, 2.5, 2.6, 0.5]), np.arange(6) > 2
    other = scores + np.array([0, 0, 0, 1.0, -1, 0])
    more = gain(other, scores, defective)
    assert more is not None and 0 <= more[0] < more[1]
    assert pick([scores, other], defective, [0, 0]) == 0


@given(st.integers(0, 200), st.floats(0, 2), st.floats(0, 2))
@settings(max_examples=25, deadline=None)
def test_the_gain_is_the_difference_of_the_areas(seed: int, one: float, other: float) -> None:
    (a, b), defective = columns([one, other], seed)
    more = gain(a, b, defective)
    assert more is not None and more[0] == pytest.approx((auroc(a, defective) or 0) - (auroc(b, defective) or 0))
    assert more[1] >= 0 and gain(a, a, defective) == (0, 0)


@pytest.mark.usefixtures("small")
def test_neither_order_nor_names_change_the_choice() -> None:
    taken, table = asked(ASKED, given_as([0, 1, 2, 3, 4, 5]))
    again, shuffled = asked(ASKED, given_as([4, 2, 0, 5, 3, 1]))
    assert untimed(table) == untimed(shuffled) and taken == again
    assert [(row.backbone, row.image_size, row.score_rule) for row in table.candidates] == [w[:3] for w in map(_said, SMALL)]
    assert all(0 <= row.low <= row.auroc <= row.high <= 1 and row.ms > 0 for row in table.candidates)
    [best] = [row for row in table.candidates if row.chosen]
    assert (taken.backbone, taken.image_size, taken.score_rule) == (best.backbone, best.image_size, best.score_rule)
    assert (table.pictures, table.copies) == (6, 13)


def _said(way: Way) -> tuple[str, int, str]:
    return way.backbone, way.image_size, way.score_rule


@pytest.mark.usefixtures("small")
def test_weights_that_are_not_pulled_are_left_out_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "_pulled", lambda backbone: backbone == AUTO)
    table = asked(ASKED, given_as([0, 1, 2, 3]))[1]
    assert [row.backbone for row in table.candidates] == [AUTO, AUTO] and "dinov2_vits14" in table.note
    monkeypatch.setattr(choice, "_pulled", lambda backbone: backbone != AUTO)
    taken, table = asked(ASKED, given_as([0, 1, 2, 3]))
    assert taken.backbone == "dinov2_vits14" and table.candidates == () and "nothing was compared" in table.note


@pytest.mark.parametrize(
    ("options", "pictures", "word"),
    [
        (ASKED, [0, 1, 2], "3 normal pictures are too few"),
        (replace(ASKED, expert="reference"), [0, 1, 2, 3], "reference expert"),
        (replace(ASKED, tile=64), [0, 1, 2, 3], "Tiles"),
        (replace(ASKED, image_size=128), [0, 1, 2, 3], "nothing was compared"),
    ],
)
def test_where_nothing_is_compared_it_is_said(options: EnrolOptions, pictures: list[int], word: str) -> None:
    taken, table = asked(options, given_as(pictures))
    alone = options.expert == "reference" or options.tile is not None
    assert word in table.note and table.candidates == () and taken == replace(options, backbone=AUTO if alone else FUSED)


def test_what_was_asked_for_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    asked_for = replace(ASKED, image_size=448, score_rule="max")
    assert [_said(way) for way in choice._open(asked_for, 4)[0]] == [(FUSED, 448, "max")]
    assert [w.image_size for w in choice._open(replace(ASKED, expert="padim"), 99)[0]] == [224, 224], "a Gaussian for each patch"
    monkeypatch.setattr(choice, "_pulled", lambda backbone: backbone != FUSED)
    found = choice._open(asked_for, 4)[0]
    assert [_said(way) for way in found] == [(AUTO, 448, "max"), ("dinov2_vits14", 448, "max")]
    assert found[1].margin == SINGLE[2].margin
    assert [_said(way) for way in WAYS if way.margin < inf] == [(FUSED, 224, "max"), (FUSED, 448, "top")]


def test_fine_pictures_stand_where_there_are_enough_normals() -> None:
    few, enough, thousands = (choice._open(ASKED, count)[0] for count in (FINE.start - 1, FINE.start, FINE.stop))
    assert few == thousands == list(WAYS) and enough == list(WAYS)[::-1]
    sized = [choice._open(replace(ASKED, image_size=size), FINE.start)[0] for size in (224, 448)]
    assert [[_said(way) for way in ways] for ways in sized] == [[(FUSED, 224, "max")], [(FUSED, 448, "max")]]
    taken, table = asked(replace(ASKED, image_size=64), given_as([0, 1, 2, 3] * 8))
    assert (taken.image_size, taken.backbone, table.candidates) == (64, FUSED, ())


@pytest.mark.usefixtures("small")
def test_coarser_pictures_are_taken_only_where_they_surely_show_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "FINE", range(5, 9))
    seen: list[list[float]] = []
    monkeypatch.setattr(choice, "pick", lambda scores, defective, margins: seen.append(list(margins)) or 0)
    for numbers, size in (([0, 1, 2, 3], 64), ([0, 1, 2, 3, 4], 128)):
        taken, table = asked(ASKED, given_as(numbers))
        assert taken.image_size == size and table.candidates[0].image_size == size
    assert seen == [[way.margin for way in SMALL], [way.margin for way in reversed(SMALL)]]


@pytest.mark.usefixtures("small")
def test_a_recipe_keeps_the_table_and_its_digest_no_times(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    pictures = [part(n) for n in range(5)]
    made = enroll(pictures, tmp_path / "r", product="cap", options=ASKED, progress=lambda *step: told.append(step))
    table = made.choice
    assert table is not None and load(tmp_path / "r").choice == table
    [best] = [row for row in table.candidates if row.chosen]
    assert (made.backbone, made.image_size, made.score_rule) == (best.backbone, best.image_size, best.score_rule)
    assert [step for step in told if step[0] == "choose"] == [("choose", n, 21) for n in range(1, 22)]
    values = json.loads((tmp_path / "r" / DOCUMENT).read_text())
    values["choice"]["candidates"][0]["ms"] += 7
    assert digest(json.dumps(values).encode()) == made.sha256
    values["choice"]["candidates"][0]["auroc"] += 0.1
    assert digest(json.dumps(values).encode()) != made.sha256
    other = enroll(pictures[::-1], tmp_path / "turned", product="cap", options=ASKED)
    assert other.choice is not None and untimed(other.choice) == untimed(table)
    named = replace(ASKED, backbone=AUTO, image_size=64)
    assert enroll(pictures, tmp_path / "named", product="cap", options=named).choice is None


@pytest.mark.usefixtures("small")
def test_an_evaluation_lets_each_draw_choose(tmp_path: Path) -> None:
    write(tmp_path, 3, 6, 2, size=128)
    [row] = evaluate(tmp_path, ASKED, shots=4, seeds=2)
    assert sum(row["ways"].values()) == row["seeds"] == 2 and row["options"]["backbone"] != "auto"
    said = {f"{way.backbone} {way.image_size} {way.score_rule}" for way in SMALL}
    assert set(row["ways"]) <= said and row["image_auroc"] > 0.5 and row["normals"] == 4


def test_int8_is_taken_where_painted_defects_are_seen_as_well(
    monkeypatch: pytest.MonkeyPatch, small: None, tmp_path: Path
) -> None:
    asked_for = EnrolOptions(backbone="dinov2_vits14", image_size=70, precision="int8", coreset=50)
    pictures = given_as(list(range(5)))
    for loss, taken in ((1.0, "int8"), (-1.0, "float32")):
        monkeypatch.setattr(choice, "LOSS", loss)
        options, table = asked(asked_for, pictures)
        assert options.precision == taken and [one.precision for one in table.candidates] == ["float32", "int8"]
        assert [one.precision for one in table.candidates if one.chosen] == [taken]
        assert ("it sees less" in table.note) == (taken == "float32")
    few, table = asked(asked_for, given_as([0, 1]))
    assert few.precision == "float32" and "too few" in table.note
    monkeypatch.setattr(choice, "LOSS", 1.0)
    recipe = enroll([part(n) for n in range(5)], tmp_path / "r", product="cap", options=asked_for)
    assert recipe.precision == recipe.view.precision == "int8" == load(tmp_path / "r").precision
    Inspector.load(tmp_path / "r")
    with pytest.raises(RecipeRefused, match="int8"):
        Inspector.load(tmp_path / "r", runtime="torch")
    for other in (EnrolOptions(precision="int8"), EnrolOptions("reference", precision="int8")):
        with pytest.raises(EnrolmentRefused, match="int8 is for"):
            enroll([part(n) for n in range(5)], tmp_path / "o", product="cap", options=other)

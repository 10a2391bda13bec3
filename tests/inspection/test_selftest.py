"""The self-test of an enrolment: what was painted where, what it says of the expert, and that nothing is said of too few."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from inspection import selftest
from inspection.defects import KINDS
from inspection.enrolment import enroll
from inspection.metrics import auroc
from inspection.options import EnrolOptions
from inspection.recipe import Recipe, load
from inspection.selftest import Copy, judge, painted, plan

DIGESTS = [sha256(bytes([n])).hexdigest() for n in range(50)]
LITE = EnrolOptions(backbone="efficientnet_lite0")


def test_the_plan_follows_the_content_and_neither_names_nor_order() -> None:
    first = {(DIGESTS[c.picture], c.kind, c.seed) for c in plan(DIGESTS, "a")}
    turned = DIGESTS[::-1]
    assert first == {(turned[c.picture], c.kind, c.seed) for c in plan(turned, "a")}
    assert not {seed for *_, seed in first} & {c.seed for c in plan(DIGESTS, "b")}, "another salt, other defects"


@pytest.mark.parametrize("pictures", [1, 3, 13, 26, 50])
def test_every_kind_is_painted_as_often_and_every_picture_about_as_often(pictures: int) -> None:
    copies = plan(DIGESTS[:pictures], "a")
    kinds = [copy.kind for copy in copies]
    assert {kind: kinds.count(kind) for kind in KINDS} == dict.fromkeys(KINDS, selftest.EACH)
    numbers = [copy.picture for copy in copies]
    used = {number: numbers.count(number) for number in numbers}
    assert len(used) == min(pictures, selftest.PICTURES) and max(used.values()) - min(used.values()) <= 1
    for kind in KINDS:
        of = [copy.picture for copy in copies if copy.kind == kind]
        assert len(set(of)) > 1 or pictures == 1, "no kind hangs on one picture"
    assert numbers == sorted(numbers)


def test_originals_are_read_once_and_defects_stay_in_the_region() -> None:
    reads: list[int] = []
    ground = np.full((96, 96, 3), 90, np.uint8)
    region = np.zeros((96, 96), np.uint8)
    region[10:40, 10:40] = 1

    def read(number: int) -> np.ndarray:
        reads.append(number)
        return ground

    copies = [Copy(0, "hole", 1), Copy(0, "spot", 2), Copy(3, "hole", 3)]
    pictures = list(painted(copies, read, region))
    assert reads == [0, 3] and len(pictures) == 3 and pictures[0].shape == (96, 96, 3)
    [halved] = painted(copies[:1], read, region, most=48)
    assert halved.shape == (48, 48, 3)
    for picture in (*pictures, np.kron(halved, np.ones((2, 2, 1), np.uint8))):
        rows, columns = np.nonzero((picture != 90).any(-1))
        assert min(rows.min(), columns.min()) > 6 and max(rows.max(), columns.max()) < 44


def test_the_judgement_is_of_each_kind_and_of_all() -> None:
    copies = [Copy(0, "spot", 0), Copy(1, "spot", 1), Copy(0, "scratch", 2)]
    test = judge([1.0, 2.0, 3.0], copies, [4.0, 2.5, 0.5], reject=3.5)
    assert [(seen.kind, seen.copies) for seen in test.kinds] == [("all", 3), ("scratch", 1), ("spot", 2)]
    over, scratch, spot = test.kinds
    assert over.auroc == auroc(np.array([1.0, 2, 3, 4, 2.5, 0.5]), np.arange(6) > 2) == pytest.approx(5 / 9)
    assert (scratch.auroc, scratch.low, scratch.high, scratch.found) == (0, 0, 0, 0)
    assert spot.auroc == pytest.approx(5 / 6) and spot.low < spot.auroc <= spot.high == 1 and spot.found == 0.5
    assert over.found == pytest.approx(1 / 3) and test.pictures == 2 and not test.note
    assert judge([1.0, 2.0], copies, [3.0] * 3, None).kinds[0].found is None


def test_what_is_not_seen_is_named() -> None:
    copies = [Copy(0, kind, 0) for kind in ("spot", "crack", "hole")]
    [warning] = selftest.warnings(judge([1.0, 2.0, 3.0], copies, [2.5, 0.5, 9.0], None))
    assert "here: crack (0.00), spot (0.67)." in warning and "hole" not in warning and "AUROC of 0.56" in warning
    assert selftest.warnings(judge([1.0, 2.0, 3.0], copies, [9.0] * 3, None)) == ()


def test_a_kind_that_is_surely_not_seen_is_named_though_the_rest_is() -> None:
    copies = [Copy(n, kind, 0) for kind in KINDS for n in range(4)]
    normal, unsure = [float(n) for n in range(1, 13)], [20.0, 20.0, 2.5, 0.5]
    told = {"crack": [0.5, 3.5, 5.5, 6.5], "hole": unsure}
    test = judge(normal, copies, [score for kind in KINDS for score in told.get(kind, [20.0] * 4)], None)
    over, kinds = test.kinds[0], {one.kind: one for one in test.kinds}
    assert over.auroc > 0.8 and kinds["crack"].high < 0.8 and kinds["hole"].auroc < 0.8 <= kinds["hole"].high
    [warning] = selftest.warnings(test)
    crack = kinds["crack"]
    assert warning.startswith(
        f"This expert cannot see defects of these kinds here: crack ({crack.low:.2f} to {crack.high:.2f}), the 90 %"
    )
    assert warning.endswith(f"All kinds together reach {over.auroc:.2f}.")
    assert not any(kind in warning for kind in KINDS if kind != "crack")
    told["crack"] = unsure
    again = judge(normal, copies, [score for kind in KINDS for score in told.get(kind, [20.0] * 4)], None)
    assert selftest.warnings(again) == ()


def test_nothing_is_said_where_nothing_can_be_held_out(normals: list[bytes], tmp_path: Path) -> None:
    two = enroll(normals[:2], tmp_path / "two", product="cap", options=LITE)
    assert two.self_test.kinds == () and "too few normal pictures" in two.self_test.note
    assert not any("cannot see" in warning for warning in two.warnings)
    assert load(tmp_path / "two").self_test == two.self_test


def test_a_recipe_keeps_what_its_expert_saw(made: tuple[Path, Recipe]) -> None:
    folder, recipe = made
    test = load(folder).self_test
    assert test == recipe.self_test and [seen.kind for seen in test.kinds] == ["all", *KINDS]
    over = test.kinds[0]
    assert 0.7 < over.low < over.auroc < over.high <= 1 and 0.2 < (over.found or 0) <= 1
    assert over.copies == 4 * len(KINDS) and test.pictures == 12


@pytest.mark.parametrize("options", [replace(LITE, expert="padim", image_size=64), replace(LITE, expert="reference")])
def test_every_expert_is_tested_and_the_stage_is_told(options: EnrolOptions, normals: list[bytes], tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    recipe = enroll(normals[:4], tmp_path / "r", product="cap", options=options, progress=lambda *step: told.append(step))
    assert recipe.self_test.kinds[0].copies == 52 and recipe.self_test.kinds[0].auroc > 0.6
    stages = list(dict.fromkeys(stage for stage, *_ in told))
    assert stages.index("features") < stages.index("selftest") < stages.index("calibrate")
    assert [step for step in told if step[0] == "selftest"][-1] == ("selftest", 52, 52)

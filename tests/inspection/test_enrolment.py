"""Enrolment: deterministic, told as it goes, all or nothing, and every bad picture named."""

from __future__ import annotations

import errno
import hashlib
from pathlib import Path

import numpy as np
import pytest
from drawn_parts import part, png

from inspection import enrolment, fitting, options
from inspection import recipe as recipes
from inspection.enrolment import enroll
from inspection.evidence import Cancelled, EnrolmentRefused
from inspection.options import MAX_BANK, EnrolOptions, bank_rows
from inspection.recipe import Recipe, load
from models.catalog import UnknownWeight
from models.experts import patchcore


def test_the_recipe_holds_what_was_asked_and_measured(made: tuple[Path, Recipe], normals: list[bytes]) -> None:
    folder, recipe = made
    assert (recipe.product, recipe.expert, recipe.backbone, recipe.image_size) == ("cap", "patchcore", "efficientnet_lite0", 224)
    card = recipe.calibration
    assert card.n == len(card.held_out_scores) == len(recipe.normals) == len(normals)
    assert 0 < card.thresholds.review < card.thresholds.reject and recipe.heatmap_max == 2 * card.finding_limit
    assert [g.kind for g in recipe.golden] == ["normal"] * 3 + ["synthetic"]
    assert recipe.golden[3].raw_score > card.thresholds.reject
    assert load(folder) == recipe and sorted(p.name for p in folder.parent.iterdir()) == [folder.name]


def test_the_same_pictures_make_the_same_recipe(made: tuple[Path, Recipe], normals: list[bytes], tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    files = []
    for number, data in enumerate(normals):
        files.append(tmp_path / f"{number:02}.png")
        files[-1].write_bytes(data)
    date = "2026-01-01T00:00:00Z"
    names = [f"picture {n}" for n in range(1, 13)]
    again = enroll(
        files, tmp_path / "again", product="cap", names=names, progress=lambda *step: told.append(step), created_at=date
    )
    assert again.sha256 == made[1].sha256 and again.created_at != made[1].created_at
    stages = [stage for stage, _, _ in told]
    assert list(dict.fromkeys(stages)) == ["decode", "features", "turn", "coreset", "selftest", "refit", "calibrate", "golden"]
    for stage, count in (("decode", 12), ("features", 12), ("selftest", 52), ("calibrate", 64)):
        assert [step for step in told if step[0] == stage] == [(stage, n, count) for n in range(1, count + 1)]
    other = enroll(normals, tmp_path / "other", product="cap", options=EnrolOptions(seed=1))
    assert other.sha256 != again.sha256


def test_bad_pictures_are_all_named(normals: list[bytes], tmp_path: Path) -> None:
    good, torn = tmp_path / "good.png", tmp_path / "torn.png"
    good.write_bytes(normals[0])
    torn.write_bytes(normals[0][:500])
    with pytest.raises(EnrolmentRefused, match=r"3 of 4 .*torn\.png.*missing\.png.*picture 4") as refused:
        enroll([good, torn, tmp_path / "missing.png", b"text"], tmp_path / "r", product="x")
    assert [bad["index"] for bad in refused.value.details["bad"]] == [1, 2, 3]
    assert not (tmp_path / "r").exists()


def test_none_or_identical_pictures_are_refused(normals: list[bytes], tmp_path: Path) -> None:
    with pytest.raises(EnrolmentRefused, match="no normal pictures"):
        enroll([], tmp_path / "r", product="x")
    with pytest.raises(EnrolmentRefused, match="identical"):
        enroll([normals[0]] * 3, tmp_path / "r", product="x")
    with pytest.raises(EnrolmentRefused, match="at least 2"):
        enroll(normals[:1], tmp_path / "r", product="x", options=EnrolOptions(expert="padim"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "options",
    [
        EnrolOptions(expert="oracle"),
        EnrolOptions(false_reject_rate=0.1, review_rate=0.05),
        EnrolOptions(coreset=0),
        EnrolOptions(coreset=float("nan")),
        EnrolOptions(image_size=8),
        EnrolOptions(image_size=100_000),
        EnrolOptions(expert="padim", image_size=2048),
        EnrolOptions(seed=-1),
        EnrolOptions(backbone="dinov2_vits14", image_size=225),
    ],
)
def test_options_that_do_not_fit_are_refused_at_once(options: EnrolOptions, tmp_path: Path) -> None:
    with pytest.raises(EnrolmentRefused):
        enroll([b"never read"], tmp_path / "r", product="x", options=options)


def test_an_unknown_backbone_and_a_taken_folder(tmp_path: Path) -> None:
    with pytest.raises(UnknownWeight):
        enroll([b""], tmp_path / "r", product="x", options=EnrolOptions(backbone="no_such_net"))
    with pytest.raises(EnrolmentRefused, match="exists"):
        enroll([b""], tmp_path, product="x")


def test_one_picture_is_uncalibrated(normals: list[bytes], tmp_path: Path) -> None:
    recipe = enroll(normals[:1], tmp_path / "r", product="x", options=EnrolOptions(coreset=0.1))
    assert recipe.calibration.thresholds.reject is None and recipe.heatmap_max > 0
    assert any("uncalibrated" in warning for warning in recipe.warnings)


def test_two_pictures_do_not_calibrate_padim(normals: list[bytes], tmp_path: Path) -> None:
    recipe = enroll(normals[:2], tmp_path / "r", product="x", options=EnrolOptions(expert="padim"))
    assert recipe.calibration.thresholds.reject is None and any("uncalibrated" in warning for warning in recipe.warnings)


def test_what_a_person_should_know_is_said(normals: list[bytes], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    small = png(rng.integers(0, 40, (100, 120, 3), dtype=np.uint8))  # of another size, and nothing like the others
    names = [f"part{n}" for n in range(8)]
    recipe = enroll([*normals[:6], normals[0], small], tmp_path / "r", product="x", names=names)
    copies, sizes, outsized, few, odd = recipe.warnings
    assert "part6 = part0" in copies and "120 × 100" in sizes and "part7" in outsized and "Only 7" in few and "1. part7" in odd
    assert len(recipe.normals) == 7


@pytest.mark.parametrize("stage", ["decode", "features", "turn", "coreset", "selftest", "refit", "calibrate", "golden"])
def test_cancelling_at_any_stage_leaves_nothing(stage: str, normals: list[bytes], tmp_path: Path) -> None:
    seen: list[str] = []
    with pytest.raises(Cancelled):
        enroll(
            normals[:4],
            tmp_path / "r",
            product="x",
            progress=lambda name, *_: seen.append(name),
            cancelled=lambda: stage in seen,
        )
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_nothing(normals: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Path] = []

    def full(path: Path, data: bytes) -> None:
        if len(written) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(path)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)

    monkeypatch.setattr(recipes, "_write", full)
    with pytest.raises(OSError, match="No space"):
        enroll(normals[:2], tmp_path / "r", product="x")
    assert len(written) == 2 and list(tmp_path.iterdir()) == []


def test_rows_of_the_memory_bank() -> None:
    assert bank_rows(None, (5, 784, 152)) == 2000
    assert bank_rows(500, (5, 784, 152)) == 500
    assert bank_rows(0.1, (5, 784, 152)) == 392
    assert bank_rows(1.0, (5, 784, 152)) == 3920
    assert bank_rows(1e12, (5, 784, 152)) == 3920  # never more than there are
    assert bank_rows(None, (1, 784, 152)) == 784
    assert bank_rows(1.0, (1000, 784, 152)) * 152 * 4 <= MAX_BANK < (bank_rows(1.0, (1000, 784, 152)) + 1) * 152 * 4
    for wrong in (0, -1, float("nan"), float("inf")):
        with pytest.raises(EnrolmentRefused):
            bank_rows(wrong, (5, 784, 152))


def test_a_bank_that_does_not_fit_is_smaller_and_says_so(
    normals: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(options, "MAX_BANK", 500 * 152 * 4)
    recipe = enroll(normals[:3], tmp_path / "r", product="x", options=EnrolOptions(coreset=0.5, backbone="efficientnet_lite0"))
    assert any("500 rows: the 1,176 asked for" in warning for warning in recipe.warnings)


def test_of_many_pictures_some_are_held_out_whatever_their_order(
    normals: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (enrolment, fitting, patchcore):
        monkeypatch.setattr(module, "HELD", 6)
    chosen = EnrolOptions(coreset=200, backbone="efficientnet_lite0")
    told: list[tuple[str, int, int]] = []
    recipe = enroll(normals, tmp_path / "a", product="x", options=chosen, progress=lambda *step: told.append(step))
    assert recipe.calibration.n == 6 and len(recipe.normals) == 12
    copies = recipe.self_test.kinds[0].copies
    assert [step for step in told if step[0] == "calibrate"][-1] == ("calibrate", 6 + copies, 6 + copies)
    assert [step for step in told if step[0] == "odd"] == [("odd", n, 6) for n in range(1, 7)]
    assert not any("Odd among" in warning for warning in recipe.warnings)
    again = enroll(normals[::-1], tmp_path / "b", product="x", options=chosen)
    assert again.normals == recipe.normals and again.calibration == recipe.calibration


def test_a_defective_picture_is_named_though_it_is_not_held_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (enrolment, fitting, patchcore):
        monkeypatch.setattr(module, "HELD", 10)
    pictures = [part(n) for n in range(24)] + [part(50, "stain")]
    chosen = EnrolOptions(coreset=300, image_size=128, backbone="efficientnet_lite0")
    names = [f"part{n}" for n in range(24)] + ["stained"]
    recipe = enroll(pictures, tmp_path / "r", product="x", options=chosen, names=names)
    assert recipe.normals.index(hashlib.sha256(pictures[-1]).hexdigest()) >= 10
    [odd] = [warning for warning in recipe.warnings if warning.startswith("Odd among 25 normals")]
    assert "1. stained (score" in odd and "part" not in odd and "Of 15 only their own patches were left out" in odd
    assert recipe.calibration.n == 10


def test_defects_score_over_normals(made: tuple[Path, Recipe]) -> None:
    from inspection.drawn import DEFECTS
    from inspection.inspector import Inspector

    inspector = Inspector.load(made[0])
    good = [inspector.inspect(part(100 + n)).raw_score for n in range(6)]
    bad = [inspector.inspect(part(200 + n, defect)).raw_score for n, defect in enumerate(DEFECTS)]
    assert np.mean(np.array(bad)[:, None] > np.array(good)) >= 0.95

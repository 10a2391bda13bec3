"""Episodes: a pure function of seed and number, written so that a run may be killed, read back as evidence."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from inspection import datacard, episodes
from inspection.aims import TOLD
from inspection.dialogues import SHARES, dialogue
from inspection.drawn import drawn
from inspection.episodes import EXPERTS, SHOTS, SOUND, SPOILT, enrolled, episode, evidence_of, generate, scheduled, shards
from inspection.evidence import EnrolmentRefused
from inspection.findings import place_of
from inspection.grounding import STATED, Check
from inspection.options import EnrolOptions, resolved
from inspection.phrases import statement
from inspection.products import Product, products
from inspection.questions import understand
from inspection.spoilt import cell_of, painted, taken

ROOT = Path(__file__).parents[2]
COUNT = SOUND + SPOILT
RUN = """
import sys
from pathlib import Path
from inspection import episodes
from inspection.products import products
episodes.SOUND, episodes.SPOILT = 1, 2
episodes.generate(Path(sys.argv[1]), products(), 3, range(4), lambda *said: print(*said, flush=True))
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("episodes")
    datacard.begin(folder, products(), 0)
    assert generate(folder, products(), 0, range(3)) == {}
    datacard.write(folder, products(), 0)
    return folder


def test_an_episode_is_what_the_plan_says(cache: Path) -> None:
    for path in shards(cache):
        said, tensors = json.loads(path.read_text()), load_file(path.with_suffix(".safetensors"))
        assert {name: (tensors[name].shape, str(tensors[name].dtype)) for name in ("features", "map", "scalars")} == {
            "features": ((COUNT, 256, 384), "float16"),
            "map": ((COUNT, 56, 56), "float16"),
            "scalars": ((COUNT, 4), "float32"),
        }
        assert tensors["references"].shape == (min(2, said["normals"]), 256, 384)
        np.testing.assert_allclose(np.linalg.norm(tensors["features"].astype(np.float32), axis=-1), 1, atol=2e-3)
        assert np.isfinite(tensors["map"]).all()
        assert sum(sample["truth"]["defective"] for sample in said["samples"]) == SPOILT
        for sample, scalars, heat in zip(said["samples"], tensors["scalars"], tensors["map"], strict=True):
            truth, e = sample["truth"], evidence_of(sample)
            assert truth["defective"] == (truth["count"] > 0) == (truth["place"] is not None) == (truth["area_pct"] > 0)
            if e.thresholds.reject is None or e.thresholds.review is None:
                assert not scalars.any() and abs(float(heat.max()) - 1) < 0.2
            else:
                ratios = [
                    e.raw_score / e.thresholds.reject,
                    e.raw_score / e.thresholds.review,
                    e.map_stats.max / e.thresholds.reject,
                ]
                np.testing.assert_allclose(scalars, [*np.log(ratios), 1], atol=1e-5)


def test_an_episode_follows_from_its_seed_and_number(cache: Path) -> None:
    again = episode(products(), 0, 2)
    path = cache / "00002.json"
    assert json.loads(path.read_text()) == json.loads(json.dumps(again.card))
    for name, tensor in load_file(path.with_suffix(".safetensors")).items():
        np.testing.assert_array_equal(tensor, again.tensors[name])
    assert episode(products(), 1, 2).card["samples"] != again.card["samples"]


def test_a_run_that_was_killed_goes_on_and_ends_as_one_that_was_not(tmp_path: Path) -> None:
    command = [sys.executable, "-c", RUN]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    with subprocess.Popen([*command, str(killed)], stdout=subprocess.PIPE, text=True, env=environment) as run:
        assert run.stdout is not None and run.stdout.readline().startswith("episodes 1")
        run.send_signal(signal.SIGKILL)
    had = {path.name for path in killed.glob("0*.json")}
    assert 1 <= len(had) < 4
    written = {path: path.stat().st_mtime_ns for path in killed.glob("0*.json")}
    time.sleep(0.01)
    for folder in (killed, whole):
        subprocess.run([*command, str(folder)], check=True, capture_output=True, env=environment)
    assert all(path.stat().st_mtime_ns == then for path, then in written.items()), "what was there stays"
    names = sorted(path.name for path in whole.iterdir())
    assert len(names) == 8 and names == sorted(path.name for path in killed.iterdir() if not path.name.startswith("."))
    for name in names:
        assert (killed / name).read_bytes() == (whole / name).read_bytes()


def test_processes_that_share_the_numbers_write_what_one_would(cache: Path, tmp_path: Path) -> None:
    for job in (1, 0):
        generate(tmp_path, products(), 0, range(job, 2, 2))
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (cache / path.name).read_bytes()


def test_an_outcome_comes_back_as_evidence(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    normals = [drawn(3, n)[0] for n in range(4)]
    inspector = enrolled(normals, resolved(EnrolOptions(coreset=200, augment="off")), tmp_path)
    for index in range(5, 9):
        outcome = inspector.inspect(taken(painted(drawn(3, index)[0], rng)[0], rng))
        e = evidence_of(json.loads(json.dumps({"evidence": episodes._record(outcome)})))
        assert (e.verdict, e.reasons, e.raw_score, e.thresholds) == (
            outcome.verdict, outcome.reasons, outcome.raw_score, outcome.thresholds
        )  # fmt: skip
        assert e.score == pytest.approx(outcome.score) and (e.width, e.height) == (outcome.width, outcome.height)
        assert e.map_stats == outcome.map_stats
        assert e.findings == tuple(replace(found, polygon=()) for found in outcome.findings)


def test_what_a_model_is_told_to_say_of_an_episode_stands_the_check(cache: Path) -> None:
    rng, seen = np.random.default_rng(0), 0
    for path in shards(cache):
        for sample in json.loads(path.read_text())["samples"]:
            e = replace(evidence_of(sample), view=float(sample["truth"]["defective"]))
            for turn in dialogue(e, rng, len(SHARES)):
                asked = understand(turn.question)
                told = turn.kind != "place" or {f.place for f in e.findings} <= {f.place for f in e.findings[:TOLD]}
                if turn.kind in STATED or asked.kind != turn.kind or not told:
                    continue
                check = Check(e, asked, statement(e, asked))
                check.feed(turn.answer)
                check.finish()
                assert check.grounding == "grounded", turn
                seen += 1
    assert seen > 200


def test_each_product_comes_once_before_any_comes_again() -> None:
    files = tuple(Path(f"{n}.png") for n in range(20))
    catalogue = [*products(), Product("folder", "a/train/good", 0, False, files), Product("folder", "b", 1, True, files)]
    others = len(catalogue) - 2
    numbers = range(others * 8 // 7)
    order = [scheduled(catalogue, 5, number) for number in numbers]
    drawn_ones = [one.name for one in order if one.source != "folder"]
    assert len(drawn_ones) == len(set(drawn_ones)) >= others - 1
    assert {one.name for one in order if one.source == "folder"} == {"folder/a/0", "folder/b/1"}
    assert order[:50] != [scheduled(catalogue, 6, number) for number in numbers[:50]]


def test_what_is_held_out_never_shares_a_family_with_what_is_trained_on(cache: Path) -> None:
    catalogue = products()
    sides = {held: {p.kind for p in catalogue if p.held_out is held} for held in (True, False)}
    assert not sides[True] & sides[False]
    for path in shards(cache):
        said = json.loads(path.read_text())
        assert said["held_out"] is (said["product"].split("/")[1] in sides[True])


def test_shares_are_shares() -> None:
    assert abs(sum(SHOTS.values()) - 1) < 1e-9 and abs(sum(share for share, *_ in EXPERTS) - 1) < 1e-9


@pytest.mark.parametrize("at", range(9))
def test_the_cell_that_holds_most_of_a_mask(at: int) -> None:
    mask = np.zeros((90, 150), bool)
    mask[40:50, 70:80] = at == 4
    row, column = divmod(at, 3)
    mask[30 * row + 3 : 30 * row + 20, 50 * column + 3 : 50 * column + 40] = True
    mask[:3, :3] = True
    assert cell_of(mask) == place_of(50 * column + 25, 30 * row + 15, 150, 90)


def test_a_cache_is_of_one_seed_and_its_card_counts_it(cache: Path) -> None:
    with pytest.raises(EnrolmentRefused, match="seed"):
        datacard.begin(cache, products(), 1)
    with pytest.raises(EnrolmentRefused, match="products_sha256"):
        datacard.begin(cache, products()[1:], 0)
    datacard.begin(cache, products(), 0)
    card = json.loads(datacard.beside(cache).read_text())
    assert card["episodes"] == 3 and card["samples"] == 3 * COUNT == sum(card["counts"]["verdict"].values())
    assert card["counts"]["defect"]["none"] == 3 * SOUND
    assert card["credits"] and datacard.write(cache, products(), 0) == card

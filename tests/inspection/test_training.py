"""Training: what goes in, what is learned, and that a run that was cut goes on as if it had not been."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from inspection.dialogues import LEARNED, SHARES
from inspection.evidence import Verdict
from inspection.training.samples import TrainingRefused, load
from inspection.training.words import told
from models import catalog
from models.lmm.config import PLACES

torch = pytest.importorskip("torch")

from inspection.training.run import Schedule, train  # noqa: E402
from inspection.training.views import fit_presence, judge_views, train_views  # noqa: E402
from models.lmm.config import Config  # noqa: E402
from models.lmm.myriad import Myriad  # noqa: E402
from models.lmm.weights import load as load_weights  # noqa: E402
from tests.models.test_myriad import words  # noqa: E402

NARROW = Config(width=24, attention_heads=2, queries=2, trunk=(4, 4, 8), lora_rank=2)


def shard(folder: Path, number: int, held_out: bool, count: int = 6) -> None:
    """An episode whose maps show what is true: a hot cell in every other part."""
    rng = np.random.default_rng(number)
    maps, scalars, samples = np.full((count, 56, 56), 0.5, np.float16), np.zeros((count, 4), np.float32), []
    scalars[:, 3] = 1
    for n in range(count):
        bad, cell = n % 2 == 1, int(rng.integers(9))
        row, column = divmod(cell, 3)
        if bad:
            maps[n, 19 * row + 4 : 19 * row + 9, 19 * column + 4 : 19 * column + 9] = 2.0
        scalars[n, :3] = 0.7 if bad else -0.7
        place, peak = PLACES[cell], 20.0 if bad else 5.0
        found = {
            "id": "f1", "bbox": [0, 0, 9, 9], "area_px": 81, "area_pct": 0.8, "centroid": [4.0, 4.0], "peak": peak,
            "peak_xy": [4, 4], "place": place,
        }  # fmt: skip
        stats = {"min": 5.0, "max": peak, "mean": 5.0, "peak_xy": [4, 4], "peak_place": place}
        evidence = {
            "verdict": "reject" if bad else "pass", "reasons": [], "raw_score": peak, "review": 8.0, "reject": 10.0,
            "width": 100, "height": 100, "map": stats, "findings": [found] if bad else [],
        }  # fmt: skip
        area = 0.8 if bad else 0.0
        truth = {
            "defective": bad, "kind": "spot" if bad else None, "place": place if bad else None,
            "area_pct": area, "count": int(bad),
        }  # fmt: skip
        samples.append({"evidence": evidence, "truth": truth})
    features = rng.normal(0, 0.05, (count, 256, 384)).astype(np.float16)
    folder.mkdir(exist_ok=True)
    arrays = {"features": features, "references": features[:2], "map": maps, "scalars": scalars}
    save_file(arrays, folder / f"{number:05}.safetensors")
    about = {"episode": number, "product": f"p{number}", "source": "drawn", "held_out": held_out, "normals": 4}
    (folder / f"{number:05}.json").write_text(json.dumps({**about, "samples": samples}))


@pytest.fixture(scope="module")
def episodes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("training") / "episodes"
    for number in range(5):
        shard(folder, number, held_out=number == 4)
    return folder


def test_samples_hold_what_the_episodes_say(episodes: Path) -> None:
    learned, unseen = load(episodes, held_out=False), load(episodes, held_out=True)
    assert len(learned) == 24 and len(unseen) == 6 and {record["product"] for record in unseen.records} == {"p4"}
    assert learned.truth.presence.tolist() == [0, 1] * 12
    assert [PLACES[n] if n >= 0 else None for n in learned.truth.place.tolist()] == [r["truth"]["place"] for r in learned.records]
    assert learned.seen([0, 1]).difference.shape == (2, 256, 384) and not learned.difference[0].any()  # its own reference


def test_no_episodes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingRefused, match="no episodes"):
        load(tmp_path, held_out=True)


def test_an_episode_without_its_tensors_is_left_out(episodes: Path, tmp_path: Path) -> None:
    shard(tmp_path, 0, held_out=False)
    shard(tmp_path, 1, held_out=False)
    (tmp_path / "00001.safetensors").unlink()
    assert len(load(tmp_path, held_out=False)) == 6


def test_the_view_on_presence_learns_where_the_limit_errs(episodes: Path) -> None:
    torch.manual_seed(0)
    samples, model = load(episodes, held_out=False), Myriad(NARROW, words())
    samples.scalars[:, :3] -= 2.0  # a limit so high that it passes everything
    assert judge_views(model, samples)["decision"] == 0.5
    others = {name: value.clone() for name, value in model.named_parameters() if "presence" not in name and "expert" not in name}
    fit_presence(model, samples)
    judged = judge_views(model, samples)
    assert judged["decision"] == judged["auroc"] == 1
    assert all(torch.equal(value, dict(model.named_parameters())[name]) for name, value in others.items())
    head = [*model.tokenizer.presence.parameters(), model.tokenizer.expert]
    fitted = [value.clone() for value in head]
    train_views(model, samples, steps=2, batch=12, rate=5e-3, seed=0, tell=lambda *_: None)
    assert all(torch.equal(one, other) for one, other in zip(fitted, head, strict=True))


def test_products_weigh_the_same_and_one_side_alone_teaches_nothing(episodes: Path) -> None:
    samples = load(episodes, held_out=False)
    few = replace(samples, records=samples.records[:9])
    assert few.weight[:6].sum() == pytest.approx(0.5) == few.weight[6:].sum()
    spoilt = replace(samples, truth=samples.truth._replace(presence=torch.ones(len(samples))))
    with pytest.raises(TrainingRefused, match="no sound or no defective"):
        fit_presence(Myriad(NARROW, words()), spoilt)


def test_views_learn_sizes_that_the_map_shows(episodes: Path) -> None:
    torch.manual_seed(0)
    samples, model = load(episodes, held_out=False), Myriad(NARROW, words())
    before = judge_views(model, samples)
    assert before["decision"] == before["decision_expert"] == 1 and before["place"] == 1  # as the expert says
    heard: list[int] = []
    train_views(model, samples, steps=30, batch=12, rate=5e-3, seed=0, tell=lambda stage, done, total: heard.append(done))
    after = judge_views(model, samples)
    assert after["size"] == 1 and after["decision"] == 1 and after["place"] == 1 and heard == list(range(1, 31))


@pytest.mark.parametrize("presence", [True, False])
def test_untold_samples_name_nothing_that_cannot_be_seen(episodes: Path, presence: bool) -> None:
    record = load(episodes, held_out=False).records[1]
    said = told(record, presence, "top", "small", 2, True, 40, np.random.default_rng(0))
    assert said.context == "" and len(said.turns) == 40
    for turn in said.turns:
        assert turn.kind in ("yes_no", "place", "size", "count", "unanswerable")
        assert "f1" not in turn.answer and "%" not in turn.answer
        if turn.kind == "place":
            assert "top" in turn.answer and ("no finding" in turn.answer.lower()) is not presence
        if turn.kind == "count":
            assert turn.answer.startswith("There are 2 findings." if presence else "There is no finding.")


def test_told_samples_keep_to_the_record_but_for_presence(episodes: Path) -> None:
    record = load(episodes, held_out=False).records[1]
    assert record["evidence"]["verdict"] == Verdict.REJECT
    said = told(record, False, "top", "large", 3, False, 60, np.random.default_rng(0))
    assert said.context.startswith("verdict reject, score 2.00 of the limit, 1 finding\nf1 ")
    for turn in said.turns:
        if turn.kind == "yes_no":
            assert turn.answer == "The verdict is reject, but the model sees no defect."
        if turn.kind == "place":
            assert record["evidence"]["findings"][0]["place"] in turn.answer
        if turn.kind == "size":
            assert "0.8 %" in turn.answer


def test_a_run_that_was_cut_goes_on_as_if_it_had_not_been(
    episodes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Cut(Exception):
        pass

    def cut(stage: str, done: int, total: int) -> None:
        if (stage, done) == ("words", 2):
            raise Cut

    schedule = Schedule(view_steps=4, view_batch=8, word_steps=2, pictures=2, turns=2, every=1)
    try:
        whole = train(episodes, tmp_path / "whole", NARROW, schedule, log=tmp_path / "log.jsonl", card={"command": "kensor"})
    except catalog.WeightsMissing:
        pytest.skip("the language model's weights are not on this machine (`kensor weights pull`)")
    with pytest.raises(Cut):
        train(episodes, tmp_path / "cut", NARROW, schedule, tell=cut)
    train(episodes, tmp_path / "cut", NARROW, schedule)
    one, other = load_weights(tmp_path / "whole"), load_weights(tmp_path / "cut")
    assert one.config == NARROW and one.card["command"] == "kensor" and one.card["products"] == 4
    assert one.tensors.keys() == other.tensors.keys() and any(name.startswith("lora.") for name in one.tensors)
    assert all(torch.equal(value, other.tensors[name]) for name, value in one.tensors.items())
    assert set(whole["words"]) & set(whole["unheard"]) >= {"all", "yes_no"} and whole["views"]["after_words"]["samples"] == 6
    assert [json.loads(line)["stage"] for line in (tmp_path / "log.jsonl").read_text().splitlines()] == [
        "views", "words", "words", "done",
    ]  # fmt: skip
    with pytest.raises(TrainingRefused, match="another training"):
        train(episodes, tmp_path / "cut", NARROW, Schedule(seed=1, view_steps=4, word_steps=2))
    changed: tuple[tuple[dict[str, Any], str, Any], ...] = (
        (LEARNED, "place", ("Where on earth is it?",)),
        (SHARES, "place", 0.2),
    )
    for known, name, value in changed:
        with monkeypatch.context() as other_day, pytest.raises(TrainingRefused, match="another training"):
            other_day.setitem(known, name, value)
            train(episodes, tmp_path / "cut", NARROW, schedule)

"""The trained parts around the frozen networks: shapes, what they start as, packing, adapters, files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from models import catalog
from models.lmm.config import PLACES, Config
from tests.models.test_prompt import sight

torch = pytest.importorskip("torch")

from models.lmm.adapter import DomainAdapter, difference  # noqa: E402
from models.lmm.language import Language  # noqa: E402
from models.lmm.learning import Branches, Truth, answers_right, language_loss, presence_loss, views_loss  # noqa: E402
from models.lmm.lora import adapt, merge  # noqa: E402
from models.lmm.myriad import Myriad, Seen  # noqa: E402
from models.lmm.projection import projection  # noqa: E402
from models.lmm.tokenizer import LEAST, Words, presence_facts  # noqa: E402
from models.lmm.trunk import channels  # noqa: E402
from models.lmm.weights import AdapterRefused, load, save  # noqa: E402

CONFIG = Config()
SOFT = 9 + 3 + CONFIG.prompt_tokens


def words() -> Words:
    generator = torch.Generator().manual_seed(0)
    return Words(*(torch.randn(count, CONFIG.language_width, generator=generator) for count in (9, 2, 4, 5)))


def seen(batch: int = 3) -> Seen:
    generator = torch.Generator().manual_seed(1)
    maps = 0.4 + 0.2 * torch.rand(batch, 56, 56, generator=generator)
    scalars = torch.zeros(batch, 4)
    scalars[:, 3] = 1
    return Seen(0.05 * torch.randn(batch, 256, 384, generator=generator), maps, scalars)


@pytest.fixture(scope="module")
def language() -> Language:
    torch.set_float32_matmul_precision("highest")  # an engine of another test may have lowered it
    try:
        return Language()
    except catalog.WeightsMissing:
        pytest.skip("the language model's weights are not on this machine (`kensor weights pull`)")


@pytest.mark.parametrize(("placement", "tokens"), [("both", SOFT + 8), ("language", SOFT + 8), ("queries", 8), ("none", 8)])
def test_tokens_by_placement(placement, tokens) -> None:
    views, found = Myriad(CONFIG, words()).eval()(seen(), placement)
    assert found.shape == (3, tokens, 576) and torch.isfinite(found).all()
    assert [tuple(v.shape) for v in views] == [(3,), (3, 9), (3, 4), (3, 5)]


def test_untrained_views_say_what_the_expert_says() -> None:
    given = seen(9)
    for cell in range(9):
        row, column = divmod(cell, 3)
        given.map[cell, 19 * row + 6, 19 * column + 6] = 3.0
    given.scalars[:, :2] = torch.linspace(-1, 1, 9)[:, None]
    views, _ = Myriad(CONFIG, words()).eval()(given)
    assert [PLACES[n] for n in views.place.argmax(-1)] == list(PLACES)
    assert ((views.presence > 0) == (given.scalars[:, 0] >= 0)).all()


def test_the_view_takes_nothing_off_what_the_expert_rejects() -> None:
    given, model = seen(4), Myriad(CONFIG, words()).eval()
    with torch.no_grad():
        model.tokenizer.presence[2].bias.fill_(-20.0)
    given.scalars[:, 0] = torch.tensor([-0.01, 0.0, 1.0, 1.0])
    given.scalars[3] = 0.0  # no limits
    presence = model(given)[0].presence
    assert (presence[[0, 3]] < -10).all() and presence[[1, 2]].tolist() == [LEAST, LEAST]
    assert model.tokenizer.present(presence_facts(channels(given.map)[:, 0], given.scalars)).max() < -10


def test_without_vision_the_patches_change_nothing() -> None:
    one, other = seen(), seen()._replace(difference=torch.ones(3, 256, 384))
    blind = Myriad(Config(vision=False), words()).eval()
    assert torch.equal(blind(one)[1], blind(other)[1])
    seeing = Myriad(CONFIG, words()).eval()
    assert not torch.equal(seeing(one)[1], seeing(other)[1])


def test_adapter_starts_as_the_identity() -> None:
    features = torch.randn(2, 5, 384)
    assert torch.equal(DomainAdapter(384, 4)(features), features)


def test_difference_to_the_nearest_normal_patch() -> None:
    normal = torch.eye(4, 8)[None]  # [R, P, D]
    part = normal[0][[2, 0, 3, 1]].clone()
    part[1, 5] = 0.7
    moved = difference(part, normal, torch.ones(4, 4))
    assert torch.allclose(moved[[0, 2, 3]], torch.zeros(3, 8))
    assert torch.allclose(moved[1], torch.tensor([0, 0, 0, 0, 0, 0.7, 0, 0]))


def test_difference_without_references_is_to_the_calm_half_of_the_part() -> None:
    features = torch.randn(16, 8)
    calm = torch.zeros(4, 4)
    calm[2:] = 1.0
    moved = difference(features, torch.zeros(0, 16, 8), calm)
    assert torch.allclose(moved[:8], torch.zeros(8, 8)) and (moved[8:].norm(dim=-1) > 0).all()


def test_projections() -> None:
    for kind in ("linear", "mlp"):
        assert projection(kind, 192, 576)(torch.zeros(1, 8, 192)).shape == (1, 8, 576)
    with pytest.raises(ValueError, match="linear or mlp"):
        projection("deep", 1, 1)  # type: ignore[arg-type]


def test_views_loss_leaves_out_what_has_no_class() -> None:
    views, _ = Myriad(CONFIG, words()).eval()(seen(2))
    truth = Truth(torch.tensor([1.0, 0.0]), torch.tensor([4, -100]), torch.tensor([-100, -100]), torch.tensor([1, 0]))
    loss = views_loss(views, truth)
    assert torch.isfinite(loss)
    loss.backward()


def test_sound_and_defective_parts_weigh_the_same() -> None:
    logit, presence = torch.zeros(1, requires_grad=True), torch.tensor([1.0] * 9 + [0.0])
    weight = torch.linspace(1, 2, 10)
    presence_loss(logit.expand(10), presence, weight).backward()
    assert logit.grad is not None and abs(logit.grad.item()) < 1e-6  # nothing draws an even chance either way
    loss = presence_loss(torch.tensor([0.0, 9.0, 0.0]), torch.tensor([1.0, 1.0, 0.0]), torch.tensor([1.0, 0.0, 5.0]))
    assert loss.item() == pytest.approx(np.log(2))


def packed(language: Language, questions: list[tuple[str, str]], context: str = "verdict reject") -> Branches:
    pieces = [language.pieces("You report.", context, question) for question, _ in questions]
    turns = [(p.question, [*language.ids(a), language.end]) for p, (_, a) in zip(pieces, questions, strict=True)]
    return Branches(pieces[0].head, pieces[0].context, turns)


def test_packed_questions_are_as_good_as_apart(language) -> None:
    questions = [("Where is it?", "At the top."), ("Is there a defect?", "Yes."), ("How big is the defect?", "It is small.")]
    soft = torch.randn(1, 6, 576)
    both = language_loss(language, soft.expand(2, -1, -1), [packed(language, questions), packed(language, questions[:1])])
    singly = [(language_loss(language, soft, [packed(language, [one])]), len(language.ids(one[1])) + 1) for one in questions]
    singly.append(singly[0])
    mean = sum(loss * count for loss, count in singly) / sum(count for _, count in singly)
    assert both.item() == pytest.approx(float(mean), rel=1e-4)


def test_answers_right_reads_each_answer_by_itself(language) -> None:
    soft, branch = torch.randn(1, 2, 576), packed(language, [("Say yes.", "Yes."), ("Say no.", "zebra")])
    marks = answers_right(language, soft, [branch])
    assert [len(row) for row in marks] == [2] and marks[0][1] is False


@torch.no_grad()
def test_adapters_start_as_nothing_and_merge_into_the_same_words(language) -> None:
    embeds = torch.randn(1, 7, 576)

    def run() -> torch.Tensor:
        return language.model(inputs_embeds=embeds).logits

    before = run()
    weights = {name: value.clone() for name, value in language.model.state_dict().items()}
    added = adapt(language.model.model, ("q_proj", "v_proj"), 4, 8.0)
    try:
        assert len(added) == 60 and torch.allclose(run(), before, atol=1e-4)
        for one in added.values():
            one.b.normal_(0, 0.02)
        learned = run()
        assert not torch.allclose(learned, before, atol=1e-2)
    finally:
        merge(language.model.model, ("q_proj", "v_proj"))
    assert torch.allclose(run(), learned, atol=2e-3)
    language.model.load_state_dict(weights)


def test_weights_come_back_as_saved(tmp_path: Path) -> None:
    model = Myriad(CONFIG, words())
    tensors = {f"myriad.{name}": value for name, value in model.named_parameters()}
    digest = save(tmp_path, CONFIG, tensors, {"seed": 3})
    back = load(tmp_path)
    assert back.config == CONFIG and back.sha256 == digest and back.card == {"seed": 3}
    other = Myriad(CONFIG, words())
    other.load_state_dict({name.removeprefix("myriad."): value for name, value in back.tensors.items()})
    assert torch.allclose(model.eval()(seen())[1], other.eval()(seen())[1], atol=0.05)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda v: v | {"frozen": {"vision": "0", "language": "0"}}, "other weights"),
        (lambda v: v | {"sha256": "0" * 64}, "not the ones"),
        (lambda v: v | {"format": "kensor-myriad/0"}, "this version reads"),
        (lambda v: {key: value for key, value in v.items() if key != "config"}, "damaged"),
        (lambda v: v | {"config": v["config"] | {"colour": 1}}, "damaged"),
    ],
)
def test_weights_that_do_not_fit_are_refused(tmp_path: Path, spoil, message) -> None:
    save(tmp_path, CONFIG, {"myriad.x": torch.zeros(3)}, {})
    values = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(spoil(values)))
    with pytest.raises(AdapterRefused, match=message):
        load(tmp_path)
    with pytest.raises(AdapterRefused, match="cannot be read"):
        load(tmp_path / "nowhere")


def test_a_trained_engine_sees_the_sight(tmp_path: Path) -> None:
    from models.lmm.prompt import Prompt
    from models.lmm.trained import MyriadEngine

    try:
        language = Language()
    except catalog.WeightsMissing:
        pytest.skip("the language model's weights are not on this machine (`kensor weights pull`)")
    model = Myriad(CONFIG, language.words())
    lora = adapt(language.model.model, CONFIG.lora_targets, CONFIG.lora_rank, CONFIG.lora_alpha)
    tensors = {f"myriad.{name}": value for name, value in model.named_parameters()}
    tensors |= {f"lora.{name}": value for name, value in lora.named_parameters() if value.requires_grad}
    save(tmp_path, CONFIG, tensors, {})
    engine = MyriadEngine(folder=tmp_path)
    one, other = (Prompt("You report.", "no facts", "What is there?", sight(seed)) for seed in (0, 1))
    ids = engine.tokens(one)
    assert sum(token < 0 for token in ids) == SOFT + CONFIG.queries
    views: list[float] = []
    first = "".join(engine.generate(one, max_tokens=6, view=views.append))
    assert views == [engine.view] and 0 < views[0] < 1
    soft = engine._soft.clone()
    again = "".join(engine.generate(Prompt(one.system, one.context, "What else?", one.sight), max_tokens=6))
    assert first and again and torch.equal(engine._soft, soft)
    engine.tokens(other)
    assert not torch.equal(engine._soft, soft) and engine._cache is None
    assert "".join(engine.generate(one, max_tokens=6)) == first
    assert engine.tokens(Prompt("You report.", "no facts", "What is there?")).count(-1) == 0 and engine.view is None


def test_sight_arrays_are_not_changed_by_seeing() -> None:
    given = sight(3)
    before = np.array(given.map)
    Myriad(CONFIG, words()).eval()(Seen(torch.zeros(1, 256, 384), torch.from_numpy(np.array(given.map))[None], torch.zeros(1, 4)))
    assert np.array_equal(given.map, before)

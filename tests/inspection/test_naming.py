"""Labelled findings found again: the feature, the vote, the limit; and what questions and the check make of names."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from evidences import evidence
from hypothesis import given
from hypothesis import strategies as st
from test_answering import Parrot

from inspection import exemplars
from inspection.answering import answer, build_prompt
from inspection.claims import nameable, read
from inspection.defects import doctor
from inspection.drawn import drawn
from inspection.evidence import Naming, Neighbour
from inspection.exemplars import ALIKE, Exemplar, limit, name, pooled, region_feature
from inspection.findings import find
from inspection.focus import focused
from inspection.questions import understand
from models import backbones
from models.runtime import Backbone

LABELS = ("broken_large", "crack", "Kratzer", "ひび")


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return Backbone(exemplars.BACKBONE, exemplars.SIDE)


def looks(backbone: Backbone, index: int, kind: str) -> np.ndarray:
    part, _ = drawn(3, index)
    pixels, mask = doctor(part, kind, np.random.default_rng([index, len(kind)]))
    heat = mask.astype(np.float32)
    return region_feature(pixels, heat, find(heat, 0.5, 256, 256)[0], backbone)


def test_like_defects_look_alike(backbone: Backbone) -> None:
    scratches, holes = ([looks(backbone, i, kind) for i in range(4)] for kind in ("scratch", "hole"))
    known = [Exemplar(f"s{i}", "scratch", f"s{i}", one) for i, one in enumerate(scratches[:3])]
    known += [Exemplar(f"h{i}", "hole", f"h{i}", one) for i, one in enumerate(holes[:3])]
    assert all(np.linalg.norm(one.feature) == pytest.approx(1, abs=1e-4) for one in known)
    named = name("f1", scratches[3], known)
    assert max(named.nearest, key=lambda one: one.similarity) == named.nearest[0]
    assert named.nearest[0].label == "scratch"
    assert (named.similarity >= named.limit) == (named.label is not None)
    assert np.array_equal(looks(backbone, 0, "scratch"), scratches[0])


def test_the_second_look_is_at_the_same_finding() -> None:
    """Patches whose features are their own colours are the same turned: so is what both looks see."""

    class Colours:
        spec = backbones.spec(exemplars.BACKBONE)
        looks = 0

        def features(self, images: np.ndarray) -> np.ndarray:
            self.looks += len(images)
            patches = images.reshape(len(images), 3, 16, 14, 16, 14).mean((3, 5)).reshape(len(images), 3, 256)
            rows = patches.transpose(0, 2, 1) + 4
            return np.asarray(rows / np.linalg.norm(rows, axis=2, keepdims=True), np.float32)

    pixels = np.full((256, 256, 3), 90, np.uint8)
    pixels[:8, 60:110] = (250, 20, 20)  # at the upper edge of what is looked at
    heat = np.zeros((256, 256), np.float32)
    heat[:8, 60:110] = 1.0
    colours, finding = Colours(), find(heat, 0.5, 256, 256)[0]
    feature = region_feature(pixels, heat, finding, colours)
    red = backbones.preprocess(np.full((224, 224, 3), (250, 20, 20), np.uint8), colours.spec, 224)[:, 0, 0] + 4
    assert colours.looks == 2 and feature @ (red / np.linalg.norm(red)) > 0.99


def test_the_vote_and_its_abstention() -> None:
    axes = np.eye(4, dtype=np.float32)
    known = [Exemplar("a", "crack", "1", axes[0]), Exemplar("b", "crack", "2", axes[0]), Exemplar("c", "spot", "3", axes[1])]
    nearest = (Neighbour("a", "crack", 1.0), Neighbour("b", "crack", 1.0), Neighbour("c", "spot", 0.0))
    assert name("f1", axes[0], known) == Naming("f1", "crack", 2, 1.0, round(limit(known), 4), nearest)
    assert name("f1", axes[3], known).label is None
    assert limit(known[:1]) == ALIKE
    assert limit(known[:2]) > ALIKE > limit([known[0], known[2]])
    same_picture = [replace(one, picture="1") for one in known]
    assert limit(same_picture) == ALIKE  # one picture's own findings say nothing of each other


@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_any_examples_give_a_name_among_theirs_or_none(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.normal(0, 1, (count + 1, 8)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    known = [Exemplar(str(i), "ab"[i % 2], str(i // 2), row) for i, row in enumerate(rows[1:])]
    named = name("f1", rows[0], known)
    assert named.label in (None, "a", "b")
    assert 1 <= named.votes <= len(named.nearest) <= 4
    assert list(named.nearest) == sorted(named.nearest, key=lambda one: -one.similarity)
    assert -1 <= limit(known) <= 1.1


@given(st.integers(0, 2**32 - 1))
def test_pooling_gives_a_unit_or_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    features = rng.normal(0, 1, (256, 12)).astype(np.float32)
    heat = np.maximum(rng.normal(-1, 1, 256), 0).astype(np.float32) * (seed % 3)
    assert np.linalg.norm(pooled(features, heat, (heat > 0).astype(np.float32))) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("clause", "types"),
    [
        ("The finding f1 looks like a crack", {"crack"}),
        ("It is “broken large”", {"broken_large"}),
        ("The defect is of the type crack", {"crack"}),
        ("The finding f1 is a crack at the top left", {"crack"}),
        ("It looks like a scratch", None),
        ("It is not a crack", None),
        ("There are two cracks", None),
        ("The score is a crack", None),
        ("It is \ue000", None),
    ],
)
def test_only_labels_are_read_as_types(clause: str, types: set[str] | None) -> None:
    claims = read(clause, labels=nameable(LABELS))
    assert (claims.types if claims else None) == types
    assert read("It is a crack") is None


def test_a_label_of_the_grammars_own_words_is_not_read() -> None:
    assert nameable(["defect", "top left", "no", "broken part", "small"]) == ["broken part"]
    assert understand("Where is the defect?", labels=["defect"]).label is None


NEAR = (Neighbour("e1", "crack", 0.9), Neighbour("e2", "crack", 0.8), Neighbour("e3", "broken_large", 0.75))
NAMED = (Naming("f1", "crack", 2, 0.9, 0.7, NEAR), Naming("f2", None, 1, 0.5, 0.7, NEAR[:1]))
TWO = evidence(18.2, ("top left", 0.8), ("right", 3.0), labels=LABELS, named=NAMED)


@pytest.mark.parametrize(
    ("said", "grounding"),
    [
        ("The finding f1 looks like a crack.", "mended"),  # f2 is left out: the statement says it
        ("The finding f1 is a broken large.", "replaced"),
        ("The finding f2 is a crack.", "replaced"),
        ("It is a scratch from the supplier.", "replaced"),
    ],
)
def test_a_type_is_delivered_where_the_examples_bear_it(said: str, grounding: str) -> None:
    got = answer(TWO, "What kind of defect is it?", Parrot(said))
    assert got.grounding == grounding
    assert "The finding f1 looks like “crack” (2 of the 3 nearest labelled examples)." in got.answer
    assert "The finding f2 is unlike anything labelled (similarity 0.50 to the nearest example, 0.70 is needed)." in got.answer
    assert "broken" not in got.answer and "scratch" not in got.answer
    assert [(one.ref, one.value["label"]) for one in got.evidence if one.kind == "exemplar"][:3] == [
        ("e1", "crack"), ("e2", "crack"), ("e3", "broken_large"),
    ]  # fmt: skip


def test_one_named_finding_is_grounded_in_the_models_own_words() -> None:
    one = evidence(18.2, ("top left", 0.8), labels=LABELS, named=NAMED[:1])
    got = answer(one, "Is it a crack?", Parrot("The finding f1 looks like a crack."))
    assert (got.kind, got.grounding, got.answer) == ("type", "grounded", "The finding f1 looks like a crack.")
    assert "looks like crack" in build_prompt(one, understand("Is it a crack?")).context


def test_without_names_nothing_changes() -> None:
    got = answer(evidence(18.2, ("top left", 0.8)), "Is it a crack?", Parrot("It is a crack."))
    assert (got.kind, got.grounding) == ("type", "insufficient")
    assert "crack" not in got.answer


@pytest.mark.parametrize(
    ("text", "focus", "label", "ids", "says"),
    [
        ("Where should I look first?", "first", None, ["f1"], "Look first at f1 at the top left"),
        ("Point to the largest one", "largest", None, ["f2"], "The largest finding is f2 at the right"),
        ("Which is the smallest finding?", "smallest", None, ["f1"], "The smallest finding is f1"),
        ("How big is the largest defect?", "largest", None, ["f2"], "f2 at the right (medium, 3.0 % of the picture)"),
        ("Show me the crack", "", "crack", ["f1"], "Look at f1 at the top left"),
        ("Show me the largest crack", "largest", "crack", ["f1"], "The largest finding is f1"),
        ("Where is the broken large?", "", "broken_large", [], "No finding looks like “broken_large”."),
        ("Show me the scratch", "", None, ["f1", "f2"], "None of the labelled examples bears the name asked for"),
        ("Zeig mir den Kratzer", "", "Kratzer", [], "Kein Befund sieht aus wie „Kratzer“."),
        ("Wo soll ich zuerst hinsehen?", "first", None, ["f1"], "Zuerst ansehen: f1 oben links"),
        ("Zeige mir den größten Befund", "largest", None, ["f2"], "Der größte Befund: f2 rechts"),
        ("まずどこを見ればいいですか？", "first", None, ["f1"], "まずf1 左上"),
        ("一番大きい欠陥を見せてください", "largest", None, ["f2"], "最も大きい所見はf2"),
        ("ひびを見せて", "", "ひび", [], "「ひび」に似た所見はありません。"),
    ],
)  # fmt: skip
def test_a_question_leads_to_its_finding(text: str, focus: str, label: str | None, ids: list[str], says: str) -> None:
    asked = understand(text, None, LABELS)
    assert (asked.focus, asked.label) == (focus, label)
    assert [one.id for one in focused(TWO, asked)] == ids
    got = answer(TWO, text, Parrot("The defect is at the bottom."))
    assert says in got.answer
    assert got.kind in ("place", "size")
    if focus or label:
        assert [one.ref for one in got.evidence if one.kind == "finding" and one.value["asked"]] == ids
        assert [one.ref for one in got.evidence][: len(ids)] == ids


def test_types_unknown_are_said_and_the_strongest_is_shown() -> None:
    got = answer(evidence(18.2, ("top left", 0.8), ("right", 3.0)), "Show me the crack", Parrot("Here."))
    assert "f1 at the top left" in got.answer and "The type cannot be named" in got.answer


def test_nothing_found_is_nothing_shown() -> None:
    got = answer(evidence(4.2, labels=LABELS), "Show me the crack", Parrot("The crack is at the top."))
    assert got.answer.startswith("The detector finds no defect") and "top" not in got.answer


def test_unlike_everything_is_insufficient() -> None:
    got = answer(
        evidence(18.2, ("right", 3.0), labels=LABELS, named=(replace(NAMED[1], finding="f1"),)),
        "Is it a crack?",
        Parrot("It is a crack."),
    )
    assert got.grounding == "insufficient"
    assert got.answer.startswith("The finding f1 is unlike anything labelled") and "“crack”" not in got.answer


WORDS = (
    *(
        "crack",
        "broken large",
        "Kratzer",
        "scratch",
        "f1",
        "f2",
        "f3",
        "the",
        "finding",
        "is",
        "a",
        "looks like",
        "and",
        "defect",
    ),
    *("top left", "right", "not", "they are", "it is", "of the type", "largest", ",", "."),
)


@given(
    st.lists(st.sampled_from([None, "crack", "broken_large", "Kratzer"]), min_size=0, max_size=3),
    st.lists(st.sampled_from(WORDS), max_size=14).map(" ".join),
    st.sampled_from(["What kind of defect is it?", "Is it a crack?", "Show me the crack", "Where is it?", "Describe it"]),
)
def test_no_name_leaves_that_the_examples_do_not_bear(names: list[str | None], said: str, question: str) -> None:
    named = tuple(Naming(f"f{i}", name, 1, 0.9 if name else 0.2, 0.7, NEAR[:2]) for i, name in enumerate(names, 1))
    found = (("top left", 0.8), ("right", 3.0), ("top", 0.05))
    e = evidence(18.2, *found, labels=("broken_large", "crack", "Kratzer"), named=named)
    delivered = answer(e, question, Parrot(said)).answer.lower()
    borne = {one.finding: (one.label or "").lower().replace("_", " ") for one in named}
    assert "scratch" not in delivered
    for sentence in delivered.replace("_", " ").split(". "):
        spoken = {name for name in ("crack", "broken large", "kratzer") if name in sentence}
        if not spoken or sentence.startswith("no finding looks like"):
            continue
        ids = {one for one in ("f1", "f2", "f3") if one in sentence}
        assert spoken <= {borne.get(one) for one in ids or set(borne)}, (sentence, borne)
        assert len(spoken) <= max(len(ids), 1), sentence


def test_a_model_that_refuses_to_name_is_not_heard_where_the_examples_name() -> None:
    """The built-in model has never seen a labelled example; the record has."""
    got = answer(TWO, "What kind of defect is it?", Parrot("The type cannot be named: this product has no labelled example."))
    assert got.kind == "type" and got.grounding == "replaced" and "“crack”" in got.answer and "cannot be" not in got.answer

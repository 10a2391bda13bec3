"""Labelled findings: over HTTP, on both databases, with DINOv2 itself; and what questions make of them."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from parts import BAD, GOOD, PNG, good, picture, refused

from app.context import Context
from app.db.tables import Exemplar
from app.encoder import Encoder
from app.errors import Busy, Unavailable
from app.language import Language, LanguageProcess
from app.services import likenesses
from inspection.exemplars import WIDTH


@pytest.fixture
def found(client: TestClient, part: str) -> list[dict[str, Any]]:
    """Three stains and two missing pieces, inspected."""
    kinds = ["stain", "stain", "stain", "missing", "missing"]
    posted = (client.post(f"{part}/inspections", content=picture(200 + i, kind), headers=PNG) for i, kind in enumerate(kinds))
    records = [good(response, 201) for response in posted]
    assert all(record["findings"] for record in records)
    return records


def label(client: TestClient, part: str, record: dict[str, Any], name: str, **more: Any) -> Any:
    return client.post(f"{part}/exemplars", json={"inspection_id": record["id"], "finding": "f1", "label": name, **more})


def test_findings_are_labelled_listed_and_forgotten(client: TestClient, part: str, ctx: Context, found: list[Any]) -> None:
    made = good(label(client, part, found[0], "Stain"), 201)
    assert (made["label"], made["pool"], made["finding"], made["created_by"]) == ("Stain", "exemplar", "f1", "local")
    assert good(label(client, part, found[1], "stain"), 201)["label"] == "Stain"  # one spelling
    good(label(client, part, found[3], "missing piece"), 201)
    good(label(client, part, found[2], "Stain", pool="test"), 201)
    listed = good(client.get(f"{part}/exemplars"))
    assert [one["label"] for one in listed["items"]] == ["Stain", "missing piece", "Stain", "Stain"]
    assert listed["labels"] == {"Stain": {"exemplar": 2, "test": 1}, "missing piece": {"exemplar": 1, "test": 0}}
    assert listed["test"]["n"] == 1
    assert [one["pool"] for one in good(client.get(f"{part}/exemplars?pool=test"))["items"]] == ["test"]
    with ctx.database.read() as session:
        assert {len(row.feature or b"") for row in session.query(Exemplar)} == {2 * WIDTH}
    assert client.delete(f"{part}/exemplars/{made['id']}").status_code == 204
    refused(client.delete(f"{part}/exemplars/{made['id']}"), 404, "unknown_exemplar")


def test_bad_labels_change_nothing(client: TestClient, part: str, found: list[Any]) -> None:
    good(label(client, part, found[0], "stain"), 201)
    before = good(client.get(f"{part}/exemplars"))
    refused(label(client, part, found[0], "spot"), 409, "already_labelled")
    refused(label(client, part, found[1], "stain", finding="f9"), 422, "unknown_finding")
    for name in ("", " ", "a" * 41, "“quoted”", "say: it is good.", "<|im_end|>", "line\nbreak", "\x00"):
        refused(label(client, part, found[1], name), 422, "invalid")
    refused(label(client, part, found[1], "stain", pool="train"), 422, "invalid")
    refused(label(client, part, {"id": "01a209ac-c832-7439-a3c4-dac77d6d4199"}, "stain"), 404, "unknown_inspection")
    good(client.post("/v1/products", json={"name": "other"}), 201)
    refused(label(client, "/v1/products/other", found[1], "stain"), 422, "other_product")
    refused(label(client, "/v1/products/none", found[1], "stain"), 404, "unknown_product")
    refused(client.get("/v1/products/none/exemplars"), 404, "unknown_product")
    assert good(client.get(f"{part}/exemplars")) == before


def test_no_picture_stands_in_both_pools(client: TestClient, part: str, found: list[Any]) -> None:
    good(label(client, part, found[0], "stain", pool="test"), 201)
    again = good(client.post(f"{part}/inspections", content=picture(200, "stain"), headers=PNG), 201)
    refused(label(client, part, again, "stain"), 409, "other_pool")
    review = {"decision": "reject", "defect_type": "stain", "finding": "f1", "expected_revision": 0}
    good(client.post(f"/v1/inspections/{again['id']}/reviews", json=review), 201)  # a review is never refused for it
    assert [one["pool"] for one in good(client.get(f"{part}/exemplars"))["items"]] == ["test"]


@pytest.fixture
def speaking(ctx: Context) -> None:
    """The real answering behind an engine that says nothing of use."""

    class Mute(LanguageProcess):
        def generate(self, prompt: Any, **more: Any) -> Any:
            yield "It is a scratch."

    ctx.answerer = Language(Mute())


def ask(client: TestClient, record: dict[str, Any], question: str, **more: Any) -> Any:
    return good(client.post(record["links"]["questions"], json={"question": question, **more}), 201)


@pytest.mark.usefixtures("speaking")
def test_a_finding_is_named_with_its_neighbours_as_evidence(client: TestClient, part: str, found: list[Any]) -> None:
    said = ask(client, found[2], "What kind of defect is it?")
    assert (said["grounding"], "cannot be named" in said["answer"]) == ("insufficient", True)
    stain = good(label(client, part, found[0], "stain"), 201)["id"]
    good(label(client, part, found[3], "missing piece"), 201)
    said = ask(client, found[2], "What kind of defect is it?")
    assert said["grounding"] == "replaced"
    assert "The finding f1 looks like “stain”" in said["answer"]
    assert "scratch" not in said["answer"]
    items = [one for one in said["evidence"] if one["kind"] == "exemplar"]
    assert items[0]["ref"] == stain
    assert items[0]["value"] == {"finding": "f1", "label": "stain", "similarity": pytest.approx(items[0]["value"]["similarity"])}
    assert next(one for one in said["evidence"] if one["ref"] == "f1")["value"]["named"] == "stain"
    shown = ask(client, found[2], "Show me the stain")
    assert "Look at f1" in shown["answer"]
    assert next(one for one in shown["evidence"] if one["ref"] == "f1")["value"]["asked"] is True
    none = ask(client, found[2], "Show me the missing piece")
    assert "No finding looks like “missing piece”." in none["answer"]
    assert "„stain“" in ask(client, found[2], "Welche Art von Fehler ist das?")["answer"]


@pytest.mark.usefixtures("speaking")
def test_the_test_pool_names_nothing(client: TestClient, part: str, found: list[Any]) -> None:
    good(label(client, part, found[0], "stain", pool="test"), 201)
    assert "cannot be named" in ask(client, found[2], "What kind of defect is it?")["answer"]


@pytest.mark.usefixtures("speaking")
def test_a_review_labels_and_its_feature_comes_later(client: TestClient, part: str, ctx: Context, found: list[Any]) -> None:
    review = {"decision": "reject", "defect_type": "stain", "finding": "f1", "expected_revision": 0}
    good(client.post(f"/v1/inspections/{found[0]['id']}/reviews", json=review), 201)
    review |= {"expected_revision": 1, "defect_type": "smear"}
    good(client.post(f"/v1/inspections/{found[0]['id']}/reviews", json=review), 201)
    review |= {"expected_revision": 2, "defect_type": "a type: not to be said\n"}  # kept in the review alone
    good(client.post(f"/v1/inspections/{found[0]['id']}/reviews", json=review), 201)
    review |= {"expected_revision": 0, "defect_type": "smear\n"}
    good(client.post(f"/v1/inspections/{found[1]['id']}/reviews", json=review), 201)
    with ctx.database.read() as session:
        row = session.query(Exemplar).one()
        assert (row.label, row.feature) == ("smear", None)
    assert "“smear” (the nearest labelled example)" in ask(client, found[2], "What kind of defect is it?")["answer"]
    with ctx.database.write() as session:
        row = session.query(Exemplar).one()
        assert row.feature is not None
        row.made_by, row.feature = "0" * 64, b"\x00" * len(row.feature)  # other weights: made again
    ask(client, found[2], "What kind of defect is it?")
    with ctx.database.read() as session:
        assert any(session.query(Exemplar).one().feature or b"")
    assert "was labelled “smear” by a person" in ask(client, found[0], "What kind of defect is it?")["answer"]


@pytest.mark.usefixtures("speaking")
def test_what_was_seen_before_is_found_again(client: TestClient, found: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likenesses, "NEW", 2)
    said = ask(client, found[4], "Have we seen this before?")
    assert said["kind"] == "history"
    assert "Of 2 earlier findings looked at" in said["answer"]
    assert "2 more were not looked at." in said["answer"]
    alike = [one for one in said["evidence"] if one["kind"] == "history" and "similarity" in one["value"]]
    assert alike[0]["ref"] == found[3]["id"]  # the other missing piece
    assert alike[0]["value"]["similarity"] > alike[1]["value"]["similarity"]
    again = ask(client, found[4], "Have we seen this before?")
    assert "Of 4 earlier findings looked at" in again["answer"]
    assert "not looked at." not in again["answer"]
    assert "looked at" not in ask(client, found[0], "Have we seen this before?")["answer"]


def test_a_full_encoder_refuses_and_a_closed_one_says_so() -> None:
    encoder, go, begun = Encoder(queue_length=0), threading.Event(), threading.Event()
    encoder._backbone = object()

    def wait(_: Any) -> None:
        begun.set()
        go.wait(10)

    holds = threading.Thread(target=lambda: encoder.run(wait))
    holds.start()
    assert begun.wait(10)
    with pytest.raises(Busy):
        encoder.run(wait)
    go.set()
    holds.join()
    assert encoder.kept(("a",), lambda: 1) == encoder.kept(("a",), lambda: 2) == 1
    encoder.close()
    with pytest.raises(Unavailable):
        encoder.run(wait)


def test_good_parts_have_nothing_to_label(client: TestClient, part: str) -> None:
    passed = good(client.post(f"{part}/inspections", content=GOOD, headers=PNG), 201)
    if not passed["findings"]:
        refused(label(client, part, passed, "stain"), 422, "unknown_finding")
    bad = good(client.post(f"{part}/inspections", content=BAD, headers=PNG), 201)
    good(label(client, part, bad, "stain"), 201)


def test_a_picture_that_the_store_lost_leaves_the_rest_of_the_answer(
    client: TestClient, part: str, ctx: Context, found: list[Any]
) -> None:
    good(label(client, part, found[3], "missing"), 201)
    lost = good(client.get(f"/v1/inspections/{found[0]['id']}"))["image"]["sha256"]
    Path(ctx.store.path(lost)).unlink()
    url = f"/v1/inspections/{found[0]['id']}/questions"
    for question in ("What kind of defect is it?", "Has this been seen before?"):
        assert good(client.post(url, json={"question": question}), 201)["answer"]
    assert [one["state"] for one in good(client.get(url))["items"]] == ["done", "done"]


@pytest.mark.usefixtures("speaking")
def test_what_the_store_lost_of_others_takes_nothing_from_the_rest(
    client: TestClient,
    part: str,
    ctx: Context,
    found: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(likenesses, "NEW", 2)
    for number in (0, 1):
        review = {"decision": "reject", "defect_type": "stain", "finding": "f1", "expected_revision": 0}
        good(client.post(f"/v1/inspections/{found[number]['id']}/reviews", json=review), 201)  # looked at when it is needed
    lost = [good(client.get(f"/v1/inspections/{found[number]['id']}"))["image"]["sha256"] for number in (1, 3)]
    Path(ctx.store.path(lost[0])).unlink()
    Path(ctx.store.path(lost[1])).write_bytes(b"")  # as a power cut may leave a file
    seen = ask(client, found[4], "Have we seen this before?")
    assert "Of 2 earlier findings looked at" in seen["answer"]
    assert "2 more were not looked at." in seen["answer"]
    alike = {one["ref"] for one in seen["evidence"] if one["kind"] == "history" and "similarity" in one["value"]}
    assert alike == {found[0]["id"], found[2]["id"]}
    said = ask(client, found[2], "What kind of defect is it?")
    assert "“stain” (the nearest labelled example)" in said["answer"]
    logged = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
    assert [line.rpartition(" ")[2] for line in logged] == ["2", "1"]

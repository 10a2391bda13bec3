"""Questions over HTTP: on record before the model is asked, closed whatever comes of it."""

from __future__ import annotations

import json
import logging
import threading
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from parts import BAD, GOOD, PNG, Echo, good, refused
from sqlalchemy.exc import IntegrityError, OperationalError

from app.context import Context
from app.errors import Unavailable
from app.language import Language
from app.schemas.questions import QuestionIn
from app.security import LOCAL
from app.services import questions


@pytest.fixture
def asked(client: TestClient, part: str) -> str:
    good(client.post(f"{part}/inspections?lot=L", content=GOOD, headers=PNG), 201)
    made = good(client.post(f"{part}/inspections?lot=L", content=BAD, headers=PNG), 201)
    return str(made["links"]["questions"])


def events(text: str) -> list[tuple[str, Any]]:
    found = []
    for block in text.strip().split("\n\n"):
        name, data = block.split("\n")
        found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


def test_an_answer_rests_on_the_stored_evidence_and_is_recorded(client: TestClient, asked: str, echo: Echo) -> None:
    body = good(client.post(asked, json={"question": " Where is it? "}), 201)
    assert (body["answer"], body["own_words"], body["kind"], body["grounding"]) == ("Where is it?", "own", "place", "mended")
    assert body["model"] == {"name": "echo", "sha256": "0" * 64}
    record = good(client.get(asked.removesuffix("/questions")))
    seen = echo.seen[0]
    assert (seen.inspection_id, seen.verdict, seen.lot) == (record["id"], "reject", "L")
    assert [f.id for f in seen.findings] == [f["id"] for f in record["findings"]]
    assert seen.findings[0].polygon[0] == tuple(record["findings"][0]["polygon"][0])
    assert seen.image is not None
    assert seen.image.shape == (128, 128, 3)
    assert seen.map is not None
    assert float(np.max(seen.map)) == pytest.approx(record["map"]["max"])
    assert [past["verdict"] for past in seen.history] == ["pass"]
    kept = good(client.get(asked))["items"][0]
    assert (kept["state"], kept["answer"]["id"], kept["asked_by"]) == ("done", body["id"], "local")
    assert good(client.get("/v1/reports/summary"))["groundings"] == {"mended": 1}


@pytest.mark.parametrize("room", [0, questions.KEPT])
def test_the_normal_pictures_are_read_once_for_follow_ups_where_there_is_room(
    client: TestClient, asked: str, ctx: Context, echo: Echo, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    read, normals = list[object](), questions.normals
    monkeypatch.setattr(questions, "KEPT", room)
    monkeypatch.setattr(questions, "normals", lambda folder: read.append(folder) or normals(folder))
    for _ in range(3):
        good(client.post(asked, json={"question": "Where is it?"}), 201)
    first, *more = [seen.references for seen in echo.seen]
    assert first and all(np.array_equal(a, b) for seen in more for a, b in zip(first, seen, strict=True))
    assert len(read) == (1 if room else 3)
    ctx.references = ("another", ())
    good(client.post(asked, json={"question": "Where is it?"}), 201)
    assert len(read) == (2 if room else 4) and len(echo.seen[-1].references) == len(first)


def test_a_stream_tells_evidence_then_words_then_the_whole(client: TestClient, asked: str) -> None:
    response = client.post(asked, json={"question": "a b", "stream": True})
    assert response.headers["content-type"].startswith("text/event-stream")
    told = events(response.text)
    assert [name for name, _ in told] == ["evidence", "text", "text", "done"]
    assert told[0][1][0]["kind"] == "map_stat"
    assert [text for name, text in told if name == "text"] == ["a", "b"]
    assert told[-1][1]["id"] == good(client.get(asked))["items"][0]["answer"]["id"]


def test_a_model_that_fails_closes_the_question(client: TestClient, asked: str, echo: Echo) -> None:
    echo.fails = Unavailable("The weights are missing.", code="weights_missing")
    refused(client.post(asked, json={"question": "why"}), 503, "weights_missing")
    told = events(client.post(asked, json={"question": "why", "stream": True}).text)
    assert (told[-1][0], told[-1][1]["code"]) == ("error", "weights_missing")
    kept = good(client.get(asked))["items"]
    assert [(row["state"], row["error"], row["answer"]) for row in kept] == [("failed", "weights_missing", None)] * 2


def test_a_full_queue_is_said_before_a_picture_is_decoded_and_before_a_stream_begins(
    client: TestClient, asked: str, ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decoded(*args: Any, **more: Any) -> Any:
        raise AssertionError("a picture was decoded")

    language = ctx.answerer = Language()
    language.process.turns.tickets.extend(object() for _ in range(9))
    with monkeypatch.context() as patched:
        patched.setattr(questions, "decode", decoded)
        for stream in (False, True):
            answer = client.post(asked, json={"question": "Is there a defect?", "stream": stream})
            refused(answer, 429, "language_busy")
            assert answer.headers["retry-after"] == "5"
    kept = good(client.get(asked))["items"]
    assert [(row["state"], row["error"]) for row in kept] == [("failed", "language_busy")] * 2
    german = good(client.post(asked, json={"question": "Is there a defect?", "language": "de"}), 201)
    assert german["model"]["name"] == "phrases:de"  # no engine is asked, so none is waited for


def test_what_nobody_foresaw_amid_a_stream_is_in_the_log(
    client: TestClient, asked: str, echo: Echo, caplog: pytest.LogCaptureFixture
) -> None:
    echo.fails = RuntimeError("the inside")
    answer = client.post(asked, json={"question": "why", "stream": True}, headers={"X-Request-ID": "find-me"})
    name, value = events(answer.text)[-1]
    assert (name, value["code"], value["request_id"]) == ("error", "internal_error", "find-me")
    assert "inside" not in answer.text
    (record,) = (one for one in caplog.records if one.levelno == logging.ERROR)
    assert "find-me" in record.getMessage()
    assert record.exc_info
    assert record.exc_info[1] is echo.fails


def test_a_question_is_closed_where_the_database_refuses_its_answer(
    client: TestClient, asked: str, ctx: Context, echo: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = echo.answer
    monkeypatch.setattr(echo, "answer", lambda *args, **more: replace(plain(*args, **more), answer=None))
    refused(client.post(asked, json={"question": "why"}), 409, "conflict")
    question = questions.open_question(ctx, asked.split("/")[3], QuestionIn(question="why"), LOCAL)
    with pytest.raises(IntegrityError):
        questions.answer(ctx, question)
    with monkeypatch.context() as patched, pytest.raises(OperationalError):
        patched.setattr(ctx.database, "read", locked)
        question = questions.open_question(ctx, asked.split("/")[3], QuestionIn(question="why"), LOCAL)
        questions.answer(ctx, question)
    kept = [(row["state"], row["error"]) for row in good(client.get(asked))["items"]]
    assert kept == [("failed", "database_unavailable"), ("failed", "conflict"), ("failed", "conflict")]


def locked() -> Any:
    raise OperationalError("BEGIN", {}, Exception("database is locked"))


def test_the_first_error_is_raised_and_one_who_breaks_off_did_not_fail(
    client: TestClient, asked: str, ctx: Context, echo: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = [questions.open_question(ctx, asked.split("/")[3], QuestionIn(question="why"), LOCAL) for _ in range(2)]
    echo.fails = Unavailable("The model died.", code="language_died")
    with monkeypatch.context() as patched, pytest.raises(Unavailable, match="The model died"):
        patched.setattr(ctx.database, "write", locked)
        questions.answer(ctx, opened[0])
    echo.fails = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        questions.answer(ctx, opened[1])
    kept = {row["id"]: (row["state"], row["error"]) for row in good(client.get(asked))["items"]}
    assert kept == {opened[0]: ("open", None), opened[1]: ("interrupted", None)}


def test_a_client_that_leaves_ends_the_generation(client: TestClient, asked: str, ctx: Context, echo: Echo) -> None:
    inspection = asked.split("/")[3]
    question = questions.open_question(ctx, inspection, QuestionIn(question="one two three"), LOCAL)
    assert good(client.get(asked))["items"][0]["state"] == "open"
    heard: list[Any] = []

    def leaves(kind: str, value: Any) -> None:
        heard.append(value)
        if len(heard) == 2:
            raise questions.Interrupted

    with pytest.raises(questions.Interrupted):
        questions.answer(ctx, question, leaves)
    assert good(client.get(asked))["items"][0]["state"] == "interrupted"


def test_a_stream_that_is_dropped_is_recorded_as_interrupted(client: TestClient, asked: str, echo: Echo) -> None:
    import asyncio

    from app.routes import questions as route

    go = threading.Event()
    plain = echo.answer

    def slow(*args: Any, on_event: Any = None, **more: Any) -> Any:
        on_event("evidence", [])
        go.wait(10)
        return plain(*args, on_event=on_event, **more)

    echo.answer = slow  # type: ignore[method-assign]
    ctx: Context = client.app.state.context  # type: ignore[attr-defined]
    question = questions.open_question(ctx, asked.split("/")[3], QuestionIn(question="a b"), LOCAL)

    async def drop() -> None:
        stream = route._events(ctx, question, "")
        assert (await anext(stream)).startswith(b"event: evidence")
        await stream.aclose()  # type: ignore[attr-defined]
        go.set()
        until = time.monotonic() + 10
        while good(client.get(asked))["items"][0]["state"] != "interrupted":
            assert time.monotonic() < until
            await asyncio.sleep(0.02)

    asyncio.run(drop())


def test_conversations_stay_with_their_inspection(client: TestClient, asked: str, part: str) -> None:
    first = good(client.post(asked, json={"question": "a"}), 201)["conversation_id"]
    assert good(client.post(asked, json={"question": "b", "conversation_id": first}), 201)["conversation_id"] == first
    other = good(client.post(f"{part}/inspections", content=GOOD, headers=PNG), 201)["links"]["questions"]
    refused(client.post(other, json={"question": "c", "conversation_id": first}), 422, "other_conversation")
    refused(client.post(asked, json={"question": "  "}), 422, "invalid")
    refused(client.post(asked, json={"question": "a", "engine": "unheard-of"}), 422, "unknown_engine")
    missing = asked.replace(asked.split("/")[3], "01a209ac-c832-7439-a3c4-dac77d6d4199")
    refused(client.post(missing, json={"question": "a"}), 404, "unknown_inspection")


def test_feedback_is_added(client: TestClient, asked: str) -> None:
    answer = good(client.post(asked, json={"question": "a"}), 201)["id"]
    made = good(client.post(f"/v1/answers/{answer}/feedback", json={"vote": "down", "edit": "top left"}), 201)
    assert (made["vote"], made["edit"], made["created_by"]) == ("down", "top left", "local")
    refused(client.post("/v1/answers/01a209ac-c832-7439-a3c4-dac77d6d4199/feedback", json={"vote": "up"}), 404, "unknown_answer")

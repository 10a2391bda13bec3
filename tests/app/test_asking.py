"""Questions over HTTP: on record before the model is asked, closed whatever comes of it."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from parts import BAD, GOOD, PNG, Echo, good, refused

from app.context import Context
from app.errors import Unavailable
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

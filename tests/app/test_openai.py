"""The chat route: read as one question about one picture, answered and refused in OpenAI's shapes, driven by its client."""

from __future__ import annotations

import base64
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from parts import BAD, GOOD, HERE, PNG, Echo, give_recipe, good, refused, served

from app.context import Context
from app.errors import Busy, Unavailable
from app.main import create_app
from app.middleware import PLAIN
from app.services import keys
from app.settings import MIB, Settings

CHAT = "/v1/chat/completions"


def url(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def turn(text: str, *urls: str) -> dict[str, Any]:
    parts: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": one}} for one in urls]
    return {"role": "user", "content": [*parts, {"type": "text", "text": text}]}


def asking(*messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"model": "kensor:part", "messages": list(messages), **more}


def test_a_picture_is_inspected_and_the_answer_is_on_record(client: TestClient, part: str, echo: Echo) -> None:
    system = {"role": "system", "content": "You are a pirate."}
    body = good(client.post(CHAT, json=asking(system, turn(" Where is it? ", url(BAD)), temperature=0.7, top_p=1)))
    assert body["object"] == "chat.completion"
    assert body["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Where is it?", "refusal": None},
            "finish_reason": "stop",
            "logprobs": None,
        }
    ]
    assert body["usage"] == {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
    record = good(client.get(f"/v1/inspections/{body['kensor']['inspection_id']}"))
    assert (record["verdict"], record["recipe"]["number"], record["created_by"]) == ("reject", 1, "local")
    kept = good(client.get(record["links"]["questions"]))["items"]
    assert [(row["question"], row["state"], row["engine"]) for row in kept] == [("Where is it?", "done", "builtin")]
    assert body["id"] == f"chatcmpl-{kept[0]['id']}"
    assert body["kensor"]["grounding"] == "mended"
    assert echo.seen[0].inspection_id == record["id"]


def test_later_turns_are_about_the_same_inspection_and_one_conversation(client: TestClient, part: str) -> None:
    first = turn("Is there a defect?", url(BAD))
    one = good(client.post(CHAT, json=asking(first)))["kensor"]
    reply = {"role": "assistant", "content": "Yes."}
    two = good(client.post(CHAT, json=asking(first, reply, {"role": "user", "content": "Where?"})))["kensor"]
    assert (two["inspection_id"], two["conversation_id"]) == (one["inspection_id"], one["conversation_id"])
    assert two["answer"] == "Where?"
    three = good(client.post(CHAT, json=asking(first, reply, turn("And this?", url(GOOD)))))["kensor"]
    assert three["inspection_id"] != one["inspection_id"]
    assert len(good(client.get("/v1/inspections"))["items"]) == 2


def test_a_promoted_recipe_judges_anew(client: TestClient, part: str, ctx: Context, enrolled: Path) -> None:
    one = good(client.post(CHAT, json=asking(turn("a", url(BAD)))))["kensor"]
    give_recipe(ctx, client, enrolled)  # the same folder under another number: nothing would be judged otherwise
    assert good(client.post(CHAT, json=asking(turn("a", url(BAD)))))["kensor"]["inspection_id"] == one["inspection_id"]


def test_a_recorded_inspection_is_asked_about_by_its_id(client: TestClient, part: str) -> None:
    made = good(client.post(f"{part}/inspections", content=BAD, headers=PNG), 201)
    body = good(client.post(CHAT, json=asking(turn("Where?", f"inspection:{made['id']}"))))
    assert body["kensor"]["inspection_id"] == made["id"]
    assert len(good(client.get("/v1/inspections"))["items"]) == 1
    good(client.post("/v1/products", json={"name": "other"}), 201)
    other = asking(turn("Where?", f"inspection:{made['id']}")) | {"model": "kensor:other"}
    refused(client.post(CHAT, json=other), 422, "other_product")
    missing = "inspection:01a209ac-c832-7439-a3c4-dac77d6d4199"
    refused(client.post(CHAT, json=asking(turn("Where?", missing))), 404, "unknown_inspection")


@pytest.mark.parametrize(
    "address",
    [
        "http://192.0.2.1/a.png",
        "https://example.com/a.png",
        "HTTPS://example.com/a.png",
        "file:///etc/passwd",
        "//example.com/a.png",
        "inspection:1",
        "/v1/inspections",
        "",
    ],
)
@pytest.mark.parametrize("earlier", [False, True])
def test_an_address_is_never_fetched(
    client: TestClient, part: str, address: str, earlier: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reached(*args: Any, **more: Any) -> Any:
        raise AssertionError("somebody asked the network")

    monkeypatch.setattr(socket, "create_connection", reached)
    monkeypatch.setattr(socket, "getaddrinfo", reached)
    turns = [turn("Where?", address), turn("And here?", url(BAD))] if earlier else [turn("Where?", address)]
    body = refused(client.post(CHAT, json=asking(*turns)), 422, "image_url_refused")
    assert "never fetched" in body["message"]
    assert good(client.get("/v1/inspections"))["items"] == []


@pytest.mark.parametrize(
    ("messages", "status", "code"),
    [
        ([turn("Where?")], 422, "no_picture"),
        ([{"role": "user", "content": "Where?"}], 422, "no_picture"),
        ([turn("  ", url(BAD))], 422, "no_question"),
        ([{"role": "user", "content": None}], 422, "no_question"),
        ([{"role": "assistant", "content": "Yes."}], 422, "no_question"),
        ([turn("Which?", url(BAD), url(GOOD))], 422, "several_pictures"),
        ([turn("x" * 2001, url(BAD))], 422, "invalid"),
        ([turn("x" * 100_000, url(BAD))], 422, "invalid"),
        ([turn("a\x00b", url(BAD))], 422, "invalid"),
        ([turn("Where?", "data:image/png;base64,&&&")], 422, "bad_image_url"),
        ([turn("Where?", "data:image/png,abc")], 422, "bad_image_url"),
        ([turn("Where?", url(b"GIF89a"))], 415, "not_an_image"),
        ([turn("Where?", url(b""))], 415, "not_an_image"),
        ([], 422, "invalid"),
        ([{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}]}], 422, "invalid"),
        ([{"role": "wizard", "content": "a"}], 422, "invalid"),
    ],
    ids=lambda value: str(value)[:40] if not isinstance(value, list) else "chat",
)
def test_what_is_no_question_about_a_picture_is_refused(
    client: TestClient, part: str, messages: list[dict[str, Any]], status: int, code: str
) -> None:
    for stream in (False, True):
        answer = client.post(CHAT, json=asking(*messages, stream=stream))
        refused(answer, status, code)
        error = answer.json()["error"]
        assert (error["type"], error["code"], error["message"]) == ("invalid_request_error", code, answer.json()["message"])
    assert good(client.get("/v1/inspections"))["items"] == []


@pytest.mark.parametrize("role", ["system", "user", "assistant"])
def test_half_a_character_is_refused_before_anything_is_recorded(client: TestClient, part: str, role: str) -> None:
    last = turn("Where?", url(BAD))
    for content in ("a\ud800", [{"type": "text", "text": "a\ud800"}]):
        chat = json.dumps(asking({"role": role, "content": content}, last))
        answer = client.post(CHAT, content=chat, headers={"Content-Type": "application/json"})
        refused(answer, 422, "invalid")
        assert answer.json()["error"]["type"] == "invalid_request_error"
        assert "must be valid Unicode" in answer.json()["message"]
    assert good(client.get("/v1/inspections"))["items"] == []


def test_what_nobody_foresaw_amid_a_stream_is_in_the_log(
    client: TestClient, part: str, echo: Echo, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*args: Any, on_event: Any = None, **more: Any) -> Any:
        on_event("text", "There is")
        raise RuntimeError("the inside")

    monkeypatch.setattr(echo, "answer", fails)
    chat = asking(turn("Where?", url(BAD)), stream=True)
    answer = client.post(CHAT, json=chat, headers={"X-Request-ID": "find-me"})
    told = json.loads(answer.text.strip().rpartition("data: ")[2])
    assert (told["code"], told["request_id"]) == ("internal_error", "find-me")
    assert told["error"]["type"] == "server_error"
    assert "inside" not in answer.text
    (record,) = (one for one in caplog.records if one.levelname == "ERROR")
    assert "find-me" in record.getMessage()
    assert record.exc_info
    assert str(record.exc_info[1]) == "the inside"


def test_models_engines_and_numbers_that_are_not_there(client: TestClient, part: str) -> None:
    ask = turn("a", url(BAD))
    for model in ("gpt-4o", "kensor:", "kensor:Part", "kensor:nothing"):
        refused(client.post(CHAT, json=asking(ask) | {"model": model}), 404, "model_not_found")
    good(client.post("/v1/products", json={"name": "empty"}), 201)
    refused(client.post(CHAT, json=asking(ask) | {"model": "kensor:empty"}), 409, "no_recipe")
    refused(client.post(CHAT, json=asking(ask, n=2)), 422, "invalid")
    refused(client.post(CHAT, json=asking(ask, engine="oracle")), 422, "unknown_engine")
    refused(client.post(CHAT, json=asking(ask, engine="openai")), 422, "engine_off")
    refused(client.post(CHAT, json=asking(ask, language="klingon")), 422, "invalid")
    assert good(client.get("/v1/inspections"))["items"] == []


def test_a_chat_may_be_as_large_as_a_picture_in_base64(client: TestClient, settings: Settings, part: str) -> None:
    assert good(client.post(CHAT, json=asking(turn("a", url(GOOD)), padding="x" * 2 * PLAIN)))["object"] == "chat.completion"
    limit = settings.max_upload_mib * MIB * 4 // 3 + PLAIN
    late = client.post(CHAT, content=b"{", headers={"Content-Type": "application/json", "Content-Length": str(limit + 1)})
    assert refused(late, 413, "too_large")["details"] == {"limit": limit}


def test_a_failure_before_the_first_word_has_its_status_also_in_a_stream(client: TestClient, part: str, echo: Echo) -> None:
    for fails, status, code in (
        (Unavailable("The weights are missing.", code="weights_missing"), 503, "weights_missing"),
        (Busy("Too many wait.", code="language_busy", retry_after=5), 429, "language_busy"),
    ):
        echo.fails = fails
        for stream in (False, True):
            answer = client.post(CHAT, json=asking(turn("a", url(BAD)), stream=stream))
            refused(answer, status, code)
            assert answer.headers["retry-after"] == ("5" if status == 429 else "1")


def test_roles_reach_as_for_questions(client: TestClient, part: str, ctx: Context) -> None:
    with ctx.database.write() as session:
        held = {role: keys.create(session, role, role, "test")[1] for role in ("viewer", "line", "operator")}
    for role, status in (("viewer", 403), ("line", 403), ("operator", 200)):
        headers = {"Authorization": f"Bearer {held[role]}"}
        answer = client.post(CHAT, json=asking(turn("a", url(BAD))), headers=headers)
        assert answer.status_code == status, answer.text
        good(client.get("/v1/models", headers=headers))
    answer = client.post(CHAT, json=asking(turn("a", url(BAD))), headers={"Authorization": "Bearer no"})
    refused(answer, 401, "unauthenticated")
    assert answer.json()["error"]["type"] == "authentication_error"


def test_the_models_are_the_products_that_judge(client: TestClient, part: str) -> None:
    good(client.post("/v1/products", json={"name": "empty"}), 201)
    body = good(client.get("/v1/models"))
    assert body["object"] == "list"
    assert [(model["id"], model["object"], model["owned_by"]) for model in body["data"]] == [("kensor:part", "model", "kensor")]
    good(client.delete(part))
    assert good(client.get("/v1/models"))["data"] == []


@pytest.fixture
def plain(tmp_path: Path) -> Settings:
    """SQLite alone: both databases are tested above."""
    return Settings(_env_file=None, data=tmp_path / "data", no_worker=True)


@pytest.fixture
def address(plain: Settings, echo: Echo, enrolled: Path) -> Iterator[str]:
    with TestClient(create_app(plain, Echo()), **HERE) as client:
        give_recipe(client.app.state.context, client, enrolled)  # type: ignore[attr-defined]
    with served(plain, echo) as at:
        yield at


class Slow(Echo):
    """Goes on until its listener leaves."""

    def answer(self, *args: Any, on_event: Any = None, **more: Any) -> Any:
        on_event("evidence", [])
        on_event("text", "first")
        while True:
            on_event("waiting", None)
            time.sleep(0.02)


@pytest.fixture
def openai() -> Any:
    return pytest.importorskip("openai", reason="the client package `openai` is not installed (it is in requirements-dev.lock)")


def test_openais_own_client_asks_streams_and_lists(openai: Any, address: str, echo: Echo) -> None:
    with openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as desk:
        assert [model.id for model in desk.models.list()] == ["kensor:part"]
        chat = [turn("Where is it?", url(BAD))]
        whole = desk.chat.completions.create(model="kensor:part", messages=chat, max_tokens=50)
        assert whole.choices[0].message.content == "Where is it?"
        assert whole.usage.total_tokens == whole.usage.prompt_tokens + 4
        inspection = whole.model_extra["kensor"]["inspection_id"]
        chat += [{"role": "assistant", "content": "There."}, {"role": "user", "content": "How big is it?"}]
        options = {"include_usage": True}
        with desk.chat.completions.create(model="kensor:part", messages=chat, stream=True, stream_options=options) as stream:
            chunks = list(stream)
        said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert said == "How big is it?"
        assert chunks[0].choices[0].delta.role == "assistant"
        assert chunks[-2].choices[0].finish_reason == "stop"
        assert chunks[-2].model_extra["kensor"]["inspection_id"] == inspection
        assert chunks[-1].usage.completion_tokens == 5
        named = [turn("Where?", f"inspection:{inspection}")]
        assert desk.chat.completions.create(model="kensor:part", messages=named).choices[0].message.content == "Where?"


def test_openais_own_client_understands_refusals(openai: Any, address: str, echo: Echo) -> None:
    with openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as desk:

        def ask(*messages: dict[str, Any], **more: Any) -> None:
            desk.chat.completions.create(**asking(*messages, **more))

        with pytest.raises(openai.UnprocessableEntityError, match="never fetched") as refusal:
            ask(turn("Where?", "https://example.com/a.png"))
        assert (refusal.value.code, refusal.value.type) == ("image_url_refused", "invalid_request_error")
        with pytest.raises(openai.NotFoundError) as missing:
            ask(turn("Where?", url(BAD)), model="gpt-4o")
        assert missing.value.code == "model_not_found"
        echo.fails = Busy("Too many wait.", code="language_busy", retry_after=5)
        for stream in (False, True):
            with pytest.raises(openai.RateLimitError) as busy:
                ask(turn("Where?", url(BAD)), stream=stream)
            assert busy.value.response.headers["retry-after"] == "5"
        echo.fails = Unavailable("away", code="language_unavailable")
        with pytest.raises(openai.InternalServerError) as away:
            ask(turn("Where?", url(BAD)))
        assert (away.value.status_code, away.value.type) == (503, "server_error")


def test_openais_own_client_hears_of_a_failure_amid_a_stream(
    openai: Any, address: str, echo: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*args: Any, on_event: Any = None, **more: Any) -> Any:
        on_event("text", "There is")
        raise Unavailable("The model died.", code="language_died")

    monkeypatch.setattr(echo, "answer", fails)
    with openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as desk:
        stream = desk.chat.completions.create(**asking(turn("Where?", url(BAD)), stream=True))
        heard = []
        with pytest.raises(openai.APIError, match="The model died") as failure:
            heard += [chunk.choices[0].delta.content for chunk in stream]
        assert failure.value.code == "language_died"


def test_a_client_that_leaves_mid_stream_ends_the_generation(plain: Settings, enrolled: Path) -> None:
    with TestClient(create_app(plain, Echo()), **HERE) as client:
        give_recipe(client.app.state.context, client, enrolled)  # type: ignore[attr-defined]
    import httpx

    before = threading.active_count()
    with served(plain, Slow()) as at, httpx.Client(base_url=at, trust_env=False) as client:
        bodies = [(CHAT, asking(turn("Where?", url(BAD)), stream=True))]
        made = client.post("/v1/products/part/inspections", content=BAD, headers=PNG).json()
        bodies.append((made["links"]["questions"], {"question": "Where?", "stream": True}))
        for path, body in bodies:
            with client.stream("POST", path, json=body) as response:
                assert response.status_code in (200, 201)
                assert any("first" in line for line in response.iter_lines())
        rows: list[Any] = []
        until = time.monotonic() + 10
        while [row["state"] for row in rows] != ["interrupted"] * 2:
            assert time.monotonic() < until, rows
            listed = client.get("/v1/inspections").json()["items"]
            rows = [row for one in listed for row in client.get(one["links"]["questions"]).json()["items"]]
            time.sleep(0.02)
    assert threading.active_count() <= before + 2
    assert json.dumps(rows)

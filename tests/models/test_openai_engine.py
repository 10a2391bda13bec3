"""The engine behind an address, against real servers on loopback, most of them broken."""

from __future__ import annotations

import base64
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from chat_server import Seen, serving

from models.lmm import openai_engine
from models.lmm.errors import EngineError
from models.lmm.openai_engine import OpenAIEngine
from models.lmm.prompt import Picture, Prompt

PNG = b"\x89PNG not looked into"
PROMPT = Prompt(
    "Use the facts.", "Facts", "Is there a defect?", None, (Picture("the part", PNG), Picture("a normal part", b"JPEG"))
)


@pytest.fixture
def server() -> Iterator[Seen]:
    with serving() as seen:
        yield seen


def engine(server: Seen, model: str, timeout: float = 10.0, key: str | None = None) -> OpenAIEngine:
    return OpenAIEngine(server.url, model, key, timeout=timeout, pause=0.01)


def said(one: OpenAIEngine) -> str:
    return "".join(one.generate(PROMPT, max_tokens=9))


def fails(one: OpenAIEngine, code: str) -> EngineError:
    with pytest.raises(EngineError) as failure:
        said(one)
    assert failure.value.code == code, failure.value
    return failure.value


def test_pictures_go_as_data_and_words_come_back_in_pieces(server: Seen) -> None:
    one = engine(server, "good", key="sk-secret")
    assert list(one.generate(PROMPT, max_tokens=9)) == ["There", " is", " a", " defect", "."]
    body, headers = server.bodies[0], server.headers[0]
    assert headers["Authorization"] == "Bearer sk-secret"
    assert (body["model"], body["max_tokens"], body["temperature"], body["stream"]) == ("good", 9, 0, True)
    system, user = body["messages"]
    assert system == {"role": "system", "content": "Use the facts."}
    shown = [part.get("text") or part["image_url"]["url"] for part in user["content"]]
    data = base64.b64encode(PNG).decode()
    assert shown[:3] == ["Facts", "Picture: the part.", f"data:image/png;base64,{data}"]
    assert shown[3:] == ["Picture: a normal part.", "data:image/jpeg;base64,SlBFRw==", "Question: Is there a defect?"]


def test_the_digest_is_of_address_and_model() -> None:
    engines = [OpenAIEngine("http://h/v1", "m"), OpenAIEngine("http://h/v1/", "m"), OpenAIEngine("http://h/v1", "n")]
    assert engines[0].sha256 == engines[1].sha256 != engines[2].sha256
    assert len(engines[0].sha256) == 64


def test_a_server_that_does_not_stream_is_understood(server: Seen) -> None:
    assert said(engine(server, "whole")) == "There is a defect."


def test_an_error_of_null_and_an_empty_reason_to_finish_are_none(server: Seen) -> None:
    assert said(engine(server, "gateway")) == "There is a defect."


@pytest.mark.parametrize("model", ["recovers-429", "recovers-500", "recovers-503"])
def test_what_may_go_well_is_tried_again(server: Seen, model: str) -> None:
    assert said(engine(server, model)) == "There is a defect."
    assert len(server.bodies) == 3


def test_a_connection_lost_before_the_first_word_is_made_again(server: Seen) -> None:
    assert said(engine(server, "hangs-up")) == "There is a defect."
    assert len(server.bodies) == 2


def test_parameters_that_a_model_does_not_take_are_named_anew(server: Seen) -> None:
    assert said(engine(server, "new-names")) == "There is a defect."
    last = server.bodies[-1]
    assert last["max_completion_tokens"] == 9
    assert not {"max_tokens", "temperature"} & set(last)


@pytest.mark.parametrize(
    ("model", "code", "tries", "told"),
    [
        ("status-429", "language_busy", 3, "busy"),
        ("status-500", "language_unavailable", 3, "status 500"),
        ("status-503", "language_unavailable", 3, "status 503"),
        ("status-400", "language_refused", 1, "no status-400"),
        ("status-404", "language_refused", 1, "no status-404"),
        ("status-401", "language_refused", 1, "KENSOR_OPENAI_KEY"),
        ("moved", "language_refused", 1, "refused"),
        ("html", "language_broken", 3, "no chat completion"),
        ("no-choice", "language_broken", 3, "no chat completion"),
        ("garbage", "language_broken", 3, "no chat completion"),
        ("wrong", "language_broken", 3, "no chat completion"),
        ("list", "language_broken", 3, "no chat completion"),
        ("deep", "language_broken", 3, "no chat completion"),
        ("cut-before", "language_broken", 3, "ended amid"),
        ("cut", "language_broken", 1, "ended amid"),
        ("reports", "language_broken", 1, "out of memory"),
        ("endless", "language_broken", 1, "larger than"),
    ],
)
def test_a_broken_server_is_named_so(server: Seen, model: str, code: str, tries: int, told: str) -> None:
    failure = fails(engine(server, model, key="sk-secret"), code)
    assert told in str(failure)
    assert "sk-secret" not in str(failure)
    assert len(server.bodies) == tries


def test_nobody_there() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    assert "does not answer: ConnectError" in str(fails(OpenAIEngine(address, "m", pause=0.01), "language_unavailable"))


def test_a_host_that_takes_no_connection_is_tried_again_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_engine, "CONNECT", 0.2)
    with socket.socket() as full, ExitStack() as waiting:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):  # what does not fit into the backlog waits for an answer that never comes
            one = waiting.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        address, start = f"http://127.0.0.1:{full.getsockname()[1]}/v1", time.monotonic()
        failure = fails(OpenAIEngine(address, "m", pause=0.01), "language_unavailable")
    assert "does not answer: ConnectTimeout" in str(failure) and time.monotonic() - start >= 3 * 0.2


@pytest.mark.parametrize("model", ["never", "silent", "drips"])
def test_time_is_limited_whatever_the_server_does(server: Seen, model: str) -> None:
    assert fails(engine(server, model, timeout=0.5), "language_timeout").details == {"timeout_s": 0.5}
    assert server.left.wait(10)
    assert len(server.bodies) == 1


@pytest.mark.parametrize("model", ["silent", "drips"])
def test_closing_the_reply_closes_the_connection(server: Seen, model: str) -> None:
    pieces = engine(server, model).generate(PROMPT)
    next(pieces)
    pieces.close()
    assert server.left.wait(10)


def test_a_caller_that_leaves_before_the_first_word_closes_the_connection(server: Seen) -> None:
    class Left(Exception):
        pass

    def waiting() -> None:
        if server.open.is_set():
            raise Left

    with pytest.raises(Left):
        list(engine(server, "never").generate(PROMPT, waiting=waiting))
    assert server.left.wait(10)

"""Engines that are not ours, through the whole service: a server on loopback, a tiny vision-language model, and what breaks."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
import tiny_vlm
from chat_server import Seen, serving
from fastapi.testclient import TestClient
from parts import BAD, GOOD, HERE, PNG, Echo, give_recipe, good, refused, served
from typer.testing import CliRunner

from app.cli import app as command
from app.context import Context
from app.language import Language, LanguageProcess
from app.main import create_app
from app.settings import Settings
from models.lmm.weights import FOLDER


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """SQLite alone: no engine sees the database."""
    return Settings(_env_file=None, data=tmp_path / "data", no_worker=True)


@pytest.fixture
def server() -> Iterator[Seen]:
    with serving() as seen:
        yield seen


@contextmanager
def asking(settings: Settings, enrolled: Path, answerer: Any = None, **more: Any) -> Iterator[tuple[TestClient, str]]:
    """A service with these settings, and where to ask about one rejected part."""
    with TestClient(create_app(settings.model_copy(update=more), answerer), **HERE) as client:
        give_recipe(client.app.state.context, client, enrolled)  # type: ignore[attr-defined]
        made = good(client.post("/v1/products/part/inspections", content=BAD, headers=PNG), 201)
        yield client, made["links"]["questions"]


def openai(server: Seen, model: str = "good", **more: Any) -> dict[str, Any]:
    return {"openai_url": server.url, "openai_model": model, "engine_timeout": 10.0, **more}


def ask(client: TestClient, at: str, engine: str = "openai", **more: Any) -> Any:
    return client.post(at, json={"question": "Is there a defect?", "engine": engine, **more})


def states(client: TestClient, at: str) -> list[tuple[str, str | None]]:
    return [(row["state"], row["error"]) for row in good(client.get(at))["items"]]


def test_a_server_sees_the_pictures_and_its_words_are_checked(settings: Settings, enrolled: Path, server: Seen) -> None:
    with asking(settings, enrolled, **openai(server)) as (client, at):
        body = good(ask(client, at), 201)
        assert (body["own_words"], body["grounding"], body["answer"]) == (
            "There is a defect.",
            "grounded",
            "Yes, there is a defect.",
        )
        assert (body["model"]["name"], len(body["model"]["sha256"])) == ("good", 64)
        assert [row["engine"] for row in good(client.get(at))["items"]] == ["openai"]
    system, user = server.bodies[0]["messages"]
    assert "heatmap" in system["content"]
    labels = [part["text"] for part in user["content"] if part["type"] == "text"]
    normal = "Picture: a normal part."
    assert labels[1:] == [
        "Picture: the part.",
        "Picture: the part with its heatmap.",
        normal,
        normal,
        "Question: Is there a defect?",
    ]
    assert "f1" in labels[0]
    shown = [_pixels(part["image_url"]["url"]) for part in user["content"] if part["type"] == "image_url"]
    assert [picture.shape for picture in shown] == [(128, 128, 3)] * 4
    sent = cv2.imdecode(np.frombuffer(BAD, np.uint8), cv2.IMREAD_COLOR)
    assert np.abs(shown[0].astype(int) - sent).mean() < 5 < np.abs(shown[1].astype(int) - sent).mean()


def _pixels(url: str) -> Any:
    return cv2.imdecode(np.frombuffer(base64.b64decode(url.partition(",")[2]), np.uint8), cv2.IMREAD_COLOR)


def test_a_server_that_lies_is_corrected(settings: Settings, enrolled: Path, server: Seen) -> None:
    with asking(settings, enrolled, **openai(server, "lies")) as (client, at):
        body = good(ask(client, at), 201)
    assert body["own_words"] == "There is no defect. I see a red bus."
    assert "bus" not in body["answer"]
    assert "no defect" not in body["answer"]
    assert (body["grounding"], body["agrees_with_detector"]) == ("replaced", False)


def test_another_language_does_not_trouble_the_server(settings: Settings, enrolled: Path, server: Seen) -> None:
    with asking(settings, enrolled, **openai(server)) as (client, at):
        assert good(ask(client, at, language="de"), 201)["model"]["name"] == "phrases:de"
    assert server.bodies == []


def test_engines_that_are_off_or_unknown_leave_no_question(settings: Settings, enrolled: Path) -> None:
    with asking(settings, enrolled, openai_model="m") as (client, at):
        for engine, needs in (("transformers", "KENSOR_TRANSFORMERS_MODEL"), ("openai", "KENSOR_OPENAI_URL")):
            assert needs in refused(ask(client, at, engine), 422, "engine_off")["message"]
        assert refused(ask(client, at, "oracle"), 422, "unknown_engine")["details"] == {"engines": ["builtin"]}
        assert states(client, at) == []


@pytest.mark.parametrize(
    ("model", "status", "code"),
    [
        ("status-500", 503, "language_unavailable"),
        ("status-401", 503, "language_refused"),
        ("status-404", 503, "language_refused"),
        ("status-429", 429, "language_busy"),
        ("cut", 503, "language_broken"),
        ("garbage", 503, "language_broken"),
        ("html", 503, "language_broken"),
        ("silent", 503, "language_timeout"),
        ("never", 503, "language_timeout"),
    ],
)
def test_what_a_server_does_wrong_is_said_and_closes_the_question(
    settings: Settings, enrolled: Path, server: Seen, model: str, status: int, code: str
) -> None:
    timeout = 0.5 if code == "language_timeout" else 10.0
    with asking(settings, enrolled, **openai(server, model, engine_timeout=timeout)) as (client, at):
        answer = ask(client, at)
        refused(answer, status, code)
        assert int(answer.headers["retry-after"]) >= 1
        told = ask(client, at, stream=True).text.strip().split("\n\n")[-1]
        assert told.startswith("event: error")
        assert json.loads(told.partition("data: ")[2])["code"] == code
        assert states(client, at) == [("failed", code)] * 2


def test_a_server_that_is_down(settings: Settings, enrolled: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with asking(settings, enrolled, openai_url=address, openai_model="m") as (client, at):
        refused(ask(client, at), 503, "language_unavailable")


@pytest.mark.parametrize("model", ["never", "silent", "drips"])
def test_a_client_that_leaves_closes_the_connection_to_the_server(
    settings: Settings, enrolled: Path, server: Seen, model: str
) -> None:
    with asking(settings, enrolled) as (_, at):
        pass
    chosen = settings.model_copy(update=openai(server, model, engine_timeout=30.0))
    with served(chosen) as url, httpx.Client(base_url=url, trust_env=False) as client:
        body = {"question": "Is there a defect?", "engine": "openai", "stream": True}
        with client.stream("POST", at, json=body) as response:
            assert next(response.iter_lines()) == "event: evidence"
            assert server.open.wait(10)
        assert server.left.wait(10)
        until = time.monotonic() + 10
        while (rows := client.get(at).json()["items"])[0]["state"] == "open":
            assert time.monotonic() < until
            time.sleep(0.02)
        assert (rows[0]["state"], rows[0]["answer"]) == ("interrupted", None)


def test_a_client_that_leaves_before_there_is_a_response(settings: Settings, enrolled: Path, server: Seen) -> None:
    with asking(settings, enrolled) as (_, at):
        pass
    chosen = settings.model_copy(update=openai(server, "never", engine_timeout=30.0))
    named = {"type": "image_url", "image_url": {"url": f"inspection:{at.split('/')[3]}"}}
    turn = {"role": "user", "content": [named, {"type": "text", "text": "Is there a defect?"}]}
    chat = {"model": "kensor:part", "messages": [turn], "engine": "openai"}
    plain = {"question": "Is there a defect?", "engine": "openai"}
    requests = [(at, plain), ("/v1/chat/completions", chat), ("/v1/chat/completions", {**chat, "stream": True})]
    with served(chosen) as url, httpx.Client(base_url=url, trust_env=False) as client:
        for number, (path, body) in enumerate(requests, 1):
            server.left.clear()
            with pytest.raises(httpx.ReadTimeout):
                client.post(path, json=body, timeout=httpx.Timeout(5, read=1))
            assert server.left.wait(10)
            until = time.monotonic() + 10
            while (rows := client.get(at).json()["items"])[0]["state"] == "open":
                assert time.monotonic() < until
                time.sleep(0.02)
            assert [row["state"] for row in rows] == ["interrupted"] * number


def test_more_questions_than_a_server_is_given_wait_and_then_are_refused(
    settings: Settings, enrolled: Path, server: Seen
) -> None:
    with asking(settings, enrolled) as (_, at):
        pass
    chosen = settings.model_copy(update=openai(server, "slow", openai_at_once=2))
    with served(chosen) as url, httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
        seen = _at_once(client, at, {"question": "Is there a defect?", "engine": "openai"}, 20)
    assert seen[201] >= 10
    assert seen[201] + seen[429] == 20
    assert server.most == 2


def _at_once(client: httpx.Client, at: str, body: dict[str, Any], many: int) -> Counter[int]:
    """Ask so often at the same moment; each refusal says when to come back, and no row is left open."""
    ready = threading.Barrier(many)

    def one(_: int) -> httpx.Response:
        ready.wait(30)
        return client.post(at, json=body)

    with ThreadPoolExecutor(many) as crowd:
        answers = list(crowd.map(one, range(many)))
    for answer in answers:
        assert answer.status_code in (201, 429), answer.text
        if answer.status_code == 429:
            assert (answer.json()["code"], answer.headers["retry-after"]) == ("language_busy", "5")
    rows, cursor = [], ""
    while cursor is not None:
        page = client.get(at, params={"limit": 500, **({"cursor": cursor} if cursor else {})}).json()
        rows, cursor = rows + page["items"], page["next_cursor"]
    assert Counter(row["state"] for row in rows) == Counter(
        "done" if answer.status_code == 201 else "failed" for answer in answers
    )
    return Counter(answer.status_code for answer in answers)


NAPPING = """
import time

class Napping:
    name, sha256, wants = "napping", "1" * 64, "words"

    def __init__(self, progress):
        pass

    def generate(self, prompt, *, max_tokens=64):
        time.sleep(0.1)
        yield "There is a defect."
"""


def test_fifty_questions_at_once_wait_and_then_are_refused(
    settings: Settings, enrolled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "napping_engine.py").write_text(NAPPING)
    monkeypatch.syspath_prepend(tmp_path)
    with asking(settings, enrolled) as (_, at):
        pass
    language = Language(LanguageProcess("napping_engine:Napping", queue_size=8))
    limits = httpx.Limits(max_connections=50)
    with served(settings, language) as url, httpx.Client(base_url=url, trust_env=False, timeout=60, limits=limits) as client:
        client.post(at, json={"question": "Is there a defect?"}).raise_for_status()
        seen = _at_once_beside(client, at)
    assert seen[201] >= 9
    assert seen[429] >= 1
    assert seen[201] + seen[429] == 50


def _at_once_beside(client: httpx.Client, at: str) -> Counter[int]:
    other = client.post("/v1/products/part/inspections", content=GOOD, headers=PNG).json()["links"]["questions"]
    return _at_once(client, other, {"question": "Is there a defect?"}, 50)


def test_inspections_are_judged_while_more_questions_wait_than_threads_serve(settings: Settings, enrolled: Path) -> None:
    go, many = threading.Event(), 48

    class Stuck(Echo):
        def answer(self, *args: Any, **more: Any) -> Any:
            self.seen.append(args[0])
            go.wait(60)
            return super().answer(*args, **more)

    with asking(settings, enrolled) as (_, at):
        pass
    stuck, limits = Stuck(), httpx.Limits(max_connections=many + 2)
    with (
        served(settings, stuck) as url,
        httpx.Client(base_url=url, trust_env=False, timeout=60, limits=limits) as client,
        ThreadPoolExecutor(many) as crowd,
    ):
        try:
            waiting = [crowd.submit(client.post, at, json={"question": "Where?"}) for _ in range(many)]
            until = time.monotonic() + 30
            while len(stuck.seen) < many:
                assert time.monotonic() < until, len(stuck.seen)
                time.sleep(0.02)
            made = client.post("/v1/products/part/inspections", content=GOOD, headers=PNG, timeout=20)
            assert made.status_code == 201
        finally:
            go.set()
        assert [one.result().status_code for one in waiting] == [201] * many


@pytest.mark.parametrize("gone", ["map", "image", "both"])
def test_what_is_gone_from_the_store_is_done_without(settings: Settings, enrolled: Path, server: Seen, gone: str) -> None:
    with asking(settings, enrolled, **openai(server)) as (client, at):
        _object(client, at, "map" if gone == "both" else gone).unlink()
        if gone == "both":
            _object(client, at, "image").unlink()
        assert good(ask(client, at), 201)["answer"] == "Yes, there is a defect."
        assert states(client, at) == [("done", None)]
    parts = server.bodies[0]["messages"][1]["content"]
    assert sum(part["type"] == "image_url" for part in parts) == (3 if gone == "map" else 0)


def test_what_is_damaged_in_the_store_closes_the_question(settings: Settings, enrolled: Path, server: Seen) -> None:
    with asking(settings, enrolled, **openai(server)) as (client, at):
        _object(client, at, "map").write_bytes(b"another")
        refused(ask(client, at), 503, "object_damaged")
        assert states(client, at) == [("failed", "object_damaged")]


def _object(client: TestClient, at: str, what: str) -> Path:
    ctx: Context = client.app.state.context  # type: ignore[attr-defined]
    sha256 = good(client.get(at.removesuffix("/questions")))[what]["sha256"]
    return Path(ctx.store.path(sha256))


@pytest.mark.parametrize("length", [0, 2001, 100_000])
def test_a_question_has_a_length(settings: Settings, enrolled: Path, length: int) -> None:
    with asking(settings, enrolled) as (client, at):
        refused(client.post(at, json={"question": "x" * length}), 422, "invalid")
        assert states(client, at) == []


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_vlm.save(tmp_path_factory.mktemp("vlm") / "tiny-vlm")


def test_a_vision_language_model_answers_in_a_process_of_its_own(settings: Settings, enrolled: Path, folder: Path) -> None:
    with asking(settings, enrolled, transformers_model=str(folder)) as (client, at):
        events = ask(client, at, "transformers", stream=True).text.strip().split("\n\n")
        names = [event.partition("\n")[0].removeprefix("event: ") for event in events]
        assert (names[0], names[1], names[-1]) == ("evidence", "loading", "done")
        body = json.loads(events[-1].partition("data: ")[2])
        assert (body["model"]["name"], len(body["model"]["sha256"])) == ("tiny-vlm", 64)
        assert (body["grounding"], body["answer"]) == ("replaced", _statement(client, at))
        assert body["own_words"]
        again = good(ask(client, at, "transformers"), 201)
        assert (again["own_words"], again["prompt_sha256"]) == (body["own_words"], body["prompt_sha256"])
        assert [row["engine"] for row in good(client.get(at))["items"]] == ["transformers"] * 2


def _statement(client: TestClient, at: str) -> str:
    from inspection.phrases import statement
    from inspection.questions import understand

    ctx: Context = client.app.state.context  # type: ignore[attr-defined]
    from app.services import inspections, questions

    with ctx.database.read() as session:
        evidence = questions.evidence_of(session, inspections.get(session, at.split("/")[3]))
    return statement(evidence, understand("Is there a defect?"))


@pytest.mark.parametrize("there", [False, True])
def test_weights_that_are_missing(settings: Settings, enrolled: Path, tmp_path: Path, there: bool) -> None:
    folder = tmp_path / "empty"
    if there:
        folder.mkdir()
    with asking(settings, enrolled, transformers_model=str(folder)) as (client, at):
        refused(ask(client, at, "transformers"), 503, "weights_missing")
        assert states(client, at) == [("failed", "weights_missing")]


def test_the_command_asks_an_engine(
    settings: Settings, enrolled: Path, server: Seen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with asking(settings, enrolled):
        pass
    picture = tmp_path / "part.png"
    picture.write_bytes(GOOD)
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    question = ["ask", "Is there a defect?", "--product", "part", "--image", str(picture), "--json", "--engine"]
    off = CliRunner().invoke(command, [*question, "openai"])
    assert getattr(off.exception, "code", None) == "engine_off"
    monkeypatch.setenv("KENSOR_OPENAI_URL", server.url)
    monkeypatch.setenv("KENSOR_OPENAI_MODEL", "good")
    asked = CliRunner().invoke(command, [*question, "openai"], catch_exceptions=False)
    assert json.loads(asked.stdout)["model"]["name"] == "good"
    with TestClient(create_app(settings), **HERE) as client:
        assert len(good(client.get("/v1/inspections"))["items"]) == 2  # none by the command that was refused


def test_the_command_shows_how_an_engine_starts(
    settings: Settings, enrolled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "napping_engine.py").write_text(NAPPING.replace("pass", "progress('tensors')"))
    monkeypatch.syspath_prepend(tmp_path)
    with asking(settings, enrolled) as (_, at):
        pass
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("app.engines.opened", lambda _: Language(LanguageProcess("napping_engine:Napping")))
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes it for a terminal
    asked = ["ask", "Is there a defect?", "--inspection", at.split("/")[3], "--json"]
    said = CliRunner().invoke(command, asked, catch_exceptions=False)
    assert json.loads(said.stdout)["model"]["name"] == "Napping".lower()
    assert said.stderr.index("load process") < said.stderr.index("load tensors") < said.stderr.rindex("answer")


def test_settings_survive_the_way_to_a_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = Settings(
        _env_file=None, data=tmp_path, openai_url="https://h/v1", openai_model="m", openai_key="sk-1", admin_key="a" * 16
    )
    assert "sk-1" not in repr(given)
    for name, value in given.environment().items():
        monkeypatch.setenv(name, value)
    assert Settings(_env_file=None) == given
    assert given.engines == ("builtin", "openai")


@pytest.mark.parametrize(
    "address",
    [
        "ftp://h/v1",
        "h:8000/v1",
        "http://user:key@h/v1",
        "http://h/v1?key=1",
        "http://",
        "http://h:99999/v1",
        "http://[/v1",
        "http://a b",
    ],
)
def test_an_address_that_is_none_is_refused_at_the_start(address: str) -> None:
    with pytest.raises(ValueError, match="openai_url"):
        Settings(_env_file=None, openai_url=address)


def test_the_doctor_looks_at_engines(settings: Settings, server: Seen, folder: Path, tmp_path: Path) -> None:
    from app.doctor import examine

    def found(**more: Any) -> dict[str, str]:
        checks = examine(settings.model_copy(update=more))
        return {check.name.removeprefix("engine "): check.state for check in checks if check.name.startswith("engine ")}

    assert found() == {}
    assert found(openai_url=server.url, transformers_model="owner/name") == {"transformers": "ok", "openai": "warning"}
    assert found(**openai(server), transformers_model=str(folder)) == {"transformers": "ok", "openai": "ok"}
    away = {"openai_url": "http://127.0.0.1:9/v1", "openai_model": "m"}
    assert found(**away, transformers_model=str(tmp_path)) == {"transformers": "wrong", "openai": "warning"}


def test_a_real_server_of_a_vision_language_model(settings: Settings, enrolled: Path, folder: Path, tmp_path: Path) -> None:
    """`transformers serve` with the tiny model: pictures, streaming and greedy decoding as a plant's server has them."""
    pytest.importorskip("openai", reason="`transformers serve` needs the package `openai` (it is in requirements-dev.lock)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = os.pathsep.join(filter(None, sys.path))
    environment = {**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")}
    line = ["serve", "--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--dtype", "float32", str(folder)]
    code = "from transformers.cli.transformers import main; main()"
    with (tmp_path / "serve.log").open("wb") as log:
        server = subprocess.Popen([sys.executable, "-c", code, *line], env=environment, stdout=log, stderr=log)
        try:
            url = f"http://127.0.0.1:{port}"
            until = time.monotonic() + 120
            while not _answers(url):
                assert server.poll() is None and time.monotonic() < until, (tmp_path / "serve.log").read_text()
                time.sleep(0.2)
            with asking(settings, enrolled, openai_url=f"{url}/v1", openai_model=str(folder)) as (client, at):
                body = good(ask(client, at), 201)
                again = good(ask(client, at), 201)
        finally:
            server.terminate()
            server.wait(30)
    assert body["own_words"] == again["own_words"] != ""
    assert (body["grounding"], body["model"]["name"]) == ("replaced", str(folder))


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def test_trained_parts_that_cannot_be_taken_are_said(settings: Settings, enrolled: Path, tmp_path: Path) -> None:
    """`KENSOR_LMM_WEIGHTS`: nothing there, then a folder trained on other frozen weights."""
    with asking(settings, enrolled, lmm_weights=tmp_path) as (client, at):
        assert "cannot be read" in refused(ask(client, at, "builtin"), 503, "adapter_refused")["message"]
        values = json.loads((FOLDER / "config.json").read_text(encoding="utf-8"))
        (tmp_path / "config.json").write_text(json.dumps(values | {"frozen": {"vision": "0", "language": "0"}}))
        (tmp_path / "trained.safetensors").write_bytes(b"")
        assert "other weights" in refused(ask(client, at, "builtin"), 503, "adapter_refused")["message"]
        assert states(client, at) == [("failed", "adapter_refused")] * 2

"""Drawn parts, an engine at the seam, and the two checks that every test of the service makes."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import uvicorn
from fastapi.testclient import TestClient

from app.context import Answerer, Context
from app.errors import OPENAI
from app.main import KEEP_ALIVE, create_app
from app.services import products, recipes
from app.settings import Settings
from inspection import recipe
from inspection.drawn import drawn
from inspection.evidence import Answer, Evidence, EvidenceItem

SEED = 3
HERE = {"base_url": "http://127.0.0.1", "client": ("127.0.0.1", 50000)}


def picture(index: int, defect: str | None = None) -> bytes:
    pixels, _ = drawn(SEED, index, defect, 128)
    return cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1].tobytes()


GOOD, BAD = picture(100), picture(101, "stain")
PNG = {"Content-Type": "image/png"}


class Echo:
    """An engine at the seam: says what it was asked."""

    def __init__(self) -> None:
        self.seen: list[Evidence] = []
        self.fails: BaseException | None = None
        self.closed = False

    def depths(self) -> dict[str, Callable[[], float]]:
        return {"builtin": lambda: 0.0}

    def admit(self, engine: str = "builtin") -> None:
        pass

    def answer(
        self,
        evidence: Evidence,
        question: str,
        *,
        language: str | None = None,
        engine: str = "builtin",
        on_event: Callable[[str, Any], None] | None = None,
    ) -> Answer:
        self.seen.append(evidence)
        if self.fails is not None:
            raise self.fails
        items = (EvidenceItem("map_stat", "map", {"max": evidence.map_stats.max}),)
        tell = on_event or (lambda kind, value: None)
        tell("evidence", list(items))
        for word in question.split():
            tell("text", word)
        return Answer(question, "own", "place", items, "mended", True, {"name": "echo", "sha256": "0" * 64}, "1" * 64, 1.5)

    def close(self) -> None:
        self.closed = True


@contextmanager
def served(settings: Settings, answerer: Answerer | None = None) -> Iterator[str]:
    """The service on a free port of loopback, by its own server."""
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(settings, answerer), port=0, log_level="critical", access_log=False, timeout_keep_alive=KEEP_ALIVE
        )
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


def give_recipe(ctx: Context, client: TestClient, folder: Path) -> int:
    if client.get("/v1/products/part").status_code == 404:
        good(client.post("/v1/products", json={"name": "part"}), 201)
    made = recipe.load(folder)
    shutil.copytree(folder, recipes.folder(ctx, made.sha256), dirs_exist_ok=True)
    with ctx.database.write() as session:
        number = recipes.add(session, "part", made, "test").number
        recipes.promote(session, "part", number, "test")
        assert products.get(session, "part").promoted == number
    return number


def good(response: Any, status: int = 200) -> Any:
    assert response.status_code == status, response.text
    return response.json()


def refused(response: Any, status: int, code: str) -> Any:
    """The envelope, held to its form."""
    assert response.status_code == status, response.text
    body = response.json()
    error = body.pop("error", None)
    assert (error is not None) == response.request.url.path.startswith(OPENAI)
    assert set(body) == {"code", "message", "request_id", "details"}
    assert body["code"] == code, body
    assert body["request_id"] == response.headers["x-request-id"]
    assert body["message"]
    return body

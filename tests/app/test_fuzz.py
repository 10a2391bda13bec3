"""schemathesis over the served OpenAPI, with a key and without: no 500 goes out, and every refusal is the envelope."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import hypothesis
import pytest
import requests
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import strategies as st
from parts import BAD, GOOD, HERE, PNG, Echo, give_recipe, good, served

from app.context import Context
from app.errors import OPENAI
from app.main import create_app
from app.settings import Settings
from app.worker import Worker

KEY = "a-long-enough-secret"
EXAMPLES = 10
"""For each operation: some 15 s a run on two cores."""

RAW = {f"image/{kind}" for kind in ("png", "jpeg", "bmp", "tiff", "webp")}


@schemathesis.serializer(*RAW)
def _raw(context: Any, value: Any) -> Any:
    return value.encode() if isinstance(value, str) else value


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """SQLite alone: what a field may hold is decided before the database sees it, and the rest is tested on both."""
    return Settings(_env_file=None, data=tmp_path / "data", no_worker=True)


@pytest.fixture
def record(settings: Settings, enrolled: Path) -> dict[str, Any]:
    """A product, recipe, picture, inspection, answer and finished job, by the names of the paths' parameters."""
    with TestClient(create_app(settings, Echo()), **HERE) as client:
        ctx: Context = client.app.state.context  # type: ignore[attr-defined]
        number = give_recipe(ctx, client, enrolled)
        image = good(client.post("/v1/products/part/images", files=[("files", ("a.png", GOOD))]), 201)["items"][0]
        made = good(client.post("/v1/products/part/inspections", content=BAD, headers=PNG), 201)
        named = {"inspection_id": made["id"], "finding": "f1", "label": "stain"}
        exemplar = good(client.post("/v1/products/part/exemplars", json=named), 201)
        answer = good(client.post(f"{made['links']['questions']}", json={"question": "Where?"}), 201)
        job = good(client.post("/v1/jobs", json={"type": "reinspect", "product": "part", "recipe": number}), 202)
        assert Worker(ctx).once()
    return {
        "product": "part", "number": number, "image_id": image["id"], "inspection_id": made["id"],
        "answer_id": answer["id"], "job_id": job["id"], "key_id": job["id"], "exemplar_id": exemplar["id"],
    }  # fmt: skip


@pytest.mark.parametrize("key", [KEY, None], ids=["with a key", "without a key"])
def test_nothing_that_comes_in_makes_a_500(settings: Settings, record: dict[str, Any], key: str | None) -> None:
    chosen = Settings(**{**settings.model_dump(), "admin_key": key}, _env_file=None)
    seen: dict[str, set[int]] = {}
    with served(chosen, Echo()) as url, requests.Session() as session:
        if key:
            session.headers["Authorization"] = f"Bearer {key}"
        schema = schemathesis.openapi.from_url(f"{url}/openapi.json", wait_for_schema=5)
        operations = [found.ok() for found in schema.get_all_operations()]
        operations.sort(key=lambda operation: operation.method == "delete")
        for operation in operations:
            if key is None and operation.path.startswith("/v1/keys"):
                continue  # a key made here would end the run of callers without one
            _fuzz(operation, record, session, seen.setdefault(f"{operation.method} {operation.path}", set()))
        assert httpx.get(f"{url}/healthz", trust_env=False).json() == {"status": "ok"}
    reached = {name for name, statuses in seen.items() if statuses & {200, 201, 202, 204}}
    assert len(reached) > len(seen) / 2, sorted(set(seen) - reached)


def _fuzz(operation: Any, record: dict[str, Any], session: requests.Session, seen: set[int]) -> None:
    @hypothesis.seed(20261123)
    @hypothesis.settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(case=operation.as_strategy(), real=st.sampled_from([True, True, False]))
    def one(case: Any, real: bool) -> None:
        if real and case.path_parameters:
            case.path_parameters = {name: record[name] for name in case.path_parameters}
        response = case.call(session=session, timeout=20)
        seen.add(response.status_code)
        assert response.status_code < 500, (case.method, case.path, response.text)
        if response.status_code >= 400:
            shape = {"code", "message", "request_id", "details"}
            assert set(response.json()) == (shape | {"error"} if case.path.startswith(OPENAI) else shape), response.text

    one()

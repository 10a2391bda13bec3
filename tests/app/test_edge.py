"""Errors in one envelope, keys and roles, the rule of the first hour, health."""

from __future__ import annotations

import inspect as introspect
import re
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from parts import GOOD, HERE, PNG, Echo, good, refused
from prometheus_client.parser import text_string_to_metric_families

from app.context import Context
from app.main import create_app
from app.security import ROLES
from app.settings import Settings

OPEN = {"/healthz", "/readyz"}


def routes(app: FastAPI) -> list[APIRoute]:
    from app.routes import health, inspections, jobs, keys, products, questions, recipes, regions, reviews

    modules = (health, inspections, jobs, keys, products, questions, recipes, regions, reviews)
    found = [route for module in modules for route in module.router.routes if isinstance(route, APIRoute)]
    assert {route.path for route in found} <= set(app.openapi()["paths"])
    return found


def role_of(route: APIRoute) -> str | None:
    found = [getattr(d.call, "role", None) for d in route.dependant.dependencies]
    return next((role for role in found if role), None)


def test_every_route_has_a_role_and_reading_needs_no_more_than_viewer(client: TestClient) -> None:
    for route in routes(client.app):  # type: ignore[arg-type]
        if route.path in OPEN:
            continue
        role = role_of(route)
        assert role in ROLES, route.path
        if "GET" in (route.methods or ()) and not route.path.endswith(("/export", "/preferences")) and "/keys" not in route.path:
            assert role == "viewer", route.path
        if (route.methods or set()) & {"POST", "PUT", "PATCH", "DELETE"}:
            assert role != "viewer", route.path


def test_the_interface_is_shown_without_a_network_and_says_how_a_key_is_given(client: TestClient) -> None:
    page = client.get("/docs").text
    sources = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert sources and not [source for source in sources if "//" in source]
    assert all(client.get(source).status_code == 200 for source in sources)
    document = good(client.get("/openapi.json"))
    (scheme,) = document["components"]["securitySchemes"].items()
    assert (scheme[1]["type"], scheme[1]["scheme"]) == ("http", "bearer")
    for path, methods in document["paths"].items():
        for one in methods.values():
            assert (one.get("security") == [{scheme[0]: []}]) != (path in OPEN), path


def test_the_transaction_is_committed_before_the_response_leaves(settings: Settings) -> None:
    """A client must not hold a 201 for no row."""
    app = create_app(settings, Echo())
    seen: list[bool] = []
    ctx: Context = app.state.context

    class Watch:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            async def watched(message: Any) -> None:
                if message["type"] == "http.response.start" and scope.get("method") == "POST":
                    from app.services import products

                    with ctx.database.read() as session:
                        seen.append(products.get(session, "early").name == "early")
                await send(message)

            await self.inner(scope, receive, watched)

    app.add_middleware(Watch)
    with TestClient(app, **HERE) as client:
        good(client.post("/v1/products", json={"name": "early"}), 201)
    assert seen == [True]


def test_a_failing_commit_is_an_error_and_not_a_201(client: TestClient, ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    from sqlalchemy.exc import OperationalError
    from sqlalchemy.orm import Session

    def fails(self: Session) -> None:
        raise OperationalError("COMMIT", {}, Exception("secret of the driver"))

    with monkeypatch.context() as patch:
        patch.setattr(Session, "commit", fails)
        patch.setattr("sqlalchemy.orm.session.SessionTransaction.commit", lambda self, **_: fails(self.session))
        body = refused(client.post("/v1/products", json={"name": "x"}), 503, "database_unavailable")
    assert "secret" not in str(body)
    refused(client.get("/v1/products/x"), 404, "unknown_product")
    good(client.post("/v1/products", json={"name": "x"}), 201)


@pytest.mark.parametrize(
    ("method", "path", "options", "status", "code"),
    [
        ("GET", "/nowhere", {}, 404, "not_found"),
        ("PUT", "/v1/products", {}, 405, "method_not_allowed"),
        ("POST", "/v1/products", {"content": b"{", "headers": {"Content-Type": "application/json"}}, 422, "invalid"),
        ("POST", "/v1/products", {"json": {"name": "UPPER"}}, 422, "invalid"),
        ("POST", "/v1/products", {"json": {"name": "x", "typo": 1}}, 422, "invalid"),
        ("POST", "/v1/products", {"json": {"name": "x", "description": "a\x00b"}}, 422, "invalid"),
        ("GET", "/v1/products/none", {}, 404, "unknown_product"),
        ("GET", "/v1/jobs/not-an-id", {}, 422, "invalid"),
        ("GET", "/v1/jobs/01a209ac-c832-7439-a3c4-dac77d6d4199", {}, 404, "unknown_job"),
        ("GET", "/v1/inspections/01a209ac-c832-7439-a3c4-dac77d6d4199/map", {}, 404, "unknown_inspection"),
        ("GET", "/v1/inspections?sort=uncertainty&cursor=abc", {}, 422, "bad_cursor"),
    ],
)
def test_every_refusal_wears_the_envelope(
    client: TestClient, method: str, path: str, options: Any, status: int, code: str
) -> None:
    refused(client.request(method, path, **options), status, code)


def test_request_ids_are_echoed_when_harmless_and_made_otherwise(client: TestClient) -> None:
    assert client.get("/healthz", headers={"X-Request-ID": "line-7.42"}).headers["x-request-id"] == "line-7.42"
    made = client.get("/healthz", headers={"X-Request-ID": "a b\t<script>"}).headers["x-request-id"]
    assert len(made) == 36


def test_an_unforeseen_error_says_nothing_of_its_inside(
    client: TestClient, ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    def boom(*_: Any) -> None:
        raise RuntimeError("password=hunter2")

    monkeypatch.setattr("app.services.products.listed", lambda *_, **__: boom())
    response = client.get("/v1/products")
    body = refused(response, 500, "internal_error")
    assert "hunter2" not in response.text
    assert body["details"] == {}
    good(client.get("/healthz"))


def test_a_body_over_the_limit_is_refused_whether_its_length_is_told_or_not(settings: Settings) -> None:
    small = settings.model_copy(update={"max_body_mib": 1})
    with TestClient(create_app(small, Echo()), **HERE) as client:
        big = b"x" * (2**20 + 1)
        refused(client.post("/v1/products", content=big), 413, "too_large")
        refused(client.post("/v1/products", content=iter([big]), headers={"Content-Type": "application/json"}), 413, "too_large")


def test_keys_carry_roles_and_end_when_revoked(client: TestClient) -> None:
    made = good(client.post("/v1/keys", json={"name": "boss", "role": "admin"}), 201)
    boss = {"Authorization": f"Bearer {made['key']}"}
    refused(client.get("/v1/products"), 401, "unauthenticated")
    assert client.get("/v1/products").headers["www-authenticate"] == "Bearer"
    refused(client.get("/v1/products", headers={"Authorization": "Bearer nonsense"}), 401, "unauthenticated")
    line = good(client.post("/v1/keys", json={"name": "line 1", "role": "line"}, headers=boss), 201)
    held = {"Authorization": f"Bearer {line['key']}"}
    good(client.get("/v1/products", headers=held))
    body = refused(client.post("/v1/products", json={"name": "x"}, headers=held), 403, "forbidden")
    assert body["details"] == {"needs": "engineer", "has": "line"}
    shown = good(client.get("/v1/keys", headers=boss))["items"]
    assert {key["name"] for key in shown} == {"boss", "line 1"}
    assert all("key" not in key and "sha256" not in key for key in shown)
    good(client.delete(f"/v1/keys/{line['id']}", headers=boss))
    refused(client.get("/v1/products", headers=held), 401, "unauthenticated")
    good(client.delete(f"/v1/keys/{made['id']}", headers=boss))
    refused(client.get("/v1/products"), 401, "unauthenticated")  # revoking the last key does not open the service


def test_the_administrators_key_of_the_environment(settings: Settings) -> None:
    keyed = Settings(**{**settings.model_dump(), "admin_key": "a-long-enough-secret"}, _env_file=None)
    with TestClient(create_app(keyed, Echo()), **HERE) as client:
        refused(client.get("/v1/products"), 401, "unauthenticated")
        good(client.get("/v1/keys", headers={"Authorization": "Bearer a-long-enough-secret"}))
    with pytest.raises(ValueError, match="at least 16"):
        Settings(admin_key="short", _env_file=None)


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "kensor.example"},
        {"Host": "127.0.0.1.evil.example"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"X-Forwarded-For": "127.0.0.1"},
        {"Forwarded": "for=127.0.0.1"},
    ],
)
def test_without_a_key_only_this_machine_is_answered(client: TestClient, headers: dict[str, str]) -> None:
    good(client.get("/v1/products"))
    good(client.get("/v1/products", headers={"Host": "localhost:8000", "Origin": "http://localhost:8000"}))
    refused(client.get("/v1/products", headers=headers), 403, "local_only")


def test_without_a_key_another_machine_is_not_answered(settings: Settings) -> None:
    with TestClient(create_app(settings, Echo()), base_url="http://127.0.0.1", client=("10.0.0.7", 5)) as client:
        refused(client.get("/v1/products"), 403, "local_only")
        refused(client.post("/v1/keys", json={"name": "x", "role": "admin"}), 403, "local_only")
        good(client.get("/healthz"))


def test_ready_says_what_is_not(client: TestClient, ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    assert good(client.get("/readyz"))["checks"] == {"database": "ok", "schema": "ok", "store": "ok"}
    monkeypatch.setattr(ctx.store, "root", "/proc/none")
    body = client.get("/readyz")
    assert body.status_code == 503
    assert body.json()["checks"]["store"] == "storage_unavailable"


def test_metrics_have_labels_that_cannot_grow(client: TestClient, part: str) -> None:
    for name in ("a", "b", "c"):
        client.get(f"/v1/products/{name}")
        client.get(f"/no/such/{name}")
    good(client.post(f"{part}/inspections", content=GOOD, headers=PNG), 201)
    families = {f.name: f for f in text_string_to_metric_families(client.get("/metrics").text)}
    routes_seen = {s.labels["route"] for s in families["kensor_requests"].samples}
    assert "/v1/products/{product}" in routes_seen
    assert not any(r[-2:] == "/a" for r in routes_seen)
    assert sum(s.value for s in families["kensor_verdicts"].samples if s.name.endswith("_total")) == 1
    assert families["kensor_queue_depth"].samples[0].value == 0
    assert families["kensor_pool_bytes"].samples[0].value > 0
    assert [(s.labels["engine"], s.value) for s in families["kensor_questions_depth"].samples] == [("builtin", 0)]


def test_the_answerer_ends_with_the_service(settings: Settings, echo: Echo) -> None:
    with TestClient(create_app(settings, echo), **HERE):
        assert not echo.closed
    assert echo.closed


def test_an_unwritable_data_folder_is_named(tmp_path: Path) -> None:
    from app.errors import Unavailable

    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="KENSOR_DATA") as caught:
        create_app(Settings(_env_file=None, data=tmp_path / "file" / "data", no_worker=True), Echo())
    assert caught.value.code == "data_unwritable"


def test_settings_come_back_from_their_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Settings(_env_file=None, data=tmp_path, admin_key="a-long-enough-secret", queue_length=7, no_worker=True)
    for name, value in first.environment().items():
        monkeypatch.setenv(name, value)
    assert Settings(_env_file=None) == first
    assert introspect.signature(Settings).parameters

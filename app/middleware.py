"""Around every request, in plain ASGI: an id, who calls, a limit on the body, a count, and an answer to what nobody foresaw."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.db.tables import new_id
from app.errors import envelope, respond
from app.metrics import Metrics
from app.security import Principal
from app.settings import MIB

ACCEPTABLE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
ONE_PICTURE = re.compile(r"/v1/products/[^/]+/(inspections|roi)")
MANY = re.compile(r"/v1/products/[^/]+/(images|inspections:batch|recipes:import)")
CHAT = "/v1/chat/completions"
PLAIN = 1 * MIB
"""Any other body is JSON, and is read into memory whole."""


class Edge:
    """The outermost layer of the service. Who calls is known before a byte of the body is read: a framework that reads forms
    and JSON first would let anybody fill memory and disk."""

    def __init__(
        self, app: ASGIApp, *, max_body: int, max_upload: int, metrics: Metrics, identify: Callable[[Scope], Principal]
    ) -> None:
        self.app = app
        self.max_body = max_body
        self.max_upload = max_upload
        self.metrics = metrics
        self.identify = identify

    def limit(self, path: str) -> int:
        """The largest body that this path takes, bytes."""
        if MANY.fullmatch(path):
            return self.max_body
        if path == CHAT:
            return min(self.max_body, self.max_upload * 4 // 3 + PLAIN)  # the picture is written in base64
        return min(self.max_body, self.max_upload + PLAIN) if ONE_PICTURE.fullmatch(path) else PLAIN

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers, limit = Headers(scope=scope), self.limit(scope["path"])
        given = headers.get("x-request-id", "")
        request_id = scope["kensor.request_id"] = given if ACCEPTABLE_ID.fullmatch(given) else new_id()
        started, status, seen = time.perf_counter(), 0, 0

        async def tagged(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
            await send(message)

        async def limited() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > limit:
                raise HTTPException(413, f"The request is larger than {limit:,} bytes.")
            return message

        try:
            if scope["path"].startswith(("/v1/", "/metrics")):
                scope["kensor.principal"] = await run_in_threadpool(self.identify, scope)
            length = headers.get("content-length", "")
            if length.isdigit() and int(length) > limit:
                message = f"The request is larger than {limit:,} bytes."
                refusal = respond(Request(scope), 413, "too_large", message, {"limit": limit})
                await refusal(scope, receive, tagged)
            else:
                await self.app(scope, limited, tagged)
        except ClientDisconnect:  # nobody is left to answer
            status = status or 400
        except Exception as error:
            if status:  # the response has begun: all that is left is to break it off
                raise
            await envelope(Request(scope), error)(scope, receive, tagged)
        finally:
            route = getattr(scope.get("route"), "path", "unmatched")
            self.metrics.request(scope["method"], route, status, time.perf_counter() - started)

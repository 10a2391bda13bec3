"""Around every request, in plain ASGI: an id, a limit on the body, a count, and an answer to what nobody foresaw."""

from __future__ import annotations

import re
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.db.tables import new_id
from app.errors import envelope, respond
from app.metrics import Metrics

ACCEPTABLE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class Edge:
    """The outermost layer of the service."""

    def __init__(self, app: ASGIApp, *, max_body: int, metrics: Metrics) -> None:
        self.app = app
        self.max_body = max_body
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
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
            if seen > self.max_body:
                raise HTTPException(413, f"The request is larger than {self.max_body} bytes.")
            return message

        try:
            length = headers.get("content-length", "")
            if length.isdigit() and int(length) > self.max_body:
                message = f"The request is larger than {self.max_body} bytes."
                refusal = respond(Request(scope), 413, "too_large", message, {"limit": self.max_body})
                await refusal(scope, receive, tagged)
            else:
                await self.app(scope, limited, tagged)
        except Exception as error:
            if status:  # the response has begun: all that is left is to break it off
                raise
            await envelope(Request(scope), error)(scope, receive, tagged)
        finally:
            route = getattr(scope.get("route"), "path", "unmatched")
            self.metrics.request(scope["method"], route, status, time.perf_counter() - started)

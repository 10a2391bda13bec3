"""Errors that carry their status, and the one envelope that renders them all."""

from __future__ import annotations

import errno
import logging
import os
from http import HTTPStatus
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from app.db import engine
from inspection import evidence
from models.lmm.errors import EngineError

log = logging.getLogger("kensor")


class ServiceError(Exception):
    """A refusal: `code` is stable and machine-readable, the message is for a person."""

    status = 500
    code = "internal_error"

    def __init__(self, message: str, *, code: str | None = None, retry_after: int | None = None, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.code
        self.retry_after = retry_after
        self.details = details


class NotFound(ServiceError):
    """Nothing of that name or id."""

    status, code = 404, "not_found"


class Conflict(ServiceError):
    """The present state does not allow it."""

    status, code = 409, "conflict"


class Invalid(ServiceError):
    """A field, or the body, is wrong."""

    status, code = 422, "invalid"


class TooLarge(ServiceError):
    """Over a stated limit."""

    status, code = 413, "too_large"


class Unauthenticated(ServiceError):
    """No key, or one that is unknown or revoked."""

    status, code = 401, "unauthenticated"


class Forbidden(ServiceError):
    """A known key whose role does not reach, or a caller that may not come without a key."""

    status, code = 403, "forbidden"


class Busy(ServiceError):
    """The queue is full; come again after `retry_after` seconds."""

    status, code = 429, "queue_full"


class Unavailable(ServiceError):
    """Device, disk, database or weights are away."""

    status, code = 503, "unavailable"


class Damaged(Unavailable):
    """A stored object is not what it was."""

    code = "object_damaged"


DOMAIN: dict[type[evidence.InspectionError], int] = {
    evidence.NotAnImage: 415,
    evidence.ImageTooLarge: 413,
    evidence.ImageUnusable: 422,
    evidence.EnrolmentRefused: 422,
    evidence.RecipeRefused: 503,
    evidence.Cancelled: 409,
}


DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EMFILE, errno.ENFILE)


def describe(error: BaseException) -> tuple[int, str, str, dict[str, Any]]:
    """Status, code, message and details of any error. What nobody foresaw is 500 and says nothing of its inside."""
    if isinstance(error, ServiceError):
        return error.status, error.code, error.message, error.details
    if isinstance(error, evidence.InspectionError):
        return DOMAIN.get(type(error), 422), error.code, error.message, error.details
    if isinstance(error, EngineError):
        return 503, error.code, str(error), error.details
    if isinstance(error, engine.UNAVAILABLE) and (reason := engine.disk_reason(error)):
        return 503, "storage_unavailable", f"The database cannot be used: {reason}.", {}
    if isinstance(error, engine.UNAVAILABLE):
        return 503, "database_unavailable", "The database does not answer; nothing was written.", {}
    if isinstance(error, engine.CONFLICT):
        return 409, "conflict", "Another request changed the same thing first; nothing was written.", {}
    if isinstance(error, engine.BAD_VALUE):
        return 422, "invalid", "A value does not fit the database; nothing was written.", {}
    if isinstance(error, OSError) and error.errno in DISK:
        return 503, "storage_unavailable", f"The disk cannot be used: {os.strerror(error.errno)}.", {}
    if type(error).__module__.startswith("models.catalog"):  # CatalogError: by name, so that the catalogue is not imported here
        return 503, error.code, error.message, error.details  # type: ignore[attr-defined]
    return 500, "internal_error", "Something unforeseen happened; the request id finds it in the log.", {}


def reported(error: BaseException, request_id: str) -> tuple[int, str, str, dict[str, Any]]:
    """As `describe`; what is no client's fault is logged, where the request id finds it."""
    status, code, message, details = describe(error)
    if status >= 500:
        reason = str(error).strip().partition("\n")[0]
        log.error("request %s: %s: %s", request_id, code, reason, exc_info=error if status == 500 else None)
    return status, code, message, details


def envelope(request: Request, error: BaseException) -> JSONResponse:
    """Any error as `{code, message, request_id, details}`."""
    status, code, message, details = reported(error, request.scope.get("kensor.request_id", ""))
    headers = {}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if status in (429, 503):
        headers["Retry-After"] = str(getattr(error, "retry_after", None) or 1)
    return respond(request, status, code, message, details, headers)


def respond(
    request: Request, status: int, code: str, message: str, details: dict[str, Any], headers: dict[str, str] | None = None
) -> JSONResponse:
    """The envelope itself; beside it, where clients of OpenAI's interface look, `error` in their shape."""
    body = {"code": code, "message": message, "request_id": request.scope.get("kensor.request_id", ""), "details": details}
    if request.scope["path"].startswith(OPENAI):
        body["error"] = openai_error(status, code, message)
    return JSONResponse(body, status, headers)


OPENAI = ("/v1/chat/", "/v1/models")


def openai_error(status: int, code: str, message: str) -> dict[str, Any]:
    """An error as OpenAI's clients read it."""
    kinds = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
    kind = kinds.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"message": message, "type": kind, "param": None, "code": code}


def install(app: Starlette) -> None:
    """Send every error of the service, of the framework and of chance through the envelope."""
    from fastapi.exceptions import RequestValidationError

    async def framework(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        phrase = HTTPStatus(error.status_code).phrase
        code = {413: "too_large", 400: "bad_request"}.get(error.status_code, phrase.lower().replace(" ", "_"))
        return respond(request, error.status_code, code, str(error.detail or phrase), {}, dict(error.headers or {}))

    async def fields(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        problems = [{"field": ".".join(map(str, e["loc"])), "problem": e["msg"]} for e in error.errors()[:20]]
        message = "; ".join(f"{problem['field']}: {problem['problem']}" for problem in problems[:3])
        return respond(request, 422, "invalid", message, {"errors": problems})

    async def everything(request: Request, error: Exception) -> JSONResponse:
        return envelope(request, error)

    app.add_exception_handler(HTTPException, framework)
    app.add_exception_handler(RequestValidationError, fields)
    for kind in (ServiceError, evidence.InspectionError, OSError, *engine.UNAVAILABLE, *engine.CONFLICT, *engine.BAD_VALUE):
        app.add_exception_handler(kind, everything)

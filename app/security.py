"""Who may do what: keys, roles, and who is let in where no key exists yet."""

from __future__ import annotations

import hashlib
import ipaddress
import secrets
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import Scope

ROLES = ("viewer", "line", "operator", "engineer", "admin")
"""Each may do what those before it may: read < inspect < ask and review < enroll, promote, jobs < keys."""
FORWARDED = ("forwarded", "via", "x-real-ip", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "cf-connecting-ip")


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls: a key, or the person at this machine."""

    id: str
    name: str
    role: str

    def may(self, role: str) -> bool:
        """Whether the role reaches."""
        return ROLES.index(self.role) >= ROLES.index(role)


LOCAL = Principal("local", "local", "admin")
"""Somebody on this machine, while the service has no key."""


def mint() -> str:
    """A new key: 256 random bits, written for a header."""
    return f"kensor_{secrets.token_urlsafe(32)}"


def digest(key: str) -> str:
    """What is kept of a key."""
    return hashlib.sha256(key.encode()).hexdigest()


def bearer(headers: Headers) -> str | None:
    """The key of `Authorization: Bearer …`."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def local(scope: Scope) -> str | None:
    """Why a caller without a key is not let in; `None`: it is on this machine, and no browser page or proxy speaks through it."""
    headers = Headers(scope=scope)
    if scope.get("client") is not None and not _loopback(scope["client"][0]):
        return "it does not come from this machine"
    if not _loopback(_host(headers.get("host", ""))):
        return "its Host header names another machine"
    if any(name in headers for name in FORWARDED):
        return "a proxy forwarded it"
    origin = headers.get("origin")
    if origin is not None and origin.partition("://")[2] != headers.get("host"):
        return "a page of another origin sent it"
    return None


def _host(value: str) -> str:
    try:
        return urlsplit(f"//{value}").hostname or ""
    except ValueError:
        return ""


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback

"""Servers on loopback that speak chat completions, most of them badly: the model's name says how."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Seen:
    """What a server was sent, and whether its client left amid a reply."""

    url: str
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    left: threading.Event = field(default_factory=threading.Event)
    open: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    now: int = 0
    most: int = 0
    """Requests served at the same time, at most."""


def chunk(text: str | None, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {} if text is None else {"content": text}, "finish_reason": finish}
    return b"data: " + json.dumps({"object": "chat.completion.chunk", "choices": [choice]}).encode() + b"\n\n"


class Handler(BaseHTTPRequestHandler):
    """One reply."""

    protocol_version = "HTTP/1.1"
    seen: Seen

    def log_message(self, *args: Any) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        seen = self.seen
        with seen.lock:
            seen.now += 1
            seen.most = max(seen.most, seen.now)
        try:
            self._reply()
        finally:
            with seen.lock:
                seen.now -= 1

    def _reply(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        seen = self.seen
        seen.bodies.append(body)
        seen.headers.append(dict(self.headers))
        how, tries = body["model"], len(seen.bodies)
        self.close_connection = True
        if how.startswith("status-"):
            error = {"error": {"message": f"no {how}", "type": "x"}}
            return self._json(int(how[7:10]), error, {"Retry-After": "0"} if how[7:10] == "429" else {})
        if how in ("recovers-429", "recovers-500", "recovers-503") and tries < 3:
            return self._json(int(how[-3:]), {"error": "busy"}, {"Retry-After": "0"})
        if how == "hangs-up" and tries < 2:
            return None
        if how == "new-names" and "max_tokens" in body:
            message = "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead."
            return self._json(400, {"error": {"message": message, "param": "max_tokens"}})
        if how == "new-names" and "temperature" in body:
            return self._json(400, {"error": {"message": "Unsupported value: 'temperature'", "param": "temperature"}})
        if how == "moved":
            return self._json(307, {}, {"Location": "http://192.0.2.1/"})
        if how == "html":
            return self._send(200, b"<html>sign in</html>", "text/html")
        if how == "whole":
            said = {"choices": [{"message": {"role": "assistant", "content": "There is a defect."}, "finish_reason": "stop"}]}
            return self._json(200, said)
        if how == "no-choice":
            return self._json(200, {"choices": []})
        if how == "never":
            seen.open.set()
            return self._until_left()
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        seen.open.set()
        try:
            for data in stream(how):
                self.wfile.write(data)
            if how == "silent":
                self._until_left()
        except OSError:
            seen.left.set()
        return None

    def _json(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        self._send(status, json.dumps(body).encode(), "application/json", headers)

    def _send(self, status: int, data: bytes, kind: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def _until_left(self) -> None:
        """Wait for the client to hang up; sends nothing."""
        self.connection.settimeout(20)
        if self.connection.recv(1) == b"":
            self.seen.left.set()


def stream(how: str) -> Iterator[bytes]:
    """The events that a model of this name sends."""
    if how == "cut":
        yield chunk("There is ")
        return
    if how == "gateway":
        for word, finish in (("There is", ""), (" a defect.", "stop")):
            choice = {"delta": {"content": word}, "finish_reason": finish}
            yield b"data: " + json.dumps({"error": None, "choices": [choice]}).encode() + b"\n\n"
        return
    if how == "cut-before":
        yield b": nothing yet\n\n"
        return
    if how == "garbage":
        yield b"data: {not json\n\n"
        return
    if how == "wrong":
        yield b'data: {"choices": [{"delta": {"content": 7}}]}\n\n'
        return
    if how == "list":
        yield b"data: []\n\n"
        return
    if how == "deep":
        yield b"data: " + b"[" * 100_000 + b"\n\n"
        return
    if how == "reports":
        yield chunk("There is ")
        yield b'data: {"error": {"message": "out of memory"}}\n\n'
        return
    if how == "silent":
        yield chunk("There is ")
        return
    if how == "endless":
        yield b"data: "
        while True:
            yield b"x" * 65536
    if how == "drips":
        while True:
            yield chunk("word ")
            time.sleep(0.02)
    yield b": comment\n\n"
    yield b'data: {"choices": []}\n\n'
    if how == "slow":
        time.sleep(0.2)
    text = "There is no defect. I see a red bus." if how == "lies" else "There is a defect."
    for word in re.findall(r" ?[^ .]+|\.", text):
        yield chunk(word)
    yield chunk(None, "stop")
    yield b"data: [DONE]\n\n"


@contextmanager
def serving() -> Iterator[Seen]:
    """A server on a free port of loopback."""
    seen = Seen("")
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Mine", (Handler,), {"seen": seen}))
    seen.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

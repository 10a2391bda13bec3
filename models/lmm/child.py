"""The child process of a language engine: JSON lines in, JSON lines out, on one niced thread (`python -m models.lmm.child`)."""

from __future__ import annotations

import importlib
import json
import os
import queue
import sys
import threading
import time
from contextlib import closing
from typing import Any

from models.lmm.prompt import Prompt


def serve(engine: str, niceness: int, parent: int, options: str = "{}") -> None:
    """The child's life: load the engine, say so, then answer requests until the pipe closes.

    engine: `module:factory`, called with what hears of the loading, and `options` (a JSON object) as keywords.
    """
    os.nice(niceness)
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print goes to the log, not into the pipe

    def tell(event: str, **values: Any) -> None:
        out.write(json.dumps({"event": event, **values}).encode() + b"\n")
        out.flush()

    requests: queue.Queue[dict[str, Any]] = queue.Queue()
    cancelled = threading.Event()

    def listen() -> None:
        for line in sys.stdin.buffer:
            message = json.loads(line)
            if "cancel" in message:
                cancelled.set()
            else:
                cancelled.clear()  # here, in the pipe's order: a cancel that came after the last reply's end is not this one's
                requests.put(message)
        os._exit(0)  # the parent is gone: leave at once, even amid a generation

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(0)  # a forked sibling may hold the pipe open

    threading.Thread(target=listen, daemon=True).start()
    threading.Thread(target=watch, daemon=True).start()
    try:
        module, _, factory = engine.partition(":")
        model = getattr(importlib.import_module(module), factory)(
            lambda stage: tell("loading", stage=stage), **json.loads(options)
        )
    except Exception as error:
        tell("error", **_described(error))
        return
    tell("ready", name=model.name, sha256=model.sha256)
    hears: dict[str, Any] = {"view": lambda value: tell("view", value=value)} if model.wants == "sight" else {}
    while True:
        request = requests.get()
        try:
            with closing(model.generate(Prompt.loaded(request["prompt"]), max_tokens=request["max_tokens"], **hears)) as pieces:
                for piece in pieces:
                    if cancelled.is_set():
                        break
                    tell("text", text=piece)
        except Exception as error:
            tell("error", **_described(error))
        else:
            tell("done")


def _described(error: Exception) -> dict[str, Any]:
    """What the parent shows: the catalogue's own words (`WeightsMissing` and its kin), or the failure in one line."""
    if hasattr(error, "code") and hasattr(error, "details"):
        return {"code": error.code, "message": str(error), "details": error.details}
    return {"code": "language_failed", "message": f"The language model failed: {type(error).__name__}: {error}", "details": {}}


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])

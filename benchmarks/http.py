"""The service over HTTP beside its own bare scorer, in one run on one machine.

Measured on a real `kensor serve` process with drawn parts: time from start to the first verdict, resident memory, throughput
of 16 clients against a bare `Inspector` loop before and after, lost rows, memory growth, and the latency of verdicts with and
without a question being answered. Ratios are the result; absolute times belong to the machine.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2

from inspection.drawn import drawn

PRODUCT = "bench"
SEED = 7


def jpeg(index: int, defect: str | None = None) -> bytes:
    """A drawn part as JPEG bytes."""
    picture, _ = drawn(SEED, index, defect)
    ok, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 92])
    assert ok
    return bytes(data)


def free_port() -> int:
    """A port nobody listens on at this moment."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def resident_mib(pid: int) -> float:
    """Resident set of one process, MiB (Linux)."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


class Client:
    """One keep-alive connection, as a camera's PC would hold it."""

    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)

    def send(self, method: str, path: str, body: bytes | None = None, kind: str = "application/json") -> tuple[int, Any]:
        self.connection.request(method, path, body, {"Content-Type": kind} if body else {})
        answer = self.connection.getresponse()
        data = answer.read()
        return answer.status, json.loads(data) if data else None

    def inspect(self, picture: bytes) -> tuple[int, Any]:
        return self.send("POST", f"/v1/products/{PRODUCT}/inspections", picture, "image/jpeg")


@contextmanager
def served(env: dict[str, str], port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A real server process, ended with the block."""
    log = Path(env["KENSOR_DATA"]) / "bench-server.log"
    with log.open("ab") as out:
        server = subprocess.Popen(
            [sys.executable, "-m", "app.cli", "serve", "--port", str(port)], env=env, stdout=out, stderr=out
        )
        try:
            yield server
        finally:
            server.terminate()
            server.wait(30)


def first_verdict(port: int, picture: bytes, since: float, limit: float = 60.0) -> float:
    """Seconds from `since` until a verdict came back."""
    while time.perf_counter() - since < limit:
        try:
            status, _ = Client(port).inspect(picture)
        except OSError:
            time.sleep(0.02)
            continue
        if status == 201:
            return time.perf_counter() - since
        time.sleep(0.02)
    raise TimeoutError(f"no verdict within {limit:.0f} s")


def bare(recipe: str, pictures: int, seconds: float) -> float:
    """Pictures a second of a bare `Inspector` loop in a process of its own, one thread."""
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom benchmarks.http import jpeg\n"
        "from inspection.inspector import Inspector\n"
        "inspector = Inspector.load(Path(sys.argv[1]))\nparts = [jpeg(1000 + i) for i in range(int(sys.argv[2]))]\n"
        "for part in parts: inspector.inspect(part)\n"
        "start, n = time.perf_counter(), 0\n"
        "while time.perf_counter() - start < float(sys.argv[3]):\n    inspector.inspect(parts[n % len(parts)]); n += 1\n"
        "print(n / (time.perf_counter() - start))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, recipe, str(pictures), str(seconds)], capture_output=True, text=True, check=True
    )
    return float(run.stdout)


def load(port: int, clients: int, seconds: float, pictures: list[bytes], note: Callable[[float], None]) -> dict[str, Any]:
    """Closed-loop load: every client posts its next part as soon as it has the last verdict."""
    latencies: list[float] = []
    errors: list[int] = []
    lock = threading.Lock()
    end = time.perf_counter() + seconds

    def one(offset: int) -> None:
        client, mine, bad, i = Client(port), [], [], offset
        while time.perf_counter() < end:
            start = time.perf_counter()
            status, _ = client.inspect(pictures[i % len(pictures)])
            mine.append(time.perf_counter() - start)
            if status != 201:
                bad.append(status)
            i += 1
        with lock:
            latencies.extend(mine)
            errors.extend(bad)

    threads = [threading.Thread(target=one, args=(i,)) for i in range(clients)]
    start = time.perf_counter()
    for t in threads:
        t.start()
    while any(t.is_alive() for t in threads):
        time.sleep(0.5)
        note(time.perf_counter() - start)
    wall = time.perf_counter() - start
    return {"requests": len(latencies), "errors": len(errors), "per_s": len(latencies) / wall, **quantiles(latencies)}


def quantiles(seconds: list[float]) -> dict[str, float]:
    """Median and 95th percentile, ms."""
    cuts = statistics.quantiles(seconds, n=20)
    return {"p50_ms": statistics.median(seconds) * 1e3, "p95_ms": cuts[18] * 1e3}


def beside_questions(port: int, pictures: list[bytes], rounds: int, each: int) -> dict[str, Any]:
    """Latency of one posting client, in alternating blocks with and without a question being answered."""
    asker = Client(port)
    _, row = asker.inspect(jpeg(5000, "scratch"))
    question = json.dumps({"question": "Where is the defect and how big is it?"}).encode()
    path = f"/v1/inspections/{row['id']}/questions"
    status, first = asker.send("POST", path, question)
    assert status in (200, 201), first
    client = Client(port)
    quiet: list[float] = []
    asked: list[float] = []
    answers = 0

    def block(into: list[float]) -> None:
        for i in range(each):
            start = time.perf_counter()
            client.inspect(pictures[i % len(pictures)])
            into.append(time.perf_counter() - start)

    for _ in range(rounds):
        block(quiet)
        stop = threading.Event()

        def ask() -> None:
            nonlocal answers
            while not stop.is_set():  # noqa: B023 - joined within the round
                asker.send("POST", path, question)
                answers += 1

        thread = threading.Thread(target=ask)
        thread.start()
        time.sleep(0.1)
        block(asked)
        stop.set()
        thread.join()
    a, b = quantiles(quiet), quantiles(asked)
    return {"without": a, "with": b, "answers": answers, "p95_ratio": b["p95_ms"] / a["p95_ms"]}


def rows(port: int) -> int:
    """Inspections on the record, counted through the API."""
    client, n, cursor = Client(port), 0, ""
    while True:
        _, page = client.send("GET", f"/v1/inspections?product={PRODUCT}&limit=200{cursor}")
        n += len(page["items"])
        if not page["next_cursor"]:
            return n
        cursor = f"&cursor={page['next_cursor']}"


def run(clients: int = 16, seconds: float = 60.0, warm: float = 60.0, questions: bool = True) -> dict[str, Any]:
    """Everything above in one run; `warm` seconds of the same load pass before the memory mark and the measured part."""
    with tempfile.TemporaryDirectory(prefix="kensor-bench-") as folder:
        env = {**os.environ, "KENSOR_DATA": folder, "OMP_NUM_THREADS": "1"}
        normals = Path(folder) / "normals"
        normals.mkdir()
        for i in range(32):
            (normals / f"{i:03}.jpg").write_bytes(jpeg(i))
        enroll = [sys.executable, "-m", "app.cli", "enroll", PRODUCT, "--normal", str(normals), "--promote", "--json"]
        enroll += ["--backbone", "efficientnet_lite0"]  # the path over HTTP is measured, not what `auto` takes
        made = json.loads(subprocess.run(enroll, env=env, capture_output=True, text=True, check=True).stdout)
        recipe = made["folder"]
        parts = [jpeg(1000 + i) for i in range(64)]
        result: dict[str, Any] = {"clients": clients, "seconds": seconds}
        port = free_port()
        start = time.perf_counter()
        with served(env, port) as server:
            result["first_verdict_s"] = first_verdict(port, parts[0], start)
            result["resident_mib_at_start"] = resident_mib(server.pid)
            before = bare(recipe, 64, 5.0)
            memory: list[float] = []
            first = load(port, clients, warm, parts, lambda t: None)
            mark = resident_mib(server.pid)
            result["load"] = load(port, clients, seconds, parts, lambda t: memory.append(resident_mib(server.pid)))
            result["resident_mib"] = {"minute_one": mark, "end": memory[-1], "growth": memory[-1] / mark}
            after = bare(recipe, 64, 5.0)
            scorer = (before + after) / 2
            result["bare_per_s"] = scorer
            result["throughput_ratio"] = result["load"]["per_s"] / scorer
            sent = 1 + first["requests"] + result["load"]["requests"] - first["errors"] - result["load"]["errors"]
            result["lost_rows"] = sent - rows(port)
            if questions:
                result["questions"] = beside_questions(port, parts, rounds=6, each=60)
        return result


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))  # noqa: T201

"""The whole job once, over HTTP: enroll, serve, inspect, ask, review, report."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from app import report
from app.demo_parts import Part, Parts
from inspection.evidence import InspectionError

QUESTIONS = (
    ("worst", "Is there a defect on this part?"),
    ("worst", "Where is the defect?"),
    ("second", "How many defective regions are there, and how big is the largest?"),
    ("calmest", "Is this part in order?"),
    ("worst", "Which supplier delivered the material of this batch?"),
)


RECORD = ".kensor-demo"
"""The demo's data folder, emptied each time: under a name that nobody's own folder has."""


class DemoFailed(InspectionError):
    """The demo could not go on; the message says at which step and where the server's log lies."""

    code = "demo_failed"


class PictureRefused(DemoFailed):
    """The service does not take this picture; others may do."""


@dataclass
class Client:
    """The few calls the demo makes, each checked."""

    http: httpx.Client
    log: Path

    def call(self, method: str, path: str, **options: Any) -> Any:
        """One request; returns the body as JSON, or bytes. Raises DemoFailed with the service's own words."""
        try:
            response = self.http.request(method, path, **options)
        except httpx.HTTPError as error:
            raise DemoFailed(f"{method} {path}: no answer ({type(error).__name__}). The server's log: {self.log}") from error
        if response.status_code in (413, 415):
            raise PictureRefused(response.json()["message"])
        if response.is_error:
            raise DemoFailed(f"{method} {path}: {response.status_code} {response.text[:400]}. The server's log: {self.log}")
        return response.json() if response.headers.get("content-type", "").startswith("application/json") else response.content


def run(parts: Parts, out: Path, console: Console) -> dict[str, Any]:
    """Do it all under `out` (made anew) and return the summary, also written there beside report.html and server.log."""
    started = time.perf_counter()
    out.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(out / RECORD, ignore_errors=True)
    for name in ("summary.json", "report.html", "server.log"):
        (out / name).unlink(missing_ok=True)
    with server(out, console) as client, bars(console) as progress:
        recipe, enroll_seconds = enroll(client, parts, progress)
        cards, latencies = inspect(client, parts, progress)
        exchanges = ask(client, cards, progress)
        reviewed = review(client, cards)
    summary = summarise(parts, reviewed, exchanges, recipe) | {
        "enroll_seconds": round(enroll_seconds, 1),
        "ms_per_inspection": round(statistics.median(latencies), 1),
        "seconds": round(time.perf_counter() - started, 1),
        "download_seconds": round(parts.download_seconds, 1),
    }
    exchanges = [report.Exchange(next(c for c in reviewed if c.name == e.card.name), e.question, e.answer) for e in exchanges]
    report.write(report.Report(parts.title, parts.notice, reviewed, exchanges, recipe, summary), out / "report.html")
    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    return summary


@contextmanager
def server(out: Path, console: Console) -> Iterator[Client]:
    """A `kensor serve` of the demo's own: own data folder, own key, a free port; stopped at the end whatever happens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data, key, log = (out / RECORD).resolve(), secrets.token_urlsafe(32), out / "server.log"
    own = {
        "KENSOR_DATA": str(data),
        "KENSOR_DATABASE_URL": f"sqlite:///{data / 'kensor.sqlite'}",
        "KENSOR_STORE_URL": str(data / "objects"),
        "KENSOR_ADMIN_KEY": key,
        "KENSOR_NO_WORKER": "false",
    }
    data.mkdir(parents=True)
    with log.open("wb") as sink:
        command = [sys.executable, "-m", "app.cli", "serve", "--host", "127.0.0.1", "--port", str(port)]
        child = subprocess.Popen(command, env=os.environ | own, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink)
        try:
            with httpx.Client(
                base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {key}"}, timeout=300, trust_env=False
            ) as http:
                client = Client(http, log)
                _await_ready(client, child)
                console.print(f"Serving on http://127.0.0.1:{port}, log in {log}")
                yield client
        finally:
            child.send_signal(signal.SIGTERM)
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def _await_ready(client: Client, child: subprocess.Popen[bytes], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if child.poll() is not None:
            lines = client.log.read_text(errors="replace").strip().splitlines()
            raise DemoFailed(f"The server ended at once ({child.returncode}): {lines[-1] if lines else 'it said nothing'}")
        try:
            if client.http.get("/readyz").is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise DemoFailed(f"The server was not ready within {seconds:.0f} s. Its log: {client.log}")


def bars(console: Console) -> Progress:
    """Progress bars as the whole command line draws them."""
    return Progress(
        TextColumn("{task.description:<28}"), BarColumn(30), MofNCompleteColumn(), TimeElapsedColumn(), console=console
    )


def enroll(client: Client, parts: Parts, progress: Progress) -> tuple[dict[str, Any], float]:
    """Product, normal pictures, the enroll job, promotion. Returns the recipe's body and the job's seconds."""
    p = f"/v1/products/{parts.product}"
    client.call("POST", "/v1/products", json={"name": parts.product})
    task = progress.add_task("upload normal pictures", total=len(parts.normal))
    for start in range(0, len(parts.normal), 20):
        batch = parts.normal[start : start + 20]
        kept = client.call("POST", f"{p}/images", data={"kind": "normal"}, files=[("files", (x.name, x.data)) for x in batch])
        for refused in kept["refused"]:
            progress.console.print(f"left out {refused['filename']}: {refused['message']}")
        progress.update(task, advance=len(batch))
    started = time.perf_counter()
    job = client.call("POST", f"{p}/recipes", json={})
    task = progress.add_task("enroll", total=None)
    while job["state"] not in ("done", "failed", "cancelled", "done_with_errors"):
        time.sleep(0.3)
        job = client.call("GET", f"/v1/jobs/{job['id']}")
        progress.update(task, completed=job["done"], total=job["total"] or None)
    if job["state"] != "done":
        raise DemoFailed(f"The enroll job ended as {job['state']}: {job['error']}. The server's log: {client.log}")
    seconds = time.perf_counter() - started
    newest = client.call("GET", f"{p}/recipes")["items"][0]["number"]
    client.call("POST", f"{p}/recipes/{newest}:promote")
    return client.call("GET", f"{p}/recipes/{newest}"), seconds


def inspect(client: Client, parts: Parts, progress: Progress) -> tuple[list[report.Card], list[float]]:
    """One request for each part; the verdict's latency as the client sees it, milliseconds."""
    cards, latencies = [], []
    for n, part in enumerate(progress.track(parts.test, description="inspect unseen parts")):
        started = time.perf_counter()
        tags = {"serial": f"demo-{n + 1:03}", "lot": "demo", "station": "demo"}
        try:
            path = f"/v1/products/{parts.product}/inspections"
            body = client.call("POST", path, files={"file": (part.name, part.data)}, data=tags)
        except PictureRefused as refusal:
            progress.console.print(f"left out {part.name}: {refusal.message}")
            continue
        latencies.append(1000 * (time.perf_counter() - started))
        cards.append(_card(client, part, body))
    if not cards:
        raise DemoFailed("None of the pictures to inspect could be read.")
    return cards, latencies


def _card(client: Client, part: Part, body: dict[str, Any]) -> report.Card:
    overlay = client.call("GET", f"/v1/inspections/{body['id']}/overlay.png")
    if not body["map"]["sha256"] or not body["recipe"]["sha256"]:
        raise DemoFailed(f"Inspection {body['id']} came back without its map or its recipe's digest.")
    return report.Card(part.name, part.defective, body, part.data, overlay)


def ask(client: Client, cards: list[report.Card], progress: Progress) -> list[report.Exchange]:
    """Five questions about several parts: the strangest, the next, and the calmest."""
    ordered = sorted(cards, key=lambda card: -float(card.inspection["raw_score"]))
    about = {"worst": ordered[0], "second": ordered[min(1, len(ordered) - 1)], "calmest": ordered[-1]}
    exchanges = []
    for which, question in progress.track(QUESTIONS, description="ask (the model loads first)"):
        card = about[which]
        answer = client.call("POST", f"/v1/inspections/{card.inspection['id']}/questions", json={"question": question})
        exchanges.append(report.Exchange(card, question, answer))
    return exchanges


def review(client: Client, cards: list[report.Card]) -> list[report.Card]:
    """A review beside one verdict, the one nearest to the reject limit, as a person would add it."""
    chosen = min(cards, key=lambda card: abs(card.inspection["margin"] or 0.0))
    reject = chosen.inspection["verdict"] == "reject" if chosen.defective is None else chosen.defective
    body = {
        "decision": "reject" if reject else "pass",
        "comment": "added by the demo" + ("" if chosen.defective is None else ", from the picture's label"),
        "expected_revision": 0,
    }
    stored = client.call("POST", f"/v1/inspections/{chosen.inspection['id']}/reviews", json=body)
    return [replace(card, review=stored) if card is chosen else card for card in cards]


def summarise(parts: Parts, cards: list[report.Card], exchanges: list[report.Exchange], recipe: dict[str, Any]) -> dict[str, Any]:
    """The figures; those that need the truth are `None` where nobody said it."""
    sound = [c for c in cards if c.defective is False]
    defective = [c for c in cards if c.defective]
    return {
        "product": parts.product,
        "auroc": auroc([c.inspection["raw_score"] for c in sound], [c.inspection["raw_score"] for c in defective]),
        "sound": len(sound),
        "defective": len(defective),
        "false_rejects": sum(c.inspection["verdict"] == "reject" for c in sound) if sound else None,
        "escapes": sum(c.inspection["verdict"] == "pass" for c in defective) if defective else None,
        "left_to_a_person": sum(c.inspection["verdict"] == "review" for c in cards),
        "inspections": len(cards),
        "answers": len(exchanges),
        "answers_mended_or_replaced": sum(e.answer["grounding"] in ("mended", "replaced") for e in exchanges),
        "normal_images": len(parts.normal),
        "expert": recipe["expert"],
        "backbone": recipe["backbone"],
        "recipe_sha256": recipe["sha256"],
        "version": version("kensor"),
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def auroc(sound: list[float], defective: list[float]) -> float | None:
    """Chance that a defective part scores over a sound one, ties counted half; `None` without both."""
    if not sound or not defective:
        return None
    return sum((d > s) + 0.5 * (d == s) for d in defective for s in sound) / (len(sound) * len(defective))


def table(summary: dict[str, Any]) -> Table:
    """The summary as the terminal shows it."""
    grid = Table(show_header=False, box=None, padding=(0, 2, 0, 0))

    def row(name: str, value: Any) -> None:
        grid.add_row(name, "–" if value is None else str(value))

    row("inspections", f"{summary['inspections']}, {summary['ms_per_inspection']:.0f} ms each (median, over HTTP)")
    row("AUROC", None if summary["auroc"] is None else f"{summary['auroc']:.3f}")
    row(
        "sound parts rejected",
        summary["false_rejects"] if not summary["sound"] else f"{summary['false_rejects']} of {summary['sound']}",
    )
    row(
        "defective parts passed",
        summary["escapes"] if not summary["defective"] else f"{summary['escapes']} of {summary['defective']}",
    )
    row("left to a person", summary["left_to_a_person"])
    row("answers", f"{summary['answers']}, of which {summary['answers_mended_or_replaced']} mended or replaced by the check")
    row("enrolled", f"{summary['normal_images']} normal pictures in {summary['enroll_seconds']:.0f} s")
    row("time", f"{summary['seconds']:.0f} s, and {summary['download_seconds']:.0f} s of downloads")
    return grid

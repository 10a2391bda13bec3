"""The demo's report: one HTML file that needs nothing beside it."""

from __future__ import annotations

import base64
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from app.context import limits_of
from app.settings import Settings
from inspection.heatmap import heatmap_png
from inspection.image import decode

TEMPLATES = Path(__file__).parent / "templates"
TRUTHS = {False: "sound, inspected", True: "defective, inspected", None: "inspected"}
GROUNDING = {
    "grounded": ("as the model said it", "Every claim in the model's own words is borne out by the evidence."),
    "mended": ("mended", "What the evidence does not bear was taken out, or what was missing was added, before the answer left."),
    "replaced": ("replaced", "The model's own words did not fit the evidence: the checked statement was delivered instead."),
    "insufficient": ("not answerable", "The evidence cannot answer this, and the answer says so."),
}


@dataclass(frozen=True, slots=True)
class Card:
    """One inspected part: what it truly is, what was recorded, and its pictures (PNG, JPEG, … bytes)."""

    name: str
    defective: bool | None
    """`None`: nobody said."""
    inspection: dict[str, Any]
    """The body of `POST /v1/products/{p}/inspections`."""
    picture: bytes
    overlay: bytes
    review: dict[str, Any] | None = None

    @property
    def outcome(self) -> str:
        """`right`, `wrong`, `asked` (left to a person) or `open` (truth unknown)."""
        verdict = self.inspection["verdict"]
        if verdict == "review":
            return "asked"
        if self.defective is None:
            return "open"
        return "right" if (verdict == "reject") == self.defective else "wrong"


@dataclass(frozen=True, slots=True)
class Exchange:
    """One question about one card, and the body of its answer."""

    card: Card
    question: str
    answer: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Report:
    """Everything the page shows."""

    title: str
    """What the parts are, in the plural: `solar cells`."""
    notice: str
    """Licence and origin of the pictures."""
    cards: list[Card]
    exchanges: list[Exchange]
    recipe: dict[str, Any]
    """The body of `GET /v1/products/{p}/recipes/{n}`."""
    summary: dict[str, Any]


def write(report: Report, path: Path) -> None:
    """Render `report` into one HTML file."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["picture"] = _data_uri
    environment.filters["si"] = lambda value: "–" if value is None else f"{value:.3g}"
    limits = {name: limit["raw"] for name, limit in report.recipe["thresholds"].items()}
    reject = limits["reject"] or max(card.inspection["raw_score"] for card in report.cards)
    html = environment.get_template("report.html").render(
        r=report,
        s=report.summary,
        table=_table(report.cards),
        groups=_groups(report.cards),
        histogram=_histogram(report),
        bar=lambda raw: 100 * min(raw / (2 * reject), 1.0),
        reject=reject,
        scale=report.recipe["heatmap_max"],
        review=limits["review"],
        calibration=report.recipe["calibration"],
        gradient=_gradient(16),
        grounding=GROUNDING,
        means={
            name: float(np.mean([c.inspection["timings_ms"][name] for c in report.cards]))
            for name in report.cards[0].inspection["timings_ms"]
        },
    )
    path.write_text(html, encoding="utf-8")


def _table(cards: list[Card]) -> dict[str, Counter[str]]:
    """Truth in words → how many parts got which verdict."""
    words = {False: "sound", True: "defective", None: "unknown"}
    table: dict[str, Counter[str]] = {}
    for card in cards:
        table.setdefault(words[card.defective], Counter())[card.inspection["verdict"]] += 1
    return table


def _groups(cards: list[Card]) -> list[tuple[str, str, list[Card]]]:
    """Cards as a reader wants them: mistakes, then what was left to a person, then the rest; strangest first."""
    ordered = sorted(cards, key=lambda card: -float(card.inspection["raw_score"]))
    named = [
        ("Decided wrongly", "Sound parts rejected (overkill) and defective parts passed (escapes).", "wrong", None),
        (
            "Left to a person",
            "Between the two limits, or a picture unlike those enrolled: the service does not guess.",
            "asked",
            None,
        ),
        ("Defective parts, rejected", "", "right", True),
        ("Sound parts, passed", "", "right", False),
        ("Decided, truth unknown", "Nobody said what these parts are.", "open", None),
    ]
    groups = [
        (title, text, [c for c in ordered if c.outcome == outcome and (defective is None or c.defective == defective)])
        for title, text, outcome, defective in named
    ]
    return [group for group in groups if group[2]]


def _histogram(report: Report, width: int = 900, height: int = 190, bins: int = 30) -> dict[str, Any]:
    """Coordinates of the drawing: bars of the normals' scores, the two limits, one dot for each inspected part."""
    normal = np.asarray(report.recipe["calibration"]["held_out_scores"], dtype=np.float64)
    seen = np.asarray([card.inspection["raw_score"] for card in report.cards])
    limits = {name: report.recipe["thresholds"][name]["raw"] for name in ("review", "reject")}
    known = np.concatenate([normal, [v for v in limits.values() if v is not None]])
    low = float(min(known.min(), seen.min()))
    high = float(max(known.max(), min(seen.max(), low + 4 * (known.max() - low))))  # the normals stay readable
    pad = 0.04 * (high - low) or 1.0
    low, high = low - pad, high + pad

    def x(value: float) -> float:
        return round((value - low) / (high - low) * width, 1)

    counts, edges = np.histogram(normal, bins=bins, range=(low, high))
    tall = max(int(counts.max()), 1)
    bars = [
        {
            "x": x(edge),
            "width": round(width / bins - 1, 1),
            "height": round(count / tall * height, 1),
            "count": int(count),
            "from": edge,
            "to": after,
        }
        for count, edge, after in zip(counts, edges[:-1], edges[1:], strict=True)
        if count
    ]
    rows = {truth: row for row, truth in enumerate(t for t in TRUTHS if t in {card.defective for card in report.cards})}
    shown = [c for c in report.cards if c.inspection["raw_score"] <= high]
    dots = [{"x": x(c.inspection["raw_score"]), "row": rows[c.defective], "card": c} for c in shown]
    beyond = Counter(rows[c.defective] for c in report.cards if c.inspection["raw_score"] > high)
    return {
        "width": width,
        "height": height,
        "bars": bars,
        "tallest": tall,
        "rows": {TRUTHS[truth]: row for truth, row in rows.items()},
        "bottom": height + 6 + 26 * len(rows),
        "limits": {name: x(value) for name, value in limits.items() if value is not None},
        "dots": dots,
        "beyond": beyond,
        "ticks": [{"x": x(value), "label": f"{value:.3g}"} for value in np.linspace(low + pad, high - pad, 6)],
    }


def _gradient(steps: int) -> list[str]:
    """The heatmap's own colours from 0 to the end of its scale, as CSS."""
    ramp = np.linspace(0, 1, steps, dtype=np.float32)[None]
    pixels = cv2.imdecode(np.frombuffer(heatmap_png(ramp, 1.0), np.uint8), cv2.IMREAD_COLOR)
    return [f"rgb({r} {g} {b})" for b, g, r in np.asarray(pixels)[0]]


def _data_uri(data: bytes, side: int = 320) -> str:
    """A picture at most `side` pixels long, as a WebP data URI: forty of them stay near one megabyte."""
    image = cv2.cvtColor(decode(data, limits=limits_of(Settings())).pixels, cv2.COLOR_RGB2BGR)
    scale = side / max(image.shape[:2])
    if scale < 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    ok, encoded = cv2.imencode(".webp", image, [cv2.IMWRITE_WEBP_QUALITY, 88])
    if not ok:
        raise ValueError("a picture of the report could not be encoded")
    return "data:image/webp;base64," + base64.b64encode(encoded.tobytes()).decode()

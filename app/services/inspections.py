"""One picture judged once by one recipe, and recorded: plan, judge, record."""

from __future__ import annotations

import hashlib
import io
import json
import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy.orm import Session

from app.context import Context
from app.db.queries import inspections as queries
from app.db.queries import recipes as recipe_queries
from app.db.queries.inspections import Filter
from app.db.tables import Inspection, iso, new_id, now
from app.errors import Conflict, Invalid, NotFound
from app.pool import Judged
from app.schemas.fields import InspectFields
from app.security import Principal
from app.services import drift, idempotency, recipes
from app.services.idempotency import Once, Reply
from inspection import header
from inspection.evidence import Finding, MapStats, Outcome, Thresholds
from inspection.verdict import check

PLACE = ("serial", "lot", "station", "line", "shift", "measurement_id")


class Plan(NamedTuple):
    """Which recipe judges a picture, by which limits."""

    product: str
    product_id: str
    recipe_id: str
    number: int
    sha256: str
    folder: Path
    thresholds: Thresholds | None
    """`None`: the recipe's own."""
    review_overridden: bool = False
    reject_overridden: bool = False


def plan(ctx: Context, product: str, fields: InspectFields, request: Once | None = None) -> Plan | Reply:
    """Look everything up before the expert is asked; or the response that this request already had."""
    with ctx.database.read() as session:
        found = idempotency.earlier(session, request)
        if found is not None:
            return found
        chosen = recipe_queries.choice(session, product, fields.recipe)
    if chosen is None:
        raise NotFound(f"There is no product `{product}`.", code="unknown_product", product=product)
    if chosen.archived:
        raise Conflict(f"The product `{product}` is archived.", code="product_archived", product=product)
    if chosen.recipe_id is None or chosen.number is None or chosen.sha256 is None:
        if fields.recipe is not None:
            message = f"The product `{product}` has no recipe {fields.recipe}."
            raise NotFound(message, code="unknown_recipe", product=product, recipe=fields.recipe)
        message = f"The product `{product}` has no promoted recipe: enroll it from normal pictures, then promote the recipe."
        raise Conflict(message, code="no_recipe", product=product)
    review, reject, limits = fields.threshold_review, fields.threshold_reject, None
    if review is not None or reject is not None:
        limits = Thresholds(chosen.review if review is None else review, chosen.reject if reject is None else reject)
        check(limits)
    folder = recipes.folder(ctx, chosen.sha256)
    at = (product, chosen.product_id, chosen.recipe_id, chosen.number, chosen.sha256, folder)
    return Plan(*at, limits, review is not None, reject is not None)


def record(
    ctx: Context, plan: Plan, data: bytes, judged: Judged, fields: InspectFields, caller: Principal, request: Once | None = None
) -> Reply:
    """Keep picture and map, then the row: one transaction. The reply's body is the full inspection."""
    started = time.perf_counter()
    values = keep(ctx, data, judged.outcome)
    timings = {**judged.outcome.timings_ms, "queue": judged.queue_ms, "store": (time.perf_counter() - started) * 1000}
    row = Inspection(
        **values,
        product_id=plan.product_id,
        recipe_id=plan.recipe_id,
        recipe_number=plan.number,
        review_overridden=plan.review_overridden,
        reject_overridden=plan.reject_overridden,
        timings_ms={name: round(ms, 3) for name, ms in timings.items()},
        **{name: getattr(fields, name) for name in PLACE},
        captured_at=fields.captured_at,
        custom=json.loads(fields.custom) if fields.custom else {},
        is_simulated=fields.is_simulated,
        created_by=caller.name,
    )
    body = view(row, plan.product)

    def work(session: Session) -> dict[str, Any]:
        session.add(row)
        return body

    reply = idempotency.write(ctx, request, work)
    if not reply.replayed:
        ctx.metrics.verdicts.labels(row.verdict).inc()
        drift.watch(ctx, plan.product)
    return reply


def keep(ctx: Context, data: bytes, outcome: Outcome) -> dict[str, Any]:
    """Store picture and map; the columns of a row that come from the outcome."""
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(outcome.map, np.float32), allow_pickle=False)
    stats = outcome.map_stats
    return {
        "id": new_id(),
        "created_at": now(),
        "image_sha256": ctx.store.put(data),
        "image_format": header.read(data).format,
        "width": outcome.width,
        "height": outcome.height,
        "recipe_sha256": outcome.recipe_sha256,
        "verdict": str(outcome.verdict),
        "reasons": list(outcome.reasons),
        "raw_score": outcome.raw_score,
        "score": outcome.score,
        "margin": outcome.margin,
        "distance": 0.0 if outcome.margin is None else abs(outcome.margin),
        "threshold_review": outcome.thresholds.review,
        "threshold_reject": outcome.thresholds.reject,
        "findings": [plain(asdict(finding)) for finding in outcome.findings],
        "map_sha256": ctx.store.put(buffer.getvalue(), durable=False),
        "map_width": outcome.map.shape[1],
        "map_height": outcome.map.shape[0],
        "map_stats": plain(asdict(stats)),
    }


def inspect(ctx: Context, product: str, data: bytes, fields: InspectFields, caller: Principal) -> dict[str, Any]:
    """All three steps, waiting for each: for the command line."""
    planned = plan(ctx, product, fields)
    assert isinstance(planned, Plan)
    judged = ctx.pool.submit(planned.sha256, planned.folder, data, planned.thresholds).result()
    return record(ctx, planned, data, judged, fields, caller).body


def fingerprint(caller: Principal, token: str | None, product: str, fields: InspectFields, data: bytes) -> Once | None:
    """An `Idempotency-Key` request: product, fields and picture."""
    if token is None:
        return None
    digest = hashlib.sha256(data).hexdigest()
    return idempotency.once(caller, token, "inspect", product, fields.model_dump(mode="json", exclude={"detail"}), digest)


def view(row: Inspection, product: str) -> dict[str, Any]:
    """An inspection as api.md shows it; plain JSON values."""
    here = f"/v1/inspections/{row.id}"
    limit = recipes.limit
    return {
        "id": row.id,
        "product": product,
        "verdict": row.verdict,
        "reasons": row.reasons,
        "raw_score": row.raw_score,
        "score": row.score,
        "thresholds": {
            "review": limit(row.threshold_review, row.threshold_reject, row.review_overridden),
            "reject": limit(row.threshold_reject, row.threshold_reject, row.reject_overridden),
        },
        "margin": row.margin,
        "recipe": {"number": row.recipe_number, "sha256": row.recipe_sha256},
        "findings": row.findings,
        "map": {
            "url": f"{here}/map",
            "sha256": row.map_sha256,
            "width": row.map_width,
            "height": row.map_height,
            **row.map_stats,
        },
        "image": {"sha256": row.image_sha256, "width": row.width, "height": row.height},
        "timings_ms": row.timings_ms,
        **{name: getattr(row, name) for name in PLACE},
        "captured_at": iso(row.captured_at),
        "custom": row.custom,
        "is_simulated": bool(row.is_simulated),
        "job_id": row.job_id,
        "source_id": row.source_id,
        "created_by": row.created_by,
        "created_at": iso(row.created_at),
        "links": {
            "self": here,
            **{name: f"{here}/{name}" for name in ("image", "map", "heatmap.png", "overlay.png", "questions", "reviews")},
        },
    }


SHORT = ("id", "product", "verdict", "reasons", "raw_score", "score", "thresholds", "margin", "recipe", "created_at", "links")


def brief(body: dict[str, Any]) -> dict[str, Any]:
    """`detail=verdict`."""
    return {name: body[name] for name in SHORT}


def get(session: Session, inspection_id: str) -> Inspection:
    """One row. Raises `NotFound`."""
    row = queries.get(session, inspection_id)
    if row is None:
        raise NotFound("There is no inspection of this id.", code="unknown_inspection")
    return row


def listed(session: Session, what: Filter, cursor: str | None, limit: int, *, uncertain: bool) -> tuple[list[Any], str | None]:
    """Inspections by falling time, or the least sure first; with the next page's cursor."""
    if uncertain:
        rows = queries.least_sure(session, what, _split(cursor), limit + 1)
    else:
        rows = queries.newest(session, what, cursor, limit + 1)
    last = rows[limit - 1] if len(rows) > limit else None
    following = None if last is None else f"{last.distance!r}:{last.id}" if uncertain else last.id
    return [view(row, row.product.name) for row in rows[:limit]], following


def _split(cursor: str | None) -> tuple[float, str] | None:
    if cursor is None:
        return None
    distance, _, last = cursor.partition(":")
    try:
        if math.isfinite(at := float(distance)):
            return at, last
    except ValueError:
        pass
    raise Invalid("This cursor is none of this list's.", code="bad_cursor")


def anomaly_map(ctx: Context, row: Inspection) -> np.ndarray:
    """The stored map `[H, W]`, float32, raw units."""
    return read_map(ctx, row.map_sha256)


def read_map(ctx: Context, sha256: str) -> np.ndarray:
    """A stored map by its digest."""
    return np.asarray(np.load(io.BytesIO(ctx.store.get(sha256)), allow_pickle=False))


def findings(row: Inspection) -> tuple[Finding, ...]:
    """The row's findings as the domain's values."""
    return tuple(
        Finding(**{name: _tuples(value) if isinstance(value, list) else value for name, value in finding.items()})
        for finding in row.findings
    )


def map_stats(row: Inspection) -> MapStats:
    """The row's map in a few numbers."""
    return MapStats(**{name: _tuples(value) if isinstance(value, list) else value for name, value in row.map_stats.items()})


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def plain(value: Any) -> Any:
    """Tuples to lists and NumPy scalars to Python's: what JSON keeps."""
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value

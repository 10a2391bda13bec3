"""Whether a product's parts still score as its normals did: reported when asked, and watched while parts come."""

from __future__ import annotations

import logging
from typing import Any

from sqlalchemy.orm import Session

from app.context import Context
from app.db.queries import drift as queries
from app.db.queries.drift import Scored
from app.db.tables import iso
from app.errors import Conflict
from app.services import products, recipes
from inspection.drift import Promise, Rate, State, drift

log = logging.getLogger("kensor")
WINDOW = 2000
CANDIDATES = 20
EVERY = 50
"""Inspections of a product between two looks."""


def report(
    session: Session, product: str, number: int | None = None, station: str | None = None, window: int = WINDOW
) -> dict[str, Any]:
    """The newest `window` parts against the recipe, the promoted one by default. Raises `NotFound`, `Conflict` (`no_recipe`)."""
    owner = products.get(session, product)
    if number is None and owner.promoted is None:
        message = f"The product `{product}` has no promoted recipe: there is nothing that its parts could have drifted from."
        raise Conflict(message, code="no_recipe", product=product)
    row, _ = recipes.get(session, product, number or owner.promoted or 0)
    parts = queries.stream(session, row, station, window)
    decisions = [None if part.decision is None else part.decision == "pass" for part in parts]
    found = drift(Promise.of(row.manifest["calibration"]), [part.raw_score for part in parts], decisions)
    return {
        "product": product,
        "recipe": row.number,
        "station": station,
        "window": window,
        "state": str(found.state),
        "signals": list(found.signals),
        "since": _since(parts, found.since, window),
        "parts": found.parts,
        "compared": found.compared,
        "shift": found.shift,
        "least_shift": found.least_shift,
        "review": _promise(found.review),
        "reject": _promise(found.reject),
        "advice": found.advice,
        "candidates": [part.id for part in parts[::-1] if part.decision == "pass"][:CANDIDATES],
    }


def brief(session: Session, product: str) -> dict[str, Any] | None:
    """The state of the promoted recipe; `None` where none is promoted."""
    if products.get(session, product).promoted is None:
        return None
    return {name: value for name, value in report(session, product).items() if name in ("state", "since", "recipe")}


def watch(ctx: Context, product: str) -> None:
    """Called after each inspection: looks now and then, keeps the gauge, and says once in the log when the state changed.

    Never fails: the inspection is on the record already.
    """
    if not ctx.drift.due(product, EVERY):
        return
    try:
        with ctx.database.read() as session:
            found = brief(session, product)
    except Exception:
        log.exception("drift of %s could not be told", product)
        return
    if found is None:
        return
    state = State(found["state"])
    before = ctx.drift.changed(product, state)
    ctx.metrics.drift(product, None if state is State.TOO_FEW else state is State.DRIFTING)
    if before != state and State.DRIFTING in (before, state):
        level = logging.WARNING if state is State.DRIFTING else logging.INFO
        log.log(level, "product %s, recipe %d: %s; see /v1/reports/drift?product=%s", product, found["recipe"], state, product)


def _since(parts: list[Scored], at: int | None, window: int) -> dict[str, Any] | None:
    if at is None:
        return None
    earlier = at == 0 and len(parts) == window
    return {"inspection": parts[at].id, "created_at": iso(parts[at].created_at), "or_earlier": earlier}


def _promise(rate: Rate | None) -> dict[str, Any] | None:
    if rate is None:
        return None
    said = {"promised": rate.promised.target, "promised_low": rate.promised.low, "promised_high": rate.promised.high}
    return said | {name: getattr(rate, name) for name in ("parts", "confirmed", "open", "low", "high")}

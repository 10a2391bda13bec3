"""Labelled findings of a product: kept with what they look like, and asked what a new finding is."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from sqlalchemy.orm import Session

from app.context import Context
from app.db.queries import exemplars as queries
from app.db.tables import Exemplar, Inspection
from app.errors import Conflict, Damaged, Invalid, NotFound
from app.schemas.exemplars import ExemplarIn
from app.services import inspections, products
from inspection import exemplars as domain
from inspection.evidence import Finding, Naming
from inspection.image import decode

MOST = 1000
"""Labelled findings of one product."""
NAMED = 3
"""Findings of one inspection that are named: the strongest."""
Whose = TypeVar("Whose")
log = logging.getLogger("kensor")


class Seen(NamedTuple):
    """What is needed to look at a finding."""

    image_sha256: str
    map_sha256: str
    finding: Finding


def add(ctx: Context, product: str, body: ExemplarIn, by: str) -> Exemplar:
    """Label a finding; what it looks like is made first, from the stored picture and map.

    Raises `NotFound`, `Invalid` (`other_product`, `unknown_finding`), `Conflict` (`already_labelled`, `other_pool`,
    `too_many_exemplars`), and what the encoder raises."""
    with ctx.database.read() as session:
        row, finding = _finding(session, product, body.inspection_id, body.finding)
        _free(session, row, body)
        seen = Seen(row.image_sha256, row.map_sha256, finding)
    feature = features(ctx, [seen])[0]
    with ctx.database.write() as session:
        products.get(session, product, lock=True, active=True)
        _free(session, row, body)
        made = _row(session, row, body.finding, body.label, body.pool, by)
        made.feature, made.made_by = _bytes(feature), domain.made_by()
        session.add(made)
        session.flush()
    return made


def from_review(session: Session, row: Inspection, finding: str, label: str, by: str) -> None:
    """A reviewer named a finding: it joins the exemplars, or gets the newer name; a locked one stays as it is.

    What it looks like is made when it is first needed."""
    known = queries.at(session, row.id, finding)
    if known is not None:
        if known.pool == "exemplar":
            known.label = _spelled(session, row.product_id, label)
    elif queries.pool_of(session, row.product_id, row.image_sha256) != "test" and queries.count(session, row.product_id) < MOST:
        session.add(_row(session, row, finding, label, "exemplar", by))


def listed(
    session: Session, product: str, pool: str | None, after: str | None, limit: int
) -> tuple[list[Exemplar], str | None, dict[str, Any]]:
    """Newest first, with the whole product's labels and how the test pool fares."""
    owner = products.get(session, product).id
    rows, following = queries.listed(session, owner, pool=pool, after=after, limit=limit)
    everything = queries.of(session, owner)
    labels: dict[str, dict[str, int]] = {}
    for one in everything:
        counts = labels.setdefault(one.label, {"exemplar": 0, "test": 0})
        counts[one.pool] += 1
    return rows, following, {"labels": labels, "test": _tested(everything)}


def remove(session: Session, product: str, exemplar_id: str) -> None:
    """Forget a label. Raises `NotFound`."""
    owner = products.get(session, product, lock=True)
    row = queries.get(session, exemplar_id)
    if row is None or row.product_id != owner.id:
        raise NotFound("There is no labelled finding of this id.", code="unknown_exemplar")
    session.delete(row)


def labels(session: Session, row: Inspection) -> tuple[str, ...]:
    """The names that the product's exemplars bear."""
    return tuple(queries.labels(session, row.product_id, "exemplar"))


def named(ctx: Context, row: Inspection, found: Sequence[Finding]) -> tuple[Naming, ...]:
    """What an inspection's strongest findings are called by the product's exemplars.

    A finding that a person labelled is called that. Of the same picture nothing else votes, and nothing of the test pool ever."""
    with ctx.database.read() as session:
        rows = queries.of(session, row.product_id, "exemplar")
    own = {one.finding: one.label for one in rows if one.inspection_id == row.id}
    voters = _known(ctx, [one for one in rows if one.image_sha256 != row.image_sha256])
    chosen = found[:NAMED] if voters else [one for one in found[:NAMED] if one.id in own]
    unknown = [one for one in chosen if one.id not in own]
    looks = features(ctx, [Seen(row.image_sha256, row.map_sha256, one) for one in unknown])
    by_id = {one.id: domain.name(one.id, look, voters) for one, look in zip(unknown, looks, strict=True)}
    return tuple(by_id.get(one.id) or Naming(one.id, own[one.id], 0, 1.0, 1.0, ()) for one in chosen)


def features(ctx: Context, wanted: Sequence[Seen]) -> list[np.ndarray]:
    """What findings look like, `[384]` each; kept, so that the next question costs nothing."""
    return [ctx.encoder.kept(_key(one), lambda one=one: _look(ctx, one)) for one in wanted]  # type: ignore[misc]


def present(ctx: Context, wanted: Iterable[tuple[Whose, Seen]]) -> Iterator[tuple[Whose, Seen, np.ndarray]]:
    """Each with what it looks like, without those whose picture or map the store lost."""
    lost = 0
    try:
        for whose, one in wanted:
            try:
                look = features(ctx, [one])[0]
            except (NotFound, Damaged):
                lost += 1
                continue
            yield whose, one, look
    finally:  # also where no more is wanted
        if lost:
            log.warning("findings left out since the store lost their picture or map: %d", lost)


def looked_at(ctx: Context, one: Seen) -> bool:
    """Whether a finding's feature is at hand."""
    return ctx.encoder.knows(_key(one))


def _key(one: Seen) -> tuple[str, ...]:
    return "region", one.image_sha256, one.map_sha256, one.finding.id


def _look(ctx: Context, one: Seen) -> np.ndarray:
    def work(backbone: domain.Backbone) -> np.ndarray:
        with ctx.decoding:
            anomaly_map = inspections.read_map(ctx, one.map_sha256)  # first: of the two it may be lost in a power cut
            pixels = decode(ctx.store.get(one.image_sha256), limits=ctx.limits).pixels
            return domain.region_feature(pixels, anomaly_map, one.finding, backbone)

    return ctx.encoder.run(work)


def _known(ctx: Context, rows: Sequence[Exemplar]) -> list[domain.Exemplar]:
    """Exemplars with their features; those that other weights made, or none yet, are made now and kept."""
    today = domain.made_by()
    stale = [row for row in rows if row.feature is None or row.made_by != today]
    for row, _, look in present(ctx, ((row, _seen(ctx, row)) for row in stale)):
        row.feature, row.made_by = _bytes(look), today
        with ctx.database.write() as session:
            kept = queries.get(session, row.id)
            if kept is not None:
                kept.feature, kept.made_by = row.feature, row.made_by
    return _ready(rows)


def _seen(ctx: Context, row: Exemplar) -> Seen:
    with ctx.database.read() as session:
        at, finding = _finding(session, None, row.inspection_id, row.finding)
    return Seen(at.image_sha256, at.map_sha256, finding)


def _ready(rows: Sequence[Exemplar]) -> list[domain.Exemplar]:
    today = domain.made_by()
    ready = [row for row in rows if row.feature is not None and row.made_by == today]
    return [domain.Exemplar(row.id, row.label, row.image_sha256, _array(row)) for row in ready]


def _tested(rows: Sequence[Exemplar]) -> dict[str, int] | None:
    voters = _ready([row for row in rows if row.pool == "exemplar"])
    tests = _ready([row for row in rows if row.pool == "test"])
    if not voters or not tests:
        return None
    names = [domain.name(one.id, one.feature, voters).label for one in tests]
    right = sum(name == one.label for name, one in zip(names, tests, strict=True))
    return {"n": len(tests), "named": sum(name is not None for name in names), "right": right}


def _finding(session: Session, product: str | None, inspection_id: str, finding: str) -> tuple[Inspection, Finding]:
    row = inspections.get(session, inspection_id)
    if product is not None and products.get(session, product, active=True).id != row.product_id:
        raise Invalid(f"This inspection is of the product `{row.product.name}`.", code="other_product")
    known = {one.id: one for one in inspections.findings(row)}
    if finding not in known:
        raise Invalid(f"This inspection has no finding `{finding}`.", code="unknown_finding", finding=finding)
    return row, known[finding]


def _free(session: Session, row: Inspection, body: ExemplarIn) -> None:
    known = queries.at(session, row.id, body.finding)
    if known is not None:
        message = f"This finding is labelled `{known.label}` ({known.pool}) already; delete that first."
        raise Conflict(message, code="already_labelled", exemplar=known.id)
    pool = queries.pool_of(session, row.product_id, row.image_sha256)
    if pool not in (None, body.pool):
        raise Conflict(f"A finding of the same picture is in the pool `{pool}`; no picture may stand in both.", code="other_pool")
    if queries.count(session, row.product_id) >= MOST:
        raise Conflict(f"The product has {MOST} labelled findings; delete some first.", code="too_many_exemplars")


def _row(session: Session, row: Inspection, finding: str, label: str, pool: str, by: str) -> Exemplar:
    return Exemplar(
        product_id=row.product_id,
        inspection_id=row.id,
        image_sha256=row.image_sha256,
        finding=finding,
        label=_spelled(session, row.product_id, label),
        pool=pool,
        created_by=by,
    )


def _spelled(session: Session, product_id: str, label: str) -> str:
    """As the product's others write it: `Crack` and `crack` are one label."""
    return next((one for one in queries.labels(session, product_id) if one.casefold() == label.casefold()), label)


def _bytes(feature: np.ndarray) -> bytes:
    return feature.astype("<f2").tobytes()


def _array(row: Exemplar) -> np.ndarray:
    found = np.frombuffer(row.feature or b"", "<f2").astype(np.float32)
    return found / max(float(np.linalg.norm(found)), 1e-9)

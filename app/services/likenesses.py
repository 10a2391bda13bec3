"""Has this been seen before? The strongest finding beside those of earlier inspections that were not passed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from app.context import Context
from app.db.queries import inspections as queries
from app.db.tables import Inspection, iso
from app.services import exemplars, inspections
from app.services.exemplars import Seen
from inspection.evidence import Finding, Likeness
from inspection.exemplars import ALIKE
from models.catalog import CatalogError

PAST = 200
"""Earlier inspections considered: the newest."""
NEW = 12
"""Of them looked at anew for one question; those looked at before cost nothing."""


def of(ctx: Context, row: Inspection, found: Sequence[Finding]) -> Likeness | None:
    """How the strongest finding compares. `None`: no finding, nothing earlier, or the weights were never pulled."""
    with ctx.database.read() as session:
        past = [(one, inspections.findings(one)) for one in queries.flagged_before(session, row, PAST) if one.findings]
    if not found or not past:
        return None
    known, fresh = list[tuple[Inspection, Seen]](), list[tuple[Inspection, Seen]]()
    for one, theirs in past:
        seen = Seen(one.image_sha256, one.map_sha256, theirs[0])
        (known if exemplars.looked_at(ctx, seen) else fresh).append((one, seen))
    try:
        own = exemplars.features(ctx, [Seen(row.image_sha256, row.map_sha256, found[0])])[0]
        looks = [*exemplars.present(ctx, known), *islice(exemplars.present(ctx, fresh[: 4 * NEW]), NEW)]
    except CatalogError:  # counts and places can still be told
        return None
    alike = [
        {
            "id": one.id,
            "finding": seen.finding.id,
            "created_at": iso(one.created_at),
            "verdict": one.verdict,
            "similarity": round(float(own @ look), 4),
        }
        for one, seen, look in looks
    ]
    alike.sort(key=lambda one: -float(str(one["similarity"])))
    return Likeness(found[0].id, len(alike), len(past) - len(alike), ALIKE, tuple(alike))

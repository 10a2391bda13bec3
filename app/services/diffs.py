"""Two recipes' verdicts over the newest inspections: what would change, and whether a defective part would now pass."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from app.db.queries import inspections as queries
from app.db.queries.inspections import Filter
from app.db.tables import Inspection
from app.services import recipes
from app.services.reinspections import counts, row


def diff(session: Session, product: str, number: int, against: int | None, last: int) -> dict[str, Any]:
    """Recipe `number` against recipe `against` (`None`: the verdicts as given) over the newest `last` first inspections.

    Only what is on record counts: first inspections by the recipe, and re-inspections. Nothing is judged here."""
    for one in (number, number if against is None else against):
        recipes.get(session, product, one)
    firsts = queries.newest(session, Filter(product=product), None, last)
    ids = [first.id for first in firsts]
    decisions = queries.decisions(session, ids)

    def judged(recipe: int | None) -> list[Inspection | None]:
        if recipe is None:
            return list(firsts)
        again = queries.again(session, ids, recipe)
        own = [one.recipe_number == recipe and not (one.review_overridden or one.reject_overridden) for one in firsts]
        return [first if its else again.get(first.id) for first, its in zip(firsts, own, strict=True)]

    old, new = judged(against), judged(number)
    rows = [
        row(first, before, after, decisions.get(first.id))
        for first, before, after in zip(firsts, old, new, strict=True)
        if before is not None and after is not None
    ]
    missing = {str(number): new.count(None)} | ({} if against is None else {str(against): old.count(None)})
    return {
        "product": product,
        "recipe": number,
        "against": against,
        "inspections": len(firsts),
        "compared": len(rows),
        "not_judged": missing,
        **counts(rows),
        "rows": [one for one in rows if one["flipped"]],
    }

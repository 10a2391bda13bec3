"""Recipes: listed, promoted, rolled back, carried in and out."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any
from uuid import uuid4

from sqlalchemy.orm import Session

from app.context import Context
from app.db.queries import recipes as queries
from app.db.tables import Product, Promotion, Recipe, now
from app.errors import Conflict, Invalid, NotFound
from app.schemas.recipes import RecipeView
from app.services import products
from app.store import sync
from inspection import calibration, recipe
from inspection.evidence import InspectionError, RecipeRefused
from inspection.verdict import check


def folder(ctx: Context, sha256: str) -> Path:
    """Where a recipe lies."""
    return ctx.settings.recipes / sha256


def limit(raw: float | None, reject: float | None, overridden: bool = False) -> dict[str, Any]:
    """One threshold as a response shows it; `reject` fixes the calibrated scale."""
    score = None if raw is None or reject is None else calibration.score(raw, reject)
    return {"raw": raw, "score": score, "overridden": overridden}


def view(row: Recipe, product: str, promoted: int | None) -> dict[str, Any]:
    """A recipe as a response shows it."""
    here = f"/v1/products/{product}/recipes/{row.number}"
    return {
        **{name: value for name, value in row.manifest.items() if name != "product"},
        "product": product,
        "number": row.number,
        "sha256": row.sha256,
        "promoted": promoted == row.number,
        "thresholds": {"review": limit(row.review, row.reject), "reject": limit(row.reject, row.reject)},
        "job_id": row.job_id,
        "created_at": row.created_at,
        "created_by": row.created_by,
        "links": {"self": here, "promote": f"{here}:promote", "export": f"{here}/export"},
    }


def add(session: Session, product: str, made: recipe.Recipe, by: str, job_id: str | None = None) -> Recipe:
    """Number a recipe whose folder stands."""
    owner = products.get(session, product, lock=True, active=True)
    row = _row(made, by, job_id)
    row.product_id, row.number = owner.id, queries.next_number(session, owner.id)
    session.add(row)
    session.flush()
    return row


def get(session: Session, product: str, number: int) -> tuple[Recipe, int | None]:
    """A recipe, and its product's promoted number."""
    owner = products.get(session, product)
    row = queries.get(session, owner.id, number)
    if row is None:
        raise NotFound(f"The product `{product}` has no recipe {number}.", code="unknown_recipe", product=product, recipe=number)
    return row, owner.promoted


def listed(session: Session, product: str, after: int | None, limit: int) -> tuple[list[dict[str, Any]], str | None]:
    """A product's recipes, newest first."""
    owner = products.get(session, product)
    rows = queries.listed(session, owner.id, after, limit)
    following = str(rows[limit - 1].number) if len(rows) > limit else None
    return [view(row, product, owner.promoted) for row in rows[:limit]], following


def promote(session: Session, product: str, number: int, by: str, *, force: bool = False) -> Recipe:
    """Judge by this recipe from now on. Raises `Conflict` (`uncalibrated`) unless forced."""
    owner = products.get(session, product, lock=True, active=True)
    row, _ = get(session, product, number)
    if row.reject is None and not force:
        message = (
            f"Recipe {number} has no thresholds (too few normal pictures): every part would go to a person. Force it if so meant."
        )
        raise Conflict(message, code="uncalibrated", recipe=number)
    if owner.promoted != number:
        session.add(Promotion(product_id=owner.id, number=number, replaced=owner.promoted, created_by=by))
        owner.promoted = number
    return row


def verify(ctx: Context, product: str, number: int) -> None:
    """Load a recipe as an inspection would. Raises `RecipeRefused` where digests or golden scores do not hold."""
    with ctx.database.read() as session:
        row, _ = get(session, product, number)
    ctx.pool.inspector(row.sha256, folder(ctx, row.sha256))


def rollback(ctx: Context, product: str, by: str) -> Product:
    """Judge again by the recipe that the present one replaced, which is loaded first.

    Raises `Conflict` where it replaced none, `RecipeRefused` where that one's digests or golden scores do not hold."""
    with ctx.database.read() as session:
        before, _ = _replaced(session, products.get(session, product, active=True))
    verify(ctx, product, before)
    with ctx.database.write() as session:
        owner = products.get(session, product, lock=True, active=True)
        number, present = _replaced(session, owner)
        if number != before:
            raise Conflict(f"Another request changed the recipe of `{product}` first.", code="conflict")
        session.add(Promotion(product_id=owner.id, number=number, replaced=present, rollback=True, created_by=by))
        owner.promoted = number
        return owner


def _replaced(session: Session, owner: Product) -> tuple[int, int | None]:
    last = queries.last_promotion(session, owner.id, owner.promoted)
    if last is None or last.replaced is None:
        raise Conflict(f"The product `{owner.name}` has no earlier promoted recipe.", code="nothing_to_roll_back")
    return last.replaced, owner.promoted


def export(ctx: Context, product: str, number: int) -> Path:
    """The recipe as one file, in a scratch place; the caller removes it."""
    with ctx.database.read() as session:
        row, _ = get(session, product, number)
    return recipe.export_file(folder(ctx, row.sha256), ctx.settings.recipes / f".export-{uuid4().hex}.zip")


def take_in(ctx: Context, product: str, file: Path, by: str) -> dict[str, Any]:
    """Unpack, verify and number a recipe file. Raises `Invalid` with the domain's code where it is refused."""
    with ctx.database.read() as session:
        products.get(session, product, active=True)
    scratch = ctx.settings.recipes / f".import-{uuid4().hex}"
    try:
        made = recipe.import_file(file, scratch)
        _presentable(made, by)
        settle(ctx, scratch, made)
    except RecipeRefused as error:
        raise Invalid(error.message, code=error.code, **error.details) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    with ctx.database.write() as session:
        return view(add(session, product, made, by), product, None)


def settle(ctx: Context, scratch: Path, made: recipe.Recipe) -> Path:
    """Move a new folder to where its digest says; the same recipe made before stays, unless it is damaged."""
    home = folder(ctx, made.sha256)
    try:
        scratch.rename(home)
        sync(home.parent)
    except OSError:
        if not home.is_dir():
            raise
        try:
            recipe.load(home)
        except RecipeRefused:
            home.rename(scratch.with_name(f"{scratch.name}-damaged"))
            scratch.rename(home)
            shutil.rmtree(scratch.with_name(f"{scratch.name}-damaged"), ignore_errors=True)
    return home


def _row(made: recipe.Recipe, by: str, job_id: str | None = None) -> Recipe:
    thresholds = made.calibration.thresholds
    return Recipe(
        sha256=made.sha256,
        manifest=_manifest(made),
        review=thresholds.review,
        reject=thresholds.reject,
        job_id=job_id,
        created_by=by,
    )


def _presentable(made: recipe.Recipe, by: str) -> None:
    """Raise `RecipeRefused` for a foreign recipe that could not decide, or that no later list of recipes could show."""
    try:
        check(made.calibration.thresholds)
        row = _row(made, by)
        row.number, row.created_at = 1, now()
        RecipeView.model_validate(view(row, made.product, None))
    except InspectionError as error:
        raise RecipeRefused(f"The recipe cannot decide: {error.message}") from error
    except ValueError as error:
        raise RecipeRefused("The recipe holds a value of the wrong kind.") from error


def _manifest(made: recipe.Recipe) -> dict[str, Any]:
    return {name: value for name, value in json.loads(json.dumps(asdict(made))).items() if name not in ("sha256", "created_at")}

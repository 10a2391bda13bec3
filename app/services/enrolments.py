"""Enrolment as a job: normal pictures to a numbered recipe, or into one that stands."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any
from uuid import uuid4

from sqlalchemy.orm import Session

from app.context import Context
from app.db.queries import inspections as inspection_queries
from app.db.queries import products as product_queries
from app.db.queries.inspections import Filter
from app.db.tables import Job
from app.db.tables import Recipe as Row
from app.errors import Conflict
from app.schemas.jobs import JobIn
from app.schemas.recipes import EnrollIn
from app.services import products, recipes, regions, reinspections
from app.task import Task
from inspection.evidence import Cancelled, EnrolmentRefused
from inspection.recipe import Recipe


def submit(session: Session, product: str, body: EnrollIn, by: str) -> Job:
    """Queue an enrolment. Raises `EnrolmentRefused` where there is no normal picture, or none that the recipe has not."""
    owner = products.get(session, product, active=True)
    normals = product_queries.normals(session, owner.id)
    if not normals and body.expert != "zeroshot":
        raise EnrolmentRefused(f"The product `{product}` has no normal pictures yet.", normal_images=0)
    params = body.model_dump() | ({"region": owner.region["sha256"]} if owner.region else {})
    if body.extends is not None:
        number = owner.promoted if body.extends == "present" else body.extends
        if number is None:
            raise Conflict(f"The product `{product}` has no promoted recipe to extend.", code="no_recipe", product=product)
        parent, _ = recipes.get(session, product, number)
        params = body.model_dump(exclude_unset=True) | {"extends": number}
        known, given = _known(parent), len(normals)
        normals = [one for one in normals if one[0] not in known]
        if not normals:
            message = f"Recipe {number} has all {given} normal pictures of the product already: give it others first."
            raise EnrolmentRefused(message, normal_images=given)
    job = Job(type="enroll", product_id=owner.id, params=params, created_by=by, total=len(normals))
    job.product = owner
    session.add(job)
    session.flush()
    return job


def run(ctx: Context, task: Task) -> dict[str, Any]:
    """Make the recipe, number it, and promote it if so asked. Nothing is left of one that fails."""
    body = EnrollIn.model_validate({name: value for name, value in task.params.items() if name != "region"})
    scratch = ctx.settings.recipes / f".job-{task.id}-{uuid4().hex[:8]}"
    fetched = scratch.with_name(f"{scratch.name}-pictures")
    sweep(ctx, task.id)
    try:
        if body.extends is None:
            made = _enrolled(ctx, task, body, scratch, fetched)
        else:
            made = _extended(ctx, task, int(body.extends), scratch, fetched)
        recipes.settle(ctx, scratch, made)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.rmtree(fetched, ignore_errors=True)
    with ctx.database.write() as session:
        task.hold(session)
        row = recipes.add(session, task.product, made, task.created_by, task.id)
        result: dict[str, Any] = {"recipe": row.number, "sha256": row.sha256, "promoted": False, "warnings": list(made.warnings)}
        if body.promote:
            try:
                _look_first(made, body.force)
                recipes.promote(session, task.product, row.number, task.created_by, force=body.force)
                result["promoted"] = True
            except Conflict as refusal:
                result["warnings"] = [*result["warnings"], f"Not promoted: {refusal.message}"]
        if body.extends is not None:
            result |= {"extends": body.extends, "diff_job": _diff(session, task, row.number, body.diff_last)}
        task.finish(session, "done", result)
    return result


def sweep(ctx: Context, job_id: str) -> None:
    """Remove what a killed worker left of a job."""
    for left in ctx.settings.recipes.glob(f".*job-{job_id}-*"):
        shutil.rmtree(left, ignore_errors=True)


def _enrolled(ctx: Context, task: Task, body: EnrollIn, scratch: Path, fetched: Path) -> Recipe:
    from inspection.enrolment import enroll  # numba: only where recipes are made
    from inspection.options import EnrolOptions

    normals = _normals(ctx, task)
    return enroll(
        _files(ctx, task, normals, fetched),
        scratch,
        product=task.product,
        options=EnrolOptions(**body.options),
        progress=task.progress,
        cancelled=task.cancelled,
        names=[filename for _, filename in normals],
        region=regions.mask(ctx, sha256) if (sha256 := task.params.get("region")) else None,
        limits=ctx.limits,
    )


def _extended(ctx: Context, task: Task, number: int, scratch: Path, fetched: Path) -> Recipe:
    from inspection import extension

    with ctx.database.read() as session:
        parent, _ = recipes.get(session, task.product, number)
    known, own = _known(parent), set(parent.manifest["normals"])
    normals = [one for one in _normals(ctx, task) if one[0] not in known]
    refits = parent.manifest["expert"] != "patchcore" or len(own) < extension.LEAST
    return extension.extend(
        recipes.folder(ctx, parent.sha256),
        _files(ctx, task, normals, fetched),
        scratch,
        originals=(lambda sha256: ctx.store.local(sha256, fetched)) if refits and all(map(ctx.store.has, own)) else None,
        progress=task.progress,
        cancelled=task.cancelled,
        names=[filename for _, filename in normals],
        limits=ctx.limits,
    )


def _normals(ctx: Context, task: Task) -> list[tuple[str, str]]:
    with ctx.database.read() as session:
        return product_queries.normals(session, products.get(session, task.product).id)


def _known(parent: Row) -> set[str]:
    """The digests of all pictures that a recipe was made from, copies included."""
    return {*parent.manifest["normals"], *parent.manifest.get("copies", ())}


def _files(ctx: Context, task: Task, normals: list[tuple[str, str]], folder: Path) -> list[Path]:
    """The pictures as files, those of a distant store copied into `folder`: never all in memory. Raises Cancelled."""
    found = []
    for sha256, _ in normals:
        if task.cancelled():
            raise Cancelled("The enrolment was cancelled.")
        found.append(ctx.store.local(sha256, folder))
        task.progress("fetch", len(found), len(normals))
    return found


def _look_first(made: Recipe, force: bool) -> None:
    """Raise `Conflict` for a recipe with pictures in it that a person should look at before it judges."""
    doubtful = made.options.get("extension", {}).get("doubtful")
    if doubtful and not force:
        message = f"{len(doubtful)} of the pictures added look defective to the recipe they were added to: look, then promote it."
        raise Conflict(message, code="doubtful_pictures")


def _diff(session: Session, task: Task, number: int, last: int) -> str | None:
    """Queue the newest inspections to be judged by the new recipe; `None` where there are none."""
    body = JobIn(type="reinspect", product=task.product, recipe=number, last=last or None)
    if not last or not inspection_queries.newest(session, Filter(product=task.product), None, 1):
        return None
    return reinspections.submit(session, body, task.created_by).id

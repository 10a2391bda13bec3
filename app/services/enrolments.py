"""Enrolment as a job: normal pictures to a numbered recipe."""

from __future__ import annotations

import shutil
from typing import Any
from uuid import uuid4

from sqlalchemy.orm import Session

from app.context import Context
from app.db.queries import products as product_queries
from app.db.tables import Job
from app.errors import Conflict
from app.schemas.recipes import EnrollIn
from app.services import products, recipes
from app.task import Task
from inspection.evidence import EnrolmentRefused


def submit(session: Session, product: str, body: EnrollIn, by: str) -> Job:
    """Queue an enrolment. Raises `EnrolmentRefused` where there is no normal picture."""
    owner = products.get(session, product, active=True)
    count = product_queries.count_normals(session, owner.id)
    if not count:
        raise EnrolmentRefused(f"The product `{product}` has no normal pictures yet.", normal_images=0)
    job = Job(type="enroll", product_id=owner.id, params=body.model_dump(), created_by=by, total=count)
    job.product = owner
    session.add(job)
    session.flush()
    return job


def run(ctx: Context, task: Task) -> dict[str, Any]:
    """Make the recipe, number it, and promote it if so asked. Nothing is left of one that fails."""
    from inspection.enrolment import enroll  # numba: only where recipes are made
    from inspection.options import EnrolOptions

    body = EnrollIn.model_validate(task.params)
    with ctx.database.read() as session:
        normals = product_queries.normals(session, products.get(session, task.product).id)
    scratch = ctx.settings.recipes / f".job-{task.id}-{uuid4().hex[:8]}"
    for left in ctx.settings.recipes.glob(f".*job-{task.id}-*"):  # a killed worker's
        shutil.rmtree(left, ignore_errors=True)
    try:
        made = enroll(
            [ctx.store.local(sha256) for sha256, _ in normals],
            scratch,
            product=task.product,
            options=EnrolOptions(**body.model_dump(exclude={"promote", "force"})),
            progress=task.progress,
            cancelled=task.cancelled,
            names=[filename for _, filename in normals],
            limits=ctx.limits,
        )
        recipes.settle(ctx, scratch, made)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    with ctx.database.write() as session:
        task.hold(session)
        row = recipes.add(session, task.product, made, task.created_by, task.id)
        result: dict[str, Any] = {"recipe": row.number, "sha256": row.sha256, "promoted": False, "warnings": list(made.warnings)}
        if body.promote:
            try:
                recipes.promote(session, task.product, row.number, task.created_by, force=body.force)
                result["promoted"] = True
            except Conflict as refusal:
                result["warnings"] = [*result["warnings"], f"Not promoted: {refusal.message}"]
        task.finish(session, "done", result)
    return result

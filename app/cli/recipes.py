"""kensor enroll | recipe list, show, diff, promote, rollback, export, import."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.inspections import files
from app.cli.jobs import work
from app.cli.output import BY, Json, Refused, bar, checked, columns, record, show
from app.cli.products import read as read_region
from app.cli.products import words


def register(app: typer.Typer) -> None:
    """Add `enroll` and the group."""
    app.command()(enroll)
    group = typer.Typer(no_args_is_help=True, help="Recipes: what judges a product.")
    for name, command in (
        ("list", listed),
        ("show", shown),
        ("diff", diff),
        ("promote", promote),
        ("rollback", rollback),
        ("export", export),
        ("import", take_in),
    ):
        group.command(name)(command)
    app.add_typer(group, name="recipe")


def enroll(
    product: str,
    normal: Annotated[Path | None, typer.Option(exists=True, file_okay=False, help="Folder of normal pictures.")] = None,
    reviewed_good: Annotated[bool, typer.Option("--reviewed-good", help="Take inspected pictures reviewed as good.")] = False,
    since: Annotated[datetime | None, typer.Option(help="With --reviewed-good: recorded from this time on (UTC).")] = None,
    extend: Annotated[str | None, typer.Option(metavar="N|present", help="Add to this recipe, which keeps its options.")] = None,
    diff_last: Annotated[int, typer.Option(min=0, help="With --extend: judge so many inspections again.")] = 200,
    expert: Annotated[str, typer.Option(help="patchcore, padim, reference, or zeroshot, which needs no picture.")] = "patchcore",
    backbone: Annotated[str, typer.Option(help="auto, fused (both), efficientnet_lite0 (fast) or dinov2_vits14.")] = "auto",
    image_size: Annotated[int | None, typer.Option(help="Side of the network's square input, pixels.")] = None,
    tile: Annotated[
        int | None, typer.Option(help="Side of overlapping tiles, pixels of the picture: for large pictures.")
    ] = None,
    roi: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Where to look: a mask (light), or polygons in a .json.")
    ] = None,
    score_rule: Annotated[
        str, typer.Option(help="auto, max (largest patch distance) or top (mean of the largest 1 %).")
    ] = "auto",
    precision: Annotated[
        str, typer.Option(help="float32, or int8: of a transformer, twice as fast, where painted defects are seen as well.")
    ] = "float32",
    augment: Annotated[
        str, typer.Option(help="Turned copies in the bank: auto (where few pictures lie at several angles), on, off.")
    ] = "auto",
    coreset: Annotated[float | None, typer.Option(help="Rows of the memory bank; up to 1: a share of all patches.")] = None,
    false_reject_rate: Annotated[float, typer.Option(help="Share of normal parts over the reject limit.")] = 0.01,
    review_rate: Annotated[float, typer.Option(help="Share of normal parts over the review limit.")] = 0.05,
    seed: Annotated[int, typer.Option(help="Of the coreset and the dimensions drawn.")] = 0,
    promote: Annotated[bool, typer.Option("--promote", help="Judge by it from now on.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Promote an uncalibrated recipe too.")] = False,
    as_json: Json = False,
) -> None:
    """Make a recipe from normal pictures, or add them to one; the product is made where there is none, pictures known already
    are not kept twice."""
    from app.errors import NotFound
    from app.schemas.products import FromInspections, ProductIn
    from app.schemas.recipes import EnrollIn
    from app.services import diffs, enrolments, images, products, recipes, regions

    if normal is None and not reviewed_good and expert != "zeroshot":
        raise typer.BadParameter("give --normal DIR, or --reviewed-good, or both")
    pictures = files([normal]) if normal else []
    chosen = {
        "expert": expert,
        "backbone": backbone,
        "image_size": image_size,
        "tile": tile,
        "score_rule": score_rule,
        "precision": precision,
        "augment": augment,
        "coreset": coreset,
        "false_reject_rate": false_reject_rate,
        "review_rate": review_rate,
        "seed": seed,
        "promote": promote,
        "force": force,
    }
    given = {name: value for name, value in chosen.items() if value != EnrollIn.model_fields[name].default}
    if extend is not None:
        given |= {"extends": extend if extend == "present" else _number(extend), "diff_last": diff_last}
    body = checked(EnrollIn, **given)
    taken = checked(FromInspections, reviewed_good=True, since=since) if reviewed_good else None
    with record() as ctx:
        with ctx.database.write() as session:
            try:
                products.get(session, product)
            except NotFound:
                products.create(session, checked(ProductIn, name=product))
        if roi is not None:
            regions.put(ctx, product, read_region(roi, json_wanted=roi.suffix.lower() == ".json"))
        with bar() as progress:
            tracked = progress.track(pictures, description="keep pictures")
            kept = [images.upload(ctx, product, ((p.name, p.read_bytes) for p in tracked), kind="normal", by=BY)]
        if taken is not None:
            kept.append(images.from_inspections(ctx, product, taken, BY))
        with ctx.database.write() as session:
            job_id = enrolments.submit(session, product, body, BY).id
        result = work(ctx, job_id)["result"]
        number, found = result["recipe"], None
        if result.get("diff_job"):
            work(ctx, result["diff_job"])
            with ctx.database.read() as session:
                found = diffs.diff(session, product, number, None, diff_last)
        with ctx.database.read() as session:
            row, promoted = recipes.get(session, product, number)
            shown = recipes.view(row, product, promoted)
        refused = [r for one in kept for r in one.refused]
        made = {**shown, "folder": str(recipes.folder(ctx, row.sha256)), "refused": [r.model_dump() for r in refused]}
        made |= {"diff": found} if extend is not None else {}
    names = {item.sha256: item.filename for one in kept for item in one.items}
    notes = [f"left out   {r.filename}: {r.message}" for r in refused]
    if extend is None and (earlier := set(made["normals"]) - names.keys()):
        notes.append(f"learned    also {len(earlier)} given before: `kensor product images {product}` shows and removes them")
    notes += [_named(line, names) for line in card(made)]
    notes += [w for w in map(_warned, result["warnings"]) if "Not promoted: " in w]
    show(made, as_json, notes + (list(changes(found)) if found else []))


def _number(text: str) -> int:
    if not text.isdecimal():
        raise typer.BadParameter(f"--extend takes a recipe's number or `present`, not {text!r}")
    return int(text)


def _warned(text: str) -> str:
    return f"warning    {text}"


def _named(line: str, names: dict[str, str]) -> str:
    """A line in which pictures go by their file's name, not by their digest."""
    for sha256, name in names.items():
        line = line.replace(sha256, name)
    return line


def card(recipe: dict[str, Any]) -> Iterator[str]:
    """A recipe in words: what it is, its limits and the risk they carry."""
    calibration = recipe["calibration"]
    yield f"recipe     {recipe['product']} {recipe['number']}" + (", promoted" if recipe["promoted"] else "")
    normals, seen_at = len(recipe["normals"]), f"{recipe['image_size']} px"
    if recipe.get("tile"):
        rows, columns = recipe["size"]
        seen_at = f"tiles of {recipe['options']['tile']} px, the whole {columns} × {rows} px"
    held = "" if calibration["n"] in (0, normals) else f", {calibration['n']} of them held out"
    yield f"expert     {recipe['expert']} on {recipe['backbone']}, {seen_at}, {normals} normal pictures{held}"
    if region := recipe["options"].get("region"):
        yield f"region     {words(region)}"
    for name in ("review", "reject"):
        limit, risk = recipe["thresholds"][name]["raw"], calibration[f"{name}_risk"]
        if limit is None:
            yield f"{name:<10} no limit: uncalibrated"
        else:
            yield (
                f"{name:<10} from raw {limit:.4g} on: {100 * risk['target']:g} % of normal parts, "
                f"with 90 % confidence between {risk['low']:.2%} and {risk['high']:.2%}"
            )
    yield from seen(recipe)
    yield f"digest     {recipe['sha256']}"
    if lineage := recipe["options"].get("extension"):
        how = "fitted anew" if lineage["refitted"] else f"{lineage['inserted']} rows added"
        yield f"extends    {lineage['parents'][-1]} by {lineage['pictures']} pictures, {how}"
        for ancestor in reversed(lineage["parents"][:-1]):
            yield f"           {ancestor}"
    for warning in recipe["warnings"] or calibration["warnings"]:
        yield _warned(warning)


def seen(recipe: dict[str, Any]) -> Iterator[str]:
    """What `auto` compared, and what the expert sees of painted defects."""
    table, test = recipe.get("choice"), recipe.get("self_test")
    for row in table["candidates"] if table else ():
        exactly = ", int8" if row["precision"] == "int8" else ""
        what = f"{row['backbone']}, {row['image_size']} px, {row['score_rule']}{exactly}"
        area = f"{row['auroc']:.2f} ({row['low']:.2f} to {row['high']:.2f})"
        yield f"{'chosen' if row['chosen'] else 'tried':<10} {what:<32} AUROC {area}, {row['ms']:.0f} ms a picture"
    if table and table["note"]:
        yield f"auto       {table['note']}"
    if test and test["kinds"]:
        over, *kinds = test["kinds"]
        area = f"{over['auroc']:.2f} ({over['low']:.2f} to {over['high']:.2f}) of {over['copies']} painted defects"
        yield f"self-test  AUROC {area}" + ("" if over["found"] is None else f", {over['found']:.0%} over the reject limit")
        yield "           " + ", ".join(f"{kind['kind']} {kind['auroc']:.2f}" for kind in kinds)
    elif test:
        yield f"self-test  {test['note']}"


def changes(found: dict[str, Any]) -> Iterator[str]:
    """What a recipe would judge otherwise, what matters first."""
    yield f"judged again {found['compared']} of the newest {found['inspections']} inspections"
    if found["new_escapes"]:
        yield f"ALARM      {found['new_escapes']} parts reviewed as defective would pass now"
    yield f"good parts {found['cleared']} would pass now, {found['new_overkill']} would be rejected now (reviewed ones)"
    for truth, flips in found["reviewed"].items():
        for before, row in flips.items():
            for after, n in row.items():
                if before != after:
                    yield f"{truth:<10} {before} → {after}: {n}"
    for one in found["rows"][:50]:
        yield f"  {one['inspection']}  {one['from_verdict']} → {one['to_verdict']}  {one['reviewed']}"


def listed(product: str, as_json: Json = False) -> None:
    """A product's recipes, newest first."""
    from app.services import recipes

    rows: list[dict[str, Any]] = []
    with record() as ctx, ctx.database.read() as session:
        after: str | None = None
        while True:
            found, after = recipes.listed(session, product, None if after is None else int(after), 100)
            rows += found
            if after is None:
                break
    heading = ["number", "promoted", "expert", "backbone", "normals", "review", "reject", "created", "digest"]
    cells = [
        [
            r["number"],
            "yes" if r["promoted"] else "",
            r["expert"],
            r["backbone"],
            r["calibration"]["n"],
            *(None if (raw := r["thresholds"][name]["raw"]) is None else f"{raw:.4g}" for name in ("review", "reject")),
            f"{r['created_at']:%Y-%m-%d %H:%M}",
            r["sha256"][:12],
        ]
        for r in rows
    ]
    show(rows, as_json, list(columns([heading, *cells])))


Number = Annotated[int, typer.Argument(metavar="NUMBER", min=1)]


def shown(product: str, number: Number, as_json: Json = False) -> None:
    """One recipe: limits, risk, digest."""
    from app.services import recipes

    with record() as ctx, ctx.database.read() as session:
        row, promoted = recipes.get(session, product, number)
        body = recipes.view(row, product, promoted)
    show(body, as_json, list(card(body)))


def diff(
    product: str,
    number: Number,
    against: Annotated[int | None, typer.Option(min=1, help="Default: the verdicts as they were given.")] = None,
    last: Annotated[int, typer.Option(min=1, max=10_000, help="Over so many of the newest inspections.")] = 200,
    as_json: Json = False,
) -> None:
    """Which verdicts a recipe would give otherwise; it judges first what it has not. No verdict on record changes."""
    from app.schemas.jobs import JobIn
    from app.services import diffs, reinspections

    with record() as ctx:
        with ctx.database.read() as session:
            found = diffs.diff(session, product, number, against, last)
        for recipe in [int(one) for one, missing in found["not_judged"].items() if missing]:
            body = checked(JobIn, type="reinspect", product=product, recipe=recipe, last=last)
            with ctx.database.write() as session:
                job_id = reinspections.submit(session, body, BY).id
            work(ctx, job_id)
        with ctx.database.read() as session:
            found = diffs.diff(session, product, number, against, last)
    show(found, as_json, list(changes(found)))


def promote(
    product: str,
    number: Number,
    force: Annotated[bool, typer.Option("--force", help="Also an uncalibrated one: every part goes to a person.")] = False,
    as_json: Json = False,
) -> None:
    """Judge by this recipe from now on. It is loaded first: digests and golden scores must hold."""
    from app.services import recipes

    with record() as ctx:
        recipes.verify(ctx, product, number)
        with ctx.database.write() as session:
            recipes.promote(session, product, number, BY, force=force)
    show({"product": product, "promoted": number}, as_json, [f"{product} is judged by recipe {number}."])


def rollback(product: str, as_json: Json = False) -> None:
    """Judge again by the recipe that the present one replaced."""
    from app.services import recipes

    with record() as ctx:
        number = recipes.rollback(ctx, product, BY).promoted
    show({"product": product, "promoted": number}, as_json, [f"{product} is judged by recipe {number} again."])


def export(product: str, number: Number, file: Annotated[Path, typer.Argument(dir_okay=False)], as_json: Json = False) -> None:
    """Write a recipe as one portable file."""
    from app.services import recipes

    if not file.parent.is_dir():
        raise Refused(f"There is no folder {file.parent}.", "no_such_folder")
    with record() as ctx:
        scratch = recipes.export(ctx, product, number)
        try:
            shutil.copyfile(scratch, file)
        finally:
            scratch.unlink(missing_ok=True)
    show({"file": str(file), "bytes": file.stat().st_size}, as_json, [f"{file}: {file.stat().st_size / 1e6:.1f} MB"])


def take_in(product: str, file: Annotated[Path, typer.Argument(exists=True, dir_okay=False)], as_json: Json = False) -> None:
    """Take in a recipe file as the product's next recipe, verified; the product is made where there is none."""
    from app.errors import NotFound
    from app.schemas.products import ProductIn
    from app.services import products, recipes

    with record() as ctx:
        with ctx.database.write() as session:
            try:
                products.get(session, product)
            except NotFound:
                products.create(session, checked(ProductIn, name=product))
        body = recipes.take_in(ctx, product, file, BY)
    show(body, as_json, list(card(body)))

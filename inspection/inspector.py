"""One picture in, one outcome out: the whole pipeline on one screen. Imports neither torch nor anomalib on the line's runtime."""

from __future__ import annotations

import hashlib
from pathlib import Path
from threading import Lock
from time import perf_counter
from typing import Literal

from inspection import calibration, verdict
from inspection.evidence import ImageUnusable, InspectionError, Outcome, RecipeRefused, Thresholds, Verdict
from inspection.findings import find, map_stats
from inspection.gate import look
from inspection.image import Limits, Pixels, decode
from inspection.recipe import Recipe, arrays, load
from models import backbones, catalog
from models.experts import Expert, FeaturesRefused, RawScore, load_expert
from models.experts.tiles import prepared

GOLDEN_TOLERANCE = 1e-3


class Inspector:
    """A loaded recipe. Safe to call from many threads: decoding runs beside, the expert is used by one at a time."""

    def __init__(self, recipe: Recipe, expert: Expert, limits: Limits = Limits()) -> None:
        self.recipe = recipe
        self.nbytes = expert.nbytes
        self._expert = expert
        self._view = recipe.view
        self._limits = limits
        self._lock = Lock()

    @classmethod
    def load(
        cls,
        folder: Path,
        runtime: Literal["line", "torch"] = "line",
        check: bool = True,
        threads: int = 1,
        limits: Limits = Limits(),
    ) -> Inspector:
        """Load a recipe: digests verified, weights held against the recipe's, golden pictures scored again (unless not `check`).

        Raises RecipeRefused, models.catalog.CatalogError (weights missing or damaged).
        """
        recipe = load(folder)
        weights = weights_sha256(recipe.backbone)
        if weights != recipe.weights_sha256:
            raise RecipeRefused(
                f"The recipe was made with other weights of {recipe.backbone}.", expected=recipe.weights_sha256, found=weights
            )
        state = arrays(folder, recipe)
        try:
            expert = load_expert(recipe.expert, state, recipe.view, runtime=runtime, threads=threads)
        except (ValueError, KeyError, IndexError) as error:
            raise RecipeRefused(f"The recipe's arrays do not fit its expert: {error}") from error
        inspector = cls(recipe, expert, limits)
        if check:
            try:
                inspector.check_golden(folder)
            except RecipeRefused:
                raise
            except (InspectionError, ValueError, LookupError) as error:  # no picture, or arrays that are not finite
                raise RecipeRefused(f"The recipe cannot score its own golden pictures: {error}") from error
        return inspector

    def inspect(self, data: bytes, *, thresholds: Thresholds | None = None) -> Outcome:
        """Judge one picture. `thresholds` (raw units) override the recipe's limits.

        Raises NotAnImage, ImageTooLarge, ImageUnusable, verdict.ThresholdsRefused.
        """
        limits = thresholds or self.recipe.calibration.thresholds
        verdict.check(limits)
        start = perf_counter()
        picture = decode(data, limits=self._limits)
        gate_reasons = self.recipe.gate.reasons(look(picture))
        timings = {"decode": 1e3 * (perf_counter() - start)}
        raw = self.score(picture.pixels, timings)
        gate_reasons += self.recipe.gate.distance_reasons(raw.patches)
        decision, reasons = verdict.decide(raw.score, limits, (*gate_reasons, *raw.reasons))
        start = perf_counter()
        flagged = decision is not Verdict.PASS and reasons != gate_reasons  # the gate doubts the picture, not the part
        limit = self.recipe.calibration.finding_limit
        size, share = (picture.width, picture.height), self._view.input**2 / (self._view.size[0] * self._view.size[1])
        found = find(raw.map, limit, *size, at_least_one=True, tile_share=share) if flagged else ()
        stats = map_stats(raw.map, picture.width, picture.height)
        timings["map"] += 1e3 * (perf_counter() - start)
        return Outcome(
            verdict=decision,
            reasons=reasons,
            raw_score=raw.score,
            score=calibration.score(raw.score, limits.reject),
            thresholds=limits,
            margin=calibration.margin(raw.score, limits.reject),
            findings=found,
            map=raw.map,
            map_stats=stats,
            width=picture.width,
            height=picture.height,
            recipe_sha256=self.recipe.sha256,
            timings_ms=timings,
        )

    def score(self, pixels: Pixels, timings: dict[str, float] | None = None) -> RawScore:
        """The expert's raw score of an RGB picture `[H, W, 3]`; `timings` gets milliseconds of `features`, `search`, `map`."""
        timings = {} if timings is None else timings
        start = perf_counter()
        batch = prepared(pixels, self._view)
        spent = 1e3 * (perf_counter() - start)
        try:
            with self._lock:
                raw = self._expert.score(batch, timings)[0]
        except FeaturesRefused as error:
            raise ImageUnusable(f"The picture cannot be scored: {error}.") from error
        timings["features"] = timings.get("features", 0.0) + spent
        timings.setdefault("map", 0.0)
        return raw

    def check_golden(self, folder: Path) -> None:
        """Score the recipe's golden pictures again. Raises RecipeRefused, saying by how much, when one scores differently.

        The tolerance, 0.1 %, is of the value itself; for normal pictures, which may lie in the bank and score about
        nothing, of the drawn defect's. In tiles, where each picture takes seconds, the first and the last are scored.
        """
        golden = self.recipe.golden
        score_floor, map_floor = max(g.raw_score for g in golden), max(g.map_max for g in golden)
        for one in golden if self._view.tile is None else dict.fromkeys((golden[0], golden[-1])):
            raw, normal = self.score(decode((folder / one.file).read_bytes()).pixels), one.kind == "normal"
            for name, now, then, floor in (
                ("score", raw.score, one.raw_score, score_floor),
                ("map", float(raw.map.max()), one.map_max, map_floor),
            ):
                off = abs(now - then) / max(abs(then), floor if normal else 0.0, 1e-12)
                if not off <= GOLDEN_TOLERANCE:
                    raise RecipeRefused(
                        f"The recipe scores differently here from when it was made: {one.file} has {name} {now:.6g} "
                        f"instead of {then:.6g} ({off:.2%} off; {GOLDEN_TOLERANCE:.1%} is allowed).",
                        file=one.file,
                        expected=then,
                        found=now,
                    )


def weights_sha256(backbone: str) -> str:
    """Digest of the backbone's tensors as the catalogue pins it; of several, that of theirs. Raises catalog.UnknownWeight."""
    digests = [catalog.entries()[backbones.spec(name).weights].sha256 for name in backbones.members(backbone)]
    return digests[0] if len(digests) == 1 else hashlib.sha256(" ".join(digests).encode()).hexdigest()

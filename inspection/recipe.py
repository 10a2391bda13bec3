"""A recipe: one frozen folder that holds all an inspection needs, every file under a digest. JSON and safetensors, no pickle."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import numpy as np

from inspection.bounds import Risk
from inspection.calibration import Calibration
from inspection.choice import Candidate, Choice
from inspection.evidence import RecipeRefused, Thresholds
from inspection.gate import Gate
from inspection.options import MAX_SIDE, MAX_WORKING
from inspection.selftest import Seen, SelfTest
from models.backbones import PRECISIONS
from models.experts import REGION, Region, View
from models.experts.view import RULES

T = TypeVar("T")

FORMAT = "kensor-recipe/1"
DOCUMENT = "recipe.json"
ARRAYS = {
    "patchcore": "memory_bank.safetensors",
    "padim": "expert.safetensors",
    "reference": "references.safetensors",
    "zeroshot": "zeroshot.safetensors",
}
MAX_DOCUMENT = 64 * 2**20
MAX_FILE = 4 * 2**30


@dataclass(frozen=True, slots=True)
class Golden:
    """A small picture kept with the recipe and what it scored when the recipe was made."""

    file: str
    kind: str
    """`normal`, or `synthetic`: a normal picture with a defect drawn in."""
    raw_score: float
    map_max: float


@dataclass(frozen=True, slots=True)
class Recipe:
    """Expert, calibration, gate and golden pictures of one product, as `recipe.json` says them."""

    product: str
    expert: str
    backbone: str
    image_size: int
    """Side of the network's square input, pixels."""
    size: tuple[int, ...]
    """Rows and columns of the whole picture as the network sees it."""
    tile: int | None
    """`image_size` where the picture is taken in tiles; `None`: at once."""
    score_rule: str
    precision: str
    """Of the network's numbers: `float32` or `int8`."""
    weights_sha256: str
    """Of the backbone's tensors: on other weights the recipe is refused."""
    options: dict[str, Any]
    calibration: Calibration
    choice: Choice | None
    """What `auto` compared; `None` where the backbone was named."""
    self_test: SelfTest
    gate: Gate
    heatmap_max: float
    """Upper end of the heatmap's scale, raw units of the map: twice the finding limit."""
    golden: tuple[Golden, ...]
    normals: tuple[str, ...]
    """SHA-256 of the normal pictures' bytes; the first are those of `held_out_scores`, in their order, until one is extended."""
    warnings: tuple[str, ...]
    files: dict[str, dict[str, Any]]
    """Every other file of the folder: `sha256` and `bytes`."""
    libraries: dict[str, str]
    created_at: str
    """ISO 8601, UTC. Not part of the digest, nor are the choice's times: the same pictures and options make the same recipe."""
    copies: tuple[str, ...] = ()
    """SHA-256 of pictures that were left out as copies of normal ones, and are nothing new to an extension."""
    sha256: str = ""
    """Of the canonical `recipe.json` without its times; it holds the digests of all other files."""

    @property
    def view(self) -> View:
        """How the expert sees a picture. Raises ValueError for a size or rule that no view has."""
        rows, columns = self.size
        if self.score_rule not in RULES:
            raise ValueError(f"no score rule {self.score_rule!r}")
        if self.precision not in PRECISIONS:
            raise ValueError(f"no precision {self.precision!r}")
        return View(self.backbone, (rows, columns), self.tile, self.precision, self.score_rule)


def document(recipe: Recipe) -> bytes:
    """The canonical JSON of a recipe, as written."""
    values = {"format": FORMAT, **asdict(recipe)}
    del values["sha256"]
    if not recipe.copies:
        del values["copies"]
    return _canonical(values)


def digest(document_bytes: bytes) -> str:
    """SHA-256 of a `recipe.json`, its `created_at` and the milliseconds of its `choice` left out."""
    values = json.loads(document_bytes)
    values.pop("created_at", None)
    for tried in (values.get("choice") or {}).get("candidates", ()):
        tried.pop("ms", None)
    return hashlib.sha256(_canonical(values)).hexdigest()


def save(folder: Path, recipe: Recipe, files: Mapping[str, bytes]) -> Recipe:
    """Write a new folder in one step: all of it, synced, or nothing. Returns the recipe with `files` and `sha256` set.

    Raises RecipeRefused when the folder exists, OSError (disk full, not writable) after removing what was begun.
    """
    values = {**asdict(recipe), "files": {name: {"sha256": _sha256(data), "bytes": len(data)} for name, data in files.items()}}
    written = _from_values(values)
    text = document(written)
    with _new_folder(folder) as scratch:
        for name, data in [*files.items(), (DOCUMENT, text)]:
            _write(scratch / name, data)
    return _from_values({**values, "sha256": digest(text)})


def load(folder: Path) -> Recipe:
    """Read a recipe and verify every file's digest. Raises RecipeRefused (damaged, tampered, another format)."""
    recipe = _parse(_read(folder, DOCUMENT, MAX_DOCUMENT))
    for name, expected in recipe.files.items():
        data = _read(folder, name, int(expected["bytes"]))
        if len(data) != expected["bytes"] or _sha256(data) != expected["sha256"]:
            raise RecipeRefused(f"The recipe's file {name} is not the one it was made with.", file=name)
    return recipe


def arrays(folder: Path, recipe: Recipe) -> dict[str, np.ndarray]:
    """The expert's arrays, as `models.experts.load_expert` takes them."""
    from safetensors import SafetensorError
    from safetensors.numpy import load as load_tensors

    try:
        return load_tensors((folder / ARRAYS[recipe.expert]).read_bytes())
    except SafetensorError as error:
        raise RecipeRefused(f"The recipe's arrays cannot be read: {error}") from error


def region(folder: Path) -> Region | None:
    """Where a recipe's expert looks, `[H, W]` at the map's size, 0: not; `None`: everywhere. Raises RecipeRefused."""
    from safetensors import SafetensorError, safe_open

    path = folder / ARRAYS[_parse(_read(folder, DOCUMENT, MAX_DOCUMENT)).expert]
    try:
        with safe_open(path, framework="numpy") as tensors:
            return np.asarray(tensors.get_tensor(REGION), np.uint8) if REGION in tensors.keys() else None  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise RecipeRefused(f"The recipe's arrays cannot be read: {error}") from error


def normals(folder: Path) -> list[bytes]:
    """The normal pictures among the golden ones, PNG; none where the recipe was made without any. Raises RecipeRefused."""
    recipe = _parse(_read(folder, DOCUMENT, MAX_DOCUMENT))
    kept = [one.file for one in recipe.golden if one.kind == "normal"] if recipe.normals else []
    return [_read(folder, name, int(recipe.files[name]["bytes"])) for name in kept]


def export_file(folder: Path, path: Path) -> Path:
    """The recipe as one zip file (stored, not compressed; the same recipe gives the same bytes), written in one step."""
    recipe = load(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    scratch = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                for member in (DOCUMENT, *sorted(recipe.files)):
                    archive.writestr(zipfile.ZipInfo(member), (folder / member).read_bytes())
            file.flush()
            os.fsync(file.fileno())
        scratch.chmod(0o644)
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
    return path


def import_file(path: Path, folder: Path) -> Recipe:
    """Unpack a recipe file into a new folder and verify it. Only files that its recipe.json names are read, each to its size.

    Raises RecipeRefused: not such a file, compressed members, a path that leaves the folder, more bytes than stated, a wrong
    digest.
    """
    try:
        with zipfile.ZipFile(path) as archive, _new_folder(folder) as scratch:
            members = archive.infolist()
            stated = sum(m.file_size for m in members)
            if any(m.compress_type != zipfile.ZIP_STORED for m in members) or stated > path.stat().st_size:
                raise RecipeRefused("A recipe file is stored, not compressed: this one unpacks to more than it holds.")
            recipe = _parse(_member(archive, DOCUMENT, MAX_DOCUMENT))
            if set(archive.namelist()) != {DOCUMENT, *recipe.files}:
                raise RecipeRefused("The recipe file holds other files than its recipe.json names.")
            for name in (DOCUMENT, *recipe.files):
                limit = MAX_DOCUMENT if name == DOCUMENT else int(recipe.files[name]["bytes"])
                _write(scratch / name, _member(archive, name, limit))
            return load(scratch)
    except (zipfile.BadZipFile, NotImplementedError, EOFError) as error:
        raise RecipeRefused(f"This is not a recipe file: {error}") from error


def _member(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    try:
        with archive.open(name) as file:
            data = file.read(limit + 1)
    except (KeyError, RuntimeError, OSError) as error:
        raise RecipeRefused(f"The recipe file has no readable {name}.", file=name) from error
    if len(data) > limit:
        raise RecipeRefused(f"The recipe file's {name} is larger than it says.", file=name)
    return data


def _parse(data: bytes) -> Recipe:
    try:
        values = json.loads(data)
        found = values.pop("format", None) if isinstance(values, dict) else None
        if found != FORMAT:
            raise RecipeRefused(f"The recipe's format is {found!r}; this version reads {FORMAT}.", format=str(found))
        recipe = _from_values({**values, "sha256": digest(data)})
        allowed = {ARRAYS[recipe.expert], *(golden.file for golden in recipe.golden)}
        view = recipe.view
        if max(view.input, recipe.image_size) > MAX_SIDE or not 0 < view.size[0] * view.size[1] <= MAX_WORKING:
            raise RecipeRefused(f"The recipe's picture size, {recipe.image_size} or {view.size}, is over {MAX_SIDE}.")
        if view.input != recipe.image_size:
            raise RecipeRefused(f"The recipe's sizes contradict each other: {recipe.image_size} and {view.input}.")
        if not recipe.golden:
            raise RecipeRefused("The recipe has no golden pictures: nothing shows that it scores as when it was made.")
        if set(recipe.files) != allowed or any(not _safe(name) for name in recipe.files):
            raise RecipeRefused("The recipe names files that no recipe has.")
        if sum(int(file["bytes"]) for file in recipe.files.values()) > MAX_FILE:
            raise RecipeRefused(f"The recipe is larger than {MAX_FILE:,} bytes.")
        return recipe
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise RecipeRefused(f"recipe.json cannot be read: {type(error).__name__}: {error}") from error


def _safe(name: str) -> bool:
    stem = name.removeprefix("golden/").removesuffix(".png")
    return name in ARRAYS.values() or (name == f"golden/{stem}.png" and stem.isalnum() and stem.isascii())


def _from_values(values: Mapping[str, Any]) -> Recipe:
    card, test, table = dict(values["calibration"]), dict(values["self_test"]), values["choice"]
    card["thresholds"] = _made(Thresholds, card["thresholds"])
    for name in ("reject_risk", "review_risk"):
        card[name] = card[name] and _made(Risk, card[name])
    card |= {name: tuple(card[name]) for name in ("warnings", "held_out_scores", "held_out_peaks")}
    parts = {
        "calibration": _made(Calibration, card),
        "choice": table and _made(Choice, {**table, "candidates": tuple(_made(Candidate, one) for one in table["candidates"])}),
        "self_test": _made(SelfTest, {**test, "kinds": tuple(_made(Seen, one) for one in test["kinds"])}),
        "gate": _made(Gate, values["gate"]),
        "golden": tuple(_made(Golden, golden) for golden in values["golden"]),
        "normals": tuple(values["normals"]),
        "copies": tuple(values.get("copies", ())),
        "size": tuple(int(side) for side in values["size"]),
        "warnings": tuple(values["warnings"]),
    }
    return _made(Recipe, {**values, **parts})


def _made(kind: type[T], values: Mapping[str, Any]) -> T:
    """The dataclass of these values. Raises KeyError or TypeError where a field is missing, unknown or of another type."""
    for name, hint in get_type_hints(kind).items():
        types = tuple(get_origin(one) or one for one in (get_args(hint) if isinstance(hint, UnionType) else (hint,)))
        if not isinstance(values[name], (*types, int) if float in types else types):
            raise TypeError(f"{name} is {values[name]!r}")
    return kind(**values)


def _canonical(values: Any) -> bytes:
    return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _read(folder: Path, name: str, limit: int) -> bytes:
    try:
        with (folder / name).open("rb") as file:
            return file.read(limit + 1)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise RecipeRefused(f"The recipe in {folder} has no {name}.", file=name) from error


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """A scratch folder beside `folder` that becomes it when the block ends well, and vanishes otherwise."""
    if folder.exists():
        raise RecipeRefused(f"{folder} exists already: a recipe is never overwritten.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield scratch
        scratch.chmod(0o755)
        scratch.replace(folder)
        handle = os.open(folder.parent, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)

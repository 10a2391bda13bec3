"""The shelf of weights: a name becomes a verified local folder. Packages and the hub are fetched here and nowhere else."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import tempfile
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import platformdirs
from filelock import FileLock

from models.catalog import files, hub, packages
from models.catalog.errors import CatalogError, DeviceUnavailable, DigestMismatch, PullFailed, UnknownWeight, WeightsMissing
from models.catalog.files import TENSORS

__all__ = [
    "TENSORS",
    "CatalogError",
    "DeviceUnavailable",
    "DigestMismatch",
    "Entry",
    "PullFailed",
    "UnknownWeight",
    "WeightsMissing",
    "entries",
    "home",
    "locate",
    "pull",
    "verify",
]

CATALOG = Path(__file__).parents[1] / "catalog.toml"
MARKER = "verified.json"
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Entry:
    """One weight: of `catalog.toml`, or of a hub repository that was pulled."""

    name: str
    role: str
    """`backbone` or `language model`."""
    licence: str
    origin: str
    notes: str
    package: str
    version: str
    bytes: int
    """Size of the converted `model.safetensors`."""
    sha256: str
    """Digest of its tensors, `files.tensors_sha256`."""
    files: dict[str, str] = field(default_factory=dict)
    """Digests of the small files beside it: config and tokenizer of a language model."""
    package_bytes: int = 0
    package_sha256: str = ""
    member: str = ""
    """The file inside the package."""
    member_bytes: int = 0
    member_sha256: str = ""
    conversion: str = ""

    @property
    def source(self) -> str:
        """Where it comes from, as pip would write it."""
        return f"{self.package}=={self.version}"

    @property
    def peak_bytes(self) -> int:
        """Free disk a pull needs at its height: the package, the file inside it and the converted tensors."""
        return self.package_bytes + self.member_bytes + self.bytes


def home() -> Path:
    """The folder of weights and exported graphs: `KENSOR_HOME`, or the platform's cache folder. May be purged."""
    return Path(os.environ.get("KENSOR_HOME") or platformdirs.user_cache_dir("kensor")).expanduser().absolute()


def entries() -> dict[str, Entry]:
    """Every weight by name: the catalogue's, and the hub's that stand on the shelf."""
    with CATALOG.open("rb") as file:
        known = {name: Entry(name=name, **values) for name, values in tomllib.load(file).items()}
    for origin in sorted((home() / "weights").glob(f"*--*/{hub.ORIGIN}")):
        entry = _pulled(origin)
        known[entry.name] = entry
    return known


def locate(name: str) -> Path:
    """The weight's verified folder, holding `model.safetensors` (and a language model's config and tokenizer). Never downloads.

    Files whose size and time are as at the last check are trusted; others are read again.
    Raises UnknownWeight, WeightsMissing, DigestMismatch.
    """
    folder = _folder(name)
    entry = _entry(name)
    if not files.trusted(folder / MARKER, _pinned(entry)):
        _check(entry, folder)
        with contextlib.suppress(OSError):  # a read-only shelf is checked each time
            files.trust(folder / MARKER, _pinned(entry))
    return folder


def verify(name: str) -> None:
    """Read every byte of the weight and hold it against its digests. Raises as `locate` does."""
    _check(_entry(name), _folder(name))


def pull(name: str, progress: Progress | None = None) -> Path:
    """Put a weight on the shelf, from its package or from the hub (`owner/repository`); returns its folder.

    Does nothing when it is there. Several processes may pull at once; a killed pull leaves nothing that counts.
    `progress(name, bytes done, bytes in all)` is called while it downloads. Raises UnknownWeight, DigestMismatch, PullFailed.
    """
    with contextlib.suppress(WeightsMissing, DigestMismatch):
        return locate(name)
    folder = _folder(name)
    shelf, hidden = folder.parent, f".{folder.name}"
    try:
        shelf.mkdir(parents=True, exist_ok=True)
        with FileLock(shelf / f"{hidden}.lock"):
            with contextlib.suppress(WeightsMissing, DigestMismatch):
                return locate(name)  # another process was quicker
            for stale in shelf.glob(f"{hidden}-*"):
                shutil.rmtree(stale, ignore_errors=True)  # of a killed pull: the lock is ours
            with tempfile.TemporaryDirectory(prefix=f"{hidden}-", dir=shelf) as scratch:
                _pull(name, Path(scratch), folder, progress or (lambda *_: None))
    except OSError as error:
        raise PullFailed(
            f"The weights of {name} could not be written to {shelf}: {error.strerror or error}. "
            "Make room there, or name another folder in KENSOR_HOME.",
            name=name,
            folder=str(shelf),
        ) from error
    return locate(name)


def _pull(name: str, scratch: Path, folder: Path, progress: Progress) -> None:
    made = scratch / folder.name
    made.mkdir()
    if _is_hub(name):
        hub.fetch(name, made, progress)
        shutil.rmtree(made / ".cache", ignore_errors=True)  # huggingface_hub's notes
        entry = _pulled(made / hub.ORIGIN)
    else:
        entry = _entry(name)
        _room(entry, scratch)
        packages.fetch(entry, scratch, made, progress)
    for file in made.iterdir():
        file.chmod(0o644)  # safetensors writes for its owner only
    _check(entry, made)
    files.trust(made / MARKER, _pinned(entry))
    if folder.exists():  # damaged: `locate` refused it
        folder.rename(scratch / "damaged")
    made.replace(folder)


def _is_hub(name: str) -> bool:
    return re.fullmatch(r"[\w.-]+/[\w.-]+", name) is not None and ".." not in name


def _folder(name: str) -> Path:
    if not _is_hub(name):
        _entry(name)
    return home() / "weights" / name.replace("/", "--")


def _entry(name: str) -> Entry:
    known = entries()
    if name in known:
        return known[name]
    if _is_hub(name):
        raise WeightsMissing(
            f"{name} is not on this machine. Run `kensor weights pull {name}` where the hub is reached.", name=name
        )
    raise UnknownWeight(f"The catalogue has no weight named {name!r}; it has {', '.join(known)}.", name=name, known=list(known))


def _pulled(origin: Path) -> Entry:
    """The entry of a hub repository, from what was written down when it was pulled."""
    name = origin.parent.name.replace("--", "/", 1)
    try:
        said = json.loads(origin.read_text())
        licence, size, digest, revision = said["licence"], said["bytes"], said["sha256"], said["revision"]
    except (OSError, ValueError, KeyError, TypeError):
        licence, size, digest, revision = "unknown", 0, "unknown", "unknown"
    return Entry(
        name=name,
        role="backbone",
        licence=licence,
        origin=f"Hugging Face hub, {name}",
        notes="The digest is that of the first pull.",
        package=name,
        version=revision,
        bytes=size,
        sha256=digest,
    )


def _pinned(entry: Entry) -> dict[str, str]:
    return {TENSORS: entry.sha256, **entry.files}


def _check(entry: Entry, folder: Path) -> None:
    if not (folder / TENSORS).is_file():
        raise WeightsMissing(
            f"The weights of {entry.name} are not on this machine. Run `kensor weights pull {entry.name}` "
            f"({entry.package_bytes / 1e6:.0f} MB from the package index).",
            name=entry.name,
            folder=str(folder),
        )
    for file, wanted in _pinned(entry).items():
        found = files.tensors_sha256(folder / file) if file == TENSORS else files.file_sha256(folder / file)
        if found != wanted:
            raise DigestMismatch(
                f"{file} of {entry.name} was changed or damaged (sha256 {found[:12]}, pinned {wanted[:12]}). "
                f"Run `kensor weights pull {entry.name}` to fetch it again.",
                name=entry.name,
                file=str(folder / file),
                found=found,
                expected=wanted,
            )


def _room(entry: Entry, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if free < entry.peak_bytes:
        raise PullFailed(
            f"Pulling {entry.name} needs {entry.peak_bytes / 1e6:.0f} MB free in {home()}, which has {free / 1e6:.0f} MB. "
            "Make room there, or name another folder in KENSOR_HOME.",
            name=entry.name,
            needed=entry.peak_bytes,
            free=free,
        )

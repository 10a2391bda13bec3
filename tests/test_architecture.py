"""Imports run down only, every heavy library has one home, and the serving path loads none of the heaviest."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ABOVE = {"models": {"inspection", "app"}, "inspection": {"app"}, "app": set()}
HOMES = {
    "anomalib": ("models/experts/",),
    "timm": ("models/backbones/",),
    "onnxruntime": ("models/runtime.py", "models/backbones/"),
    "transformers": ("models/lmm/",),
    "huggingface_hub": ("models/catalog/",),
    "sqlalchemy": ("app/db/",),
    "alembic": ("app/db/",),
    "fastapi": ("app/main.py", "app/routes/", "app/dependencies.py", "app/errors.py", "app/security.py"),
    "fsspec": ("app/store.py",),
    "prometheus_client": ("app/metrics.py",),
}
TYPING_ONLY = {"sqlalchemy.orm.Session": ("app/services/", "app/dependencies.py", "app/task.py")}


def imports(path: Path) -> Iterator[str]:
    """Every imported name, in full, wherever in the file it stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def files() -> list[str]:
    return sorted(str(path.relative_to(ROOT)) for package in ABOVE for path in (ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("file", files())
def test_imports_run_down_and_heavy_libraries_stay_at_home(file: str) -> None:
    package = file.split("/")[0]
    for name in imports(ROOT / file):
        top = name.split(".")[0]
        assert top not in ABOVE[package], f"{file} imports {name}: upwards"
        allowed = (*HOMES.get(top, ()), *TYPING_ONLY.get(name, ()))
        assert top not in HOMES or file.startswith(allowed), f"{file} imports {name}: at home in {HOMES[top]}"


def test_the_serving_path_loads_nothing_heavy() -> None:
    code = "import sys, app.main, app.worker, inspection.inspector; print(*sys.modules)"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout.split()
    )
    assert not loaded & {"torch", "anomalib", "transformers", "timm", "scipy.stats", "numba", "alembic", "huggingface_hub"}

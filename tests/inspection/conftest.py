"""Drawn pictures, and one recipe enrolled from them for the whole run."""

from __future__ import annotations

from pathlib import Path

import pytest
from drawn_parts import part

from inspection.enrolment import enroll
from inspection.recipe import Recipe


@pytest.fixture(scope="session")
def normals() -> list[bytes]:
    return [part(index) for index in range(12)]


@pytest.fixture(scope="session")
def made(normals: list[bytes], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Recipe]:
    folder = tmp_path_factory.mktemp("recipes") / "cap"
    return folder, enroll(normals, folder, product="cap")

"""The lock files pin every package in each form that it is asked for."""

from __future__ import annotations

import re
from importlib.metadata import distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LOCK = Path(__file__).resolve().parent.parent / "requirements-dev.lock"


def test_what_is_asked_for_with_an_extra_is_locked_with_it() -> None:
    """pip before 23.3 takes the newest `coverage[toml]` where only `coverage` is pinned, and refuses it for want of a hash."""
    pins = re.findall(r"^([\w.-]+)(?:\[([\w, -]+)\])?==", LOCK.read_text(encoding="utf-8"), re.MULTILINE)
    locked = {canonicalize_name(name): set(extras.split(", ")) for name, extras in pins}
    asked = [
        (package.name, need)
        for package in distributions()
        if canonicalize_name(package.name) in locked
        for need in map(Requirement, package.requires or ())
        if need.extras and canonicalize_name(need.name) in locked and (need.marker is None or need.marker.evaluate({"extra": ""}))
    ]
    assert len(asked) > 3
    missing = [f"{by} asks for {need}" for by, need in asked if not need.extras <= locked[canonicalize_name(need.name)]]
    assert not missing

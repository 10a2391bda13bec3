"""The worker child of a real service: started, started again when killed, gone when the service goes, however it goes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from app.child import WorkerChild
from app.settings import Settings


def wait(condition: Callable[[], bool], seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes through /proc")
def test_a_killed_child_is_replaced_and_the_last_one_leaves_with_the_service(tmp_path: Path) -> None:
    child = WorkerChild(Settings(_env_file=None, data=tmp_path))
    try:
        first = child.pid
        os.kill(first, signal.SIGKILL)
        wait(lambda: child.pid != first and alive(child.pid))
        last = child.pid
    finally:
        child.close()
    assert not alive(first)
    assert not alive(last)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes through /proc")
def test_the_child_of_a_killed_service_leaves_too(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom app.child import WorkerChild\nfrom app.settings import Settings\n"
        "child = WorkerChild(Settings(_env_file=None, data=Path(sys.argv[1])))\nprint(child.pid, flush=True)\ntime.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        wait((tmp_path / "kensor.sqlite").exists)
        assert alive(pid)
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
    wait(lambda: not alive(pid))

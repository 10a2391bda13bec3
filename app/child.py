"""The service's worker child: started with it, started again when it dies, ended with it."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from app.settings import Settings

log = logging.getLogger("kensor")
PATIENCE = 10.0


class WorkerChild:
    """Watches one worker process. A pipe is its standard input: it ends when this process does, and so does the child."""

    def __init__(self, settings: Settings) -> None:
        root = str(Path(__file__).parents[1])
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
        self._environment = {**os.environ, **settings.environment(), "PYTHONPATH": path}
        self._over = threading.Event()
        self._process = self._start()
        self._thread = threading.Thread(target=self._watch, name="kensor-worker-watch", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int:
        """The present child."""
        return self._process.pid

    def close(self) -> None:
        """Ask it to hand its job back and leave; kill it if it does not."""
        self._over.set()
        self._process.terminate()
        self._thread.join()
        self._process.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        # Nice before the first import: at the start the service itself wants the processor.
        command = [sys.executable, "-c", "import os; os.nice(5); from app.worker import main; main()"]
        return subprocess.Popen(command, stdin=subprocess.PIPE, env=self._environment)

    def _watch(self) -> None:
        while True:
            started = time.monotonic()
            while self._process.poll() is None:
                if self._over.wait(0.2):
                    try:
                        self._process.wait(PATIENCE)
                    except subprocess.TimeoutExpired:
                        self._process.kill()
                    return self._end()
            self._end()
            log.error("the worker ended (%s); starting another", self._process.returncode)
            if self._over.wait(0.5 if time.monotonic() - started > 10 else 3.0):
                return None
            self._process = self._start()

    def _end(self) -> None:
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()

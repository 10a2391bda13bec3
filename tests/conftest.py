"""What every test gets: one thread, and no setting of the machine it runs on but where the weights lie."""

from __future__ import annotations

import os

for name in [name for name in os.environ if name.startswith("KENSOR_") and name != "KENSOR_HOME"]:
    del os.environ[name]
os.environ.setdefault("OMP_NUM_THREADS", "1")

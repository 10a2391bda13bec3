"""What every test gets: one thread, and no setting of the machine it runs on but where the weights lie."""

from __future__ import annotations

import os
import sys

import pytest

for name in [name for name in os.environ if name.startswith("KENSOR_") and name != "KENSOR_HOME"]:
    del os.environ[name]
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def exact_products() -> None:
    """The built-in model lowers the precision of matrix products in its process, which in the product is its own."""
    if torch := sys.modules.get("torch"):
        torch.set_float32_matmul_precision("highest")

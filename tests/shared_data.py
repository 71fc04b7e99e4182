"""Where the tests that read real data find it: `../shared/data`, skipped where missing.

With LOWLIGHT_REQUIRE_DATA=1 (which `.ci/run` sets) a missing folder fails instead.
"""

import os
from pathlib import Path

import pytest

DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"


def data_folder(name: str) -> Path:
    """Return the folder of all sets, having made sure that the set `name` is there; skip or fail if not."""
    if not (DATA / name).is_dir():
        reason = f"{DATA / name} is missing; it holds the data sets that a few tests read"
        if os.environ.get("LOWLIGHT_REQUIRE_DATA") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return DATA

"""kill -9 under load at random moments, again and again: nothing acknowledged is lost or there twice.

The clients repeat what they got no answer for, as the SDK does, so the same batch often comes twice.
"""

import os
import random
import signal
import time
from pathlib import Path

import pytest

from api.background import start, stop
from ingest.settings import Settings
from tests.faults.senders import Kept, Senders, ids_of


@pytest.mark.parametrize("kills", [3, pytest.param(100, marks=pytest.mark.long)])
def test_kill_9_at_random_moments(settings: Settings, tmp_path: Path, kills: int) -> None:
    """Three kills at the same moments each time; a hundred at others each time, and the seed is printed."""
    seed = int(os.environ.get("LOWLIGHT_FAULTS_SEED", time.time_ns() if kills > 3 else 1))
    moments = random.Random(seed)
    print(f"seed {seed}")
    path = tmp_path / "lowlight.db"
    senders = Senders(4)
    for _kill in range(kills):
        process, address = start(settings, tmp_path / "server.log")
        with senders.sending(address):
            senders.wait_for(moments.randint(1, 4))
            time.sleep(moments.uniform(0, 0.3))
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        stop(process)
        Kept(path).check(senders)
    # What was on its way at the last kill is sent again, and then everything ever sent is there, once.
    process, address = start(settings, tmp_path / "server.log")
    with senders.sending(address):
        senders.wait_for(8)
    stop(process)
    kept = Kept(path)
    kept.check(senders)
    assert set(kept.ids) >= ids_of(senders.acknowledged)
    assert len(senders.acknowledged) > kills

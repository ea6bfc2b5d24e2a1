"""A short sample of the durability campaign; ``make crash`` runs the long one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]

# A fixed seed, so that a failure here is the same failure on every machine.
CYCLES = {"kills": 16, "power": 8, "full": 4, "faults": 4}
SEED = "20261121"


def test_what_was_acknowledged_survives() -> None:
    """Every acknowledged operation is there with its record, every other whole or absent."""
    # A process of its own: it forks, so that it must not have the test runner's threads.
    asked = [word for name, count in CYCLES.items() for word in (f"--{name}", str(count))]
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash.campaign", *asked, "--seed", SEED],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for name, count in CYCLES.items():
        assert f"\n{name}: {count} cycles" in done.stdout

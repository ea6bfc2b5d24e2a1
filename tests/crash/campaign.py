"""The durability campaign: ``python -m tests.crash.campaign --kills 10000 --power 500``.

Kills processes, cuts power, fills disks and breaks them under the real gateway, and judges after
each cycle whether all that was acknowledged is there. Prints seeds; ``--seed S --cycle K`` plays
one folder's life again up to cycle K. docs/DURABILITY.md explains what is checked. Needs root.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.crash import kinds
from tests.crash.disk import private_mounts
from tests.crash.kinds import Kind, Tally

_PROGRESS_S = 20.0


@dataclass(slots=True)
class Campaign:
    """All cycles of all kinds."""

    seed: int
    folder: Path
    tallies: dict[str, Tally] = field(default_factory=dict)
    _told: float = field(default_factory=time.monotonic)
    _failures_told: int = 0

    def run(self, kind: Kind, cycles: int, first: int = 0) -> None:
        """Run ``cycles`` cycles of ``kind``, in lives of a folder each."""
        tally = self.tallies.setdefault(kind.name, Tally())
        done = first
        while done < cycles and not tally.complete:
            with tempfile.TemporaryDirectory(dir=self.folder) as folder:
                count = min(kind.life_cycles, cycles - done)
                for _ in kind.live(Path(folder), str(self.seed), done, count, tally):
                    self._tell(kind.name, tally)
            done += count

    def _tell(self, name: str, tally: Tally) -> None:
        # At once: a campaign of hours may be ended before its summary.
        while self._failures_told < self._failure_count():
            self._failures_told += 1
            say(tally.failures[-1])
        if time.monotonic() - self._told > _PROGRESS_S:
            self._told = time.monotonic()
            say(f"{name}: {tally}")

    def _failure_count(self) -> int:
        return sum(len(tally.failures) for tally in self.tallies.values())

    def summary(self) -> int:
        """Say what came of it; return the exit status."""
        bugs = 0
        for name, tally in self.tallies.items():
            say(f"{name}: {tally}")
            for boundary, count in sorted(tally.boundaries.items()):
                say(f"    struck at {boundary}: {count}")
            bugs += len(tally.failures)
            for failure in tally.failures:
                say(failure)
        cycles = sum(tally.cycles for tally in self.tallies.values())
        say(f"seed {self.seed}: {cycles} cycles, {bugs} failures.")
        return 1 if bugs else 0


def say(text: str) -> None:
    """Print a line at once, so that it is there whatever happens next and no fork repeats it."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


@contextlib.contextmanager
def scratch(folder: Path | None) -> Iterator[Path]:
    """Give a folder for disks and data: in memory, where there is room, as kills need no disk."""
    if folder is None:
        memory = Path("/dev/shm")
        folder = memory if memory.is_dir() and kinds.free_bytes(memory) > kinds.ROOM_BYTES else None
    with tempfile.TemporaryDirectory(prefix="sealgate-crash-", dir=folder) as made:
        yield Path(made)


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line asks for; return 0 when nothing was found."""
    parser = argparse.ArgumentParser(description="Crash the gateway and judge what is left.")
    parser.add_argument("--kills", type=int, default=0, help="cycles that end in kill -9")
    parser.add_argument("--power", type=int, default=0, help="cycles that end in a power loss")
    parser.add_argument("--full", type=int, default=0, help="cycles with a full disk, at most")
    parser.add_argument("--faults", type=int, default=0, help="cycles with I/O errors, at most")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--cycle", type=int, help="replay the life up to this cycle")
    parser.add_argument("--folder", type=Path, help="where disks and data are made")
    asked = parser.parse_args(arguments)
    say(f"seed {asked.seed}")
    with scratch(asked.folder) as folder, private_mounts(folder):
        campaign = Campaign(asked.seed, folder)
        # What the fork shares with its parent must not be copied by a collection's bookkeeping.
        gc.collect()
        gc.freeze()
        for kind in (kinds.Kills(), kinds.PowerLosses(), kinds.FullDisk(), kinds.Faults()):
            cycles = getattr(asked, kind.name)
            first = 0
            if asked.cycle is not None and cycles:
                cycles = asked.cycle + 1
                first = asked.cycle - asked.cycle % kind.life_cycles
            campaign.run(kind, cycles, first)
        return campaign.summary()


if __name__ == "__main__":
    sys.exit(main())

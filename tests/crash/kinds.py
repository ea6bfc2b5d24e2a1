"""The kinds of disaster: what each draws from the seed, and the disk that it happens on."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from backends.errors import QuotaExceededError
from tests.crash.channel import END
from tests.crash.disk import LoopDisk, SmallDisk, loop_disk, small_disk
from tests.crash.life import Death, Life, Report
from tests.crash.plan import MIB
from tests.crash.site import MovableClock, Site
from tests.crash.worker import Orders

ROOM_BYTES = 2048 * MIB
"""How much a campaign may need at once."""

_BOUNDARIES = {"": 8, "commit": 2, "create": 1, "write": 3, "fsync": 2, "unlink": 0, "flock": 4}
"""The kinds of boundary, empty for any, and about how many of each one operation has."""

_COMPANION_SHARE = 0.3
"""In how many of the kills a second process works on the same data folder, and goes on."""

_OPENING_BOUNDARIES = 520
"""About how many boundaries a start has: two for each of the blob store's 256 folders."""

_SMALL_DISK_BYTES = 176 * MIB
_PAGE_BYTES = 4096

_WRITING = ("fsync", "fdatasync", "pwrite64", "write", "ftruncate", "unlink")
"""The system calls by which Python and SQLite change a disk."""

_ENDINGS = frozenset({signal.SIGKILL, signal.SIGBUS})
"""A process whose disk is gone may also die of a mapped page that cannot be read."""


@dataclass(slots=True)
class Tally:
    """What all cycles of one kind brought. ``complete``: a sweep has reached its end."""

    cycles: int = 0
    lives: int = 0
    unjudged: int = 0
    operations: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    boundaries: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    complete: bool = False

    def add(self, report: Report, where: str) -> None:
        """Add one cycle."""
        self.cycles += 1
        self.unjudged += not report.judged
        self.operations += report.done
        self.refused += report.refused
        self.boundaries[report.boundary] += 1
        for status in report.statuses:
            if status not in {0, *_ENDINGS}:
                report.findings.append(f"ended with status {status}")
        self.fail(where, report.findings)

    def fail(self, where: str, findings: list[str]) -> None:
        """Note that something was found, once for each cycle."""
        if findings:
            self.failures.append("\n    ".join([f"FAILURE {where}", *findings]))

    def __str__(self) -> str:
        refused = ", ".join(f"{count} {name}" for name, count in sorted(self.refused.items()))
        return (
            f"{self.cycles} cycles in {self.lives} lives, {self.operations} acknowledged, "
            f"refused: {refused or 'none'}, killed before judging: {self.unjudged}, "
            f"failures: {len(self.failures)}"
        )


class Kind(Protocol):
    """One kind of disaster. ``life_cycles``: how many cycles a data folder lives through."""

    name: str
    life_cycles: int

    def live(self, folder: Path, seed: str, first: int, count: int, tally: Tally) -> Iterator[None]:
        """Run cycles ``first`` to ``first + count`` on a new data folder; yield after each."""


def free_bytes(folder: Path) -> int:
    """Return the free space where ``folder`` lies."""
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def _orders(seed: str, kind: str, cycle: int, threads: int, rng: random.Random) -> Orders:
    return Orders(
        seed=f"{seed} {kind}",
        cycle=cycle,
        since_us=MovableClock()(),
        threads=threads,
        own=tuple(range(threads)),
        operations=rng.randrange(1, 9),
        housekeeping=rng.random() < 0.25,
    )


def _at_boundary(orders: Orders, rng: random.Random) -> Orders:
    """Return the orders with a boundary drawn from those that they may have."""
    kind, each = rng.choice(list(_BOUNDARIES.items()))
    reach = max(orders.operations * orders.threads * each, 3)
    housekeeping = orders.housekeeping or kind == "unlink"
    return replace(orders, at=rng.randrange(1, reach), kind=kind, housekeeping=housekeeping)


def _end_of_life(life: Life, where: str, tally: Tally) -> None:
    tally.lives += 1
    tally.fail(f"{where}, at the end of the life", life.inspect())


@dataclass(slots=True)
class Kills:
    """``kill -9`` at boundaries, at random moments, inside SQLite's calls, and during recovery."""

    name: str = "kills"
    life_cycles: int = 100

    def live(self, folder: Path, seed: str, first: int, count: int, tally: Tally) -> Iterator[None]:
        threads = random.Random(f"{seed} {self.name} life {first}").randrange(1, 4)
        (folder / "disk").mkdir()
        life = Life(Site.create(folder, folder / "disk"), threads)
        for cycle in range(first, first + count):
            rng = random.Random(f"{seed} {self.name} {cycle}")
            orders, death = self._drawn(_orders(seed, self.name, cycle, threads, rng), rng)
            where = f"{self.name} --seed {seed} --cycle {cycle}"
            if threads > 1 and not orders.early and rng.random() < _COMPANION_SHARE:
                others = replace(orders, at=0, housekeeping=False, companion=True)
                report = life.cycle(
                    replace(orders, own=(0,)), death, replace(others, own=orders.own[1:])
                )
            else:
                report = life.cycle(orders, death)
            tally.add(report, where)
            yield
            if report.findings:
                return
        _end_of_life(life, where, tally)

    def _drawn(self, orders: Orders, rng: random.Random) -> tuple[Orders, Death]:
        kind = rng.random()
        if kind < 0.55:
            return _at_boundary(orders, rng), Death()
        if kind < 0.82:
            # Commits lie milliseconds apart; longer runs are ended by their last operation.
            return orders, Death(
                rng.random() * rng.choice((0.01, 0.05, 0.2)), name="a random moment"
            )
        if kind < 0.94:
            at = rng.choice((rng.randrange(1, 530), rng.randrange(_OPENING_BOUNDARIES - 10, 700)))
            return replace(orders, at=at, early=True), Death()
        calls = ",".join(_WRITING)
        when = rng.randrange(1, 8 * orders.operations)
        trace = ("-e", f"trace={calls}", "-e", f"inject={calls}:signal=SIGKILL:when={when}")
        return replace(orders, traced=True), Death(trace=trace, name="a system call")


@dataclass(slots=True)
class PowerLosses:
    """The power of an ext4 disk cut, with whatever was not made durable lost."""

    name: str = "power"
    life_cycles: int = 40

    def live(self, folder: Path, seed: str, first: int, count: int, tally: Tally) -> Iterator[None]:
        threads = random.Random(f"{seed} {self.name} life {first}").randrange(1, 4)
        with loop_disk(folder) as disk:
            life = Life(Site.create(folder, disk.folder), threads)
            for cycle in range(first, first + count):
                rng = random.Random(f"{seed} {self.name} {cycle}")
                orders = _orders(seed, self.name, cycle, threads, rng)
                orders, death = self._drawn(replace(orders, faulty=True), disk, rng)
                where = f"{self.name} --seed {seed} --cycle {cycle}"
                report = life.cycle(orders, death)
                disk.unmount()
                disk.mount()
                tally.add(report, where)
                yield
                if report.findings:
                    return
            _end_of_life(life, where, tally)

    def _drawn(self, orders: Orders, disk: LoopDisk, rng: random.Random) -> tuple[Orders, Death]:
        def cut_and_die() -> None:
            disk.cut()
            os.kill(os.getpid(), signal.SIGKILL)

        kind = rng.random()
        # A plan that ends before its boundary loses power after its last acknowledgement.
        orders = replace(orders, end=cut_and_die, cuts=True)
        if kind < 0.4:
            return _at_boundary(replace(orders, strike=cut_and_die), rng), Death()
        if kind < 0.6:
            # The process goes on and meets a dead disk everywhere.
            return _at_boundary(replace(orders, strike=disk.cut), rng), Death()
        if kind < 0.7:
            at = rng.choice((rng.randrange(1, 530), rng.randrange(_OPENING_BOUNDARIES - 10, 700)))
            return replace(orders, at=at, early=True, strike=cut_and_die), Death()
        after_s = rng.random() * rng.choice((0.02, 0.1, 0.3))
        linger_s = rng.choice((0.0, 0.05))
        return orders, Death(after_s, disk.cut, linger_s, name="a random moment")


@dataclass(slots=True)
class FullDisk:
    """A disk that is full from the n-th write on, for every n; then there is space again.

    First every boundary meets a disk without a free page; then, from the first boundary on, the
    disk has one page more each cycle, so that every page that SQLite adds is once the last.
    """

    name: str = "full"
    life_cycles: int = 60
    _sweeping_pages: bool = False
    _at: int = 0
    _pages: int = 0

    def live(self, folder: Path, seed: str, first: int, count: int, tally: Tally) -> Iterator[None]:
        with small_disk(folder, _SMALL_DISK_BYTES) as disk:
            life = Life(Site.create(folder, disk.folder), threads=1)
            for cycle in range(first, first + count):
                report = life.cycle(self._drawn(seed, cycle, disk), Death())
                disk.relieve()
                where = f"{self.name} --seed {seed} --cycle {cycle}"
                tally.add(report, where)
                yield
                if report.findings:
                    return
                self._advance(report, tally)
                if tally.complete:
                    break
            _end_of_life(life, where, tally)

    def _drawn(self, seed: str, cycle: int, disk: SmallDisk) -> Orders:
        at, left_bytes = (1, self._pages * _PAGE_BYTES) if self._sweeping_pages else (self._at, 0)
        rng = random.Random(f"{seed} {self.name} {cycle}")
        return replace(
            _orders(seed, self.name, cycle, 1, rng),
            operations=12,
            large_share=0.0,
            at=at + 1,
            strike=lambda: disk.fill(left_bytes),
            faulty=True,
            relief=disk.relieve,
        )

    def _advance(self, report: Report, tally: Tally) -> None:
        """Go on with the sweep; one ends with the cycle that the disaster did not reach."""
        if not self._sweeping_pages:
            self._at += 1
            self._sweeping_pages = report.boundary == END
        else:
            self._pages += 1
            tally.complete = not report.refused.keys() - {QuotaExceededError.__name__}


@dataclass(slots=True)
class Faults:
    """EIO from the n-th fsync, write, truncation … on, or that once; Python's and SQLite's own."""

    name: str = "faults"
    life_cycles: int = 40
    _call: int = 0
    _when: int = 1
    _lasting: bool = False

    def live(self, folder: Path, seed: str, first: int, count: int, tally: Tally) -> Iterator[None]:
        (folder / "disk").mkdir()
        life = Life(Site.create(folder, folder / "disk"), threads=1)
        for cycle in range(first, first + count):
            orders, death, what = self._drawn(seed, cycle)
            report = life.cycle(orders, death)
            report.boundary = what if report.refused else END
            where = f"{self.name} --seed {seed} --cycle {cycle} ({what} {self._when})"
            tally.add(report, where)
            yield
            if report.findings:
                return
            self._advance(report, tally)
            if tally.complete:
                break
        _end_of_life(life, where, tally)

    def _drawn(self, seed: str, cycle: int) -> tuple[Orders, Death, str]:
        call = _WRITING[self._call]
        when = f"{self._when}+" if self._lasting else f"{self._when}"
        rng = random.Random(f"{seed} {self.name} {cycle}")
        orders = replace(
            _orders(seed, self.name, cycle, 1, rng),
            operations=10,
            faulty=True,
            traced=True,
            relief=None if self._lasting else _nothing,
        )
        trace = ("-e", f"trace={call}", "-e", f"inject={call}:error=EIO:when={when}")
        return orders, Death(trace=trace), f"{call}, {'lasting' if self._lasting else 'once'}"

    def _advance(self, report: Report, tally: Tally) -> None:
        """Go on: each call once and lasting at each place, until the plan has no such place."""
        if self._lasting and not report.refused:
            self._call, self._when, self._lasting = self._call + 1, 1, False
            tally.complete = self._call == len(_WRITING)
            return
        if self._lasting:
            self._when += 1
        self._lasting = not self._lasting


def _nothing() -> None:
    time.sleep(0)

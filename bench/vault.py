"""What sealing costs: the data path of the vault, as ratios to plain files on the same disk.

Writing is a draft fed in 256 KiB pieces (as WebDAV delivers them) with its SHA-256, sealed and
durable at the end, against write and fsync of one plain file; reading is verified content against
pread from the page cache. Times drift with the machine; only the ratios within a run count.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from backends.blobs.local import LocalBlobStore
from backends.content import Content, StoredSegment
from backends.draft import POOL_LIMIT, Draft, SealedContent
from backends.extents import ExtentMap
from backends.share import EpochKey
from bench import vault_rows

Result = TypeVar("Result")

KIB = 1024
MIB = 1024 * KIB
PIECE_BYTES = 256 * KIB
RANDOM_READ_BYTES = 64 * KIB
RANDOM_READS = 20_000


@dataclass(frozen=True, slots=True)
class Bench:
    """A blob store on the disk that is measured, and what drafts need besides."""

    folder: Path
    store: LocalBlobStore
    key: EpochKey
    executor: Executor

    def write(self, size_mib: int) -> SealedContent:
        """Write a file of ``size_mib`` through a draft, durably."""
        draft = Draft(self.store, self.key, None, executor=self.executor, random_bytes=os.urandom)
        block = memoryview(os.urandom(MIB))
        position = 0
        for _ in range(size_mib):
            for start in range(0, MIB, PIECE_BYTES):
                draft.write_at(position, block[start : start + PIECE_BYTES])
                position += PIECE_BYTES
        sealed = draft.seal()
        assert sealed.sha256 is not None
        return sealed

    def opened(self, sealed: SealedContent) -> Content:
        """Return the content of what ``write`` left."""
        sources = {row.id: StoredSegment(self.store, row, self.key) for row in sealed.new_segments}
        extents = ExtentMap(sealed.extents)
        return Content(sealed.size_bytes, extents, sources)

    def drop(self, sealed: SealedContent) -> None:
        """Delete what ``write`` left."""
        for row in sealed.new_segments:
            self.store.delete(row.id)

    def write_plain(self, size_mib: int) -> Path:
        """Write a plain file of ``size_mib`` in blocks of 1 MiB, durably."""
        path = self.folder / "plain"
        block = os.urandom(MIB)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for _ in range(size_mib):
            os.write(descriptor, block)
        os.fsync(descriptor)
        os.close(descriptor)
        return path


def read_plain(path: Path) -> None:
    """Read a file in blocks of 1 MiB."""
    descriptor = os.open(path, os.O_RDONLY)
    position = 0
    while data := os.pread(descriptor, MIB, position):
        position += len(data)
    os.close(descriptor)


def read_through(content: Content, piece_bytes: int) -> None:
    """Read all of a content in order."""
    position = 0
    while data := content.read_at(position, piece_bytes):
        position += len(data)
    assert position == content.size_bytes


def random_reads_per_s(content: Content, *, aligned: bool) -> float:
    """Return how many reads of 64 KiB at random places are served in a second."""
    chooser = random.Random(7)
    last = content.size_bytes - RANDOM_READ_BYTES
    step = RANDOM_READ_BYTES if aligned else 1
    places = [chooser.randrange(0, last, step) for _ in range(RANDOM_READS)]
    begun = time.perf_counter()
    for place in places:
        content.read_at(place, RANDOM_READ_BYTES)
    return RANDOM_READS / (time.perf_counter() - begun)


def timed(work: Callable[[], Result]) -> tuple[float, Result]:
    """Return how many seconds ``work`` took, and what it returned."""
    begun = time.perf_counter()
    result = work()
    return time.perf_counter() - begun, result


def resident_bytes(field: str) -> int:
    """Return ``VmRSS`` (now) or ``VmHWM`` (the peak) of this process."""
    for line in Path("/proc/self/status").read_text("ascii").splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * KIB
    raise LookupError(field)


def growth_mib(work: Callable[[], object]) -> float:
    """Return by how much ``work`` made the process grow at its peak."""
    Path("/proc/self/clear_refs").write_text("5")
    before = resident_bytes("VmRSS")
    work()
    return (resident_bytes("VmHWM") - before) / MIB


def report(name: str, size_mib: int, ours: list[float], plain: list[float], target: float) -> None:
    """Print the median rates and the median of the ratios between neighbours in time."""
    ratio = statistics.median(theirs / mine for mine, theirs in zip(ours, plain, strict=True))
    rates = [size_mib / statistics.median(times) for times in (ours, plain)]
    print(
        f"{name:28} {rates[0]:7.0f} MiB/s   plain {rates[1]:7.0f} MiB/s   "
        f"{ratio:5.2f}x (wanted {target}x)",
        flush=True,
    )


def measure_writing(bench: Bench, size_mib: int, rounds: int) -> None:
    """Compare durable writing."""
    ours, plain = [], []
    for _ in range(rounds):
        os.sync()
        seconds, path = timed(lambda: bench.write_plain(size_mib))
        plain.append(seconds)
        path.unlink()
        os.sync()
        seconds, sealed = timed(lambda: bench.write(size_mib))
        ours.append(seconds)
        bench.drop(sealed)
    report(f"write {size_mib} MiB", size_mib, ours, plain, 0.85)


def measure_reading(bench: Bench, size_mib: int, rounds: int) -> None:
    """Compare reading in order, then count random reads."""
    sealed = bench.write(size_mib)
    path = bench.write_plain(size_mib)
    for piece_bytes in (PIECE_BYTES, MIB):
        ours, plain = [], []
        for _ in range(rounds):
            plain.append(timed(lambda: read_plain(path))[0])
            reading = partial(read_through, bench.opened(sealed), piece_bytes)
            ours.append(timed(reading)[0])
        report(f"read {size_mib} MiB by {piece_bytes // KIB} KiB", size_mib, ours, plain, 0.5)
    content = bench.opened(sealed)
    for aligned in (True, False):
        rates = [random_reads_per_s(content, aligned=aligned) for _ in range(rounds)]
        kind = "aligned" if aligned else "unaligned"
        rate = statistics.median(rates)
        print(f"random 64 KiB {kind:14} {rate:7.0f} /s (wanted 20000/s)", flush=True)
    path.unlink()
    bench.drop(sealed)


def measure_memory(bench: Bench, size_mib: int) -> None:
    """Print how far the process grows."""
    kept: list[SealedContent] = []
    written = growth_mib(lambda: kept.append(bench.write(size_mib)))
    content = bench.opened(kept[0])
    read = growth_mib(lambda: read_through(content, MIB))
    bench.drop(kept[0])
    print(
        f"memory for {size_mib} MiB: {written:.0f} MiB to write, {read:.0f} MiB to read "
        "(wanted < 64 MiB)",
        flush=True,
    )


def main() -> int:
    """Print one line a measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where to measure (the temporary folder)")
    parser.add_argument("--mib", type=int, default=1024, help="size of the file")
    parser.add_argument("--large-mib", type=int, default=4096, help="size of the larger file")
    parser.add_argument("--nodes", type=int, default=1_000_000, help="size of the large catalog")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(dir=arguments.folder) as name,
        ThreadPoolExecutor(POOL_LIMIT) as executor,
    ):
        folder = Path(name)
        store = LocalBlobStore.prepare(folder / "blobs")
        bench = Bench(folder, store, EpochKey(os.urandom(16), 1, os.urandom(32)), executor)
        for size_mib in (arguments.mib, arguments.large_mib):
            measure_memory(bench, size_mib)
        measure_writing(bench, arguments.mib, arguments.rounds)
        measure_reading(bench, arguments.mib, arguments.rounds)
        vault_rows.measure(folder, node_count=arguments.nodes, rounds=arguments.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The extent map: which chunk of which segment holds each block of a file.

Pure arithmetic over blocks of CHUNK_SIZE_BYTES; no bytes, no keys, no I/O. A block that no extent
covers is a hole and reads as zeros. Imports nothing from the project.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Extent:
    """``block_count`` blocks from ``block_start`` lie in one segment from ``chunk_start`` on."""

    block_start: int
    block_count: int
    segment_id: bytes
    chunk_start: int

    @property
    def block_end(self) -> int:
        """The first block after the extent."""
        return self.block_start + self.block_count

    def part(self, start: int, end: int) -> Extent:
        """Return the sub-extent of blocks ``start`` to ``end``, which must lie inside."""
        assert self.block_start <= start < end <= self.block_end
        skipped = start - self.block_start
        return Extent(start, end - start, self.segment_id, self.chunk_start + skipped)

    def continues_in(self, other: Extent) -> bool:
        """Return whether ``other`` is the next run of both the file and the segment."""
        return (
            self.segment_id == other.segment_id
            and self.block_end == other.block_start
            and self.chunk_start + self.block_count == other.chunk_start
        )

    def joined(self, other: Extent) -> Extent:
        """Return the one extent that covers this and ``other``, in which this continues."""
        count = self.block_count + other.block_count
        return Extent(self.block_start, count, self.segment_id, self.chunk_start)


class ExtentMap:
    """Sorted, non-overlapping extents; a later ``put`` hides what lay there before."""

    __slots__ = ("_extents", "_starts")

    def __init__(self, extents: tuple[Extent, ...] = ()) -> None:
        self._extents = list(extents)
        self._starts = [extent.block_start for extent in extents]
        assert all(
            first.block_end <= second.block_start
            for first, second in zip(self._extents, self._extents[1:], strict=False)
        )

    def __iter__(self) -> Iterator[Extent]:
        return iter(self._extents)

    def __len__(self) -> int:
        return len(self._extents)

    def find(self, block: int) -> Extent | None:
        """Return the extent that covers ``block``, or None for a hole."""
        position = bisect_right(self._starts, block) - 1
        if position >= 0 and block < self._extents[position].block_end:
            return self._extents[position]
        return None

    def put(self, new: Extent) -> None:
        """Lay ``new`` over whatever covered its blocks; joins it to its left neighbour if it fits."""
        last = self._extents[-1] if self._extents else None
        if last is None or last.block_end <= new.block_start:
            self._append(new)
            return
        place = self._cut(new.block_start, new.block_end)
        left = self._extents[place - 1] if place else None
        if left is not None and left.continues_in(new):
            self._extents[place - 1] = left.joined(new)
        else:
            self._extents.insert(place, new)
            self._starts.insert(place, new.block_start)

    def truncate(self, block_end: int) -> None:
        """Forget everything from ``block_end`` on."""
        if self._extents and self._extents[-1].block_end > block_end:
            self._cut(block_end, self._extents[-1].block_end)

    def segment_ids(self) -> frozenset[bytes]:
        """Return the segments that still hold some block."""
        return frozenset(extent.segment_id for extent in self._extents)

    def _append(self, new: Extent) -> None:
        if self._extents and self._extents[-1].continues_in(new):
            self._extents[-1] = self._extents[-1].joined(new)
            return
        self._extents.append(new)
        self._starts.append(new.block_start)

    def _cut(self, start: int, end: int) -> int:
        """Remove blocks ``start`` to ``end``; return the index where a new extent would go."""
        low = bisect_right(self._starts, start) - 1
        if low < 0 or self._extents[low].block_end <= start:
            low += 1
        high = low
        while high < len(self._extents) and self._extents[high].block_start < end:
            high += 1
        kept: list[Extent] = []
        place = low
        if low < high:
            first, final = self._extents[low], self._extents[high - 1]
            if first.block_start < start:
                kept.append(first.part(first.block_start, start))
                place += 1
            if final.block_end > end:
                kept.append(final.part(end, final.block_end))
        self._extents[low:high] = kept
        self._starts[low:high] = [extent.block_start for extent in kept]
        return place

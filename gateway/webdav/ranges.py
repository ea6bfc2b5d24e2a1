"""The Range header, as RFC 9110 section 14 has it: pure arithmetic over byte positions.

Imports nothing from the project.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

RANGE_LIMIT: Final = 100
"""The most ranges that one answer is put together from; beyond, the file is sent whole."""

_VALUE_LIMIT_CHARACTERS: Final = 4096
_UNIT = re.compile(r"bytes=", re.IGNORECASE | re.ASCII)
_SPEC = re.compile(r"(?:(?P<first>\d+)-(?P<last>\d*)|-(?P<suffix>\d+))", re.ASCII)


@dataclass(frozen=True, slots=True)
class ByteRange:
    """``size`` bytes (at least one) from ``offset``."""

    offset: int
    size: int

    @property
    def end(self) -> int:
        """The position behind the last byte."""
        return self.offset + self.size

    def content_range(self, size_bytes: int) -> str:
        """Return the Content-Range value for this part of ``size_bytes``."""
        return f"bytes {self.offset}-{self.end - 1}/{size_bytes}"


def unsatisfied_range(size_bytes: int) -> str:
    """Return the Content-Range value of a 416 for ``size_bytes``."""
    return f"bytes */{size_bytes}"


def parse_ranges(value: str, size_bytes: int) -> list[ByteRange] | None:
    """Return the parts that ``value`` asks of ``size_bytes``; empty when none can be satisfied.

    They neither overlap nor touch (those that do are joined into one), so that together they are
    never larger than the whole, and they stand in the order in which they were asked for. None
    means that the header is to be ignored: another unit, a malformed or reversed range, more
    ranges than RANGE_LIMIT, or the end of an empty file, which no Content-Range can express.
    """
    unit = _UNIT.match(value)
    if unit is None or len(value) > _VALUE_LIMIT_CHARACTERS:
        return None
    specs = [spec.strip(" \t") for spec in value[unit.end() :].split(",")]
    specs = [spec for spec in specs if spec]
    if not specs or len(specs) > RANGE_LIMIT:
        return None
    parts: list[ByteRange] = []
    for spec in specs:
        match = _SPEC.fullmatch(spec)
        if match is None:
            return None
        suffix = match["suffix"]
        if suffix is not None:
            first, last = max(0, size_bytes - int(suffix)), size_bytes - 1
            if int(suffix) and not size_bytes:
                return None
        else:
            first = int(match["first"])
            last = int(match["last"]) if match["last"] else max(first, size_bytes - 1)
            if last < first:
                return None
        if first < size_bytes and first <= last:
            parts.append(ByteRange(first, min(last, size_bytes - 1) - first + 1))
    return _joined(parts)


def _joined(parts: Iterable[ByteRange]) -> list[ByteRange]:
    """Join what overlaps or touches; each joined part stands where its earliest piece stood."""
    joined: list[tuple[int, ByteRange]] = []
    for place, part in sorted(enumerate(parts), key=lambda it: it[1].offset):
        if joined and part.offset <= joined[-1][1].end:
            first_place, before = joined[-1]
            size = max(before.end, part.end) - before.offset
            joined[-1] = min(first_place, place), ByteRange(before.offset, size)
        else:
            joined.append((place, part))
    return [part for _, part in sorted(joined, key=lambda it: it[0])]

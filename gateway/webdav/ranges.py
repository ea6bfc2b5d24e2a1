"""The Range header, as RFC 9110 section 14 has it: pure arithmetic over byte positions.

Imports nothing from the project.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_SPEC = re.compile(r"bytes=[ \t]*(?:(?P<first>\d{1,19})-(?P<last>\d{0,19})|-(?P<suffix>\d{1,19}))")


@dataclass(frozen=True, slots=True)
class ByteRange:
    """``size`` bytes from ``offset``; a size of 0 means that the range cannot be satisfied."""

    offset: int
    size: int

    def content_range(self, size_bytes: int) -> str:
        """Return the Content-Range value for this part of ``size_bytes``."""
        if self.size == 0:
            return f"bytes */{size_bytes}"
        return f"bytes {self.offset}-{self.offset + self.size - 1}/{size_bytes}"


def parse_range(value: str, size_bytes: int) -> ByteRange | None:
    """Return the one range that ``value`` asks of ``size_bytes``.

    None means that the header is to be ignored: another unit, a malformed or reversed range, or
    several ranges, which may be answered whole (section 14.2) and here always are.
    """
    match = _SPEC.fullmatch(value.strip(" \t"))
    if match is None or not value.isascii():
        return None
    if match["suffix"] is not None:
        size = min(int(match["suffix"]), size_bytes)
        return ByteRange(size_bytes - size, size)
    first = int(match["first"])
    last = int(match["last"]) if match["last"] else size_bytes - 1
    if match["last"] and last < first:
        return None
    if first >= size_bytes:
        return ByteRange(0, 0)
    return ByteRange(first, min(last, size_bytes - 1) - first + 1)

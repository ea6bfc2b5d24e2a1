"""Contents that need not be stored to be known: recipes of pieces of seeded random bytes.

Pure; no gateway, no I/O.
"""

from __future__ import annotations

import functools
import hashlib
import random
from dataclasses import dataclass

ZEROS = 0
"""The seed of a piece that is all zeros."""

_WORD_BYTES = 4


@dataclass(frozen=True, slots=True)
class Piece:
    """``size_bytes`` of the stream of ``seed``, from ``start`` on."""

    seed: int
    start: int
    size_bytes: int

    def data(self) -> bytes:
        """Return the bytes."""
        if self.seed == ZEROS:
            return bytes(self.size_bytes)
        end = self.start + self.size_bytes
        # The generator makes words of four bytes; asked for less it gives other bytes at the end.
        whole = random.Random(self.seed).randbytes(-(-end // _WORD_BYTES) * _WORD_BYTES)
        return whole[self.start : end]

    def cut(self, start: int, end: int) -> Piece:
        """Return the part from ``start`` to ``end`` within this piece."""
        return Piece(self.seed, self.start + start, end - start)


@dataclass(frozen=True, slots=True)
class Recipe:
    """A file's content as pieces one after the other."""

    pieces: tuple[Piece, ...] = ()

    @property
    def size_bytes(self) -> int:
        """How long the content is."""
        return sum(piece.size_bytes for piece in self.pieces)

    def data(self) -> bytes:
        """Return the content."""
        return b"".join(piece.data() for piece in self.pieces)

    def truncated(self, size_bytes: int) -> Recipe:
        """Return the content cut, or extended with zeros."""
        missing = size_bytes - self.size_bytes
        tail = (Piece(ZEROS, 0, missing),) if missing > 0 else ()
        return Recipe((*self._slice(0, size_bytes), *tail))

    def changed(self, offset: int, piece: Piece) -> Recipe:
        """Return the content with ``piece`` written at ``offset``; a gap reads as zeros."""
        before = self.truncated(offset).pieces
        after = self._slice(offset + piece.size_bytes, max(self.size_bytes, offset))
        return Recipe((*before, piece, *after))

    def _slice(self, start: int, end: int) -> tuple[Piece, ...]:
        found = []
        position = 0
        for piece in self.pieces:
            first = max(start - position, 0)
            last = min(end - position, piece.size_bytes)
            if first < last:
                found.append(piece.cut(first, last))
            position += piece.size_bytes
        return tuple(found)


@functools.lru_cache(maxsize=4096)
def digest_of(recipe: Recipe) -> str:
    """Return the SHA-256 of the content in hex."""
    return hashlib.sha256(recipe.data()).hexdigest()

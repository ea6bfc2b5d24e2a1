"""Path patterns of the policy, matched part by part below a share's root.

No regular expressions, so that neither a pattern nor a hostile name can make matching slow. Pure;
imports only the shared path type and error tree.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.errors import InvalidPathError
from gateway.paths import DEPTH_LIMIT, check_name

ANY_DEPTH = "**"


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern such as ``/2019/**`` or ``/*/reports/*.pdf``; ``/`` is the share's root itself.

    ``*`` stands for any run of characters within one part, ``**`` as a whole part for any number
    of parts, none included: ``/2019/**`` covers the folder ``/2019`` and everything below it.
    Every other character stands for itself.
    """

    parts: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """Return the pattern that ``text`` writes, NFC-normalised.

        Raises InvalidPathError when it does not begin with a slash, ends with one, has a part
        that no name can match, or joins ``**`` to other characters.
        """
        if not text.startswith("/"):
            raise InvalidPathError("A path pattern begins with a slash, as in /2019/**.")
        if text == "/":
            return cls(())
        written = text[1:].split("/")
        if len(written) > DEPTH_LIMIT:
            raise InvalidPathError(f"A path pattern has at most {DEPTH_LIMIT} parts.")
        parts: list[str] = []
        for part in written:
            if ANY_DEPTH in part and part != ANY_DEPTH:
                raise InvalidPathError("In a path pattern, ** stands alone between slashes.")
            if part == ANY_DEPTH and parts[-1:] == [ANY_DEPTH]:
                continue
            parts.append(check_name(part))
        return cls(tuple(parts))

    def covers(self, names: tuple[str, ...]) -> bool:
        """Return whether the node that ``names`` lead to (from the share's root) is covered."""
        return len(self.parts) in self._places(names)

    def divides(self, names: tuple[str, ...]) -> bool:
        """Return whether a node below ``names`` may be covered when that node is not, or not.

        False is certain; True may err on the side of caution.
        """
        places = self._places(names)
        end = len(self.parts)
        covers_all_below = end - 1 in places and self.parts[-1] == ANY_DEPTH
        return not covers_all_below and bool(places)

    @property
    def covers_everything(self) -> bool:
        """Whether the pattern covers every node of a share."""
        return self.parts == (ANY_DEPTH,)

    def _places(self, names: tuple[str, ...]) -> frozenset[int]:
        """Return how many parts of the pattern can have been used up when ``names`` are.

        All possible places are carried along at once, so the work is bounded by
        parts x names whatever they hold.
        """
        places = self._past_any_depth({0})
        for name in names:
            if not places:
                break
            reached: set[int] = set()
            for place in places:
                if place == len(self.parts):
                    continue
                part = self.parts[place]
                if part == ANY_DEPTH:
                    reached.add(place)
                elif part_matches(part, name):
                    reached.add(place + 1)
            places = self._past_any_depth(reached)
        return frozenset(places)

    def _past_any_depth(self, places: set[int]) -> set[int]:
        """Return ``places`` and those reached from them by letting ``**`` stand for no part."""
        closed = set(places)
        for place in places:
            reached = place
            while reached < len(self.parts) and self.parts[reached] == ANY_DEPTH:
                reached += 1
                closed.add(reached)
        return closed


def part_matches(part: str, name: str) -> bool:
    """Return whether one part of a pattern, with ``*`` as its only wildcard, matches ``name``."""
    first, *rest = part.split("*")
    if not rest:
        return part == name
    *middle, last = rest
    if len(name) < len(first) + len(last):
        return False
    if not (name.startswith(first) and name.endswith(last)):
        return False
    # Taking each piece at its leftmost place is enough: it leaves the most room for the others.
    start, end = len(first), len(name) - len(last)
    for piece in middle:
        found = name.find(piece, start, end)
        if found < 0:
            return False
        start = found + len(piece)
    return True

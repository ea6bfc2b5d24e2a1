"""Who may stay among those that have not logged in: a bound for each address, and one for all.

Pure bookkeeping of one listener, used on its event loop alone. No protocol, no I/O.

OpenSSH's MaxStartups turns newcomers away at random once there are many strangers, so that whoever
floods keeps others out. Here the newcomer always comes in and a stranger makes room, one of the
address that has the most of them: whoever floods displaces only themselves.
"""

from __future__ import annotations

from collections import Counter
from typing import Generic, TypeVar

from gateway.addresses import client_host

T = TypeVar("T")


class Admission(Generic[T]):
    """The strangers of a listener, oldest first."""

    def __init__(self, limit: int, address_limit: int) -> None:
        """``limit`` is for all together; an IPv6 network of 64 bits counts as one address."""
        self._limit = limit
        self._address_limit = address_limit
        self._waiting: dict[T, str] = {}
        self._counts: Counter[str] = Counter()
        self._begun: set[T] = set()

    def __len__(self) -> int:
        """Return how many strangers there are."""
        return len(self._waiting)

    def admit(self, stranger: T, address: str) -> T | None:
        """Take a newcomer in; return who has to go for it, if anybody."""
        place, victim = client_host(address), None
        if self._counts[place] >= self._address_limit:
            victim = self._first_of({place})
        elif len(self._waiting) >= self._limit:
            most = max(self._counts.values())
            victim = self._first_of({one for one, count in self._counts.items() if count == most})
        if victim is not None:
            self.leave(victim)
        self._waiting[stranger] = place
        self._counts[place] += 1
        return victim

    def begun(self, stranger: T) -> None:
        """Note that a stranger has begun to say who they are: silent ones go before it."""
        if stranger in self._waiting:
            self._begun.add(stranger)

    def leave(self, stranger: T) -> None:
        """Note that it is gone, or no stranger any more. Idempotent."""
        place = self._waiting.pop(stranger, None)
        if place is None:
            return
        self._begun.discard(stranger)
        self._counts[place] -= 1
        if not self._counts[place]:
            del self._counts[place]

    def _first_of(self, places: set[str]) -> T:
        """Return the oldest that has said nothing, else the oldest: it has had the most time."""
        waiting = [one for one, place in self._waiting.items() if place in places]
        return next((one for one in waiting if one not in self._begun), waiting[0])

"""Drivers of the small stores that keep everything in memory, for tests of what uses them."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from typing import Any

from auth.throttle import ThrottleState
from auth.totp import Seed
from gateway.model import SECOND_US, Transaction


@dataclass(frozen=True, slots=True)
class MemoryTransaction:
    """A transaction that can neither fail nor roll back."""

    writable: bool = True
    seen: dict[Hashable, Any] = field(default_factory=dict)


@dataclass(slots=True)
class FixedClock:
    """A clock that stands still until told to go on."""

    now_us: int = 1_800_000_000 * SECOND_US

    def __call__(self) -> int:
        return self.now_us

    def forward(self, seconds: float) -> None:
        self.now_us += int(seconds * SECOND_US)


@dataclass(slots=True)
class MemorySeedStore:
    """Seeds in a dictionary."""

    seeds: dict[str, Seed] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def seed(self, tx: Transaction, principal_id: str) -> Seed | None:
        return self.seeds.get(principal_id)

    def put(self, tx: Transaction, principal_id: str, secret: str, now_us: int) -> None:
        self.seeds[principal_id] = Seed(secret, -1, confirmed=False)

    def advance(self, tx: Transaction, principal_id: str, counter: int) -> bool:
        with self.lock:
            seed = self.seeds.get(principal_id)
            if seed is None or seed.last_counter >= counter:
                return False
            self.seeds[principal_id] = replace(seed, last_counter=counter, confirmed=True)
            return True

    def remove(self, tx: Transaction, principal_id: str) -> bool:
        return self.seeds.pop(principal_id, None) is not None


@dataclass(slots=True)
class MemoryThrottleStore:
    """Throttle states in a dictionary."""

    states: dict[str, ThrottleState] = field(default_factory=dict)

    def load(self, tx: Transaction, key: str) -> ThrottleState:
        return self.states.get(key, ThrottleState())

    def save(self, tx: Transaction, key: str, state: ThrottleState) -> None:
        self.states[key] = state

    def clear(self, tx: Transaction, key: str) -> None:
        self.states.pop(key, None)

    def purge(self, tx: Transaction, before_us: int) -> None:
        for key, state in list(self.states.items()):
            if state.last_failure_us < before_us:
                del self.states[key]

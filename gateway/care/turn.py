"""Whose turn it is to care: one process at a time, on whatever machine, by one row of the catalog.

Two at once would do no harm, only the same work twice; so the row is neither sealed nor a lock.
Imports the catalog's settings.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from backends.catalog import keys
from gateway.model import SECOND_US, Clock, Transaction, UnitOfWork

TURN_US = 300 * SECOND_US
"""How long a turn lasts without being renewed; that of a process that died runs out."""

_KEY = "care_turn"


@dataclass(frozen=True, slots=True)
class _Holder:
    name: str
    until_us: int
    commanded: bool


class Turn:
    """One process's claim. A command takes precedence over running gateways, not over a command."""

    def __init__(
        self, catalog: UnitOfWork, clock: Clock, name: str, *, commanded: bool = False
    ) -> None:
        self._catalog = catalog
        self._clock = clock
        self._name = name
        self._commanded = commanded

    def take(self) -> bool:
        """Take the turn or keep it; return whether it is ours. Writes every few minutes only."""
        with self._catalog.snapshot() as tx:
            holder = _read(tx)
        if holder is not None and holder.name == self._name and self._fresh(holder, TURN_US // 2):
            return True
        with self._catalog.begin() as tx:
            holder = _read(tx)
            if holder is not None and holder.name != self._name and self._fresh(holder):
                precedes = self._commanded and not holder.commanded
                if not precedes:
                    return False
            ours = _Holder(self._name, self._clock() + TURN_US, self._commanded)
            keys.put_setting(tx, _KEY, json.dumps(asdict(ours)).encode("ascii"))
        return True

    def give_up(self) -> None:
        """Let others have their turn at once."""
        with self._catalog.begin() as tx:
            holder = _read(tx)
            if holder is not None and holder.name == self._name:
                keys.remove_setting(tx, _KEY)

    def _fresh(self, holder: _Holder, left_us: int = 0) -> bool:
        # A turn that lasts longer than any is one of a clock that was set back since.
        return left_us < holder.until_us - self._clock() <= TURN_US


def _read(tx: Transaction) -> _Holder | None:
    stored = keys.setting(tx, _KEY)
    if stored is None:
        return None
    try:
        return _Holder(**json.loads(stored))
    except (ValueError, TypeError):
        return None

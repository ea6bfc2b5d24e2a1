"""A bounded memory of what was verified or unsealed before, so that equal bytes cost it once.

Only for results that follow from the key alone (a MAC over these very bytes, a name from this very
ciphertext): such a result can never be out of date. Imports nothing of the project.
"""

from __future__ import annotations

from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class Memo(Generic[Key, Value]):
    """Thread-safe. Forgets everything when full: simple, and a full one is soon useful again."""

    __slots__ = ("_known", "_limit")

    def __init__(self, limit: int) -> None:
        """``limit``: the most results kept."""
        self._limit = limit
        self._known: dict[Key, Value] = {}

    def get(self, key: Key) -> Value | None:
        """Return what was put under ``key``, if it is still known."""
        return self._known.get(key)

    def put(self, key: Key, value: Value) -> None:
        """Keep ``value`` under ``key``."""
        if len(self._known) >= self._limit:
            self._known.clear()
        self._known[key] = value

    def drop(self, key: Key) -> None:
        """Forget what was put under ``key``."""
        self._known.pop(key, None)

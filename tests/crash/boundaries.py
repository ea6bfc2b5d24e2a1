"""The moments at which a crash is most telling: every system call that changes a disk.

Counts them in this process and strikes at the n-th. Must be installed only in a process that is
made to be killed. What SQLite does inside its own library is out of reach here: those calls are
struck by strace (``strace.py``) and by the clock.
"""

from __future__ import annotations

import fcntl
import functools
import itertools
import os
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

_CALLS = (
    (os, "fsync"),
    (os, "unlink"),
    (os, "rename"),
    (os, "replace"),
    (os, "mkdir"),
    # The catalog takes its file lock before a transaction, and lets go of it before it answers.
    (fcntl, "flock"),
)


@dataclass(slots=True)
class Boundaries:
    """Calls ``strike`` with the boundary's name when the ``at``-th is reached, and then never.

    Counts from ``armed`` on, and only boundaries whose name begins with ``kind``.
    """

    at: int
    kind: str
    strike: Callable[[str], None]
    armed: bool = False
    _count: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def install(self) -> None:
        """Wrap the system calls of this process for good, and the commits of its connections."""
        for module, name in _CALLS:
            setattr(module, name, self._around(name, getattr(module, name)))
        self._wrap_open()
        self._wrap_write()
        watched = type("Watched", (_Watched,), {"boundaries": self})
        sqlite3.connect = functools.partial(sqlite3.connect, factory=watched)  # type: ignore[assignment]

    def reach(self, name: str) -> None:
        """Note that a boundary is reached."""
        if self._hit(name):
            self.strike(name)

    def _hit(self, name: str) -> bool:
        return self.armed and name.startswith(self.kind) and next(self._count) == self.at

    def _around(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **keywords: Any) -> Any:
            self.reach(f"{name}, before")
            result = call(*arguments, **keywords)
            self.reach(f"{name}, after")
            return result

        return wrapped

    def _wrap_open(self) -> None:
        call = os.open

        def wrapped(path: Any, flags: int, *arguments: Any, **keywords: Any) -> int:
            if flags & os.O_CREAT:
                self.reach("create, before")
            descriptor = call(path, flags, *arguments, **keywords)
            if flags & os.O_CREAT:
                self.reach("create, after")
            return descriptor

        os.open = wrapped

    def _wrap_write(self) -> None:
        call = os.write

        def wrapped(descriptor: int, data: Any, /) -> int:
            if self._hit("write, torn"):
                # A torn write: a part of it is there; a process that lives on writes the rest.
                view = memoryview(data)
                written = call(descriptor, view[: len(view) // 2 or 1])
                self.strike("write, torn")
                return written
            return call(descriptor, data)

        os.write = wrapped


class _Watched(sqlite3.Connection):
    """A connection whose commits are boundaries."""

    boundaries: Boundaries

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        if sql != "COMMIT":
            return super().execute(sql, *parameters)
        self.boundaries.reach("commit, before")
        cursor = super().execute(sql)
        self.boundaries.reach("commit, after")
        return cursor

"""Work done in order beside its caller, on threads that many callers share.

Knows nothing of what the work is. Imports nothing from the project.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future


class Strand:
    """Work that is done one piece at a time, in order, on threads of an executor.

    One thread at a time calls it. The first piece that fails ends the strand: what waits behind it
    is dropped, and its error is raised by every later call. No piece may wait for other work of
    the executor, so that an executor of any size makes progress.
    """

    def __init__(self, executor: Executor, limit: int) -> None:
        """At most ``limit`` pieces wait at any time."""
        self._executor = executor
        self._limit = limit
        self._waiting: deque[Callable[[], object]] = deque()
        self._changed = threading.Condition()
        self._running = False
        self._failed = False
        self._future: Future[None] | None = None

    def add(self, work: Callable[[], object]) -> None:
        """Have ``work`` done after all that was added before; waits while too much waits."""
        with self._changed:
            self._changed.wait_for(lambda: self._failed or len(self._waiting) < self._limit)
            if not self._failed:
                self._waiting.append(work)
                if not self._running:
                    self._future = self._executor.submit(self._run)
                    self._running = True
                return
        self.settle()

    def settle(self) -> None:
        """Return when all that was added is done; raises what the first failure raised."""
        if self._future is not None:
            self._future.result()

    def stop(self) -> None:
        """Drop what waits and return when nothing runs any more. What fails is of no interest."""
        with self._changed:
            self._waiting.clear()
        if self._future is not None:
            self._future.exception()

    def _run(self) -> None:
        done = False
        try:
            while (work := self._next()) is not None:
                work()
            done = True
        finally:
            if not done:
                with self._changed:
                    self._failed = True
                    self._waiting.clear()
                    self._changed.notify()

    def _next(self) -> Callable[[], object] | None:
        with self._changed:
            if not self._waiting:
                self._running = False
                return None
            self._changed.notify()
            return self._waiting.popleft()

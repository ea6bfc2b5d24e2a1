"""Threads that carry the door's blocking calls off the event loop.

Log-ins have a pool of their own: a directory that hangs must not stop transfers. No protocol
lives here. Imports nothing from the project.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Workers:
    """Two bounded thread pools; the calls wait in line when all threads are busy."""

    def __init__(self, transfer_threads: int, login_threads: int) -> None:
        self._transfers = Threads(transfer_threads, "sftp-door")
        self._logins = ThreadPoolExecutor(login_threads, thread_name_prefix="sftp-login")

    def door(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """Return the future of ``call`` run among the transfers.

        Cancelling it undoes nothing that has begun.
        """
        return self._transfers.submit(functools.partial(call, *args, **kwargs))

    def login(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """Return the future of ``call`` run among the log-ins; cancelling it undoes nothing."""
        job = functools.partial(call, *args, **kwargs)
        return asyncio.get_running_loop().run_in_executor(self._logins, job)

    def shut_down(self) -> None:
        """Take no more calls; those that run finish on their own."""
        self._transfers.shut_down()
        self._logins.shutdown(wait=False, cancel_futures=True)


class Threads:
    """Threads that take calls from one event loop; used on that loop alone.

    An executor's future is two futures with a lock and a condition: handing a small request over
    by it costs as much Python as serving it.
    """

    def __init__(self, limit: int, name: str) -> None:
        self._limit = limit
        self._name = name
        self._calls: SimpleQueue[tuple[asyncio.Future[Any], Callable[[], Any]] | None]
        self._calls = SimpleQueue()
        self._started = 0
        self._unsettled = 0
        self._closed = False

    def submit(self, call: Callable[[], T]) -> asyncio.Future[T]:
        """Return the future of ``call``; RuntimeError after ``shut_down``."""
        if self._closed:
            raise RuntimeError("The threads were shut down.")
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._unsettled += 1
        if self._started < min(self._unsettled, self._limit):
            # Not all at once: a few threads that are used again and again stay in the caches.
            self._started += 1
            name = f"{self._name}_{self._started}"
            threading.Thread(target=self._work, name=name, daemon=True).start()
        self._calls.put((answer, call))
        return answer

    def shut_down(self) -> None:
        """Take no more calls, and cancel those that no thread has taken. Idempotent."""
        self._closed = True
        with contextlib.suppress(Empty):
            while True:
                taken = self._calls.get_nowait()
                if taken is not None:
                    taken[0].cancel()
        for _ in range(self._started):
            self._calls.put(None)

    def _work(self) -> None:
        while (taken := self._calls.get()) is not None:
            answer, call = taken
            result, error = None, None
            if not answer.cancelled():
                try:
                    result = call()
                except BaseException as raised:  # noqa: BLE001  it is the answer
                    error = raised
            # The loop is closed when nobody waits any more.
            with contextlib.suppress(RuntimeError):
                answer.get_loop().call_soon_threadsafe(self._settle, answer, result, error)
            # Else patients' data would stay in memory until the next call.
            del taken, answer, call, result, error

    def _settle(self, answer: asyncio.Future[T], result: T, error: BaseException | None) -> None:
        self._unsettled -= 1
        if answer.done():
            return
        if isinstance(error, StopIteration):
            # No future takes one, and whoever waits would wait for ever.
            error = RuntimeError("a call ended with StopIteration")
        if error is None:
            answer.set_result(result)
        else:
            answer.set_exception(error)

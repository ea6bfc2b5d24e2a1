"""Thread pools that carry the door's blocking calls off the event loop.

Log-ins have a pool of their own: a directory that hangs must not stop transfers. No protocol
lives here. Imports nothing from the project.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Workers:
    """Two bounded thread pools; the calls wait in line when all threads are busy."""

    def __init__(self, transfer_threads: int, login_threads: int) -> None:
        self._transfers = ThreadPoolExecutor(transfer_threads, thread_name_prefix="sftp-door")
        self._logins = ThreadPoolExecutor(login_threads, thread_name_prefix="sftp-login")

    async def door(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what ``call`` returns, or raise what it raises, run among the transfers."""
        job = functools.partial(call, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._transfers, job)

    def login(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """Return the future of ``call`` run among the log-ins; cancelling it undoes nothing."""
        job = functools.partial(call, *args, **kwargs)
        return asyncio.get_running_loop().run_in_executor(self._logins, job)

    def shut_down(self) -> None:
        """Take no more calls; those that run finish on their own."""
        self._transfers.shutdown(wait=False, cancel_futures=True)
        self._logins.shutdown(wait=False, cancel_futures=True)

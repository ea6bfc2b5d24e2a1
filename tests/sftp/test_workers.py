"""The threads that the door's calls run in."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TypeVar

import pytest

from gateway.sftp.workers import Threads
from tests.support.users import until

T = TypeVar("T")


def _run(job: Coroutine[object, object, T]) -> T:
    return asyncio.run(asyncio.wait_for(job, 60))


def test_results_and_errors_come_back_to_whoever_asked() -> None:
    async def go() -> None:
        threads = Threads(4, "test")
        assert await threads.submit(lambda: 7) == 7
        for error in (KeyError("k"), SystemExit(3)):
            with pytest.raises(type(error)) as raised:
                await threads.submit(_raising(error))
            assert raised.value is error
        with pytest.raises(RuntimeError, match="StopIteration"):
            await threads.submit(_raising(StopIteration()))
        threads.shut_down()

    _run(go())


def test_no_more_threads_than_calls_and_never_more_than_the_limit() -> None:
    """Calls beyond the limit wait in line and are done in it."""

    async def go() -> None:
        threads, release, begun = Threads(3, "limit"), threading.Event(), []

        def wait(number: int) -> int:
            begun.append(threading.current_thread().name)
            release.wait(60)
            return number

        for _ in range(20):
            assert await threads.submit(lambda: 1) == 1
        assert _alive("limit") == 1
        answers = [threads.submit(partial(wait, number)) for number in range(8)]
        await asyncio.to_thread(until, lambda: len(begun) == 3, "three calls run")
        assert _alive("limit") == 3
        release.set()
        assert await asyncio.gather(*answers) == list(range(8))
        assert len(set(begun)) == 3
        threads.shut_down()

    _run(go())


def test_a_call_that_was_given_up_before_its_turn_is_not_made() -> None:
    async def go() -> None:
        threads, release, made = Threads(1, "given-up"), threading.Event(), []
        first = threads.submit(lambda: release.wait(60))
        second = threads.submit(lambda: made.append("second"))
        third = threads.submit(lambda: made.append("third"))
        second.cancel()
        release.set()
        assert await first
        await third
        assert made == ["third"]
        threads.shut_down()

    _run(go())


def test_shutting_down_lets_what_runs_finish_and_cancels_the_rest() -> None:
    async def go() -> None:
        threads, begun, release = Threads(1, "ending"), threading.Event(), threading.Event()

        def run() -> str:
            begun.set()
            release.wait(60)
            return "done"

        running, waiting = threads.submit(run), threads.submit(lambda: "never")
        await asyncio.to_thread(begun.wait, 60)
        threads.shut_down()
        threads.shut_down()
        assert waiting.cancelled()
        with pytest.raises(RuntimeError, match="shut down"):
            threads.submit(lambda: 1)
        release.set()
        assert await running == "done"
        await asyncio.to_thread(until, lambda: not _alive("ending"), "the thread has ended")

    _run(go())


def test_a_loop_that_is_gone_does_not_end_the_thread_with_an_error() -> None:
    release = threading.Event()
    threads = Threads(1, "left")
    raised: list[object] = []
    threading.excepthook, before = raised.append, threading.excepthook

    async def go() -> None:
        threads.submit(lambda: release.wait(60))

    try:
        _run(go())
        release.set()
        threads.shut_down()
        for thread in threading.enumerate():
            if thread.name.startswith("left"):
                thread.join(60)
    finally:
        threading.excepthook = before
    assert raised == []


def _raising(error: BaseException) -> Callable[[], None]:
    def call() -> None:
        raise error

    return call


def _alive(name: str) -> int:
    return sum(thread.name.startswith(f"{name}_") for thread in threading.enumerate())

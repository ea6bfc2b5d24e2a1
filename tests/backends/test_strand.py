"""Strands: order, limits, and what follows a failure."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from backends.errors import StorageUnavailableError
from backends.strand import Strand

LIMIT = 3


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as executor:
        yield executor


def failing() -> None:
    raise StorageUnavailableError("the first failure")


def test_work_is_done_in_order_and_never_twice_at_once(executor: ThreadPoolExecutor) -> None:
    """Although the executor has several threads."""
    strand = Strand(executor, LIMIT)
    done: list[int] = []
    busy = threading.Lock()

    def work(number: int) -> None:
        assert busy.acquire(blocking=False)
        done.append(number)
        busy.release()

    for number in range(500):
        strand.add(partial(work, number))
    strand.settle()
    assert done == list(range(500))


def test_settling_or_stopping_a_strand_without_work_does_nothing(
    executor: ThreadPoolExecutor,
) -> None:
    """Nothing was added, so nothing is waited for."""
    strand = Strand(executor, LIMIT)
    strand.settle()
    strand.stop()


def test_a_failure_ends_the_strand(executor: ThreadPoolExecutor) -> None:
    """What waits behind it is not done, and every later call raises its error."""
    strand = Strand(executor, LIMIT)
    done: list[str] = []
    begin = threading.Event()
    strand.add(begin.wait)
    strand.add(failing)
    strand.add(lambda: done.append("behind"))
    begin.set()
    for _ in range(2):
        with pytest.raises(StorageUnavailableError, match="the first failure"):
            strand.settle()
        with pytest.raises(StorageUnavailableError, match="the first failure"):
            strand.add(lambda: done.append("later"))
    strand.stop()
    assert done == []


def test_a_caller_that_waits_for_room_learns_of_a_failure(executor: ThreadPoolExecutor) -> None:
    """It does not wait for ever for work that will never be done."""
    strand = Strand(executor, LIMIT)
    begin = threading.Event()
    strand.add(begin.wait)

    def fill() -> None:
        strand.add(failing)
        for _ in range(LIMIT + 1):
            strand.add(int)

    filling = executor.submit(fill)
    begin.set()
    with pytest.raises(StorageUnavailableError):
        filling.result()


def test_no_more_than_the_limit_waits(executor: ThreadPoolExecutor) -> None:
    """The caller waits instead, until a piece is begun."""
    strand = Strand(executor, LIMIT)
    begun = threading.Semaphore(0)
    go_on = threading.Semaphore(0)
    added: list[int] = []

    def work() -> None:
        begun.release()
        go_on.acquire()

    def fill() -> None:
        for number in range(LIMIT + 2):
            strand.add(work)
            added.append(number)

    filling = executor.submit(fill)
    begun.acquire()
    assert len(added) <= LIMIT + 1
    go_on.release(LIMIT + 2)
    filling.result()
    strand.settle()
    assert len(added) == LIMIT + 2


def test_a_stopped_strand_does_nothing_more(executor: ThreadPoolExecutor) -> None:
    """What runs is waited for, what waits is dropped, and errors are of no interest."""
    strand = Strand(executor, LIMIT)
    done: list[str] = []
    begun, go_on = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go_on.wait()
        done.append("running")
        failing()

    strand.add(work)
    strand.add(lambda: done.append("waiting"))
    begun.wait()
    stopping = executor.submit(strand.stop)
    go_on.set()
    stopping.result()
    assert done[:1] == ["running"]
    strand.stop()

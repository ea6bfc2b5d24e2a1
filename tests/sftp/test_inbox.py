"""Putting SFTP packets together from pieces of any size."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.sftp.inbox import Inbox, OversizeError

T = TypeVar("T")

LIMIT = 300


def _inbox(read: Callable[[int], None] = lambda _waiting: None) -> Inbox:
    return Inbox(packet_limit_bytes=LIMIT, read=read)


def _framed(packet: bytes) -> bytes:
    return len(packet).to_bytes(4, "big") + packet


def _run(job: Coroutine[object, object, T]) -> T:
    return asyncio.run(asyncio.wait_for(job, 30))


@given(
    st.lists(st.binary(max_size=LIMIT), min_size=1, max_size=8),
    st.lists(st.integers(1, 100), max_size=40),
)
def test_any_split_gives_the_same_packets(packets: list[bytes], sizes: list[int]) -> None:
    """Where a channel's data is cut means nothing."""
    stream = memoryview(b"".join(map(_framed, packets)))

    async def go() -> list[bytes | bytearray]:
        inbox = _inbox()
        rest = stream
        for size in sizes:
            inbox.feed(rest[:size])
            rest = rest[size:]
        inbox.feed(rest)
        inbox.end()
        found = [await inbox.get() for _ in packets]
        with pytest.raises(EOFError):
            await inbox.get()
        return found

    assert _run(go()) == packets


def test_a_packet_that_is_too_long_ends_the_inbox_before_it_is_kept() -> None:
    """What came before it is still given; what comes after it is nobody's."""

    async def go() -> None:
        inbox = _inbox()
        inbox.feed(_framed(b"good") + (LIMIT + 1).to_bytes(4, "big") + b"x" * 50)
        inbox.feed(_framed(b"never"))
        assert await inbox.get() == b"good"
        with pytest.raises(OversizeError):
            await inbox.get()

    _run(go())


def test_half_a_packet_at_the_end_is_dropped() -> None:
    """Nobody acts on a request that was cut."""

    async def go() -> None:
        inbox = _inbox()
        inbox.feed(_framed(b"whole") + _framed(b"cut")[:-1])
        inbox.end()
        assert await inbox.get() == b"whole"
        with pytest.raises(EOFError):
            await inbox.get()

    _run(go())


def test_whoever_makes_room_is_told_what_waits() -> None:
    """With each packet that is read; what came of the next ones counts as waiting."""
    told: list[int] = []

    async def go() -> None:
        inbox = _inbox(told.append)
        for _ in range(2):
            inbox.feed(_framed(bytes(150)))
        inbox.feed(_framed(bytes(150))[:50])
        assert told == []
        await inbox.get()
        assert told == [154 + 50]
        await inbox.get()
        assert told == [204, 50]
        inbox.feed(_framed(bytes(150))[50:])
        await inbox.get()
        assert told == [204, 50, 0]

    _run(go())


def test_a_reader_that_waits_is_woken() -> None:
    """The reader may come before its packet."""

    async def go() -> bytes | bytearray:
        inbox = _inbox()
        reader = asyncio.create_task(inbox.get())
        await asyncio.sleep(0)
        inbox.feed(_framed(b"late")[:2])
        await asyncio.sleep(0)
        assert not reader.done()
        inbox.feed(_framed(b"late")[2:])
        return await reader

    assert _run(go()) == b"late"

"""The copy-data extension against the fake door, which has every byte copied."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable

import asyncssh
import pytest

from backends.errors import IntegrityError
from gateway.sftp import copying
from tests.sftp.conftest import LIMIT_S, Listener
from tests.support.users import until

CONTENT = os.urandom(2_500_003)
STEP = copying.STEP_BYTES


def test_a_file_is_copied_without_its_bytes_passing_the_client(listener: Listener) -> None:
    """From one handle to another; the whole, a part, and to an end that appends."""
    listener.monitor.put("/share/a", CONTENT)
    listener.monitor.put("/share/log", b"log:")

    async def go() -> None:
        async with await listener.connect() as conn, conn.start_sftp_client() as sftp:
            copy = sftp._handler.copy_data
            async with sftp.open("/share/a", "rb") as source:
                async with sftp.open("/share/b", "wb") as target:
                    await sftp.remote_copy(source, target)
                async with sftp.open("/share/c", "wb") as target:
                    await copy(source.handle, STEP - 1, STEP + 2, target.handle, 3)
                    await copy(source.handle, len(CONTENT) + 5, 10, target.handle, 0)
                async with sftp.open("/share/log", "ab") as target:
                    await copy(source.handle, 0, 10, target.handle, 0)

    asyncio.run(go())
    assert listener.monitor.content("/share/b") == CONTENT
    assert listener.monitor.content("/share/c") == bytes(3) + CONTENT[STEP - 1 : 2 * STEP + 1]
    assert listener.monitor.content("/share/log") == b"log:" + CONTENT[:10]


@pytest.mark.parametrize(
    ("begin", "length", "to"),
    [(0, 0, 1), (0, 0, STEP + 7), (5, STEP * 2, 0), (STEP, 0, STEP - 1), (7, 100, 7), (0, 50, 50)],
)
@pytest.mark.parametrize("handles", [1, 2])
def test_ranges_that_overlap_in_one_file_are_moved(
    listener: Listener, begin: int, length: int, to: int, handles: int
) -> None:
    """As if all had been read before the first byte was written."""
    listener.monitor.put("/share/a", CONTENT)

    async def go() -> None:
        async with await listener.connect() as conn, conn.start_sftp_client() as sftp:
            copy = sftp._handler.copy_data
            async with sftp.open("/share/a", "rb+") as one, sftp.open("/share/a", "rb+") as other:
                target = one if handles == 1 else other
                await copy(one.handle, begin, length, target.handle, to)

    asyncio.run(go())
    moved = CONTENT[begin : begin + length if length else None]
    expected = CONTENT[:to] + moved + CONTENT[to + len(moved) :]
    assert listener.monitor.content("/share/a") == expected


def test_a_copy_keeps_nobody_else_waiting(listener: Listener) -> None:
    """Other files are served beside it; what is asked about its own files comes after it."""
    listener.monitor.put("/share/a", CONTENT)
    listener.monitor.put("/share/other", b"other")
    held, copying_now = threading.Event(), threading.Event()

    def fault(operation: str) -> None:
        if operation == "write":
            copying_now.set()
            assert held.wait(LIMIT_S)

    listener.monitor.fault = fault

    async def go() -> None:
        async with await listener.connect() as conn, conn.start_sftp_client() as sftp:
            handler = sftp._handler
            async with sftp.open("/share/a", "rb") as source, sftp.open("/share/b", "wb") as target:
                copied = asyncio.ensure_future(
                    handler.copy_data(source.handle, 0, 0, target.handle, 0)
                )
                await asyncio.to_thread(copying_now.wait, LIMIT_S)
                async with sftp.open("/share/other", "rb") as other:
                    assert (await handler.read(other.handle, 0, 9))[0] == b"other"
                assert len(await sftp.readdir("/share")) == 5
                asked: list[Awaitable[asyncssh.SFTPAttrs]] = [
                    asyncio.ensure_future(sftp.stat("/share/b")),
                    asyncio.ensure_future(handler.fstat(target.handle, 0)),
                ]
                held.set()
                await copied
                assert [(await one).size for one in asked] == [len(CONTENT)] * 2

    asyncio.run(go())
    assert listener.monitor.content("/share/b") == CONTENT


def test_a_copy_that_fails_is_not_stored(listener: Listener) -> None:
    """Half a file is none, though the client closes it as if nothing were."""
    listener.monitor.put("/share/a", CONTENT)
    listener.monitor.put("/share/b", b"old")
    reads = iter([False, True])

    def fault(operation: str) -> None:
        if operation == "read" and next(reads):
            raise IntegrityError("The content is damaged.")

    listener.monitor.fault = fault

    async def go() -> None:
        async with await listener.connect() as conn, conn.start_sftp_client() as sftp:
            source, target = await sftp.open("/share/a", "rb"), await sftp.open("/share/b", "wb")
            with pytest.raises(asyncssh.SFTPFailure, match="damaged"):
                await sftp.remote_copy(source, target)
            with pytest.raises(asyncssh.SFTPFailure, match="not stored"):
                await target.close()

    asyncio.run(go())
    assert listener.monitor.content("/share/b") == b"old"


def test_a_copy_needs_both_rights_and_two_files(listener: Listener) -> None:
    """Not from what is only written, nor to what is only read, nor with a folder's handle."""
    listener.monitor.put("/share/a", CONTENT)

    async def go() -> None:
        async with await listener.connect() as conn, conn.start_sftp_client() as sftp:
            handler = sftp._handler
            source, target = await sftp.open("/share/a", "rb"), await sftp.open("/share/b", "wb")
            folder = await handler.opendir(b"/share")
            for one, other in ((target, source), (target, target), (source, source)):
                with pytest.raises(asyncssh.SFTPPermissionDenied):
                    await handler.copy_data(one.handle, 0, 0, other.handle, 0)
            for wrong in (folder, b"none"):
                with pytest.raises(asyncssh.SFTPFailure, match="two open files"):
                    await handler.copy_data(wrong, 0, 0, target.handle, 0)
            with pytest.raises(asyncssh.SFTPFailure, match="largest"):
                await handler.copy_data(source.handle, 0, 0, target.handle, 2**63 - 1)
            await target.close()

    asyncio.run(go())
    assert listener.monitor.content("/share/b") == b""


def test_a_lost_connection_ends_a_copy(listener: Listener) -> None:
    """After the step that it is at; nothing of it is committed."""
    listener.monitor.put("/share/a", CONTENT)
    held, copying_now = threading.Event(), threading.Event()

    def fault(operation: str) -> None:
        if operation == "write":
            copying_now.set()
            assert held.wait(LIMIT_S)

    listener.monitor.fault = fault

    async def go() -> None:
        conn = await listener.connect()
        sftp = await conn.start_sftp_client()
        source, target = await sftp.open("/share/a", "rb"), await sftp.open("/share/b", "wb")
        copied = asyncio.ensure_future(
            sftp._handler.copy_data(source.handle, 0, 0, target.handle, 0)
        )
        await asyncio.to_thread(copying_now.wait, LIMIT_S)
        conn.abort()
        with pytest.raises(asyncssh.Error):
            await copied

    asyncio.run(go())
    held.set()
    until(lambda: not listener.monitor.open_writers, "the upload is given up")
    assert listener.monitor.content("/share/b") is None
    assert listener.monitor.events.count(("write", "/share/b")) == 1

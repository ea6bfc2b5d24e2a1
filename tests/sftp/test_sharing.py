"""Files that are open several times, over the wire: sharing, late closes and fsync."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable

import asyncssh
import pytest

from tests.sftp.conftest import Listener
from tests.sftp.fake_files import QUOTA_BYTES
from tests.support.pipelined import ATTRS, CHANGE, CONTENT, NEW, SCENES

Scene = Callable[[asyncssh.SFTPClient, str], Awaitable[dict[str, bytes]]]


@pytest.mark.parametrize("scene", SCENES)
def test_requests_are_answered_in_any_order(listener: Listener, scene: Scene) -> None:
    """Each as if the client had waited for the ones before."""
    expected: dict[str, bytes] = {}

    async def go() -> None:
        async with await listener.connect() as conn, conn.start_sftp_client() as sftp:
            expected.update(await scene(sftp, "/share"))

    asyncio.run(go())
    found = {str(path): node.content for path, node in listener.monitor.tree.items()}
    assert expected.items() <= found.items()
    assert listener.monitor.open_writers == 0


def test_fsync_stores_before_the_close(listener: Listener) -> None:
    """What was written so far, once; a client that goes on and is lost has lost the rest."""

    async def go() -> None:
        async with await listener.connect() as conn, conn.start_sftp_client() as sftp:
            file = await sftp.open("/share/a", "wb")
            await file.write("synced")
            await file.fsync()
            assert listener.monitor.content("/share/a") == b"synced"
            await file.fsync()
            await file.write(" and lost")
            conn.abort()
            await conn.wait_closed()

    asyncio.run(go())
    assert listener.monitor.content("/share/a") == b"synced"
    assert listener.monitor.events.count(("sync", "/share/a")) == 1


def test_fsync_of_a_file_that_is_read_stores_what_its_session_writes(listener: Listener) -> None:
    """As the program ``sync`` does it; where nobody writes there is nothing to do."""
    listener.monitor.put("/share/old", b"old")

    async def go() -> None:
        async with await listener.connect() as conn, conn.start_sftp_client() as sftp:
            async with sftp.open("/share/old", "rb") as reader:
                await reader.fsync()
            async with sftp.open("/share/new", "wb") as file, sftp.open("/share/new") as reader:
                await file.write("new")
                await reader.fsync()
                assert listener.monitor.content("/share/new") == b"new"

    asyncio.run(go())


def test_fsync_that_fails_is_told(listener: Listener) -> None:
    """And so is the close that follows."""

    def fault(operation: str) -> None:
        if operation == "sync":
            message = "secret detail"
            raise OSError(message)

    listener.monitor.fault = fault

    async def go() -> None:
        async with await listener.connect() as conn, conn.start_sftp_client() as sftp:
            file = await sftp.open("/share/a", "wb")
            with pytest.raises(asyncssh.SFTPFailure) as caught:
                await file.fsync()
            assert "secret" not in str(caught.value)
            with pytest.raises(asyncssh.SFTPFailure):
                await file.close()

    asyncio.run(go())
    assert listener.monitor.content("/share/a") is None


def test_a_file_that_could_not_be_written_fails_at_every_close(listener: Listener) -> None:
    """Whichever handle the refused bytes came through."""

    async def go() -> None:
        async with await listener.connect() as conn, conn.start_sftp_client() as sftp:
            handler = sftp._handler
            first = await handler.open(b"/share/a", NEW, ATTRS)
            second = await handler.open(b"/share/a", CHANGE, ATTRS)
            with pytest.raises(asyncssh.SFTPFailure, match="quota"):
                await handler.write(first, QUOTA_BYTES, b"x")
            for handle in (second, first):
                with pytest.raises(asyncssh.SFTPFailure):
                    await handler.close(handle)

    asyncio.run(go())
    assert listener.monitor.content("/share/a") is None
    assert listener.monitor.open_writers == 0


def test_two_appending_handles_overwrite_nothing(listener: Listener) -> None:
    """Each byte goes to where the end is then, from two channels of one connection."""
    flags = asyncssh.FXF_WRITE | asyncssh.FXF_CREAT | asyncssh.FXF_APPEND

    async def go() -> None:
        async with (
            await listener.connect() as conn,
            conn.start_sftp_client() as one,
            conn.start_sftp_client() as two,
        ):
            handles = [
                (sftp._handler, await sftp._handler.open(b"/share/a", flags, ATTRS))
                for sftp in (one, two)
            ]
            await asyncio.gather(
                *(
                    handler.write(handle, 0, f"{number % 10}".encode())
                    for number, (handler, handle) in zip(range(100), itertools.cycle(handles))
                )
            )
            for handler, handle in handles:
                await handler.close(handle)

    asyncio.run(go())
    content = listener.monitor.content("/share/a") or b""
    assert sorted(content) == sorted(b"0123456789" * 10)


def test_a_channel_that_is_lost_leaves_its_file_to_the_other(listener: Listener) -> None:
    """Only the last handle on a file decides what becomes of it."""

    async def go() -> None:
        async with await listener.connect() as conn, conn.start_sftp_client() as one:
            two = await conn.start_sftp_client()
            first = await two._handler.open(b"/share/a", NEW, ATTRS)
            await two._handler.write(first, 0, CONTENT)
            second = await one._handler.open(b"/share/a", CHANGE, ATTRS)
            two.exit()
            await two.wait_closed()
            await one._handler.write(second, 10, b"!")
            await one._handler.close(second)

    asyncio.run(go())
    assert listener.monitor.content("/share/a") == CONTENT + b"!"
    assert ("suspend", "disconnected") in listener.monitor.events

"""How connections end: cut uploads, idle clocks, draining, and clients that take no replies."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from dataclasses import replace

import asyncssh
import psutil
import pytest
from asyncssh.constants import FXP_READ
from asyncssh.packet import String, UInt32, UInt64

from gateway.model import Attempt, Session
from tests.sftp.conftest import LIMIT_S, ORDINARY, Listener
from tests.support.users import until

WRITE_NEW = asyncssh.FXF_WRITE | asyncssh.FXF_CREAT | asyncssh.FXF_TRUNC


def _cut_tcp(conn: asyncssh.SSHClientConnection, _sftp: asyncssh.SFTPClient) -> None:
    conn.abort()


def _close_channel(_conn: asyncssh.SSHClientConnection, sftp: asyncssh.SFTPClient) -> None:
    sftp.exit()


def _send_eof(_conn: asyncssh.SSHClientConnection, sftp: asyncssh.SFTPClient) -> None:
    writer = sftp._handler._writer
    assert writer is not None
    writer.write_eof()


def _send_garbage(_conn: asyncssh.SSHClientConnection, sftp: asyncssh.SFTPClient) -> None:
    writer = sftp._handler._writer
    assert writer is not None
    writer.write(b"\xff\xff\xff\xff")


def _send_nothing(_conn: asyncssh.SSHClientConnection, sftp: asyncssh.SFTPClient) -> None:
    writer = sftp._handler._writer
    assert writer is not None
    writer.write(b"\0\0\0\0")


@pytest.mark.parametrize("cut", [_cut_tcp, _close_channel, _send_eof, _send_garbage, _send_nothing])
def test_a_cut_upload_is_never_committed(listener: Listener, cut: Callable[..., None]) -> None:
    """Only CLOSE commits: not the end of the connection, the channel or the stream."""
    listener.monitor.put("/share/a", b"old")

    async def go() -> None:
        conn = await listener.connect()
        sftp = await conn.start_sftp_client()
        handle = await sftp._handler.open(b"/share/a", WRITE_NEW, asyncssh.SFTPAttrs())
        await sftp._handler.write(handle, 0, bytes(100_000))
        cut(conn, sftp)
        await asyncio.to_thread(
            until, lambda: not listener.monitor.open_writers, "the upload is given up", LIMIT_S
        )
        conn.abort()
        await conn.wait_closed()

    asyncio.run(go())
    assert ("suspend", "disconnected") in listener.monitor.events
    assert all(event != "commit" for event, _ in listener.monitor.events)
    assert listener.monitor.content("/share/a") == b"old"


def test_a_cut_download_is_closed_as_incomplete(listener: Listener) -> None:
    """The closing record of a read tells a whole one from one that was cut."""
    listener.monitor.put("/share/a", b"x")

    async def go() -> None:
        async with await listener.connect() as conn, conn.start_sftp_client() as sftp:
            async with sftp.open("/share/a", "rb") as file:
                await file.read()
            await sftp._handler.open(b"/share/a", asyncssh.FXF_READ, asyncssh.SFTPAttrs())
            conn.abort()

    asyncio.run(go())
    until(lambda: ("close", "cut") in listener.monitor.events, "the cut read is closed")
    assert listener.monitor.events[0] == ("close", "complete")


def test_the_session_ends_after_its_connection(listener: Listener) -> None:
    """Disconnecting logs off, once the open files have been given up."""

    async def go() -> None:
        async with await listener.connect() as conn, conn.start_sftp_client() as sftp:
            await sftp._handler.open(b"/share/a", WRITE_NEW, asyncssh.SFTPAttrs())
            conn.abort()

    asyncio.run(go())
    until(lambda: listener.monitor.ended == [("s1", "disconnected")], "the session is ended")
    assert listener.monitor.open_writers == 0


def test_a_joined_session_ends_with_its_last_connection(listener: Listener) -> None:
    """Clients that open several connections with one code share a session."""
    first: list[Session] = []
    ask = listener.monitor.login

    def join(attempt: Attempt) -> Session:
        if first:
            listener.monitor.connections[first[0].id] += 1
        else:
            first.append(ask(attempt))
        return first[0]

    listener.monitor.login = join  # type: ignore[method-assign]

    async def go() -> None:
        one, two = await listener.connect_by_password(), await listener.connect_by_password()
        one.abort()
        await one.wait_closed()
        async with two, two.start_sftp_client() as sftp:
            await asyncio.to_thread(
                until, lambda: listener.server and listener.server.connection_count == 1, "left"
            )
            await sftp.stat("/share")
            assert listener.monitor.ended == []

    asyncio.run(go())
    until(lambda: listener.monitor.ended == [("s1", "disconnected")], "the session is ended")


async def _message_of(conn: asyncssh.SSHClientConnection, client: Listening) -> str:
    # asyncssh keeps the reason of an ordinary disconnection only for a log-in in progress.
    conn._wait, conn._waiter = "reason", None
    await asyncio.wait_for(conn.wait_closed(), LIMIT_S)
    return client.why


class Listening(asyncssh.SSHClient):
    """Keeps the reason of the disconnection."""

    why = ""

    def connection_lost(self, exc: Exception | None) -> None:
        self.why = str(exc)


def test_an_idle_client_is_signed_off_and_told_why(listener: Listener) -> None:
    """REALPATH and keep-alives do not count; the monitor's clock alone decides."""
    client = Listening()

    async def go() -> str:
        conn = await listener.connect(client_factory=lambda: client, keepalive_interval=0.05)
        sftp = await conn.start_sftp_client()
        await sftp.stat("/share")
        listener.monitor.clock.advance(599)
        await sftp.realpath(".")
        listener.monitor.clock.advance(2)
        return await _message_of(conn, client)

    assert "Signed off after 10 minutes without activity" in asyncio.run(go())
    assert listener.monitor.ended == [("s1", "idle")]


def test_a_client_that_gives_no_sign_of_life_is_let_go(start: Callable[..., Listener]) -> None:
    """One that says nothing but answers stays; one that answers no more has its session ended."""
    listener = start(replace(ORDINARY, keepalive_interval_s=0.1, keepalive_count=30))

    async def go() -> None:
        conn = await listener.connect()
        await asyncio.sleep(1.5)
        async with conn.start_sftp_client() as sftp:
            await sftp.stat("/share")
        assert not listener.monitor.ended
        transport = conn._transport
        assert transport is not None
        transport.pause_reading()
        await asyncio.to_thread(until, lambda: listener.monitor.ended, "the session is ended")
        conn.abort()

    asyncio.run(go())
    assert listener.monitor.ended == [("s1", "disconnected")]


def test_activity_defers_the_log_off(listener: Listener) -> None:
    """Each operation of the door sets the idle clock back."""

    async def go() -> None:
        async with await listener.connect() as conn, conn.start_sftp_client() as sftp:
            for _ in range(5):
                listener.monitor.clock.advance(500)
                await sftp.listdir("/share")

    asyncio.run(go())
    until(lambda: listener.monitor.ended, "the session is ended")
    assert listener.monitor.ended == [("s1", "disconnected")]


def test_a_session_that_ended_elsewhere_loses_its_connection(listener: Listener) -> None:
    """An administrator's log-off reaches the connection."""
    client = Listening()

    async def go() -> str:
        conn = await listener.connect(client_factory=lambda: client)
        listener.monitor.sessions.clear()
        return await _message_of(conn, client)

    assert "the session has been ended" in asyncio.run(go())


def test_the_longest_duration_is_named(listener: Listener) -> None:
    """The absolute end is told apart from idleness."""
    client = Listening()

    async def go() -> str:
        conn = await listener.connect(client_factory=lambda: client)
        listener.monitor.clock.advance(12 * 3600 + 1)
        return await _message_of(conn, client)

    assert "longest duration" in asyncio.run(go())
    assert listener.monitor.ended == [("s1", "absolute")]


def test_draining_lets_open_files_be_closed(listener: Listener) -> None:
    """Idle connections go at once; an upload may finish, and nothing new may be opened."""
    server = listener.server
    assert server is not None

    async def go() -> None:
        idle, busy = await listener.connect(), await listener.connect()
        sftp = await busy.start_sftp_client()
        handler, attrs = sftp._handler, asyncssh.SFTPAttrs()
        handle = await handler.open(b"/share/a", WRITE_NEW, attrs)
        await handler.write(handle, 0, b"half")
        drained = threading.Thread(target=lambda: listener.run(server.drain(LIMIT_S)))
        drained.start()
        await asyncio.wait_for(idle.wait_closed(), LIMIT_S)
        with pytest.raises(asyncssh.SFTPFailure, match="restart"):
            await handler.open(b"/share/b", WRITE_NEW, attrs)
        await handler.write(handle, 4, b" and whole")
        await handler.close(handle)
        await asyncio.wait_for(busy.wait_closed(), LIMIT_S)
        await asyncio.to_thread(drained.join, LIMIT_S)
        with pytest.raises(OSError, match=r"."):
            await listener.connect()

    asyncio.run(go())
    assert listener.monitor.content("/share/a") == b"half and whole"
    assert sorted(listener.monitor.ended) == [("s1", "disconnected"), ("s2", "disconnected")]


def test_draining_gives_up_what_stays_open(listener: Listener) -> None:
    """At the end of its patience the listener aborts uploads."""
    server = listener.server
    assert server is not None

    async def go() -> None:
        conn = await listener.connect()
        sftp = await conn.start_sftp_client()
        await sftp._handler.open(b"/share/a", WRITE_NEW, asyncssh.SFTPAttrs())
        await asyncio.to_thread(listener.run, server.drain(0.05))
        await asyncio.wait_for(conn.wait_closed(), LIMIT_S)

    asyncio.run(go())
    assert listener.monitor.content("/share/a") is None
    assert listener.monitor.open_writers == 0


def test_replies_do_not_pile_up_for_a_client_that_takes_none(listener: Listener) -> None:
    """A thousand pipelined reads of 256 KiB with an endless window cost a few buffers."""
    listener.monitor.put("/share/a", os.urandom(256 * 1024))
    reads: list[str] = []
    listener.monitor.fault = reads.append
    resident = psutil.Process().memory_info().rss

    async def go() -> None:
        conn = await listener.connect()
        sftp = await conn.start_sftp_client()
        handler = sftp._handler
        handle = await handler.open(b"/share/a", asyncssh.FXF_READ, asyncssh.SFTPAttrs())
        chan = handler._writer.channel  # type: ignore[union-attr]
        chan.send_packet(93, UInt32(2**31 - 1))
        conn._transport.pause_reading()  # type: ignore[union-attr]
        body = String(handle) + UInt64(0) + UInt32(256 * 1024)
        for number in range(1000):
            handler.send_packet(FXP_READ, number, UInt32(number + 5000), body)
        seen = -1
        while seen != len(reads):
            seen = len(reads)
            await asyncio.to_thread(threading.Event().wait, 0.3)
        conn.abort()
        await conn.wait_closed()

    asyncio.run(go())
    served = reads.count("read")
    assert 0 < served < 200
    assert psutil.Process().memory_info().rss - resident < 100 * 1024 * 1024

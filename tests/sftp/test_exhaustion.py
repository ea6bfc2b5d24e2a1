"""What one client asks for must not cost the others memory or time."""

from __future__ import annotations

import asyncio
import os
import struct
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import asyncssh
import pytest

from gateway.sftp import transport
from gateway.sftp.channel import PACKET_MAX_BYTES
from gateway.sftp.inbox import Inbox
from gateway.sftp.scp import COMMAND_LIMIT_BYTES, parse_command
from tests.sftp.conftest import ORDINARY, Listener
from tests.support.users import until

LIMIT_S = 30


def _connection(listener: Listener) -> Any:
    assert listener.server is not None
    (only,) = listener.server._service.connections
    return only


def test_a_client_that_takes_huge_packets_is_given_none(listener: Listener) -> None:
    """The largest packet that a client names is no room that the server makes."""

    async def go() -> int:
        conn = await listener.connect()
        sftp = await conn.start_sftp_client()
        await sftp.listdir("/share")
        (channel,) = _connection(listener)._channels.values()
        conn.abort()
        return int(channel._send_pktsize)

    huge = 0x7FFFFFFF

    async def with_huge() -> int:
        stock = asyncssh.channel.SSHClientChannel._open

        async def opened(self: Any, chantype: bytes, *args: bytes) -> Any:
            self._recv_pktsize = huge
            return await stock(self, chantype, *args)

        asyncssh.channel.SSHClientChannel._open = opened  # type: ignore[method-assign]
        try:
            return await go()
        finally:
            asyncssh.channel.SSHClientChannel._open = stock  # type: ignore[method-assign]

    assert asyncio.run(with_huge()) == PACKET_MAX_BYTES


def test_packets_of_a_few_bytes_are_refused(listener: Listener) -> None:
    """Each read would be cut into thousands of packets."""

    async def go() -> None:
        async with await listener.connect() as conn:
            with pytest.raises(asyncssh.ChannelOpenError):
                await conn.open_session(subsystem="sftp", encoding=None, max_pktsize=1)

    asyncio.run(go())


def test_answers_wait_counted_while_keys_are_not_exchanged(listener: Listener) -> None:
    """A client that begins a key exchange and goes on asking is read from no further."""
    listener.monitor.put("/share/a", os.urandom(1 << 20))

    async def go() -> None:
        async with await listener.connect() as conn, conn.start_sftp_client() as sftp:
            handler: Any = sftp._handler
            handle = await handler.open(b"/share/a", asyncssh.FXF_READ, asyncssh.SFTPAttrs())
            channel = handler._writer.channel
            conn.send_packet(93, struct.pack(">II", channel._send_chan, 1 << 30))
            conn._recv_handler = lambda: False
            conn._send_kexinit()
            conn._kex_complete = True
            for number in range(400):
                body = struct.pack(">BI", 5, number) + struct.pack(">I", len(handle)) + handle
                body += struct.pack(">QI", 0, 262_144)
                packet = struct.pack(">I", len(body)) + body
                size = struct.pack(">II", channel._send_chan, len(packet))
                conn.send_packet(94, size, packet)
            server = _connection(listener)

            def settled() -> bool:
                return bool(server.exchanging_keys) and bool(
                    next(iter(server._channels.values()))._send_paused
                )

            await asyncio.get_running_loop().run_in_executor(None, until, settled, "it is paused")
            (served,) = server._channels.values()
            assert served._send_buf_len < 4 << 20
            assert len(server._deferred_packets) < 10
            conn.abort()

    asyncio.run(go())


def test_a_key_exchange_that_does_not_end_ends_the_connection(
    start: Callable[..., Listener], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is to be sent would wait for ever."""
    monkeypatch.setattr(transport, "EXCHANGE_LIMIT_S", 0.05)
    listener = start(replace(ORDINARY))

    async def go() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(b"SSH-2.0-silent\r\n")
        await asyncio.wait_for(reader.read(-1), LIMIT_S)
        writer.close()

    asyncio.run(go())


def test_small_packets_that_wait_are_one_piece(listener: Listener) -> None:
    """Before the subsystem starts nobody reads, and each packet must not be kept as its own."""

    async def go() -> None:
        async with await listener.connect() as conn:
            client: Any = asyncssh.channel.SSHClientChannel(
                cast(Any, conn),
                asyncio.get_running_loop(),
                "strict",
                None,
                "strict",
                1 << 21,
                1 << 15,
            )
            await client._open(b"session")
            for _ in range(3000):
                conn.send_packet(94, struct.pack(">II", client._send_chan, 1), b"\0")
            server = _connection(listener)
            (served,) = server._channels.values()

            def arrived() -> bool:
                return bool(served._init_recv_window - served._recv_window == 3000)

            await asyncio.get_running_loop().run_in_executor(None, until, arrived, "all arrived")
            assert [len(data) for data, _ in served._recv_buf] == [3000]
            conn.abort()

    asyncio.run(go())


def test_a_client_that_sends_faster_than_is_stored_waits_for_room(listener: Listener) -> None:
    """No more than the window lies in memory, and all of it arrives once there is room."""
    stored = threading.Event()

    def fault(name: str) -> None:
        assert name != "write" or stored.wait(60)

    listener.monitor.fault = fault
    data = os.urandom(12 << 20)

    async def go() -> None:
        async with await listener.connect() as conn, conn.start_sftp_client() as sftp:
            file = await sftp.open("/share/a", "wb")
            writing = asyncio.create_task(file.write(data))
            (served,) = _connection(listener)._channels.values()
            used_up = lambda: served._recv_window < 256 * 1024  # noqa: E731
            await asyncio.to_thread(until, used_up, "the window is used up")
            waiting = served.inbox._waiting_bytes
            assert served._recv_window + waiting <= served._init_recv_window
            assert not writing.done()
            stored.set()
            await writing
            await file.close()

    asyncio.run(go())
    assert listener.monitor.content("/share/a") == data


def test_an_inbox_keeps_a_begun_packet_in_one_piece() -> None:
    """However small the pieces are in which it comes."""
    inbox = Inbox(packet_limit_bytes=1 << 20, read=lambda _waiting: None)
    inbox.feed((1000).to_bytes(4, "big"))
    for _ in range(999):
        inbox.feed(memoryview(b"x"))
    assert not inbox.ready
    inbox.feed(b"x")
    assert inbox.ready


def test_a_long_command_is_not_even_read() -> None:
    """Its length is looked at first: taking it apart costs time."""
    assert parse_command(b"scp -t " + b"\\a" * COMMAND_LIMIT_BYTES) is None

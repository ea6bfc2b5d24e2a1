"""Everything but SFTP is refused and recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import asyncssh
import pytest

from tests.sftp.conftest import ORDINARY, Listener
from tests.support.users import until

Ask = Callable[[asyncssh.SSHClientConnection], Awaitable[object]]


async def _sink(_reader: object, _writer: object) -> None:
    """Take a forwarded connection that never comes."""


REQUESTS: dict[str, Ask] = {
    "exec": lambda conn: conn.create_process("id"),
    "shell": lambda conn: conn.create_process(),
    "subsystem": lambda conn: conn.create_process(subsystem="netconf"),
    "direct-tcpip": lambda conn: conn.open_connection("127.0.0.1", 22),
    "tcpip-forward": lambda conn: conn.start_server(_sink, "127.0.0.1", 0),
    "direct-streamlocal": lambda conn: conn.open_unix_connection("/run/docker.sock"),
    "streamlocal-forward": lambda conn: conn.start_unix_server(_sink, "/run/mine.sock"),
    "tunnel": lambda conn: conn.open_tun(),
}


@pytest.mark.parametrize("what", REQUESTS)
def test_request_is_refused_and_recorded(listener: Listener, what: str) -> None:
    """The client is told no, and the record names what it wanted and whose session it was."""

    async def go() -> None:
        async with await listener.connect() as conn:
            with pytest.raises((asyncssh.ChannelOpenError, asyncssh.ChannelListenError)):
                await REQUESTS[what](conn)

    asyncio.run(go())
    (record,) = until(lambda: listener.monitor.refusals, "the refusal is recorded")
    assert record[0] == what
    assert record[1].address == "127.0.0.1"
    assert record[2] is True


def test_a_terminal_is_refused_with_its_own_record(listener: Listener) -> None:
    """A pseudo-terminal is one refusal, the shell on it another."""

    async def go() -> None:
        async with await listener.connect() as conn:
            with pytest.raises(asyncssh.ChannelOpenError):
                await conn.create_process(term_type="xterm")

    asyncio.run(go())
    until(lambda: listener.monitor.refusals, "the refusal is recorded")
    assert listener.monitor.refusals[0][0] == "pty"


def test_agent_and_display_are_refused_and_sftp_goes_on(listener: Listener) -> None:
    """A client that offers them by habit still gets its files."""

    async def go() -> None:
        async with await listener.connect() as conn:
            chan, _ = await conn.create_session(asyncssh.SSHClientSession, subsystem="sftp")
            assert not await chan._make_request(b"auth-agent-req@openssh.com")
            x11 = (b"\0", b"\0\0\0\4MITM", b"\0\0\0\2ab", b"\0\0\0\0")
            assert not await chan._make_request(b"x11-req", *x11)
            async with conn.start_sftp_client() as sftp:
                await sftp.stat("/share")

    asyncio.run(go())
    until(lambda: len(listener.monitor.refusals) == 2, "both are recorded")
    assert {record[0] for record in listener.monitor.refusals} == {"agent", "x11"}


def test_who_insists_is_hung_up_on(start: Callable[..., Listener]) -> None:
    """Refusals are bounded, and so are their records."""
    listener = start(replace(ORDINARY, max_refusals=3))

    async def go() -> None:
        conn = await listener.connect()
        for _ in range(10):
            try:
                await conn.open_connection("127.0.0.1", 22)
            except asyncssh.ChannelOpenError:
                continue
        await conn.wait_closed()

    asyncio.run(go())
    assert len(listener.monitor.refusals) == 3


def test_channels_are_capped(start: Callable[..., Listener]) -> None:
    """One connection cannot hold any number of channels."""
    listener = start(replace(ORDINARY, max_channels=2))

    async def go() -> None:
        async with (
            await listener.connect() as conn,
            conn.start_sftp_client(),
            conn.start_sftp_client(),
        ):
            with pytest.raises(asyncssh.ChannelOpenError):
                await conn.start_sftp_client()

    asyncio.run(go())


@pytest.mark.parametrize("name", [b"/share/a\\b", b"/share/\xff", b"/share/" + b"n" * 256])
def test_a_name_that_no_node_can_have_is_recorded(listener: Listener, name: bytes) -> None:
    """It never reaches the door, and is refused all the same."""

    async def go() -> None:
        async with await listener.connect() as conn, conn.start_sftp_client() as sftp:
            with pytest.raises(asyncssh.SFTPError):
                await sftp._handler.mkdir(name, asyncssh.SFTPAttrs())

    asyncio.run(go())
    assert [record[0] for record in listener.monitor.refusals] == ["mkdir: bad name"]
    assert listener.monitor.refusals[0][2]

# ruff: noqa: ARG002  the methods keep the library's signatures
"""One session channel: nothing starts on it but the SFTP server.

Subclasses of asyncssh's channel and stream session (pinned by ``tests/sftp/test_stock.py``). No
log-in and no file operation lives here. May import the shared nouns.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import asyncssh
from asyncssh.channel import SSHServerChannel
from asyncssh.packet import SSHPacket
from asyncssh.stream import SSHServerStreamSession

from gateway.model import Session
from gateway.sftp.files import VirtualFiles
from gateway.sftp.handler import FilesHandler

if TYPE_CHECKING:
    from gateway.sftp.connection import SftpConnection


class SftpChannel(SSHServerChannel[bytes]):
    """A session channel on which only the ``sftp`` subsystem starts."""

    _conn: SftpConnection

    def _process_pty_req_request(self, packet: SSHPacket) -> bool:
        return self._conn.refuse("pty")

    def _process_env_request(self, packet: SSHPacket) -> bool:
        return False

    def _process_shell_request(self, packet: SSHPacket) -> bool:
        return self._conn.refuse("shell")

    def _process_exec_request(self, packet: SSHPacket) -> bool:
        return self._conn.refuse("exec")

    def _process_subsystem_request(self, packet: SSHPacket) -> bool:
        if packet.get_string() != b"sftp":
            return self._conn.refuse("subsystem")
        packet.check_end()
        return self._start_session(subsystem="sftp")


class SftpChannelSession(SSHServerStreamSession[bytes]):
    """Starts the SFTP server on a channel."""

    def __init__(self, connection: SftpConnection) -> None:
        super().__init__(None)
        self._connection = connection

    def subsystem_requested(self, subsystem: str) -> bool:
        """Return True: the channel lets only ``sftp`` through."""
        return self._connection.session is not None

    def session_started(self) -> None:
        """Serve SFTP until the channel ends."""
        connection, channel = self._connection, self._chan
        assert channel is not None
        assert connection.session is not None
        channel.set_write_buffer_limits(high=connection.service.settings.send_buffer_bytes)
        connection.create_task(self._serve(connection, connection.session))

    async def _serve(self, connection: SftpConnection, session: Session) -> None:
        service, channel = connection.service, cast(SSHServerChannel[bytes], self._chan)
        files = VirtualFiles(
            channel,
            service.monitor.bind(session),
            service.workers,
            service.monitor.clock,
            service.settings.read_limit_bytes,
        )
        reader = asyncssh.SSHReader[bytes](self, channel)
        writer = asyncssh.SSHWriter[bytes](self, channel)
        handler = FilesHandler(connection, files, reader, writer)
        task = asyncio.current_task()
        assert task is not None
        connection.handlers[handler] = task
        try:
            await handler.run()
        finally:
            del connection.handlers[handler]

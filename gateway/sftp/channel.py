# ruff: noqa: ARG002  the methods keep the library's signatures
"""One session channel: nothing starts on it but SFTP, and scp's own protocol where policy says so.

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
from gateway.sftp.scp import ScpCommand, parse_command
from gateway.sftp.scp_session import ScpSession

if TYPE_CHECKING:
    from gateway.sftp.connection import SftpConnection


SCP = "scp"
"""What stands for a command that was read already."""


class SftpChannel(SSHServerChannel[bytes]):
    """A session channel on which only the ``sftp`` subsystem starts, or an allowed ``scp``."""

    _conn: SftpConnection
    scp: ScpCommand | None = None

    def _process_pty_req_request(self, packet: SSHPacket) -> bool:
        return self._conn.refuse("pty")

    def _process_env_request(self, packet: SSHPacket) -> bool:
        return False

    def _process_shell_request(self, packet: SSHPacket) -> bool:
        return self._conn.refuse("shell")

    def _process_exec_request(self, packet: SSHPacket) -> bool:
        """Let a transfer by scp's own protocol begin where policy allows it, and nothing else."""
        command, session = parse_command(packet.get_string()), self._conn.session
        packet.check_end()
        if command is None or session is None:
            return self._conn.refuse("exec")
        decision = self._conn.service.monitor.may_use_scp(session)
        if not decision.allowed:
            return self._conn.refuse(f"exec scp: {decision.rule}")
        if self._conn.draining or not self._conn.has_free_handle:
            return False
        self.scp = command
        return self._start_session(command=SCP)

    def _process_subsystem_request(self, packet: SSHPacket) -> bool:
        if packet.get_string() != b"sftp":
            return self._conn.refuse("subsystem")
        packet.check_end()
        return self._start_session(subsystem="sftp")


class SftpChannelSession(SSHServerStreamSession[bytes]):
    """Starts the SFTP server, or a transfer by scp's own protocol, on a channel."""

    def __init__(self, connection: SftpConnection) -> None:
        super().__init__(None)
        self._connection = connection

    def subsystem_requested(self, subsystem: str) -> bool:
        """Return True: the channel lets only ``sftp`` through."""
        return self._connection.session is not None

    def exec_requested(self, command: str) -> bool:
        """Return True for what the channel let through; not for what a key would force."""
        return command == SCP and cast(SftpChannel, self._chan).scp is not None

    def session_started(self) -> None:
        """Serve until the channel ends."""
        connection, channel = self._connection, self._chan
        assert channel is not None
        assert connection.session is not None
        channel.set_write_buffer_limits(high=connection.service.settings.send_buffer_bytes)
        connection.create_task(self._serve(connection, connection.session))

    async def _serve(self, connection: SftpConnection, session: Session) -> None:
        handler = self._handler(connection, session)
        task = asyncio.current_task()
        assert task is not None
        connection.handlers[handler] = task
        try:
            await handler.run()
        finally:
            del connection.handlers[handler]
        connection.request_answered()

    def _handler(self, connection: SftpConnection, session: Session) -> FilesHandler | ScpSession:
        service, channel = connection.service, cast(SftpChannel, self._chan)
        door = service.monitor.bind(session)
        reader = asyncssh.SSHReader[bytes](self, channel)
        writer = asyncssh.SSHWriter[bytes](self, channel)
        if channel.scp is not None:
            return ScpSession(connection, channel.scp, door, reader, writer)
        files = VirtualFiles(
            channel,
            door,
            service.workers,
            service.monitor.clock,
            service.settings.read_limit_bytes,
        )
        return FilesHandler(connection, files, reader, writer)

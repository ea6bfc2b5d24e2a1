# ruff: noqa: ARG002  the methods keep the library's signatures
"""One session channel: nothing starts on it but the SFTP server.

Subclasses of asyncssh's channel and stream session (pinned by ``tests/sftp/test_stock.py``). No
log-in and no file operation lives here. May import the shared nouns.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import asyncssh
from asyncssh.channel import SSHChannel, SSHServerChannel
from asyncssh.packet import SSHPacket
from asyncssh.stream import SSHServerStreamSession

from gateway.model import Session
from gateway.sftp.files import VirtualFiles
from gateway.sftp.handler import FilesHandler
from gateway.sftp.inbox import Inbox

if TYPE_CHECKING:
    from gateway.sftp.connection import SftpConnection


class SftpChannel(SSHServerChannel[bytes]):
    """A session channel on which only the ``sftp`` subsystem starts."""

    _conn: SftpConnection

    def accept(self, data: memoryview) -> bool:
        """Take data that arrived; False when none may come now, or not so much."""
        if self._recv_state != "open" or not 0 < len(data) <= self._recv_window:
            return False
        self._accept_data(data)  # type: ignore[arg-type]  # handed on as it is
        return True

    def widen(self, size: int) -> bool:
        """Let ``size`` bytes more be sent; False when the channel takes no such word now."""
        if self._recv_state not in {"open", "eof_pending", "eof"}:
            return False
        self._send_window += size
        return True

    def flush(self) -> None:
        """Send what waited for the window to widen."""
        self._flush_send_buf()

    def send_parts(self, *parts: bytes) -> None:
        """Send ``parts`` one after another, as ``write`` sends one."""
        size = sum(map(len, parts))
        short = self._send_state == "open" and not self._send_buf and size <= self._send_window
        if short and self._conn.send_data(self, size, self._send_pktsize, parts):
            self._send_window -= size
        else:
            self.write(b"".join(parts))

    def _flush_send_buf(self) -> None:
        """Send as much as the window allows, at once where the connection can."""
        while self._send_buf and self._send_window:
            data, datatype = self._send_buf[0]
            size = min(len(data), self._send_window)
            part = bytes(memoryview(data)[:size])
            if datatype is not None or not self._conn.send_data(
                self, size, self._send_pktsize, (part,)
            ):
                break
            del data[:size]
            if not data:
                del self._send_buf[0]
            self._send_buf_len -= size
            self._send_window -= size
        super()._flush_send_buf()

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

    _inbox: Inbox

    def __init__(self, connection: SftpConnection) -> None:
        super().__init__(None)
        self._connection = connection

    def connection_made(self, chan: SSHChannel[bytes]) -> None:
        """Take the channel, and what arrives on it packet by packet."""
        super().connection_made(chan)
        self._inbox = Inbox(
            packet_limit_bytes=self._connection.service.settings.packet_limit_bytes,
            limit_bytes=chan.get_recv_window(),
            pause=chan.pause_reading,
            resume=chan.resume_reading,
        )

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        """Take what arrived; a client has no business with any stream but the first."""
        if datatype is None:
            self._inbox.feed(data)

    def eof_received(self) -> bool:
        """Note that the client sends nothing more; replies may still go out."""
        self._inbox.end()
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the channel is gone, and what cut it off."""
        self._inbox.end(exc)
        super().connection_lost(exc)

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
        handler = FilesHandler(connection, files, self._inbox, reader, writer)
        task = asyncio.current_task()
        assert task is not None
        connection.handlers[handler] = task
        try:
            await handler.run()
        finally:
            del connection.handlers[handler]

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
from asyncssh.constants import MSG_CHANNEL_WINDOW_ADJUST, OPEN_CONNECT_FAILED
from asyncssh.misc import ChannelOpenError, MaybeAwait
from asyncssh.packet import SSHPacket, UInt32
from asyncssh.session import DataType, SSHSession
from asyncssh.stream import SSHServerStreamSession

from gateway.model import Session
from gateway.sftp.files import VirtualFiles
from gateway.sftp.handler import FilesHandler
from gateway.sftp.inbox import Inbox
from gateway.sftp.scp import ScpCommand, parse_command
from gateway.sftp.scp_session import ScpSession

if TYPE_CHECKING:
    from gateway.sftp.connection import SftpConnection


PACKET_MIN_BYTES = 1024
PACKET_MAX_BYTES = 256 * 1024
"""What clients may want their packets to hold at least, and are sent at most."""

SCP = "scp"
"""What stands for a command that was read already."""


class SftpChannel(SSHServerChannel[bytes]):
    """A session channel on which only the ``sftp`` subsystem starts, or an allowed ``scp``."""

    _conn: SftpConnection
    scp: ScpCommand | None = None
    inbox: Inbox | None = None
    """Where what arrives goes, once SFTP is served."""

    def accept(self, data: memoryview) -> bool:
        """Take data that arrived; False when none may come now, or not so much."""
        if self._recv_state != "open" or not 0 < len(data) <= self._recv_window:
            return False
        if self.inbox is None or self._recv_paused or self._send_state != "open":
            self._accept_data(data)  # type: ignore[arg-type]  # handed on as it is
        else:
            self._recv_window -= len(data)
            self.inbox.feed(data)
        return True

    def make_room(self, waiting_bytes: int) -> None:
        """Let the client send more, once half the window is free of what waits to be read.

        The library lets it send more when data has come, whether or not it was read.
        """
        room = self._init_recv_window - self._recv_window - waiting_bytes
        goes_on = self._recv_state == "open" and self._send_state not in {"close_pending", "closed"}
        if goes_on and room >= self._init_recv_window // 2:
            self.send_packet(MSG_CHANNEL_WINDOW_ADJUST, UInt32(room))
            self._recv_window += room

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

    def process_open(
        self,
        send_chan: int,
        send_window: int,
        send_pktsize: int,
        session: MaybeAwait[SSHSession[bytes]],
    ) -> None:
        """Take what the client says of its side; ChannelOpenError for packets of a few bytes.

        Every read would be cut into thousands of them.
        """
        if send_pktsize < PACKET_MIN_BYTES:
            raise ChannelOpenError(OPEN_CONNECT_FAILED, "The maximum packet size is too small.")
        super().process_open(send_chan, send_window, min(send_pktsize, PACKET_MAX_BYTES), session)

    def _accept_data(self, data: bytes, datatype: DataType = None) -> None:
        """Take data; while nobody reads, all of it in one piece.

        The library keeps each packet's, and takes them from the front of a list.
        """
        waiting = self._recv_buf
        joins = waiting and self._recv_paused and waiting[-1][1] == datatype
        if not joins or self._send_state in {"close_pending", "closed"}:
            kept = bytearray(data) if self._recv_paused else data
            super()._accept_data(cast(bytes, kept), datatype)
            return
        cast(bytearray, waiting[-1][0]).extend(data)
        self._recv_window -= len(data)

    def _deliver_data(self, data: bytes, datatype: DataType) -> None:
        """Hand data on; where there is an inbox, its reader makes room for more."""
        if self.inbox is None:
            super()._deliver_data(data, datatype)
        elif datatype is None:
            # SFTP has no business with any stream but the first.
            self.inbox.feed(data)

    def _flush_send_buf(self) -> None:
        """Send as much as the window allows, at once where the connection can.

        During a key exchange it waits here, where it is counted, and not among the library's
        deferred packets.
        """
        if self._conn.exchanging_keys:
            self._pause_resume_writing()
            return
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
        """Let a transfer by scp's own protocol begin where policy allows it, and nothing else."""
        command, session = parse_command(packet.get_string()), self._conn.session
        packet.check_end()
        if command is None or session is None or self._session_started:
            return self._conn.refuse("exec")
        decision = self._conn.service.monitor.may_use_scp(session)
        if not decision.allowed:
            return self._conn.refuse(f"exec scp: {decision.rule}")
        if self._conn.draining:
            return False
        if not self._conn.has_free_handle:
            return self._conn.refuse("exec scp: too many open files")
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
        self._inbox: Inbox | None = None

    def eof_received(self) -> bool:
        """Note that the client sends nothing more; replies may still go out."""
        if self._inbox is not None:
            self._inbox.end()
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the channel is gone, and what cut it off."""
        if self._inbox is not None:
            self._inbox.end(exc)
        super().connection_lost(exc)

    def subsystem_requested(self, subsystem: str) -> bool:
        """Return True: the channel lets only ``sftp`` through."""
        return self._connection.session is not None

    def exec_requested(self, command: str) -> bool:
        """Return True for what the channel let through; not for what a key would force."""
        return command == SCP and cast(SftpChannel, self._chan).scp is not None

    def session_started(self) -> None:
        """Serve until the channel ends."""
        connection, channel = self._connection, cast(SftpChannel, self._chan)
        settings = connection.service.settings
        assert connection.session is not None
        channel.set_write_buffer_limits(high=settings.send_buffer_bytes)
        if channel.scp is None:
            self._inbox = channel.inbox = Inbox(
                packet_limit_bytes=settings.packet_limit_bytes, read=channel.make_room
            )
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
        assert self._inbox is not None
        files = VirtualFiles(
            channel,
            door,
            service.workers,
            service.monitor.clock,
            service.settings.read_limit_bytes,
        )
        return FilesHandler(connection, files, self._inbox, reader, writer)

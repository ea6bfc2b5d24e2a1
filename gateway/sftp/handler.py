"""Reads SFTP packets for one channel: limits, clean closes, errors and back pressure.

A subclass of asyncssh's private SFTPServerHandler (pinned by ``tests/sftp/test_stock.py``). No
file operation and no log-in lives here. May import the error tree.
"""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Any, cast

import asyncssh
from asyncssh.constants import FXP_INIT, FXP_READ, FXP_WRITE
from asyncssh.logging import SSHLogger
from asyncssh.packet import PacketDecodeError, SSHPacket
from asyncssh.sftp import SFTPLimits, SFTPServerHandler

from gateway.errors import InvalidPathError
from gateway.sftp.bulk import Bulk, Direction, Job, failing, read_request, write_request
from gateway.sftp.copying import CopyRequest, RunningCopy, planned, request_in
from gateway.sftp.digests import DigestReply, DigestRequest
from gateway.sftp.errors import shown
from gateway.sftp.files import VirtualFiles
from gateway.sftp.folders import OpenFolder
from gateway.sftp.inbox import Inbox, OversizeError
from gateway.sftp.served import EXTENSIONS, RETURN_TYPES, SERVED

if TYPE_CHECKING:
    from gateway.sftp.channel import SftpChannel
    from gateway.sftp.connection import SftpConnection

log = logging.getLogger(__name__)

VERSION = 3
"""The only version of the protocol that is spoken; who knows later ones is answered this one."""

_BULK = {FXP_READ: Direction.READ, FXP_WRITE: Direction.WRITE}
_WRITE = bytes([FXP_WRITE])


class _Silent(SSHLogger):
    """Logs nothing: what is asked and answered is patients' data, and wording it takes time."""

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:  # noqa: ANN401
        """Do nothing."""

    def debug1(self, msg: str, *args: object, **kwargs: Any) -> None:  # noqa: ANN401
        """Do nothing."""


def _guarded(step: str) -> Any:  # noqa: ANN401  what the stock table holds
    """Return the method named ``step`` raising nothing but what may be shown to a client."""

    async def guarded(self: FilesHandler, packet: SSHPacket) -> object:
        try:
            return await getattr(self, step)(packet)
        except Exception as error:
            if isinstance(error, InvalidPathError):
                # No node can have the name, so that the door was never asked.
                what = f"{step.removeprefix('_process_').removeprefix('_answer_')}: bad name"
                await self._connection.record_refusal(what)
            raise shown(error) from error

    return guarded


class FilesHandler(SFTPServerHandler):
    """The server's side of one ``sftp`` channel."""

    _extensions = EXTENSIONS
    _return_types = RETURN_TYPES

    def __init__(
        self,
        connection: SftpConnection,
        files: VirtualFiles,
        inbox: Inbox,
        reader: asyncssh.SSHReader[bytes],
        writer: asyncssh.SSHWriter[bytes],
    ) -> None:
        super().__init__(files, reader, writer, sftp_version=VERSION)
        self._logger = _Silent()
        self._connection = connection
        self._files = files
        self._inbox = inbox
        self._bulk = Bulk(files.run, self._send_parts, self._sent)
        self._settings = connection.service.settings
        self._copy: RunningCopy | None = None
        self._begun = False
        self._closing = 0
        self._cap_recorded = False
        # Where the library looks for handles that are taken.
        self._folders = cast(dict[bytes, OpenFolder], self._dir_handles)

    @property
    def open_files(self) -> int:
        """How many files the client has open on this channel, or is closing."""
        return len(self._file_handles) + self._closing

    @property
    def open_handles(self) -> int:
        """How many files and folders the client has open on this channel."""
        return len(self._file_handles) + len(self._folders)

    async def run(self) -> None:
        """Serve the channel until it ends; then give up whatever is still open."""
        try:
            await super().run()
        except EOFError:
            # The channel ended before its first packet was whole. The stock handler lets this out,
            # which would end the connection with all its other channels.
            await self._cleanup(None)
        finally:
            await self._give_up()

    async def _cleanup(self, exc: Exception | None) -> None:
        # What came before the end is done and answered, if anybody still listens.
        with contextlib.suppress(OSError, asyncssh.Error):
            await self._bulk.finish()
        await self._give_up()
        # The stock handler sends no exit status, which scp takes for a failure.
        self._files.channel.exit(0 if exc is None else 1)
        await super()._cleanup(exc)

    async def _give_up(self) -> None:
        """Abort every open file: only an SSH_FXP_CLOSE commits, never an end of the wire."""
        if self._copy is not None:
            await self._copy.stop()
        await self._bulk.settle()
        while self._file_handles:
            _, file = self._file_handles.popitem()
            try:
                await self._files.close(file)
            except Exception as error:  # noqa: BLE001  one failure must not keep the others open
                log.error("giving up an open file failed with %s", type(error).__name__)
        self._folders.clear()

    def log_sent_packet(self, *_: object) -> None:
        """Log nothing: what is sent is patients' data."""

    def log_received_packet(self, *_: object) -> None:
        """Log nothing: what is received is patients' data."""

    async def recv_packet(self) -> SSHPacket:
        """Return the next packet; ends the channel when it is longer than one may be.

        So does a first one that asks for a version before 3, which the library would agree to and
        then not know.
        """
        try:
            body = await self._inbox.get()
        except OversizeError:
            raise asyncssh.SFTPBadMessage("The packet is longer than this server takes.") from None
        if not self._begun and body[:1] == bytes([FXP_INIT]):
            self._begun = True
            if int.from_bytes(body[1:5], "big") < VERSION:
                raise asyncssh.SFTPBadMessage("This server speaks version 3.")
        # What is written stays where it was put together; elsewhere the library wants bytes, which
        # can be looked up.
        return SSHPacket(cast(bytes, body) if body[:1] == _WRITE else bytes(body))

    async def _process_packet(self, pkttype: int, pktid: int, packet: SSHPacket) -> None:
        """Answer a request; one to copy is answered beside those that follow it."""
        if self._copy is not None and self._copy.precedes(pkttype, packet):
            await self._copy.wait()
        direction = _BULK.get(pkttype)
        if direction is not None:
            job = self._job(direction, packet)
            await self._bulk.take(direction, pktid, job, more=self._inbox.ready)
            self._connection.request_answered()
            return
        await self._bulk.finish()
        request = request_in(pkttype, packet)
        if request is None:
            await self._answer(pkttype, pktid, packet)
            return
        files = [self._file_handles.get(one) for one in (request.source, request.target)]
        self._copy = RunningCopy(request, files)
        self._connection.service.spawn(self._answer_copy(self._copy, pkttype, pktid, packet))

    async def _answer_copy(
        self, copy: RunningCopy, pkttype: int, pktid: int, packet: SSHPacket
    ) -> None:
        try:
            # What ends the channel here ends it for the next request too, which says so.
            with contextlib.suppress(OSError, asyncssh.Error):
                await self._answer(pkttype, pktid, packet)
        finally:
            self._copy = None
            copy.answered()

    async def _answer(self, pkttype: int, pktid: int, packet: SSHPacket) -> None:
        await super()._process_packet(pkttype, pktid, packet)
        await self._sent()
        self._connection.request_answered()

    def _send_parts(self, *parts: bytes) -> None:
        if self._writer is not None and not self._writer.channel.is_closing():
            cast("SftpChannel", self._files.channel).send_parts(*parts)

    async def _sent(self) -> None:
        """Wait until the client takes its replies.

        The stock handler reads on while they pile up for a client that takes none.
        """
        if self._writer is not None:
            await self._writer.drain()
            await self._connection.until_writable()

    def _job(self, direction: Direction, packet: SSHPacket) -> Job:
        """Return what is to be done for a packet; a job that only fails, if nothing can be."""
        try:
            if direction is Direction.READ:
                handle, offset, size = read_request(packet)
                return self._files.read_job(self._open_file(handle), offset, size)
            handle, offset, data = write_request(packet)
            return self._files.write_job(self._open_file(handle), offset, data)
        except (asyncssh.SFTPError, PacketDecodeError) as error:
            return failing(error)

    def _open_file(self, handle: bytes) -> object:
        file = self._file_handles.get(handle)
        if file is None:
            raise asyncssh.SFTPInvalidHandle("Not an open file.")
        return file

    async def _require_free_handle(self) -> None:
        """Raise SFTPFailure when nothing more may be opened; the first one in a row is recorded."""
        if self._connection.draining:
            raise asyncssh.SFTPFailure("The server is about to restart; connect again.")
        if not self._connection.has_free_handle:
            if not self._cap_recorded:
                self._cap_recorded = True
                await self._connection.record_refusal("too many open files")
            raise asyncssh.SFTPFailure("Too many files are open; close some.")

    async def _process_open(self, packet: SSHPacket) -> bytes:
        await self._require_free_handle()
        return await super()._process_open(packet)

    async def _process_opendir(self, packet: SSHPacket) -> bytes:
        """List at once, so that a missing folder fails here and not at the first READDIR."""
        path = packet.get_string()
        packet.check_end()
        await self._require_free_handle()
        folder = await self._files.opendir(path)
        handle = self._get_next_handle()
        self._folders[handle] = folder
        return handle

    async def _process_readdir(self, packet: SSHPacket) -> tuple[list[Any], bool]:
        """Answer with as many names as a packet holds, whatever their number."""
        folder = self._folders.get(packet.get_string())
        packet.check_end()
        if folder is None:
            raise asyncssh.SFTPInvalidHandle("Not an open folder.")
        names = await self._files.readdir(folder)
        if not names:
            raise asyncssh.SFTPEOFError
        return names, False

    async def _process_close(self, packet: SSHPacket) -> None:
        """Commit: this is the one place that a client's own, clean close comes through."""
        handle = packet.get_string()
        packet.check_end()
        file = self._file_handles.pop(handle, None)
        if file is not None:
            # Until it is stored, nobody may think that this client has no file open.
            self._closing += 1
            try:
                await self._files.finish(file)
            finally:
                self._closing -= 1
        elif self._folders.pop(handle, None) is None:
            raise asyncssh.SFTPInvalidHandle("Not an open handle.")
        self._cap_recorded = False

    async def _process_limits(self, packet: SSHPacket) -> SFTPLimits:
        packet.check_end()
        return SFTPLimits(
            self._settings.packet_limit_bytes,
            self._settings.read_limit_bytes,
            self._settings.write_limit_bytes,
            self._settings.max_handles_per_session,
        )

    async def _process_copy_data(self, packet: SSHPacket) -> None:
        """Copy between two open files (draft-ietf-secsh-filexfer-extensions-00 section 7)."""
        request = CopyRequest.parse(packet)
        files = (self._file_handles.get(one) for one in (request.source, request.target))
        plan, running = planned(request, *files), self._copy
        await self._files.copy(plan, lambda: running is not None and running.stopped)

    async def _answer_check_file(self, packet: SSHPacket, *, named: bool = True) -> DigestReply:
        """Answer for an open file, as paramiko asks."""
        handle = packet.get_string()
        request = DigestRequest.parse(packet)
        hashes = await self._files.digest(self._open_file(handle), request)
        return DigestReply(request.algorithm, hashes, named=named)

    async def _answer_check_file_handle(self, packet: SSHPacket) -> DigestReply:
        return await self._answer_check_file(packet, named=False)

    async def _answer_check_file_name(self, packet: SSHPacket) -> DigestReply:
        path = packet.get_string()
        request = DigestRequest.parse(packet)
        hashes = await self._files.digest_of(path, request)
        return DigestReply(request.algorithm, hashes, named=False)

    async def _answer_home_directory(
        self, packet: SSHPacket
    ) -> tuple[list[asyncssh.SFTPName], bool]:
        """Return where everyone begins; other users' homes are nobody's business here."""
        packet.get_string()
        packet.check_end()
        return [asyncssh.SFTPName(b"/", b"/")], True

    async def _answer_expand_path(self, packet: SSHPacket) -> tuple[list[asyncssh.SFTPName], bool]:
        """Return an absolute path for one that may begin with ``~``, which is ``/``."""
        path = packet.get_string()
        packet.check_end()
        if path.startswith(b"~"):
            path = b"/" + path.partition(b"/")[2]
        expanded = await self._files.realpath(path)
        return [asyncssh.SFTPName(expanded, expanded)], True

    # The stock table holds functions, not names: without a table of our own no override would
    # be reached. What is not served is answered "unsupported".
    _packet_handlers: dict[int | bytes, Any] = {
        request: _guarded(step.__name__)
        for request, step in SFTPServerHandler._packet_handlers.items()  # noqa: SLF001
        if request in SERVED and step is not None
    } | {
        request: _guarded(step)
        for request, step in (
            (b"check-file", "_answer_check_file"),
            (b"check-file-handle", "_answer_check_file_handle"),
            (b"check-file-name", "_answer_check_file_name"),
            (b"home-directory", "_answer_home_directory"),
            (b"expand-path@openssh.com", "_answer_expand_path"),
        )
    }

"""Reads SFTP packets for one channel: limits, clean closes, errors and back pressure.

A subclass of asyncssh's private SFTPServerHandler (pinned by ``tests/sftp/test_stock.py``). No
file operation and no log-in lives here. May import the error tree and ``gateway.status``.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, cast

import asyncssh
from asyncssh.constants import (
    FXP_CLOSE,
    FXP_EXTENDED_REPLY,
    FXP_FSETSTAT,
    FXP_FSTAT,
    FXP_LSTAT,
    FXP_MKDIR,
    FXP_NAME,
    FXP_OPEN,
    FXP_OPENDIR,
    FXP_READ,
    FXP_READDIR,
    FXP_REALPATH,
    FXP_REMOVE,
    FXP_RENAME,
    FXP_RMDIR,
    FXP_SETSTAT,
    FXP_STAT,
    FXP_WRITE,
)
from asyncssh.packet import PacketDecodeError, SSHPacket
from asyncssh.sftp import SFTPLimits, SFTPServerHandler

from gateway.errors import InvalidPathError
from gateway.sftp.bulk import Bulk, Direction, Job
from gateway.sftp.digests import DigestReply, DigestRequest
from gateway.sftp.errors import shown
from gateway.sftp.files import VirtualFiles
from gateway.sftp.inbox import Inbox, OversizeError

if TYPE_CHECKING:
    from gateway.sftp.channel import SftpChannel
    from gateway.sftp.connection import SftpConnection

log = logging.getLogger(__name__)

_COPY_BLOCK_BYTES = 256 * 1024

_BULK = {FXP_READ: Direction.READ, FXP_WRITE: Direction.WRITE}

# What stands around the content in SSH_FXP_WRITE: type, request, the handle's length, offset, and
# the content's length.
_WRITE_HEAD_BYTES = 1 + 4 + 4 + 8 + 4

_SERVED: frozenset[int | bytes] = frozenset(
    {
        FXP_OPEN,
        FXP_CLOSE,
        FXP_READ,
        FXP_WRITE,
        FXP_LSTAT,
        FXP_FSTAT,
        FXP_SETSTAT,
        FXP_FSETSTAT,
        FXP_OPENDIR,
        FXP_READDIR,
        FXP_REMOVE,
        FXP_MKDIR,
        FXP_RMDIR,
        FXP_REALPATH,
        FXP_STAT,
        FXP_RENAME,
        b"posix-rename@openssh.com",
        b"statvfs@openssh.com",
        b"fstatvfs@openssh.com",
        b"fsync@openssh.com",
        b"lsetstat@openssh.com",
        b"limits@openssh.com",
        b"copy-data",
        b"check-file",
        b"check-file-handle",
        b"check-file-name",
        b"home-directory",
        b"expand-path@openssh.com",
    }
)
"""What is answered; an extension that a later asyncssh brings stays off until it is listed."""


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

    # Not announced: links, and the stock server's ranges@asyncssh.com, which asks a file object
    # for a descriptor of the host.
    _extensions: list[tuple[bytes, bytes]] = [  # noqa: RUF012  the library's own shape
        (b"posix-rename@openssh.com", b"1"),
        (b"statvfs@openssh.com", b"2"),
        (b"fstatvfs@openssh.com", b"2"),
        (b"fsync@openssh.com", b"1"),
        (b"lsetstat@openssh.com", b"1"),
        (b"limits@openssh.com", b"1"),
        (b"copy-data", b"1"),
        (b"check-file", b"1"),
        (b"check-file-handle", b"1"),
        (b"check-file-name", b"1"),
        (b"home-directory", b"1"),
        (b"expand-path@openssh.com", b"1"),
    ]
    _return_types: dict[object, int] = {  # noqa: RUF012  the library's own shape
        **SFTPServerHandler._return_types,  # noqa: SLF001
        b"check-file": FXP_EXTENDED_REPLY,
        b"check-file-handle": FXP_EXTENDED_REPLY,
        b"check-file-name": FXP_EXTENDED_REPLY,
        b"home-directory": FXP_NAME,
        b"expand-path@openssh.com": FXP_NAME,
    }

    def __init__(
        self,
        connection: SftpConnection,
        files: VirtualFiles,
        inbox: Inbox,
        reader: asyncssh.SSHReader[bytes],
        writer: asyncssh.SSHWriter[bytes],
    ) -> None:
        super().__init__(files, reader, writer, sftp_version=3)
        self._connection = connection
        self._files = files
        self._inbox = inbox
        self._bulk = Bulk(files.run, self._send_parts, self._sent)
        self._settings = connection.service.settings

    @property
    def open_files(self) -> int:
        """How many files the client has open on this channel."""
        return len(self._file_handles)

    @property
    def open_handles(self) -> int:
        """How many files and folders the client has open on this channel."""
        return len(self._file_handles) + len(self._dir_handles)

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
        await self._give_up()
        # The stock handler sends no exit status, which scp takes for a failure.
        self._files.channel.exit(0 if exc is None else 1)
        await super()._cleanup(exc)

    async def _give_up(self) -> None:
        """Abort every open file: only an SSH_FXP_CLOSE commits, never an end of the wire."""
        await self._bulk.settle()
        while self._file_handles:
            _, file = self._file_handles.popitem()
            try:
                await self._files.close(file)
            except Exception as error:  # noqa: BLE001  one failure must not keep the others open
                log.error("giving up an open file failed with %s", type(error).__name__)
        self._dir_handles.clear()

    def log_sent_packet(self, *_: object) -> None:
        """Log nothing: what is sent is patients' data."""

    def log_received_packet(self, *_: object) -> None:
        """Log nothing: what is received is patients' data."""

    async def recv_packet(self) -> SSHPacket:
        """Return the next packet; ends the channel when it is longer than one may be."""
        try:
            return SSHPacket(await self._inbox.get())
        except OversizeError:
            raise asyncssh.SFTPBadMessage("The packet is longer than this server takes.") from None

    async def _process_packet(self, pkttype: int, pktid: int, packet: SSHPacket) -> None:
        if pkttype in _BULK:
            job = self._read_job if pkttype == FXP_READ else self._write_job
            await self._bulk.take(
                _BULK[pkttype], pktid, _attempted(job, packet), more=self._inbox.ready
            )
        else:
            await self._bulk.finish()
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

    def _read_job(self, packet: SSHPacket) -> Job:
        handle = packet.get_string()
        offset, size = packet.get_uint64(), packet.get_uint32()
        packet.check_end()
        return self._files.read_job(self._open_file(handle), offset, size)

    def _write_job(self, packet: SSHPacket) -> Job:
        handle, offset = packet.get_string(), packet.get_uint64()
        size, whole = packet.get_uint32(), memoryview(packet.get_full_payload())
        if _WRITE_HEAD_BYTES + len(handle) + size != len(whole):
            raise PacketDecodeError("Incomplete packet")
        # Written from where it lies: a slice of the packet would copy it.
        data = whole[len(whole) - size :]
        return self._files.write_job(self._open_file(handle), offset, data)

    def _open_file(self, handle: bytes) -> object:
        file = self._file_handles.get(handle)
        if file is None:
            raise asyncssh.SFTPInvalidHandle("Not an open file.")
        return file

    def _require_free_handle(self) -> None:
        if self._connection.draining:
            raise asyncssh.SFTPFailure("The server is about to restart; connect again.")
        if self._connection.open_handles >= self._settings.max_handles_per_session:
            raise asyncssh.SFTPFailure("Too many files are open; close some.")

    async def _process_open(self, packet: SSHPacket) -> bytes:
        self._require_free_handle()
        return await super()._process_open(packet)

    async def _process_opendir(self, packet: SSHPacket) -> bytes:
        """List at once, so that a missing folder fails here and not at the first READDIR."""
        path = packet.get_string()
        packet.check_end()
        self._require_free_handle()
        entries = await self._files.listing(path)
        handle = self._get_next_handle()
        self._dir_handles[handle] = _each(entries)
        return handle

    async def _process_close(self, packet: SSHPacket) -> None:
        """Commit: this is the one place that a client's own, clean close comes through."""
        handle = packet.get_string()
        packet.check_end()
        file = self._file_handles.pop(handle, None)
        if file is not None:
            await self._files.finish(file)
        elif self._dir_handles.pop(handle, None) is None:
            raise asyncssh.SFTPInvalidHandle("Not an open handle.")

    async def _process_limits(self, packet: SSHPacket) -> SFTPLimits:
        packet.check_end()
        return SFTPLimits(
            self._settings.packet_limit_bytes,
            self._settings.read_limit_bytes,
            self._settings.write_limit_bytes,
            self._settings.max_handles_per_session,
        )

    async def _process_copy_data(self, packet: SSHPacket) -> None:
        """Copy between two open files (draft-ietf-secsh-filexfer-extensions-00 section 7).

        What to copy is fixed before the first byte: a source that grows meanwhile, perhaps by
        this very copy, cannot keep it going.
        """
        source_handle, source_at = packet.get_string(), packet.get_uint64()
        length = packet.get_uint64()
        target_handle, target_at = packet.get_string(), packet.get_uint64()
        packet.check_end()
        source = self._file_handles.get(source_handle)
        target = self._file_handles.get(target_handle)
        if source is None or target is None or source is target:
            raise asyncssh.SFTPInvalidHandle("Not two open files.")
        size = (await self._files.fstat(source)).size or 0
        end = max(size, source_at) if length == 0 else min(size, source_at + length)
        while source_at < end and self._writer and not self._writer.is_closing():
            want = min(_COPY_BLOCK_BYTES, end - source_at, self._settings.read_limit_bytes)
            data = await self._files.read(source, source_at, want)
            if not data:
                break
            await self._files.write(target, target_at, data)
            source_at += len(data)
            target_at += len(data)

    async def _answer_check_file(self, packet: SSHPacket, *, named: bool = True) -> DigestReply:
        """Answer for an open file, as paramiko asks."""
        file = self._file_handles.get(packet.get_string())
        request = DigestRequest.parse(packet)
        if file is None:
            raise asyncssh.SFTPInvalidHandle("Not an open file.")
        hashes = await self._files.digest(file, request)
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
        if request in _SERVED and step is not None
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


def _attempted(make: Callable[[SSHPacket], Job], packet: SSHPacket) -> Job:
    """Return the job that ``make`` makes of the packet; one that only fails, if that fails."""
    try:
        return make(packet)
    except (asyncssh.SFTPError, PacketDecodeError) as error:
        reason = error

        def fail() -> bytes | None:
            raise reason

        return fail


async def _each(entries: list[asyncssh.SFTPName]) -> AsyncIterator[asyncssh.SFTPName]:
    for entry in entries:
        yield entry

"""Reads and writes of one SFTP channel, several at a time: what a transfer is made of.

A client sends many requests ahead; a few that follow each other are one call to the door's
threads, and while it runs the next ones arrive and those before it are sealed and sent. Replies
keep the order of the requests, and writes are done in theirs. Nothing of what a file is. Imports
asyncssh's packet types and ``gateway.sftp.errors``.
"""

from __future__ import annotations

import asyncio
import enum
import struct
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

import asyncssh
from asyncssh.constants import FX_OK, FXP_DATA, FXP_STATUS
from asyncssh.packet import PacketDecodeError, SSHPacket, String, UInt32

from gateway.sftp.errors import shown

BATCH_LIMIT = 4
"""How many requests are one call; with the usual 256 KiB each, 1 MiB."""

# draft-ietf-secsh-filexfer-02 sections 3 and 7: length, type, request, length of the content.
_DATA_HEAD = struct.Struct(">IBII")
_STATUS_HEAD = struct.Struct(">IBI")
# Before the content in SSH_FXP_WRITE: type, request, the handle's length, offset, its own length.
_WRITE_HEAD_BYTES = 1 + 4 + 4 + 8 + 4

Job = Callable[[], bytes | None]
"""A read, which returns what it found, or a write; runs in one of the door's threads."""

Result = bytes | Exception | None
"""What a job returned or raised."""


class Direction(enum.Enum):
    """What a job does."""

    READ = "read"
    WRITE = "write"


class Bulk:
    """The reads and writes under way on one channel; used on the event loop alone.

    ``run`` has the door's threads do jobs one after another; ``send`` puts bytes on the channel;
    ``sent`` waits until the client takes them.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Job]], asyncio.Future[list[Result]]],
        send: Callable[..., None],
        sent: Callable[[], Awaitable[None]],
    ) -> None:
        self._run = run
        self._send = send
        self._sent = sent
        self._direction = Direction.READ
        self._waiting: list[tuple[int, Job]] = []
        self._batches: deque[tuple[list[int], asyncio.Future[list[Result]]]] = deque()

    async def take(self, direction: Direction, request: int, job: Job, *, more: bool) -> None:
        """Have ``job`` done for ``request``, and answer what is due.

        ``more``: another packet has arrived already, so that this one may wait for it.
        """
        if direction is not self._direction:
            await self.finish()
            self._direction = direction
        self._waiting.append((request, job))
        if more and len(self._waiting) < BATCH_LIMIT:
            return
        if direction is Direction.WRITE:
            # Two calls at once could overtake each other.
            await self._answer(0)
        self._begin()
        if not more or direction is Direction.READ:
            await self._answer(1 if more else 0)

    async def finish(self) -> None:
        """Wait until all that was taken is done and answered."""
        if self._waiting or self._batches:
            if self._direction is Direction.WRITE:
                await self._answer(0)
            self._begin()
            await self._answer(0)

    async def settle(self) -> None:
        """Wait until what has begun is done; nobody is left to be answered."""
        self._waiting.clear()
        while self._batches:
            await self._batches.popleft()[1]

    def _begin(self) -> None:
        if self._waiting:
            taken, self._waiting = self._waiting, []
            requests, jobs = [request for request, _ in taken], [job for _, job in taken]
            self._batches.append((requests, self._run(jobs)))

    async def _answer(self, left: int) -> None:
        """Answer batches, oldest first, until ``left`` are under way."""
        while len(self._batches) > left:
            requests, batch = self._batches.popleft()
            replies: list[bytes] = []
            for request, result in zip(requests, await batch, strict=True):
                if isinstance(result, bytes) and result:
                    size = len(result)
                    head = _DATA_HEAD.pack(_DATA_HEAD.size - 4 + size, FXP_DATA, request, size)
                    self._send(*replies, head, result)
                    replies.clear()
                    await self._sent()
                else:
                    replies.append(_status(request, result))
            if replies:
                self._send(*replies)
                await self._sent()


def read_request(packet: SSHPacket) -> tuple[bytes, int, int]:
    """Return the handle, the offset and the size that SSH_FXP_READ asks for."""
    request = packet.get_string(), packet.get_uint64(), packet.get_uint32()
    packet.check_end()
    return request


def write_request(packet: SSHPacket) -> tuple[bytes, int, memoryview]:
    """Return the handle, the offset and the data of SSH_FXP_WRITE, where it lies in the packet.

    Whatever comes behind as many bytes as the packet says is ignored: rclone 1.60 ends an upload
    with a packet that carries the rest of its buffer along, which OpenSSH's server does not look
    at (tests/e2e/test_machines.py uploads by it).
    """
    handle, offset, size = bytes(packet.get_string()), packet.get_uint64(), packet.get_uint32()
    begin = _WRITE_HEAD_BYTES + len(handle)
    data = memoryview(packet.get_full_payload())[begin : begin + size]
    if len(data) != size:
        raise PacketDecodeError("Incomplete packet")
    return handle, offset, data


def each_result(jobs: Sequence[Job]) -> list[Result]:
    """Do one job after another; what one raises is its result and no other's."""
    results: list[Result] = []
    for job in jobs:
        try:
            results.append(job())
        except Exception as error:  # noqa: BLE001  it is the answer
            results.append(error)
    return results


def failing(error: Exception) -> Job:
    """Return a job that raises ``error``."""

    def fail() -> bytes | None:
        raise error

    return fail


def _status(request: int, result: Result) -> bytes:
    if result is None:
        body = UInt32(FX_OK) + String("") + String("")
    else:
        error = shown(asyncssh.SFTPEOFError() if isinstance(result, bytes) else result)
        if not isinstance(error, asyncssh.SFTPError):
            error = asyncssh.SFTPBadMessage(str(error))
        body = error.encode(3)
    return _STATUS_HEAD.pack(_STATUS_HEAD.size - 4 + len(body), FXP_STATUS, request) + body

"""SFTP packets put together from what arrives on a channel, in any pieces.

The length in front of a packet is looked at before anything of it is kept. Nothing of what packets
mean. Imports nothing of the project.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

_LENGTH_BYTES = 4


class OversizeError(Exception):
    """A packet announced itself longer than any may be."""


class Inbox:
    """One channel's packets, in order; used on the event loop alone, by one reader.

    How much arrives before it is read is the channel's to limit: ``read`` is called with how many
    bytes wait still, whenever a packet was read.
    """

    def __init__(self, *, packet_limit_bytes: int, read: Callable[[int], None]) -> None:
        self._packet_limit_bytes = packet_limit_bytes
        self._read = read
        self._packets: deque[bytes | bytearray] = deque()
        self._waiting_bytes = 0
        self._begun = bytearray()
        self._begun_bytes = 0
        self._head = b""
        self._end: Exception | None = None
        self._reader: asyncio.Future[None] | None = None

    @property
    def ready(self) -> bool:
        """Whether a whole packet waits."""
        return bool(self._packets)

    def feed(self, data: bytes | memoryview) -> None:
        """Take what arrived; it must not be changed afterwards."""
        view = memoryview(data)
        while view and self._end is None:
            view = self._continue(view) if self._begun else self._begin(view)
        self._waiting_bytes += len(data)
        self._wake()

    def end(self, error: Exception | None = None) -> None:
        """Note that nothing more comes; ``error`` is what went wrong, if anything did."""
        if self._end is None:
            self._end = EOFError() if error is None else error
        self._wake()

    async def get(self) -> bytes | bytearray:
        """Return the next packet without its length; one that came in pieces as a bytearray.

        Raises EOFError at the end, OversizeError, or what ``end`` was told.
        """
        while not self._packets:
            if self._end is not None:
                raise self._end
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        packet = self._packets.popleft()
        self._waiting_bytes -= len(packet) + _LENGTH_BYTES
        self._read(self._waiting_bytes)
        return packet

    def _begin(self, view: memoryview) -> memoryview:
        """Take a length, and the packet if it is here as a whole; return what follows."""
        wanted = _LENGTH_BYTES - len(self._head)
        self._head += view[:wanted]
        if len(self._head) < _LENGTH_BYTES:
            return view[wanted:]
        size = int.from_bytes(self._head, "big")
        self._head = b""
        if size > self._packet_limit_bytes:
            self._end = OversizeError()
            return view[len(view) :]
        rest = view[wanted:]
        if len(rest) >= size:
            self._packets.append(bytes(rest[:size]))
            return rest[size:]
        self._begun = bytearray(size)
        return rest

    def _continue(self, view: memoryview) -> memoryview:
        """Take more of a packet that has begun; return what follows it."""
        begun, at = self._begun, self._begun_bytes
        piece = view[: len(begun) - at]
        begun[at : at + len(piece)] = piece
        self._begun_bytes += len(piece)
        if self._begun_bytes == len(begun):
            self._packets.append(begun)
            self._begun, self._begun_bytes = bytearray(), 0
        return view[len(piece) :]

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

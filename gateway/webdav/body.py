"""The body of a request, counted byte by byte: cut short it raises, it never just ends.

Reads from an ``Inbox`` (what arrived on the connection and was not consumed yet) and knows
nothing of TLS, sockets or handlers. Imports only ``messages``.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Final

from gateway.webdav.messages import BodyCutError, HttpError

_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?")
_CHUNK_LINE_LIMIT_BYTES: Final = 1024
_TRAILER_LIMIT_BYTES: Final = 8 * 1024


class Inbox:
    """Bytes that arrived on a connection; ``receive_into`` blocks for more, 0 at the end."""

    __slots__ = ("_receive_into", "data")

    def __init__(self, receive_into: Callable[[memoryview], int]) -> None:
        self._receive_into = receive_into
        self.data = b""

    def read_into(self, view: memoryview) -> int:
        """Fill some of ``view``; return the bytes written, 0 when the client is gone."""
        if self.data:
            size = min(len(self.data), len(view))
            view[:size] = self.data[:size]
            self.data = self.data[size:]
            return size
        return self._receive_into(view)

    def read_line(self, limit_bytes: int) -> bytes:
        """Return one line without its CRLF.

        Raises BodyCutError when the client is gone, HttpError 400 when the line is too long.
        """
        while True:
            line, end, rest = self.data.partition(b"\r\n")
            if end and len(line) <= limit_bytes:
                self.data = rest
                return line
            if len(self.data) > limit_bytes + 1:  # one more may be the CR, its LF yet to come
                raise HttpError(400, "The chunked coding of the body is malformed.")
            block = bytearray(4096)
            size = self._receive_into(memoryview(block))
            if size == 0:
                raise BodyCutError
            self.data += block[:size]


class Body:
    """A request's body of known size, or chunked when ``length`` is None (RFC 9112 section 7.1).

    ``begin`` runs once, before the first byte is waited for: it tells a waiting client to go
    on. A client that sends fewer than ``rate_min_bytes_s`` while it is waited for, after the first
    ``rate_grace_s``, is cut off.
    """

    __slots__ = (
        "_begin",
        "_behind_data",
        "_inbox",
        "_rate_grace_s",
        "_rate_min_bytes_s",
        "_remaining",
        "_trailer_bytes",
        "_waited_s",
        "finished",
        "length",
        "received_bytes",
        "started",
    )

    def __init__(
        self,
        inbox: Inbox,
        length: int | None,
        begin: Callable[[], None] | None = None,
        *,
        rate_min_bytes_s: int = 0,
        rate_grace_s: float = 20.0,
    ) -> None:
        self._inbox = inbox
        self._begin = begin
        self._rate_min_bytes_s = rate_min_bytes_s
        self._rate_grace_s = rate_grace_s
        self._remaining = length or 0
        self._behind_data = False
        self._trailer_bytes: int | None = None
        self._waited_s = 0.0
        self.length = length
        self.received_bytes = 0
        self.started = False
        self.finished = length == 0

    def read_into(self, view: memoryview) -> int:
        """Fill ``view``; return the bytes written, fewer than its size only at the end.

        Raises BodyCutError when the body ends early or comes too slowly, HttpError 400 for
        broken chunked coding. BlockingIOError, where the inbox does not wait, loses what this
        call read; the next one goes on behind it.
        """
        filled = 0
        if not self.started:
            self.started = True
            if self._begin is not None and not self.finished:
                self._begin()
        while filled < len(view) and not self.finished:
            if self._remaining == 0:
                self._next_chunk()
                continue
            filled += self._some(view[filled : filled + self._remaining])
        return filled

    def read_all(self, limit_bytes: int) -> bytes:
        """Return the whole body; raises HttpError 413 when it is over ``limit_bytes``."""
        if self.finished:
            return b""
        if (self.length or 0) > limit_bytes:
            raise HttpError(413, f"The body is larger than {limit_bytes} bytes.")
        room = bytearray(limit_bytes + 1 if self.length is None else self.length)
        size = self.read_into(memoryview(room))
        if size > limit_bytes:
            raise HttpError(413, f"The body is larger than {limit_bytes} bytes.")
        return bytes(memoryview(room)[:size])

    def _some(self, view: memoryview) -> int:
        before = time.monotonic()
        size = self._inbox.read_into(view)
        if size == 0:
            raise BodyCutError
        self.received_bytes += size
        self._remaining -= size
        self._check_rate(before)
        if self._remaining == 0:
            self._behind_data = self.length is None
            self.finished = not self._behind_data
        return size

    def _check_rate(self, before_s: float) -> None:
        self._waited_s += time.monotonic() - before_s
        late_s = self._waited_s - self._rate_grace_s
        if late_s > 0 and self.received_bytes < late_s * self._rate_min_bytes_s:
            # One byte a minute would hold a thread, and a session, for ever.
            raise BodyCutError

    def _line(self, limit_bytes: int) -> bytes:
        before = time.monotonic()
        line = self._inbox.read_line(limit_bytes)
        self._check_rate(before)
        return line

    def _next_chunk(self) -> None:
        """Read on to the data of the next chunk, or to the end; goes on where it was interrupted."""
        if self._behind_data:
            self._line(0)
            self._behind_data = False
        if self._trailer_bytes is None:
            match = _CHUNK_SIZE.fullmatch(self._line(_CHUNK_LINE_LIMIT_BYTES))
            if match is None:
                raise HttpError(400, "The chunked coding of the body is malformed.")
            self._remaining = int(match[1], 16)
            if self._remaining:
                return
            self._trailer_bytes = 0
        while line := self._line(_CHUNK_LINE_LIMIT_BYTES):
            self._trailer_bytes += len(line)
            if self._trailer_bytes > _TRAILER_LIMIT_BYTES:
                raise HttpError(400, "The trailer of the body is too large.")
        self.finished = True

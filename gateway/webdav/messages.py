"""Requests and responses as the handlers see them, and the refusals that handlers raise.

Plain records without I/O, so that a handler is tested by calling it. Imports only ``body`` for
the type of a request's body.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol


class HttpError(Exception):
    """A refusal that belongs to HTTP or WebDAV itself, not to an operation of the door.

    ``condition`` is the local name of an RFC 4918 section 16 precondition, or empty.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        condition: str = "",
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.condition = condition
        self.headers = headers


class BodyCutError(Exception):
    """The client stopped sending before the body was whole; no answer can reach it."""


class RequestBody(Protocol):
    """The body of a request, read once from front to end.

    ``length`` is the announced size in bytes, None while unknown (chunked coding).
    ``read_into`` and ``read_all`` raise BodyCutError when the body ends early, HttpError 400 for
    broken chunked coding; ``read_all`` raises HttpError 413 beyond its limit.
    """

    @property
    def length(self) -> int | None:
        """The announced size in bytes; None when the coding is chunked."""

    @property
    def started(self) -> bool:
        """Whether any of it was asked for (and a waiting client told to continue)."""

    def read_into(self, view: memoryview) -> int:
        """Fill ``view`` from the body; return the bytes written, fewer only at the end."""

    def read_all(self, limit_bytes: int) -> bytes:
        """Return the whole body, at most ``limit_bytes``."""


@dataclass(slots=True)
class Request:
    """One request: ``target`` as sent, header names in lower case, values without outer blanks."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: RequestBody
    client_address: str
    secure: bool = True


class Stream(Protocol):
    """Content of a response that is sent block by block."""

    def blocks(self) -> Iterator[bytes]:
        """Yield the content, exactly as many bytes as the response announced if it did."""

    def close(self, *, complete: bool) -> None:
        """Let go of what lies behind; ``complete``: every byte was handed to the socket."""


@dataclass(slots=True)
class Response:
    """One answer: ``body``, or ``stream`` of ``stream_bytes`` (None: not known); never both.

    A HEAD answer sets ``length`` to announce the size that a GET would have.
    """

    status: int
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    stream: Stream | None = None
    stream_bytes: int | None = 0
    length: int | None = None
    close: bool = False

"""GET and HEAD: content in blocks, parts of it, and a page that says how to connect.

Content is always a download: what people upload is never shown by a browser in this server's
name. Imports the door's types and the pure modules of this package.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from backends.errors import IsAFolderError
from gateway.model import Kind, NodeInfo
from gateway.paths import ROOT
from gateway.webdav import digests, urls
from gateway.webdav.conditions import Verdict, etag_of, http_date
from gateway.webdav.exchange import SECOND_US, Exchange
from gateway.webdav.messages import Response
from gateway.webdav.properties import content_type
from gateway.webdav.ranges import ByteRange, parse_ranges, unsatisfied_range
from gateway.webdav.settings import BLOCK_BYTES

if TYPE_CHECKING:
    from gateway.handles import ReadHandle

FOLDER_PAGE: Final = b"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Sealgate</title></head><body>
<h1>This is a network drive</h1>
<p>A browser cannot show it. Connect to this address with your file manager:</p>
<ul>
<li>Windows Explorer: This PC, Map network drive.</li>
<li>macOS Finder: Go, Connect to Server.</li>
<li>GNOME Files: Other Locations, Connect to Server; put davs:// before the address.</li>
</ul>
<p>Sign in with your name; as password give your password directly followed by the six digits of
your code.</p>
</body></html>
"""
_HTML_TYPE: Final = ("Content-Type", "text/html; charset=utf-8")
_TEXT_TYPE: Final = ("Content-Type", "text/plain; charset=utf-8")
_ACCEPT_RANGES: Final = ("Accept-Ranges", "bytes")
_FILE_HEADERS: Final = (
    _ACCEPT_RANGES,
    ("Content-Disposition", "attachment"),
    ("Cache-Control", "private, no-cache"),
)


@dataclass(frozen=True, slots=True)
class _Piece:
    """A stretch of the file, and what stands before it in the answer."""

    lead: bytes
    part: ByteRange


class _Stream:
    """Content of an open file on its way out; its first block has been read already."""

    __slots__ = ("_blocks", "_handle")

    def __init__(self, handle: ReadHandle, blocks: Iterator[bytes]) -> None:
        self._handle = handle
        self._blocks = blocks

    def blocks(self) -> Iterator[bytes]:
        """Return the content in blocks of about BLOCK_BYTES; ends early only if the door does."""
        return self._blocks

    def close(self, *, complete: bool) -> None:
        """Close the file, which writes the closing audit record."""
        self._handle.close(complete=complete)


def get(exchange: Exchange) -> Response:
    """Return the file's content, whole or the ranges asked for; or the page for folders.

    Raises HttpError 412 or 415, and what the door raises.
    """
    exchange.refuse_body()
    # Whoever has signed in is told how to connect; there is nothing to open, or to refuse.
    info = NodeInfo(ROOT, Kind.FOLDER) if exchange.path.is_root else None
    if info is None and exchange.preconditions.given:
        info = exchange.door.stat(exchange.path)
    if info is not None:
        if exchange.judge(info) is Verdict.NOT_MODIFIED:
            return _not_modified(exchange, info)
        if info.is_folder:
            return _folder_page(exchange)
    whole = 0 if "range" in exchange.request.headers else BLOCK_BYTES
    try:
        handle = exchange.door.open_read(exchange.path, whole_limit_bytes=whole)
    except IsAFolderError:
        return _folder_page(exchange)
    try:
        return _content(exchange, handle)
    except BaseException:
        handle.close(complete=False)
        raise


def head(exchange: Exchange) -> Response:
    """Return the headers of a GET without a Range; 200 for folders too."""
    exchange.refuse_body()
    info = exchange.door.stat(exchange.path, digest=True)
    if exchange.judge(info) is Verdict.NOT_MODIFIED:
        return _not_modified(exchange, info)
    if info.is_folder:
        page = _folder_page(exchange)
        return Response(page.status, page.headers, length=len(page.body))
    return Response(200, _headers(exchange, info), length=info.size_bytes)


def _content(exchange: Exchange, handle: ReadHandle) -> Response:
    info, size_bytes = handle.info, handle.size_bytes
    # Judged again on what was opened: another version may have come since it was looked at.
    verdict = exchange.judge(info)
    if verdict is Verdict.NOT_MODIFIED:
        handle.close(complete=True)
        return _not_modified(exchange, info)
    headers = _headers(exchange, info)
    parts: list[ByteRange] | None = None
    if verdict is Verdict.PROCEED and "range" in exchange.request.headers:
        parts = parse_ranges(exchange.header("range"), size_bytes)
    if parts is None:
        return _sent(handle, 200, headers, [_Piece(b"", ByteRange(0, size_bytes))])
    if not parts:
        handle.close(complete=True)
        return Response(
            416,
            [_TEXT_TYPE, ("Content-Range", unsatisfied_range(size_bytes)), _ACCEPT_RANGES],
            body=f"The file has {size_bytes} bytes, none of them in that range.\n".encode(),
        )
    if len(parts) == 1:
        headers.append(("Content-Range", parts[0].content_range(size_bytes)))
        return _sent(handle, 206, headers, [_Piece(b"", parts[0])])
    # No content can hold it: nobody learns a version's id before its content is fixed.
    boundary = info.version_id
    kind = content_type(info.name)
    headers[0] = ("Content-Type", f"multipart/byteranges; boundary={boundary}")
    pieces = [
        _Piece(
            f"\r\n--{boundary}\r\nContent-Type: {kind}\r\n"
            f"Content-Range: {part.content_range(size_bytes)}\r\n\r\n".encode(),
            part,
        )
        for part in parts
    ]
    return _sent(handle, 206, headers, pieces, tail=f"\r\n--{boundary}--\r\n".encode())


def _sent(
    handle: ReadHandle,
    status: int,
    headers: list[tuple[str, str]],
    pieces: Sequence[_Piece],
    *,
    tail: bytes = b"",
) -> Response:
    content_bytes = sum(piece.part.size for piece in pieces)
    answer_bytes = content_bytes + sum(len(piece.lead) for piece in pieces) + len(tail)
    blocks = _blocks(handle, pieces, tail)
    if content_bytes <= BLOCK_BYTES:
        body = b"".join(blocks)
        assert len(body) == answer_bytes
        handle.close(complete=True)
        return Response(status, headers, body=body)
    # The first block is read before the status goes out, so that damaged content is an error
    # that the client sees and not a cut connection.
    stream = _Stream(handle, itertools.chain([next(blocks)], blocks))
    return Response(status, headers, stream=stream, stream_bytes=answer_bytes)


def _blocks(handle: ReadHandle, pieces: Sequence[_Piece], tail: bytes) -> Iterator[bytes]:
    """Yield the pieces in blocks of BLOCK_BYTES and what stands before them."""
    for piece in pieces:
        lead, position = piece.lead, piece.part.offset
        while position < piece.part.end:
            block = handle.read_at(position, min(BLOCK_BYTES, piece.part.end - position))
            if not block:
                return
            position += len(block)
            yield lead + block if lead else block
            lead = b""
    if tail:
        yield tail


def _folder_page(exchange: Exchange) -> Response:
    headers = [_HTML_TYPE, ("Cache-Control", "private, no-cache")]
    if not exchange.folder_named and not exchange.path.is_root:
        # RFC 4918 section 5.2, of a folder that is asked for without its slash.
        headers.append(("Content-Location", urls.href(exchange.path, folder=True)))
    return Response(200, headers, body=FOLDER_PAGE)


def _headers(exchange: Exchange, info: NodeInfo) -> list[tuple[str, str]]:
    headers = [
        ("Content-Type", content_type(info.name)),
        *_validators(exchange, info),
        *_FILE_HEADERS,
    ]
    if info.sha256 and digests.wanted(exchange.request.headers.get("want-repr-digest")):
        headers.append((digests.REPR_DIGEST, digests.repr_digest(info.sha256)))
    return headers


def _validators(exchange: Exchange, info: NodeInfo) -> list[tuple[str, str]]:
    # A client may have set a time to come, which RFC 9110 section 8.8.2.1 forbids to tell.
    modified_s = min(info.modified_us, exchange.clock()) // SECOND_US
    return [("ETag", etag_of(info.version_id)), ("Last-Modified", http_date(modified_s))]


def _not_modified(exchange: Exchange, info: NodeInfo) -> Response:
    validators = [] if info.is_folder else _validators(exchange, info)
    return Response(304, [("Cache-Control", "private, no-cache"), *validators])

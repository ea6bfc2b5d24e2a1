"""GET and HEAD: content in blocks, one range, and a page that says how to connect.

Content is always a download: what people upload is never shown by a browser in this server's
name. Imports the door's types and the pure modules of this package.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from backends.errors import IsAFolderError
from gateway.model import NodeInfo
from gateway.webdav.conditions import etag_of, http_date, range_still_applies
from gateway.webdav.exchange import SECOND_US, Exchange, representation
from gateway.webdav.messages import Response
from gateway.webdav.properties import content_type
from gateway.webdav.ranges import parse_range
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
_FILE_HEADERS: Final = (
    ("Accept-Ranges", "bytes"),
    ("Content-Disposition", "attachment"),
    ("Cache-Control", "private, no-cache"),
)


class _Part:
    """A stretch of an open file as a stream; the first block may have been read already."""

    __slots__ = ("_first", "_handle", "_offset", "_size")

    def __init__(self, handle: ReadHandle, offset: int, size: int, first: bytes) -> None:
        self._handle = handle
        self._offset = offset
        self._size = size
        self._first = first

    def blocks(self) -> Iterator[bytes]:
        """Yield the stretch in blocks of BLOCK_BYTES; ends early only if the door does."""
        position, end = self._offset + len(self._first), self._offset + self._size
        if self._first:
            yield self._first
        while position < end:
            block = self._handle.read_at(position, min(BLOCK_BYTES, end - position))
            if not block:
                return
            position += len(block)
            yield block

    def close(self, *, complete: bool) -> None:
        """Close the file, which writes the closing audit record."""
        self._handle.close(complete=complete)


def get(exchange: Exchange) -> Response:
    """Return the file's content, whole or the range asked for; or the page for folders.

    Raises HttpError 412, and what the door raises.
    """
    if exchange.path.is_root:
        # Whoever has signed in is told how to connect; there is nothing to open, or to refuse.
        return Response(200, [_HTML_TYPE], body=FOLDER_PAGE)
    if exchange.conditional:
        info = exchange.door.stat(exchange.path)
        if not info.is_folder and exchange.check_preconditions(info, safe=True) == 304:
            return _not_modified(info)
    try:
        handle = exchange.door.open_read(exchange.path)
    except IsAFolderError:
        return Response(200, [_HTML_TYPE], body=FOLDER_PAGE)
    try:
        return _content(exchange, handle)
    except BaseException:
        handle.close(complete=False)
        raise


def head(exchange: Exchange) -> Response:
    """Return the headers of a GET without a Range; 200 for folders too."""
    info = exchange.door.stat(exchange.path)
    if info.is_folder:
        return Response(200, [_HTML_TYPE], length=len(FOLDER_PAGE))
    if exchange.conditional and exchange.check_preconditions(info, safe=True) == 304:
        return _not_modified(info)
    return Response(200, _headers(info), length=info.size_bytes)


def _content(exchange: Exchange, handle: ReadHandle) -> Response:
    info, size = handle.info, handle.size_bytes
    headers = _headers(info)
    status, offset = 200, 0
    value = exchange.request.headers.get("range")
    if value is not None and range_still_applies(exchange.request.headers, representation(info)):
        part = parse_range(value, size)
        if part is not None:
            headers.append(("Content-Range", part.content_range(size)))
            if part.size == 0:
                handle.close(complete=True)
                return Response(416, headers)
            status, offset, size = 206, part.offset, part.size
    # The first block is read before the status goes out, so that damaged content is an error
    # that the client sees and not a cut connection.
    first = handle.read_at(offset, min(size, BLOCK_BYTES)) if size else b""
    if len(first) == size:
        handle.close(complete=True)
        return Response(status, headers, body=first)
    return Response(status, headers, stream=_Part(handle, offset, size, first), stream_bytes=size)


def _headers(info: NodeInfo) -> list[tuple[str, str]]:
    return [
        ("Content-Type", content_type(info.name)),
        ("ETag", etag_of(info.version_id)),
        ("Last-Modified", http_date(info.modified_us // SECOND_US)),
        *_FILE_HEADERS,
    ]


def _not_modified(info: NodeInfo) -> Response:
    return Response(
        304,
        [
            ("ETag", etag_of(info.version_id)),
            ("Last-Modified", http_date(info.modified_us // SECOND_US)),
            ("Cache-Control", "private, no-cache"),
        ],
    )

"""PUT, MKCOL, DELETE, COPY and MOVE: each one operation of the door.

Nothing is created before the body is whole; a body cut short aborts. Imports the errors of
storage and the pure modules of this package.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from backends.errors import AlreadyExistsError, NotFoundError
from gateway.model import NodeInfo
from gateway.webdav.conditions import etag_of
from gateway.webdav.exchange import SECOND_US, Exchange
from gateway.webdav.messages import BodyCutError, HttpError, Response
from gateway.webdav.settings import BLOCK_BYTES

if TYPE_CHECKING:
    from gateway.handles import WriteHandle

_SECONDS = re.compile(r"(\d{1,11})(?:\.(\d{1,9}))?", re.ASCII)
_SIZE = re.compile(r"\d{1,18}", re.ASCII)
_INFINITY_ONLY: Final = frozenset({"infinity"})


def put(exchange: Exchange) -> Response:
    """Store the body as the file's new content: 201 when it was created, else 204.

    Raises HttpError 400, 405, 412 or 415, BodyCutError, and what the door raises; the file is
    then what it was.
    """
    if "content-range" in exchange.request.headers:
        # RFC 9110 section 14.5: taken for a whole file, a part would destroy the rest.
        raise HttpError(400, "A PUT of a part (Content-Range) is not possible.")
    if exchange.header("content-encoding", "identity").lower() != "identity":
        raise HttpError(415, "An encoded body (Content-Encoding) is not taken.")
    if exchange.folder_named:
        raise HttpError(405, "A file's address does not end with a slash.")
    modified_us = _wanted_time(exchange)
    base = _base(exchange)
    handle = exchange.door.open_write(
        exchange.path, base=base, replace=base != "", expected_size=_expected_size(exchange)
    )
    try:
        _receive(exchange, handle)
        if modified_us is not None:
            handle.set_modified(modified_us)
        info = handle.commit()
    except BodyCutError:
        handle.abort("connection lost")
        raise
    except BaseException:
        handle.abort("failed")
        raise
    headers = [("ETag", etag_of(info.version_id))]
    if modified_us is not None:
        headers.append(("X-OC-MTime", "accepted"))
    return Response(201 if handle.created else 204, headers)


def mkcol(exchange: Exchange) -> Response:
    """Make a folder: 201. Raises HttpError 405 when the name is taken, 415 for any body."""
    if exchange.request.body.length != 0:
        raise HttpError(415, "MKCOL takes no body.")
    _check_conditions(exchange)
    try:
        exchange.door.mkdir(exchange.path)
    except AlreadyExistsError as error:
        raise HttpError(405, "There already is something of that name.") from error
    return Response(201)


def delete(exchange: Exchange) -> Response:
    """Delete the file, or the folder with all it holds: 204."""
    exchange.depth("infinity", _INFINITY_ONLY)
    _check_conditions(exchange)
    exchange.door.delete(exchange.path)
    return Response(204)


def copy(exchange: Exchange) -> Response:
    """Copy to the Destination: 201 when that was free, 204 when it was replaced."""
    recursive = exchange.depth("infinity", frozenset({"0", "infinity"})) == "infinity"
    return _transfer(exchange, recursive=recursive, move=False)


def move(exchange: Exchange) -> Response:
    """Move to the Destination: 201 when that was free, 204 when it was replaced."""
    exchange.depth("infinity", _INFINITY_ONLY)
    return _transfer(exchange, recursive=True, move=True)


def _transfer(exchange: Exchange, *, recursive: bool, move: bool) -> Response:
    target = exchange.destination()
    replace = exchange.overwrite()
    source = exchange.path
    if target == source:
        raise HttpError(403, "Source and destination are the same.")
    if source.is_within(target):
        # Replacing a folder by something inside it would delete the source with it.
        raise HttpError(403, "The destination is a folder that holds the source.")
    if recursive and target.is_within(source):
        raise HttpError(403, "The destination lies inside the source.")
    _check_conditions(exchange)
    if move:
        created = exchange.door.move(source, target, replace=replace, replace_folder=replace)
    else:
        created = exchange.door.copy(source, target, replace=replace, recursive=recursive)
    return Response(201 if created else 204)


def _check_conditions(exchange: Exchange) -> None:
    if exchange.conditional:
        exchange.check_preconditions(exchange.stat_or_none(), safe=False)


def _base(exchange: Exchange) -> str | None:
    """Return the version that must still be current at commit, "" for none, None for any."""
    if not exchange.conditional and "if" not in exchange.request.headers:
        return None
    info: NodeInfo | None
    try:
        info = exchange.door.stat(exchange.path)
    except NotFoundError:
        info = None
    exchange.check_preconditions(info, safe=False)
    if not exchange.conditional and "[" not in exchange.header("if"):
        return None
    if info is None:
        return ""
    return info.version_id or None


def _expected_size(exchange: Exchange) -> int | None:
    """Return the announced size; macOS sends chunks and names it in a header of its own."""
    if exchange.request.body.length is not None:
        return exchange.request.body.length
    value = exchange.request.headers.get("x-expected-entity-length")
    if value is None:
        return None
    if not _SIZE.fullmatch(value):
        raise HttpError(400, "The X-Expected-Entity-Length header is malformed.")
    return int(value)


def _wanted_time(exchange: Exchange) -> int | None:
    """Return the modification time in X-OC-Mtime (Unix seconds), None without one."""
    value = exchange.request.headers.get("x-oc-mtime")
    if value is None:
        return None
    match = _SECONDS.fullmatch(value)
    if match is None:
        raise HttpError(400, "The X-OC-Mtime header is malformed.")
    fraction_us = int((match[2] or "").ljust(6, "0")[:6])
    return int(match[1]) * SECOND_US + fraction_us


def _receive(exchange: Exchange, handle: WriteHandle) -> None:
    body = exchange.request.body
    offset = 0
    size_left = body.length
    while True:
        # A buffer of its own for each block: the door may keep what it was given.
        size = BLOCK_BYTES if size_left is None else min(BLOCK_BYTES, size_left - offset)
        block = memoryview(bytearray(size))
        received = body.read_into(block)
        if received:
            handle.write_at(offset, block[:received])
            offset += received
        if received < BLOCK_BYTES:
            return

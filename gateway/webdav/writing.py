"""PUT, MKCOL, DELETE, COPY and MOVE: each one operation of the door.

Nothing is created before the body is whole; a body cut short aborts. Imports the errors of
storage and the pure modules of this package.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from backends.errors import AlreadyExistsError, IsAFolderError
from gateway.errors import LockedError
from gateway.model import Kind, NodeInfo
from gateway.operations.whole import WHOLE_LIMIT_BYTES
from gateway.paths import VirtualPath
from gateway.webdav.conditions import etag_of
from gateway.webdav.digests import Announced, DigestMismatchError
from gateway.webdav.exchange import SECOND_US, Exchange, allow
from gateway.webdav.messages import BodyCutError, HttpError, Response
from gateway.webdav.multistatus import member_locked
from gateway.webdav.settings import BLOCK_BYTES

if TYPE_CHECKING:
    from gateway.handles import WriteHandle

_SECONDS = re.compile(r"(\d{1,11})(?:\.(\d{1,9}))?", re.ASCII)
_SIZE = re.compile(r"\d{1,18}", re.ASCII)
_WHOLE_OR_ALONE: Final = frozenset({"0", "infinity"})
_ON_FOLDERS: Final = allow(without=("PUT", "MKCOL"))


def put(exchange: Exchange) -> Response:
    """Store the body as the file's new content: 201 when it was created, else 204.

    Raises HttpError 400, 405 or 415, BodyCutError, and what the door raises; the file is then
    what it was.
    """
    if "content-range" in exchange.request.headers:
        # RFC 9110 section 14.5: taken for a whole file, a part would destroy the rest.
        raise HttpError(400, "A PUT of a part (Content-Range) is not possible.")
    if exchange.header("content-encoding", "identity").lower() != "identity":
        raise HttpError(
            415,
            "An encoded body (Content-Encoding) is not taken.",
            headers=(("Accept-Encoding", "identity"),),
        )
    if exchange.folder_named:
        message = "A file's address does not end with a slash."
        raise HttpError(405, message, headers=(_ON_FOLDERS,))
    announced = Announced(exchange.request.headers)
    modified_us = _wanted_time(exchange)
    size = exchange.request.body.length
    # Whoever waits for "100 Continue" is to learn of a refusal before the body is sent.
    at_once = size is not None and size <= WHOLE_LIMIT_BYTES and not exchange.header("expect")
    store = _store_at_once if at_once else _store
    try:
        info, created = store(exchange, announced, modified_us)
    except IsAFolderError as error:
        raise HttpError(405, str(error), headers=(_ON_FOLDERS,)) from error
    headers = [("ETag", etag_of(info.version_id))]
    if modified_us is not None:
        headers.append(("X-OC-MTime", "accepted"))
    return Response(201 if created else 204, headers)


def _store_at_once(
    exchange: Exchange, announced: Announced, modified_us: int | None
) -> tuple[NodeInfo, bool]:
    """Store a body so small that it is kept in the catalog: one transaction instead of two."""
    try:
        content = exchange.request.body.read_all(WHOLE_LIMIT_BYTES)
        announced.update(content)
        announced.check()
    except BodyCutError:
        exchange.door.open_write(exchange.path).abort("connection lost")
        raise
    except DigestMismatchError:
        exchange.door.open_write(exchange.path).abort("digest mismatch")
        raise
    return exchange.door.store(exchange.path, content, modified_us=modified_us)


def _store(
    exchange: Exchange, announced: Announced, modified_us: int | None
) -> tuple[NodeInfo, bool]:
    """Store a body block by block."""
    handle = exchange.door.open_write(exchange.path, expected_size=_expected_size(exchange))
    try:
        _receive(exchange, handle, announced)
        announced.check()
        if modified_us is not None:
            handle.set_modified(modified_us)
        info = handle.commit()
    except BodyCutError:
        handle.abort("connection lost")
        raise
    except DigestMismatchError:
        handle.abort("digest mismatch")
        raise
    except BaseException:
        handle.abort("failed")
        raise
    return info, handle.created


def mkcol(exchange: Exchange) -> Response:
    """Make a folder: 201. Raises HttpError 405 when the name is taken, 415 for any body."""
    exchange.refuse_body()
    try:
        exchange.door.mkdir(exchange.path)
    except AlreadyExistsError as error:
        message = "There already is something of that name."
        raise HttpError(405, message, headers=(allow(without=("MKCOL",)),)) from error
    return Response(201)


def delete(exchange: Exchange) -> Response:
    """Delete the file, or the folder with all it holds: 204; 207 names what prevented it."""
    exchange.refuse_body()
    alone = exchange.depth("infinity", _WHOLE_OR_ALONE) == "0"
    try:
        exchange.door.delete(exchange.path, kind=Kind.FILE if alone else None)
    except IsAFolderError as error:
        raise _shallow() from error
    except LockedError as error:
        return member_locked(error, exchange.path)
    return Response(204)


def copy(exchange: Exchange) -> Response:
    """Copy to the Destination: 201 when that was free, 204 when it was replaced, 207 as ``delete``."""
    exchange.refuse_body()
    recursive = exchange.depth("infinity", _WHOLE_OR_ALONE) == "infinity"
    target, replace = _target(exchange, recursive=recursive), exchange.overwrite()
    try:
        created = exchange.door.copy(exchange.path, target, replace=replace, recursive=recursive)
    except LockedError as error:
        return member_locked(error, target)
    return Response(201 if created else 204)


def move(exchange: Exchange) -> Response:
    """Move to the Destination: 201 when that was free, 204 when it was replaced, 207 as ``delete``."""
    exchange.refuse_body()
    alone = exchange.depth("infinity", _WHOLE_OR_ALONE) == "0"
    target, replace = _target(exchange, recursive=True), exchange.overwrite()
    if alone and exchange.door.stat(exchange.path).is_folder:
        raise _shallow()
    try:
        created = exchange.door.move(exchange.path, target, replace=replace, replace_folder=replace)
    except LockedError as error:
        return member_locked(error, exchange.path, target)
    return Response(201 if created else 204)


def _target(exchange: Exchange, *, recursive: bool) -> VirtualPath:
    """Return where the Destination is; raises HttpError 403 where the source itself lies there."""
    source, target = exchange.path, exchange.destination()
    if target == source:
        raise HttpError(403, "Source and destination are the same.")
    if source.is_within(target):
        # Replacing a folder by something inside it would delete the source with it.
        raise HttpError(403, "The destination is a folder that holds the source.")
    if recursive and target.is_within(source):
        raise HttpError(403, "The destination lies inside the source.")
    return target


def _shallow() -> HttpError:
    return HttpError(400, "A folder is moved or deleted with all it holds: Depth is infinity.")


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


def _receive(exchange: Exchange, handle: WriteHandle, announced: Announced) -> None:
    body = exchange.request.body
    offset = 0
    size_left = body.length
    while True:
        # A buffer of its own for each block: the door may keep what it was given.
        size = BLOCK_BYTES if size_left is None else min(BLOCK_BYTES, size_left - offset)
        block = memoryview(bytearray(size))
        received = body.read_into(block)
        if received:
            announced.update(block[:received])
            handle.write_at(offset, block[:received])
            offset += received
        if received < BLOCK_BYTES:
            return

"""A client at the door: does planned operations, and tells what a tree looks like.

Uses nothing but ``gateway.monitor.Door``.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from gateway.errors import SealgateError
from gateway.handles import WriteHandle
from gateway.model import NodeInfo, PropertyName
from gateway.monitor import Door
from gateway.paths import VirtualPath
from tests.crash.content import Piece
from tests.crash.model import (
    Change,
    Copy,
    Delete,
    Lock,
    MakeFolder,
    Move,
    Operation,
    Put,
    SetProperty,
    Truncate,
    Unlock,
)

_NAMESPACE = "urn:crash"
_PIECE_BYTES = 256 * 1024
_LOCK_TIMEOUT_S = 3600

Tokens = dict[str, str]
"""The lock tokens that a client holds, by path."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A node as the door shows it."""

    is_folder: bool
    node_id: str
    version_id: str
    size_bytes: int
    properties: frozenset[tuple[str, str]]
    token: str


def perform(door: Door, operation: Operation, tokens: Tokens) -> str:
    """Do ``operation`` and return the version that it wrote, empty for none.

    Returning is the acknowledgement. Locks taken and given back are noted in ``tokens``.
    """
    door = door.with_tokens(frozenset(tokens.values()))
    match operation:
        case MakeFolder(path):
            door.mkdir(_at(path))
        case Put(path, piece):
            return _written(door.open_write(_at(path), expected_size=piece.size_bytes), 0, piece)
        case Change(path, offset, piece):
            return _written(door.open_write(_at(path), keep=True), offset, piece)
        case Truncate(path, size_bytes):
            return _truncated(door.open_write(_at(path), keep=True), size_bytes)
        case Move(path, target):
            door.move(_at(path), _at(target), replace=True)
        case Copy(path, target):
            door.copy(_at(path), _at(target), replace=True)
        case Delete(path):
            door.delete(_at(path))
        case SetProperty(path, name, value):
            put = {PropertyName(_NAMESPACE, name): value}
            door.set_properties(_at(path), put=put, remove=frozenset())
        case Lock(path):
            lock, _ = door.lock(
                _at(path),
                exclusive=True,
                depth_infinity=False,
                owner="crash",
                timeout_s=_LOCK_TIMEOUT_S,
            )
            tokens[path] = lock.token
        case Unlock(path):
            door.unlock(_at(path), tokens[path])
            del tokens[path]
    return ""


def observe(door: Door, root: str) -> dict[str, Seen]:
    """Return everything below ``root``; nothing when there is no such folder."""
    seen: dict[str, Seen] = {}
    waiting = [_at(root)]
    share = door.scandir(_at(root).parent).children
    if all(child.path != waiting[0] for child in share):
        return seen
    while waiting:
        folder = waiting.pop()
        held = {str(lock.path): lock.token for lock in door.locks(folder, below=True)}
        for child in door.scandir(folder, properties=True).children:
            seen[str(child.path)] = _seen(child, held)
            if child.is_folder:
                waiting.append(child.path)
    return seen


def tokens_of(seen: Mapping[str, Seen]) -> Tokens:
    """Return the tokens of the locks that were seen."""
    return {path: each.token for path, each in seen.items() if each.token}


def digest_at(door: Door, path: str) -> str:
    """Return the SHA-256 of a file's current content in hex."""
    hasher = hashlib.sha256()
    handle = door.open_read(_at(path))
    try:
        for offset in range(0, handle.size_bytes, _PIECE_BYTES):
            hasher.update(handle.read_at(offset, _PIECE_BYTES))
    finally:
        handle.close()
    return hasher.hexdigest()


def _seen(child: NodeInfo, held: Mapping[str, str]) -> Seen:
    return Seen(
        is_folder=child.is_folder,
        node_id=child.node_id,
        version_id=child.version_id,
        size_bytes=child.size_bytes,
        properties=frozenset((name.local, value) for name, value in child.properties.items()),
        token=held.get(str(child.path), ""),
    )


def _written(handle: WriteHandle, offset: int, piece: Piece) -> str:
    with _aborted_on_failure(handle):
        data = memoryview(piece.data())
        for start in range(0, len(data), _PIECE_BYTES):
            handle.write_at(offset + start, data[start : start + _PIECE_BYTES])
        return handle.commit().version_id


def _truncated(handle: WriteHandle, size_bytes: int) -> str:
    with _aborted_on_failure(handle):
        handle.truncate(size_bytes)
        return handle.commit().version_id


@contextlib.contextmanager
def _aborted_on_failure(handle: WriteHandle) -> Iterator[None]:
    """Do as the protocols do: whatever goes wrong, the handle is ended."""
    try:
        yield
    except SealgateError:
        with contextlib.suppress(SealgateError):
            handle.abort("failed")
        raise


def _at(path: str) -> VirtualPath:
    return VirtualPath.parse(path)

"""The receiving half of scp's own protocol: what a client sends becomes files and folders.

A file is stored when all of its bytes have come and its sender says that they are good, and not at
all otherwise: scp cannot resume. Imports the door's types and the channel's wire.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backends.errors import NotFoundError
from gateway.errors import DeniedError, InvalidPathError, SealgateError, SessionEndedError
from gateway.model import SECOND_US
from gateway.paths import VirtualPath
from gateway.sftp.open_files import path_of
from gateway.sftp.scp import (
    BLOCK_BYTES,
    FATAL,
    WARNING,
    ScpCommand,
    ScpError,
    ScpWire,
    breach,
    require_serving,
)

if TYPE_CHECKING:
    from gateway.handles import WriteHandle
    from gateway.monitor import Door
    from gateway.sftp.connection import SftpConnection

UNWANTED_LIMIT_BYTES = 64 * 1024 * 1024
"""How much of a file that failed is still taken, so that its sender hears why."""

_ENTRY = re.compile(rb"[CD][0-7]{4} ([0-9]{1,19}) (.+)", re.DOTALL)
_TIMES = re.compile(rb"T([0-9]{1,11}) [0-9]{1,6} [0-9]{1,11} [0-9]{1,6}")


@dataclass(frozen=True, slots=True)
class _Place:
    """Where entries go: into a folder, or (``exists`` False) the first one to the path itself."""

    path: VirtualPath
    exists: bool
    modified_us: int | None = None


class ScpSink:
    """One ``scp -t``. ``run`` serves it."""

    def __init__(
        self,
        connection: SftpConnection,
        command: ScpCommand,
        door: Door,
        wire: ScpWire,
    ) -> None:
        self._connection = connection
        self._workers = connection.service.workers
        self._command = command
        self._door = door
        self._wire = wire
        self._modified_us: int | None = None

    async def run(self) -> None:
        """Take files until the client has sent all; ScpError, and what the door raises."""
        target = path_of(self._command.path.encode())
        exists = await self._is_folder(target)
        if self._command.into_folder and not exists:
            raise ScpError(f"{self._command.path}: Not a folder")
        places = [_Place(target, exists)]
        await self._wire.good()
        while line := await self._wire.line():
            kind = line[:1]
            if kind in {WARNING, FATAL}:
                self._wire.failed = True
                if kind == FATAL:
                    return
            elif kind == b"T":
                await self._take_times(line)
            elif kind == b"C":
                await self._take_file(places[-1], *_entry(line))
            elif kind == b"D":
                await self._enter(places, _entry(line)[1])
            elif line == b"E" and len(places) > 1:
                await self._leave(places.pop())
            else:
                raise breach("unexpected line")

    async def _is_folder(self, path: VirtualPath) -> bool:
        try:
            return (await self._workers.door(self._door.stat, path)).is_folder
        except (NotFoundError, DeniedError):
            return False

    async def _take_times(self, line: bytes) -> None:
        found = _TIMES.fullmatch(line)
        if found is None:
            raise breach("bad times")
        self._modified_us = int(found[1]) * SECOND_US
        await self._wire.good()

    def _take_modified(self) -> int | None:
        """Return the time that was sent for the next entry, if it is to be kept."""
        modified_us, self._modified_us = self._modified_us, None
        return modified_us if self._command.times else None

    # Folders

    async def _enter(self, places: list[_Place], name: str) -> None:
        if not self._command.recursive:
            raise breach("a folder without -r")
        modified_us = self._take_modified()
        require_serving(draining=self._connection.draining)
        try:
            path = _path_in(places[-1], name)
            if not await self._is_folder(path):
                await self._workers.door(self._door.mkdir, path)
        except SealgateError as error:
            await self._refused(name, error)
            return
        places.append(_Place(path, exists=True, modified_us=modified_us))
        await self._wire.good()

    async def _leave(self, place: _Place) -> None:
        if place.modified_us is not None:
            try:
                await self._workers.door(
                    self._door.set_times, place.path, modified_us=place.modified_us
                )
            except SealgateError as error:
                await self._refused(place.path.name, error)
                return
        await self._wire.good()

    # Files

    async def _take_file(self, place: _Place, size_bytes: int, name: str) -> None:
        modified_us = self._take_modified()
        require_serving(draining=self._connection.draining)
        try:
            path = _path_in(place, name)
            handle = await self._workers.door(self._door.open_write, path, expected_size=size_bytes)
        except SealgateError as error:
            await self._refused(name, error)
            return
        reason = "disconnected"
        try:
            if modified_us is not None:
                handle.set_modified(modified_us)
            await self._wire.good()
            failed = await self._receive(handle, size_bytes)
            reason = "incomplete"
        finally:
            # After a commit this does nothing.
            await self._workers.door(handle.abort, reason)
        if failed is None:
            await self._wire.good()
        else:
            await self._wire.warn(name, failed)

    async def _receive(self, handle: WriteHandle, size_bytes: int) -> SealgateError | str | None:
        """Store a file's content; return why it was not stored."""
        failed: SealgateError | None = None
        for offset in range(0, size_bytes, BLOCK_BYTES):
            left_bytes = size_bytes - offset
            data = await self._wire.content(min(BLOCK_BYTES, left_bytes))
            if failed is None:
                failed = await self._written(handle, offset, data)
            if failed is not None and left_bytes > UNWANTED_LIMIT_BYTES:
                raise ScpError(str(failed), amid_content=True) from failed
        if not await self._wire.end_of_content():
            return "its sender could not read it to its end"
        if failed is None:
            try:
                await self._workers.door(handle.commit)
            except SealgateError as error:
                failed = error
        return failed

    async def _written(self, handle: WriteHandle, offset: int, data: bytes) -> SealgateError | None:
        """Store a part of a file; return what forbids it."""
        try:
            await self._workers.door(handle.write_at, offset, data)
        except SessionEndedError as error:
            raise ScpError(str(error), amid_content=True) from error
        except SealgateError as error:
            return error
        return None

    async def _refused(self, name: str, error: SealgateError) -> None:
        """Say that an entry is not taken; the client then sends nothing of it."""
        if isinstance(error, SessionEndedError):
            raise error
        if isinstance(error, InvalidPathError):
            # No node can have the name, so that the door was never asked.
            await self._connection.record_refusal("scp: bad name")
        await self._wire.warn(name, error)


def _entry(line: bytes) -> tuple[int, str]:
    """Return the size and the name that a line announces; ScpError unless they are sound."""
    found = _ENTRY.fullmatch(line)
    if found is None:
        raise breach("bad entry")
    try:
        name = found[2].decode("utf-8")
    except UnicodeDecodeError as error:
        raise breach("a name is not valid UTF-8") from error
    # A name is one part of a path: never a way out of the folder that was asked for.
    if name in {".", ".."} or "/" in name or not name.isprintable():
        raise breach("unexpected name")
    return int(found[1]), name


def _path_in(place: _Place, name: str) -> VirtualPath:
    return place.path.child(name) if place.exists else place.path

"""The sending half of scp's own protocol: files and folders as a client takes them.

Imports the door's types and the channel's wire.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from backends.errors import IsAFolderError
from gateway.errors import SealgateError, SessionEndedError
from gateway.model import SECOND_US, Entry, NodeInfo
from gateway.paths import VirtualPath
from gateway.sftp.open_files import path_of
from gateway.sftp.scp import BLOCK_BYTES, GOOD, ScpCommand, ScpError, ScpWire, require_serving

if TYPE_CHECKING:
    from gateway.handles import ReadHandle
    from gateway.monitor import Door
    from gateway.sftp.connection import SftpConnection


class ScpSource:
    """One ``scp -f``. ``run`` serves it."""

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

    async def run(self) -> None:
        """Send what was asked for; ScpError, and what the door raises."""
        if not await self._wire.answer():
            return
        asked = self._command.path
        path = path_of(asked.encode())
        # Clients compare it with what they asked for, letter by letter.
        name = asked.rstrip("/").rpartition("/")[2]
        try:
            info = await self._workers.door(self._door.stat, path)
            await self._send(path, path.name if name in {"", ".", ".."} else name, info)
        except SessionEndedError:
            raise
        except SealgateError as error:
            await self._wire.warn(asked, error)

    async def _send(self, path: VirtualPath, name: str, info: NodeInfo | Entry) -> None:
        """Send a file or a folder; what the door refuses is raised, or told and left out."""
        require_serving(draining=self._connection.draining)
        if not name or not name.isprintable():
            await self._wire.warn(name, "scp cannot send this name; use SFTP")
        elif not info.is_folder:
            await self._send_file(path, name)
        elif self._command.recursive:
            await self._send_folder(path, name, info)
        else:
            raise IsAFolderError("This is a folder; copy it with -r.")

    async def _send_folder(self, path: VirtualPath, name: str, info: NodeInfo | Entry) -> None:
        listing = await self._workers.door(self._door.scandir, path)
        if not await self._announced(f"D0700 0 {name}", info.modified_us):
            return
        try:
            while page := await self._workers.door(_next_page, listing.pages):
                for entry in page:
                    await self._send_entry(path.child(entry.name), entry)
        except SessionEndedError:
            raise
        except SealgateError as error:
            await self._wire.warn(name, error)
        # Without it the client would put what follows into this folder.
        await self._wire.send(b"E\n")
        await self._wire.answer()

    async def _send_entry(self, path: VirtualPath, entry: Entry) -> None:
        try:
            await self._send(path, entry.name, entry)
        except SessionEndedError:
            raise
        except SealgateError as error:
            await self._wire.warn(entry.name, error)

    async def _send_file(self, path: VirtualPath, name: str) -> None:
        handle = await self._workers.door(self._door.open_read, path)
        complete = False
        try:
            size_bytes = handle.size_bytes
            line = f"C0600 {size_bytes} {name}"
            if await self._announced(line, handle.present_info.modified_us):
                await self._send_content(handle, size_bytes)
                complete = True
        finally:
            await self._workers.door(handle.close, complete=complete)

    async def _announced(self, line: str, modified_us: int) -> bool:
        """Return whether the client takes an entry."""
        if self._command.times:
            modified_s = max(modified_us // SECOND_US, 0)
            await self._wire.send(f"T{modified_s} 0 {modified_s} 0\n".encode())
            if not await self._wire.answer():
                return False
        await self._wire.send(line.encode() + b"\n")
        return await self._wire.answer()

    async def _send_content(self, handle: ReadHandle, size_bytes: int) -> None:
        for offset in range(0, size_bytes, BLOCK_BYTES):
            wanted_bytes = min(BLOCK_BYTES, size_bytes - offset)
            try:
                data = await self._workers.door(handle.read_at, offset, wanted_bytes)
            except SealgateError as error:
                # The client counts bytes: what it gets instead of content it would take for some.
                raise ScpError(str(error), amid_content=True) from error
            if len(data) < wanted_bytes:
                raise ScpError("The file was cut while it was sent.", amid_content=True)
            await self._wire.send(data)
        await self._wire.send(GOOD)
        await self._wire.answer()


def _next_page(pages: Iterator[Sequence[Entry]]) -> Sequence[Entry]:
    """Return the next page that is not empty; an empty one at the end."""
    return next((page for page in pages if page), ())

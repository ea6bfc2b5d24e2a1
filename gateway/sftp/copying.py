"""The copy-data extension: copying between open files without the bytes leaving the server.

draft-ietf-secsh-filexfer-extensions-00 section 7. No packets are answered and no file is opened
here. Imports asyncssh's decoding, the open files and the threads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import asyncssh
from asyncssh.constants import FXP_EXTENDED, FXP_RENAME
from asyncssh.packet import PacketDecodeError, SSHPacket

from gateway.errors import InvalidPathError
from gateway.sftp.open_files import Reading, Writing, path_of

STEP_BYTES = 1024 * 1024
"""How much is copied at once; the threads serve others in between."""

EXTENSION = b"copy-data"

_RENAMES = (FXP_RENAME, b"posix-rename@openssh.com")


@dataclass(frozen=True, slots=True)
class CopyRequest:
    """What is asked for. ``length`` 0: to the end of the source."""

    source: bytes
    source_at: int
    length: int
    target: bytes
    target_at: int

    @classmethod
    def parse(cls, packet: SSHPacket) -> CopyRequest:
        """Read a request from behind the extension's name."""
        source, source_at, length = packet.get_string(), packet.get_uint64(), packet.get_uint64()
        target, target_at = packet.get_string(), packet.get_uint64()
        packet.check_end()
        return cls(source, source_at, length, target, target_at)


@dataclass(frozen=True, slots=True)
class CopyPlan:
    """Which bytes go where. ``whole``: all that there is, to the beginning."""

    source: Reading | Writing
    source_at: int
    end: int
    target: Writing
    target_at: int

    @classmethod
    def of(cls, request: CopyRequest, source: Reading | Writing, target: Writing) -> CopyPlan:
        """Fix what to copy before the first byte.

        A source that grows meanwhile, perhaps by this very copy, cannot keep it going.
        """
        size_bytes, start = source.handle.size_bytes, request.source_at
        end = size_bytes if request.length == 0 else min(size_bytes, start + request.length)
        return cls(source, start, max(start, end), target, request.target_at)

    @property
    def whole(self) -> bool:
        """Whether all of the source goes to the beginning of the target."""
        return self.source_at == self.target_at == 0 and self.end == self.source.handle.size_bytes

    @property
    def backwards(self) -> bool:
        """Whether the last bytes must go first, or they would be overwritten before they do."""
        same = self.source.path == self.target.path and not self.target.plan.append
        return same and self.source_at < self.target_at < self.end

    def steps(self) -> range:
        """Return where in the source each step begins, in their order."""
        steps = range(self.source_at, self.end, STEP_BYTES)
        return steps[::-1] if self.backwards else steps

    def copy_step(self, start: int) -> None:
        """Copy the step that begins at ``start``. Raises what reading and writing do."""
        data = self.source.handle.read_at(start, min(STEP_BYTES, self.end - start))
        if self.target.plan.append:
            self.target.handle.append(data)
        else:
            self.target.handle.write_at(self.target_at + start - self.source_at, data)


class RunningCopy:
    """A copy that is under way beside the channel's other requests."""

    def __init__(self, request: CopyRequest, files: Sequence[object]) -> None:
        """``files``: what the two handles of the request stand for."""
        self._handles = (request.source, request.target)
        self._paths = [file.path for file in files if isinstance(file, Reading | Writing)]
        self._done = asyncio.Event()
        self.stopped = False

    async def stop(self) -> None:
        """End it after the step that it is at."""
        self.stopped = True
        await self.wait()

    async def wait(self) -> None:
        """Wait until it has been answered."""
        await self._done.wait()

    def answered(self) -> None:
        """Note that it is over."""
        self._done.set()

    def precedes(self, kind: int, packet: SSHPacket) -> bool:
        """Return whether a request must wait, because it names one of the files.

        What is asked about one file is answered in the order of asking (draft-ietf-secsh-filexfer-02
        section 5), another copy only after this one.
        """
        rest = SSHPacket(packet.get_remaining_payload())
        try:
            name: int | bytes = rest.get_string() if kind == FXP_EXTENDED else kind
            if name == EXTENSION:
                return True
            if not rest:
                return False
            named = [rest.get_string()]
            if name in _RENAMES:
                named.append(rest.get_string())
        except PacketDecodeError:
            return False
        return any(self._is_busy(one) for one in named)

    def _is_busy(self, named: bytes) -> bool:
        if named in self._handles:
            return True
        try:
            asked = path_of(named)
        except InvalidPathError:
            return False
        return asked in self._paths


def request_in(kind: int, packet: SSHPacket) -> CopyRequest | None:
    """Return the sound copy-data request that a packet holds, if it does, leaving it as it is."""
    if kind != FXP_EXTENDED:
        return None
    rest = SSHPacket(packet.get_remaining_payload())
    try:
        return CopyRequest.parse(rest) if rest.get_string() == EXTENSION else None
    except PacketDecodeError:
        return None


def planned(request: CopyRequest, source: object, target: object) -> CopyPlan:
    """Return the plan of a copy between two open files; SFTPError when it cannot be."""
    if not isinstance(source, Reading | Writing) or not isinstance(target, Reading | Writing):
        raise asyncssh.SFTPInvalidHandle("Not two open files.")
    if isinstance(source, Writing) and not source.plan.read:
        raise asyncssh.SFTPPermissionDenied("The file is not open for reading.")
    if not isinstance(target, Writing) or not target.plan.write:
        raise asyncssh.SFTPPermissionDenied("The file is not open for writing.")
    return CopyPlan.of(request, source, target)

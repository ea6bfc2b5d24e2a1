# ruff: noqa: ARG002  the methods keep the library's signatures
"""SFTP's file operations as calls of the door: every method of asyncssh's SFTPServer, overridden.

A method that were inherited would act on the host's own file system, which a reflection test
forbids. No SSH, no log-in and no packet handling live here. May import the door and the shared
nouns. All paths are bytes from the wire and resolve lexically from ``/``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, NoReturn, cast

import asyncssh

from gateway.model import Clock, Kind
from gateway.paths import VirtualPath
from gateway.sftp.attributes import (
    GROUP_NAME,
    NUMERIC_ID,
    long_name,
    modified_us,
    node_attributes,
    space_attributes,
)
from gateway.sftp.bulk import Job, Result, each_result
from gateway.sftp.copying import CopyPlan
from gateway.sftp.digests import DigestRequest, calculated
from gateway.sftp.folders import EncodedName, OpenFolder
from gateway.sftp.open_files import OFFSET_LIMIT, Reading, Writing, path_of
from gateway.sftp.opening import OpenPlan, plan_open, plan_open56
from gateway.sftp.workers import Workers

if TYPE_CHECKING:
    from gateway.handles import WriteHandle
    from gateway.monitor import Door


class VirtualFiles(asyncssh.SFTPServer):
    """One SFTP channel's view of the virtual tree.

    Methods raise the errors of the door; ``gateway.sftp.handler`` turns them into status
    replies. ``close`` aborts, ``finish`` is the clean close that commits.
    """

    def __init__(
        self,
        chan: asyncssh.SSHServerChannel[bytes],
        door: Door,
        workers: Workers,
        clock: Clock,
        read_limit_bytes: int,
    ) -> None:
        super().__init__(chan)
        self._door = door
        self._workers = workers
        self._clock = clock
        self._read_limit_bytes = read_limit_bytes
        self._user = door.session.principal.name

    # Opening and closing

    async def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> Reading | Writing:
        """Open a file (protocol 3 and 4); the initial attributes are ignored."""
        return await self._open(path_of(path), plan_open(pflags))

    async def open56(
        self, path: bytes, desired_access: int, flags: int, attrs: asyncssh.SFTPAttrs
    ) -> Reading | Writing:
        """Open a file (protocol 5 and 6); the initial attributes are ignored."""
        return await self._open(path_of(path), plan_open56(desired_access, flags))

    async def _open(self, path: VirtualPath, plan: OpenPlan) -> Reading | Writing:
        if not plan.needs_writer:
            return Reading(path, await self._workers.door(self._door.open_read, path))
        handle = await self._workers.door(
            self._door.open_write,
            path,
            create=plan.create,
            replace=plan.replace,
            keep=plan.keep,
        )
        return Writing(path, handle, plan)

    async def finish(self, file_obj: object) -> None:
        """Close a file as its client asked: commit what it wrote.

        A commit of a file that nobody changed makes no version. Raises what the commit raises;
        then nothing was stored.
        """
        if isinstance(file_obj, Reading):
            await self._workers.door(file_obj.handle.close, complete=True)
        else:
            await self._workers.door(_commit, _writing(file_obj).handle)

    async def close(self, file_obj: object) -> None:
        """Give a file up: the connection went before its client closed it.

        What arrived of an upload waits for its uploader to continue it.
        """
        if isinstance(file_obj, Reading):
            await self._workers.door(file_obj.handle.close, complete=False)
        else:
            await self._workers.door(_writing(file_obj).handle.suspend, "disconnected")

    # Content

    def run(self, jobs: Sequence[Job]) -> asyncio.Future[list[Result]]:
        """Run jobs one after another among the transfers; what each returns or raises comes."""
        return self._workers.door(each_result, jobs)

    def read_job(self, file_obj: object, offset: int, size: int) -> Job:
        """Return the job that reads as ``read`` does."""
        if isinstance(file_obj, Writing) and not file_obj.plan.read:
            raise asyncssh.SFTPPermissionDenied("The file is not open for reading.")
        if offset > OFFSET_LIMIT:
            return bytes
        handle = cast(Reading | Writing, file_obj).handle
        return partial(handle.read_at, offset, min(size, self._read_limit_bytes))

    def write_job(self, file_obj: object, offset: int, data: bytes | memoryview) -> Job:
        """Return the job that writes as ``write`` does."""
        file = _writable(file_obj)
        if file.plan.append:
            return partial(file.handle.append, data)
        _check_offset(offset + len(data))
        return partial(file.handle.write_at, offset, data)

    async def read(self, file_obj: object, offset: int, size: int) -> bytes:
        """Return up to ``size`` bytes, at most the read limit; short only at the end of file."""
        data = await self._workers.door(self.read_job(file_obj, offset, size))
        return data or b""

    async def write(self, file_obj: object, offset: int, data: bytes) -> int:
        """Write at ``offset``, or at the end of a file that is open for appending."""
        await self._workers.door(self.write_job(file_obj, offset, data))
        return len(data)

    async def fsync(self, file_obj: object) -> None:
        """Make what was written to a file so far durable, which makes it the current version."""
        await self._workers.door(cast(Reading | Writing, file_obj).handle.sync)

    async def copy(self, plan: CopyPlan, stopped: Callable[[], bool]) -> None:
        """Copy from one open file to another, step by step until ``stopped``.

        Where all of a stored file goes to a new one the two share it, which takes no time. What
        fails on the way leaves a target that its close does not store.
        """
        _check_offset(plan.target_at + plan.end - plan.source_at)
        source, target = plan.source, plan.target.handle
        if plan.whole and isinstance(source, Reading):
            info = source.handle.info
            if await self._workers.door(self._door.duplicate, info, target):
                return
        try:
            for start in plan.steps():
                if stopped():
                    target.file.spoil()
                    return
                await self._workers.door(plan.copy_step, start)
        except BaseException:
            target.file.spoil()
            raise

    async def digest(self, file_obj: object, request: DigestRequest) -> bytes:
        """Return what an open file, which may be read, hashes to."""
        if isinstance(file_obj, Reading):
            known = file_obj.handle.info.sha256
            return await self._workers.door(calculated, file_obj.handle, request, known)
        if not _writing(file_obj).plan.read:
            raise asyncssh.SFTPPermissionDenied("The file is not open for reading.")
        # What is being written is not what its version's digest is of.
        return await self._workers.door(calculated, _writing(file_obj).handle, request, "")

    async def digest_of(self, path: bytes, request: DigestRequest) -> bytes:
        """Return what the file at ``path`` hashes to; it is opened and read like any other."""
        file = await self._open(path_of(path), plan_open(asyncssh.FXF_READ))
        try:
            return await self.digest(file, request)
        finally:
            await self.finish(file)

    # Attributes

    async def stat(self, path: bytes) -> asyncssh.SFTPAttrs:
        """Return the attributes of a node."""
        return node_attributes(await self._workers.door(self._door.stat, path_of(path)))

    async def lstat(self, path: bytes) -> asyncssh.SFTPAttrs:
        """Return the attributes of a node: the tree has no links to stop at."""
        return await self.stat(path)

    async def fstat(self, file_obj: object) -> asyncssh.SFTPAttrs:
        """Return the attributes of an open file, its size as written so far."""
        return node_attributes(cast(Reading | Writing, file_obj).handle.present_info)

    async def setstat(self, path: bytes, attrs: asyncssh.SFTPAttrs) -> None:
        """Set size and modification time; mode, user and group are accepted and ignored."""
        where = path_of(path)
        when = modified_us(attrs)
        if attrs.size is not None:
            _check_offset(attrs.size)
            await self._workers.door(_resize, self._door, where, attrs.size, when)
        elif when is not None:
            await self._workers.door(self._door.set_times, where, modified_us=when)
        else:
            await self._workers.door(self._door.stat, where)

    async def lsetstat(self, path: bytes, attrs: asyncssh.SFTPAttrs) -> None:
        """Do as ``setstat``: the tree has no links to stop at."""
        await self.setstat(path, attrs)

    async def fsetstat(self, file_obj: object, attrs: asyncssh.SFTPAttrs) -> None:
        """Set size and modification time of an open file; they take effect with its commit."""
        if attrs.size is not None:
            file = _writable(file_obj)
            _check_offset(attrs.size)
            await self._workers.door(file.handle.truncate, attrs.size)
        when = modified_us(attrs)
        if when is None:
            return
        if isinstance(file_obj, Writing):
            await self._workers.door(file_obj.handle.set_modified, when)
        else:
            path = cast(Reading, file_obj).path
            await self._workers.door(self._door.set_times, path, modified_us=when)

    async def convert_attrs(self, result: object) -> asyncssh.SFTPAttrs:
        """Return the attributes themselves; what the host's ``os.stat`` says never comes here."""
        found = await result if isinstance(result, Awaitable) else result
        assert isinstance(found, asyncssh.SFTPAttrs)
        return found

    # Folders and names

    async def opendir(self, path: bytes) -> OpenFolder:
        """Return a folder's listing, its first page read: whether it can be listed is known."""
        found = await self._workers.door(self._door.scandir, path_of(path))
        return OpenFolder(found, self._user, self._clock)

    async def readdir(self, folder: OpenFolder) -> list[EncodedName]:
        """Return the next entries of a folder, as many as a reply holds; none at the end."""
        return await self._workers.door(folder.next_names)

    def scandir(self, path: bytes) -> NoReturn:
        """Refuse: folders are listed by ``opendir`` and ``readdir``, in pages."""
        raise asyncssh.SFTPOpUnsupported("Folders are listed in pages.")

    async def mkdir(self, path: bytes, attrs: asyncssh.SFTPAttrs) -> None:
        """Make a folder; the initial attributes are ignored."""
        await self._workers.door(self._door.mkdir, path_of(path))

    async def rmdir(self, path: bytes) -> None:
        """Delete an empty folder."""
        await self._workers.door(
            self._door.delete, path_of(path), kind=Kind.FOLDER, only_empty=True
        )

    async def remove(self, path: bytes) -> None:
        """Delete a file."""
        await self._workers.door(self._door.delete, path_of(path), kind=Kind.FILE)

    async def rename(self, oldpath: bytes, newpath: bytes) -> None:
        """Move a node to a name that nothing has (the draft's rename never replaces)."""
        await self._move(path_of(oldpath), path_of(newpath), replace=False)

    async def posix_rename(self, oldpath: bytes, newpath: bytes) -> None:
        """Move a node; a file of the new name gets the content as its next version."""
        await self._move(path_of(oldpath), path_of(newpath), replace=True)

    async def _move(self, source: VirtualPath, target: VirtualPath, *, replace: bool) -> None:
        if source == target:
            # rename(2): nothing happens, but the name must exist.
            await self._workers.door(self._door.stat, source)
        else:
            await self._workers.door(self._door.move, source, target, replace=replace)

    async def realpath(self, path: bytes) -> bytes:
        """Return the absolute form of a path: lexical, so that it is no activity."""
        return str(path_of(path)).encode()

    async def statvfs(self, path: bytes) -> asyncssh.SFTPVFSAttrs:
        """Return the space of the share that holds a path."""
        return space_attributes(await self._workers.door(self._door.usage, path_of(path)))

    async def fstatvfs(self, file_obj: object) -> asyncssh.SFTPVFSAttrs:
        """Return the space of the share that holds an open file."""
        path = cast(Reading | Writing, file_obj).path
        return space_attributes(await self._workers.door(self._door.usage, path))

    # What the virtual tree does not have

    async def readlink(self, path: bytes) -> NoReturn:
        """Refuse: no links."""
        raise asyncssh.SFTPOpUnsupported("There are no symbolic links here.")

    async def symlink(self, oldpath: bytes, newpath: bytes) -> NoReturn:
        """Refuse: no links."""
        raise asyncssh.SFTPOpUnsupported("There are no symbolic links here.")

    async def link(self, oldpath: bytes, newpath: bytes) -> NoReturn:
        """Refuse: no links."""
        raise asyncssh.SFTPOpUnsupported("There are no hard links here.")

    async def lock(self, file_obj: object, offset: int, length: int, flags: int) -> NoReturn:
        """Refuse: locks cover whole files and are taken over WebDAV."""
        raise asyncssh.SFTPOpUnsupported("Byte ranges cannot be locked.")

    async def unlock(self, file_obj: object, offset: int, length: int) -> NoReturn:
        """Refuse: see ``lock``."""
        raise asyncssh.SFTPOpUnsupported("Byte ranges cannot be locked.")

    # Presentation, and the hooks by which the stock server reaches the host

    def format_user(self, uid: int | None) -> str:
        """Return the name of whoever is logged in; the host's accounts are never asked."""
        return self._user if uid in {None, NUMERIC_ID} else str(uid)

    def format_group(self, gid: int | None) -> str:
        """Return the one group's name; the host's groups are never asked."""
        return GROUP_NAME if gid in {None, NUMERIC_ID} else str(gid)

    def format_longname(self, name: asyncssh.SFTPName) -> None:
        """Fill in the long name."""
        filename = cast(bytes, name.filename)
        name.longname = long_name(filename, name.attrs, self._user, self._clock())

    def map_path(self, path: bytes) -> NoReturn:
        """Refuse: no path here has one on the host."""
        raise asyncssh.SFTPOpUnsupported("Paths do not lead to the host.")

    def reverse_map_path(self, path: bytes) -> NoReturn:
        """Refuse: no path of the host is ever shown."""
        raise asyncssh.SFTPOpUnsupported("Paths do not lead to the host.")

    def exit(self) -> None:
        """Do nothing: open files are given up one by one by the handler."""


def _writing(file_obj: object) -> Writing:
    assert isinstance(file_obj, Writing)
    return file_obj


def _writable(file_obj: object) -> Writing:
    if not isinstance(file_obj, Writing) or not file_obj.plan.write:
        raise asyncssh.SFTPPermissionDenied("The file is not open for writing.")
    return file_obj


def _check_offset(end: int) -> None:
    if end > OFFSET_LIMIT:
        raise asyncssh.SFTPFailure("The offset lies beyond the largest possible file.")


def _commit(handle: WriteHandle) -> None:
    try:
        handle.commit()
    finally:
        handle.abort("not committed")


def _resize(door: Door, path: VirtualPath, size_bytes: int, when_us: int | None) -> None:
    """Make a version of another size."""
    handle = door.open_write(path, create=False, keep=True)
    try:
        if handle.resumes:
            raise asyncssh.SFTPFailure(
                "The upload of this file was cut off; continue it, or delete it."
            )
        handle.truncate(size_bytes)
        if when_us is not None:
            handle.set_modified(when_us)
        handle.commit()
    finally:
        handle.abort("not committed")

"""Disks that can be cut off or filled up: ext4 in an image file, and a small tmpfs. Needs root."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_SHUTDOWN = 0x8004587D
"""FS_IOC_SHUTDOWN: from now on every access fails (linux/fs.h; ext4, xfs, f2fs)."""

_NO_LOG_FLUSH = 2
"""The flag by which what lies in memory alone, the journal's head included, is lost."""

_CLONE_NEWNS = 0x00020000
_MS_REC = 0x4000
_MS_PRIVATE = 0x40000
_LIBC = ctypes.CDLL(None, use_errno=True)

_IMAGE_BYTES = 1024 * 1024 * 1024
_PAGE_BYTES = 4096
_BALLAST = "ballast"


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()} (this needs root)")


def _failed(call: str) -> OSError:
    code = ctypes.get_errno()
    return OSError(code, f"{call}: {os.strerror(code)} (this needs root)")


def _unmount(folder: Path) -> None:
    # Not umount(8): it looks at the mounted file system first, which may be shut down.
    if _LIBC.umount2(str(folder).encode(), 0):
        raise _failed("umount2")


@dataclass(frozen=True, slots=True)
class LoopDisk:
    """An ext4 file system in a sparse file, mounted at ``folder`` over a loop device."""

    image: Path
    folder: Path

    def format(self) -> None:
        """Make the file system."""
        with self.image.open("wb") as file:
            file.truncate(_IMAGE_BYTES)
        _run("mkfs.ext4", "-q", "-F", str(self.image))
        self.folder.mkdir()

    def mount(self) -> None:
        """Mount it, replaying its journal after a cut."""
        _run("mount", "-o", "loop", str(self.image), str(self.folder))

    def unmount(self) -> None:
        """Unmount it."""
        _unmount(self.folder)

    def cut(self) -> None:
        """Cut the power: nothing that was not made durable will be there after a mount."""
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def loop_disk(folder: Path) -> Iterator[LoopDisk]:
    """Give a mounted disk with everything of it below ``folder``, and take it away again."""
    disk = LoopDisk(folder / "disk.img", folder / "disk")
    disk.format()
    disk.mount()
    try:
        yield disk
    finally:
        disk.unmount()
        disk.image.unlink()


@dataclass(frozen=True, slots=True)
class SmallDisk:
    """A tmpfs of a fixed size at ``folder``, with a ballast file that fills it on demand."""

    folder: Path

    def fill(self, left_bytes: int) -> None:
        """Take all free space but ``left_bytes``, so that a write soon meets the end of it."""
        status = os.statvfs(self.folder)
        wanted = status.f_bavail * status.f_frsize - left_bytes
        pages = max(wanted // _PAGE_BYTES, 0)
        descriptor = os.open(self.folder / _BALLAST, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            with contextlib.suppress(OSError):
                if pages:
                    os.posix_fallocate(descriptor, 0, pages * _PAGE_BYTES)
        finally:
            os.close(descriptor)

    def relieve(self) -> None:
        """Give the space back."""
        (self.folder / _BALLAST).unlink(missing_ok=True)


@contextlib.contextmanager
def small_disk(folder: Path, size_bytes: int) -> Iterator[SmallDisk]:
    """Give a mounted tmpfs of ``size_bytes`` below ``folder``, and take it away again."""
    disk = SmallDisk(folder / "disk")
    disk.folder.mkdir()
    _run("mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(disk.folder))
    try:
        yield disk
    finally:
        _unmount(disk.folder)


@contextlib.contextmanager
def private_mounts(folder: Path) -> Iterator[None]:
    """Give this process mounts of its own below ``folder``, so that none outlives it."""
    if _LIBC.unshare(_CLONE_NEWNS):
        raise _failed("unshare")
    if Path("/").is_mount() and not _LIBC.mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None):
        yield
        return
    # In a chroot the root is no mount whose sharing could be ended; the folder is made one.
    _run("mount", "--bind", str(folder), str(folder))
    try:
        _run("mount", "--make-private", str(folder))
        yield
    finally:
        _unmount(folder)

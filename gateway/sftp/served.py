"""Which SFTP requests are served, what is announced, and the kinds of their answers.

Tables in the library's own shapes; nothing is done here. Imports asyncssh's.
"""

from __future__ import annotations

from asyncssh.constants import (
    FXP_CLOSE,
    FXP_EXTENDED_REPLY,
    FXP_FSETSTAT,
    FXP_FSTAT,
    FXP_LSTAT,
    FXP_MKDIR,
    FXP_NAME,
    FXP_OPEN,
    FXP_OPENDIR,
    FXP_READ,
    FXP_READDIR,
    FXP_REALPATH,
    FXP_REMOVE,
    FXP_RENAME,
    FXP_RMDIR,
    FXP_SETSTAT,
    FXP_STAT,
    FXP_WRITE,
)
from asyncssh.sftp import SFTPServerHandler

SERVED: frozenset[int | bytes] = frozenset(
    {
        FXP_OPEN,
        FXP_CLOSE,
        FXP_READ,
        FXP_WRITE,
        FXP_LSTAT,
        FXP_FSTAT,
        FXP_SETSTAT,
        FXP_FSETSTAT,
        FXP_OPENDIR,
        FXP_READDIR,
        FXP_REMOVE,
        FXP_MKDIR,
        FXP_RMDIR,
        FXP_REALPATH,
        FXP_STAT,
        FXP_RENAME,
        b"posix-rename@openssh.com",
        b"statvfs@openssh.com",
        b"fstatvfs@openssh.com",
        b"fsync@openssh.com",
        b"lsetstat@openssh.com",
        b"limits@openssh.com",
        b"copy-data",
        b"check-file",
        b"check-file-handle",
        b"check-file-name",
        b"home-directory",
        b"expand-path@openssh.com",
    }
)
"""What is answered; an extension that a later asyncssh brings stays off until it is listed."""

# Not announced: links, and the stock server's ranges@asyncssh.com, which asks a file object for a
# descriptor of the host.
EXTENSIONS: list[tuple[bytes, bytes]] = [
    (b"posix-rename@openssh.com", b"1"),
    (b"statvfs@openssh.com", b"2"),
    (b"fstatvfs@openssh.com", b"2"),
    (b"fsync@openssh.com", b"1"),
    (b"lsetstat@openssh.com", b"1"),
    (b"limits@openssh.com", b"1"),
    (b"copy-data", b"1"),
    (b"check-file", b"1"),
    (b"check-file-handle", b"1"),
    (b"check-file-name", b"1"),
    (b"home-directory", b"1"),
    (b"expand-path@openssh.com", b"1"),
]
"""What the answer to SSH_FXP_INIT names, with versions."""

RETURN_TYPES: dict[object, int] = {
    **SFTPServerHandler._return_types,  # noqa: SLF001
    b"check-file": FXP_EXTENDED_REPLY,
    b"check-file-handle": FXP_EXTENDED_REPLY,
    b"check-file-name": FXP_EXTENDED_REPLY,
    b"home-directory": FXP_NAME,
    b"expand-path@openssh.com": FXP_NAME,
}
"""The packets that answer requests, where that is not a status."""

"""How nodes, listings and space look in SFTP: attributes, long names, file system figures.

Pure conversions, no I/O. Modes, user and group numbers are made up and constant, since policy
and not a mode decides. Imports only the shared nouns.
"""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta

import asyncssh

from gateway.model import SECOND_US, NodeInfo, Usage
from gateway.paths import NAME_LIMIT_BYTES

NUMERIC_ID = 1000
"""The user and group number of every node."""

GROUP_NAME = "sealgate"

_FOLDER_MODE = stat.S_IFDIR | 0o700
_FILE_MODE = stat.S_IFREG | 0o600
_BLOCK_BYTES = 4096
_UINT32_MAX = 2**32 - 1
_RECENT = timedelta(days=182)
# time.strftime would follow the process's locale; clients parse the English names.
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def node_attributes(info: NodeInfo) -> asyncssh.SFTPAttrs:
    """Return the attributes of a node.

    Times are whole seconds, held within the 32 bits that protocol version 3 has for them.
    """
    modified_s = min(max(info.modified_us // SECOND_US, 0), _UINT32_MAX)
    return asyncssh.SFTPAttrs(
        type=asyncssh.FILEXFER_TYPE_DIRECTORY if info.is_folder else asyncssh.FILEXFER_TYPE_REGULAR,
        size=0 if info.is_folder else info.size_bytes,
        uid=NUMERIC_ID,
        gid=NUMERIC_ID,
        permissions=_FOLDER_MODE if info.is_folder else _FILE_MODE,
        atime=modified_s,
        mtime=modified_s,
        nlink=1,
    )


def modified_us(attrs: asyncssh.SFTPAttrs) -> int | None:
    """Return the modification time that a client sets, in µs since 1970; None: it sets none."""
    if attrs.mtime is None:
        return None
    return int(attrs.mtime) * SECOND_US + (attrs.mtime_ns or 0) // 1000


def long_name(filename: bytes, attrs: asyncssh.SFTPAttrs, user: str, now_us: int) -> bytes:
    """Return the line that ``ls -l`` shows for a node; psftp prints it as it is. Times are UTC."""
    mode = stat.filemode(attrs.permissions or 0)
    owner = "_".join(user.split()) or "-"
    when = datetime.fromtimestamp(attrs.mtime or 0, UTC)
    now = datetime.fromtimestamp(now_us // SECOND_US, UTC)
    recent = timedelta() <= now - when < _RECENT
    clock = f"{when:%H:%M}" if recent else f"{when.year:>5}"
    line = (
        f"{mode} {attrs.nlink or 1:>4} {owner:<8} {GROUP_NAME:<8} {attrs.size or 0:>12} "
        f"{_MONTHS[when.month - 1]} {when.day:>2} {clock} "
    )
    return line.encode() + filename


def space_attributes(usage: Usage) -> asyncssh.SFTPVFSAttrs:
    """Return a share's space as ``df`` wants it, in blocks of 4 KiB, rounded down when free."""
    used = -(-usage.used_bytes // _BLOCK_BYTES)
    free_bytes = usage.available_bytes
    if usage.quota_bytes is not None:
        free_bytes = min(free_bytes, max(usage.quota_bytes - usage.used_bytes, 0))
    free = max(free_bytes, 0) // _BLOCK_BYTES
    return asyncssh.SFTPVFSAttrs(
        bsize=_BLOCK_BYTES,
        frsize=_BLOCK_BYTES,
        blocks=used + free,
        bfree=free,
        bavail=free,
        files=usage.node_count + _UINT32_MAX,
        ffree=_UINT32_MAX,
        favail=_UINT32_MAX,
        fsid=0,
        flags=0,
        namemax=NAME_LIMIT_BYTES,
    )

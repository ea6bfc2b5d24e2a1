"""How nodes, listings and space look in SFTP: attributes, long names, file system figures.

Pure conversions, no I/O. Modes, user and group numbers are made up and constant, since policy
and not a mode decides. Imports only the shared nouns.
"""

from __future__ import annotations

import stat
import struct
import time
from collections.abc import Iterable, Iterator

import asyncssh

from gateway.model import SECOND_US, Entry, NodeInfo, Usage
from gateway.paths import NAME_LIMIT_BYTES

NUMERIC_ID = 1000
"""The user and group number of every node."""

GROUP_NAME = "sealgate"

_FOLDER_MODE = stat.S_IFDIR | 0o700
_FILE_MODE = stat.S_IFREG | 0o600
_BLOCK_BYTES = 4096
_UINT32_MAX = 2**32 - 1
_LENGTH = struct.Struct(">I")
_ATTRS = struct.Struct(">IQIIIII")
# Which attributes follow: size, user and group, mode, both times (filexfer-02 section 5).
_ATTRS_FLAGS = 0x0F
_VISIBLE = bytes(ord("?") if byte < 0x20 or byte == 0x7F else byte for byte in range(256))
_RECENT_S = 182 * 24 * 3600
# time.strftime would follow the process's locale; clients parse the English names.
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def node_attributes(info: NodeInfo | Entry) -> asyncssh.SFTPAttrs:
    """Return the attributes of a node.

    Times are whole seconds, held within the 32 bits that protocol version 3 has for them.
    """
    modified_s = _whole_seconds(info.modified_us)
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


def _whole_seconds(when_us: int) -> int:
    return min(max(when_us // SECOND_US, 0), _UINT32_MAX)


def modified_us(attrs: asyncssh.SFTPAttrs) -> int | None:
    """Return the modification time that a client sets, in µs since 1970; None: it sets none."""
    if attrs.mtime is None:
        return None
    return int(attrs.mtime) * SECOND_US + (attrs.mtime_ns or 0) // 1000


def long_name(filename: bytes, attrs: asyncssh.SFTPAttrs, user: str, now_us: int) -> bytes:
    """Return the line that ``ls -l`` shows for a node; psftp prints it as it is. Times are UTC.

    A control character of the name is a question mark in it: a line is a line, and no name moves
    the cursor of a terminal.
    """
    mode = stat.filemode(attrs.permissions or 0)
    head = f"{mode} {attrs.nlink or 1:>4} {_owner(user)}"
    line = _line(head, attrs.size or 0, int(attrs.mtime or 0), now_us // SECOND_US)
    return line + filename.translate(_VISIBLE)


def encoded_names(entries: Iterable[Entry], user: str, now_us: int) -> Iterator[bytes]:
    """Yield each entry as SSH_FXP_NAME has it in version 3: name, long name and attributes.

    That is what asyncssh would encode of ``node_attributes`` and ``long_name``, in a fifth of the
    time: a folder may have 100,000 entries.
    """
    heads = [f"{stat.filemode(mode)}    1 {_owner(user)}" for mode in (_FILE_MODE, _FOLDER_MODE)]
    now_s = now_us // SECOND_US
    for entry in entries:
        name = entry.name.encode()
        size_bytes = 0 if entry.is_folder else entry.size_bytes
        modified_s = _whole_seconds(entry.modified_us)
        line = _line(heads[entry.is_folder], size_bytes, modified_s, now_s)
        shown = name.translate(_VISIBLE)
        mode = _FOLDER_MODE if entry.is_folder else _FILE_MODE
        attrs = _ATTRS.pack(
            _ATTRS_FLAGS, size_bytes, NUMERIC_ID, NUMERIC_ID, mode, modified_s, modified_s
        )
        yield b"".join(
            (
                _LENGTH.pack(len(name)),
                name,
                _LENGTH.pack(len(line) + len(shown)),
                line,
                shown,
                attrs,
            )
        )


def _owner(user: str) -> str:
    owner = "_".join(user.split()) or "-"
    return f"{owner:<8} {GROUP_NAME:<8}"


def _line(head: str, size_bytes: int, modified_s: int, now_s: int) -> bytes:
    when = time.gmtime(modified_s)
    recent = 0 <= now_s - modified_s < _RECENT_S
    clock = f"{when.tm_hour:02}:{when.tm_min:02}" if recent else f"{when.tm_year:>5}"
    month = _MONTHS[when.tm_mon - 1]
    return f"{head} {size_bytes:>12} {month} {when.tm_mday:>2} {clock} ".encode()


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

"""The files that a client has open, and how its bytes name one.

No operation is called here. Imports the shared nouns and the door's types.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.errors import InvalidPathError
from gateway.paths import VirtualPath
from gateway.sftp.opening import OpenPlan

if TYPE_CHECKING:
    from gateway.handles import ReadHandle, WriteHandle

OFFSET_LIMIT = 2**63 - 1
"""The largest offset that a file may reach: what a signed 64-bit client can name."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A file that a client has open for reading."""

    path: VirtualPath
    handle: ReadHandle


@dataclass(frozen=True, slots=True)
class Writing:
    """A file that a client has open for writing."""

    path: VirtualPath
    handle: WriteHandle
    plan: OpenPlan


def path_of(raw: bytes) -> VirtualPath:
    """Return the path that a client's bytes lead to; raises InvalidPathError."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidPathError("A path is not valid UTF-8; rename it on the client.") from error
    return VirtualPath.resolve(text)

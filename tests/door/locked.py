"""What the tests of locks at the door begin with: a small tree, and how to lock it."""

from __future__ import annotations

from gateway.model import LockInfo
from gateway.monitor import Door
from tests.door.support import at, put

FOLDER = at("/radiology/a")
FILE = at("/radiology/a/file")
DEEP = at("/radiology/a/sub/deep")


def make_files(door: Door) -> None:
    """Make a folder with a file, and a folder with a file in it."""
    door.mkdir(FOLDER)
    put(door, str(FILE), b"old")
    door.mkdir(DEEP.parent)
    put(door, str(DEEP), b"deep")


def lock(
    door: Door, path: str = str(FILE), *, exclusive: bool = True, deep: bool = False
) -> LockInfo:
    """Return a new lock."""
    info, _ = door.lock(
        at(path), exclusive=exclusive, depth_infinity=deep, owner="<o>me</o>", timeout_s=300
    )
    return info


def holding(door: Door, *held: LockInfo) -> Door:
    """Return the door with the tokens of these locks submitted."""
    return door.with_tokens(frozenset(info.token for info in held))

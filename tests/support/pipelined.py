"""SFTP requests sent one after the other without waiting for answers, in every order that is one.

Whatever the order, each request has its answer as if the ones before had been waited for: a file
is there from its open on, and not only from its close.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Coroutine, Iterator
from typing import Any

import asyncssh

CONTENT = b"0123456789"
NEW = asyncssh.FXF_WRITE | asyncssh.FXF_CREAT | asyncssh.FXF_TRUNC
CHANGE = asyncssh.FXF_READ | asyncssh.FXF_WRITE
ATTRS = asyncssh.SFTPAttrs()


def orders(*steps: str) -> Iterator[tuple[str, ...]]:
    """Yield the orders in which the first handle writes before it is closed."""
    for order in itertools.permutations(steps):
        if order.index("write") < order.index("close"):
            yield order


async def opened_in_every_order(sftp: asyncssh.SFTPClient, folder: str) -> dict[str, bytes]:
    """Open files again around their writes and closes; return what they must hold at the end."""
    handler, expected = sftp._handler, {}
    for order in orders("write", "open", "stat", "close"):
        path = f"{folder}/{'-'.join(order)}"
        raw = path.encode()
        first = await handler.open(raw, NEW, ATTRS)
        requests: dict[str, Coroutine[Any, Any, Any]] = {
            "write": handler.write(first, 0, CONTENT),
            "open": handler.open(raw, CHANGE, ATTRS),
            "stat": handler.lstat(raw, 0),
            "close": handler.close(first),
        }
        answers = await asyncio.gather(*(requests[step] for step in order))
        answer = dict(zip(order, answers, strict=True))
        written = order.index("write") < order.index("stat")
        assert answer["stat"].size == (len(CONTENT) if written else 0), order
        second = answer["open"]
        _, (found, _), _, attrs, _ = await asyncio.gather(
            handler.write(second, 4, b"xy"),
            handler.read(second, 0, 100),
            handler.write(second, 10, b"!"),
            handler.fstat(second, 0),
            handler.close(second),
        )
        assert (found, attrs.size) == (b"0123xy6789", 11), order
        assert (await handler.lstat(raw, 0)).size == 11, order
        expected[path] = b"0123xy6789!"
    return expected


async def renamed_in_every_order(sftp: asyncssh.SFTPClient, folder: str) -> dict[str, bytes]:
    """Rename files, over others too, around their writes and closes."""
    handler, expected = sftp._handler, {}
    for order, over in itertools.product(orders("write", "rename", "close"), (False, True)):
        old, new = (f"{folder}/{'-'.join(order)}-{name}-{over}" for name in ("old", "new"))
        if over:
            async with sftp.open(new, "wb") as file:
                await file.write(b"replaced by the rename")
        first = await handler.open(old.encode(), NEW, ATTRS)
        requests: dict[str, Coroutine[Any, Any, Any]] = {
            "write": handler.write(first, 0, CONTENT),
            "rename": handler.posix_rename(old.encode(), new.encode()),
            "close": handler.close(first),
        }
        await asyncio.gather(*(requests[step] for step in order))
        assert (await handler.lstat(new.encode(), 0)).size == len(CONTENT), order
        expected[new] = CONTENT
    return expected


async def synced_and_closed(sftp: asyncssh.SFTPClient, folder: str) -> dict[str, bytes]:
    """Sync one handle, close the other, and go on writing, all at once."""
    handler, path = sftp._handler, f"{folder}/synced"
    first = await handler.open(path.encode(), NEW, ATTRS)
    _, _, second, _, _ = await asyncio.gather(
        handler.write(first, 0, CONTENT),
        handler.fsync(first),
        handler.open(path.encode(), CHANGE, ATTRS),
        handler.write(first, 10, b"more"),
        handler.close(first),
    )
    await asyncio.gather(
        handler.write(second, 0, b"AB"), handler.fsync(second), handler.close(second)
    )
    return {path: b"AB23456789more"}


SCENES = (opened_in_every_order, renamed_in_every_order, synced_and_closed)

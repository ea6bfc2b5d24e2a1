"""Listings of folders: in pages from the door, in packets to the client."""

from __future__ import annotations

import asyncio
import contextlib

import asyncssh
import pytest
from asyncssh.constants import FXP_READDIR
from asyncssh.packet import String

from gateway.errors import SessionEndedError
from gateway.sftp.folders import REPLY_LIMIT_BYTES
from tests.sftp.conftest import Listener

COUNT = 700


@pytest.mark.parametrize("letters", ["n", "n" * 240, "ü€" * 48])
def test_a_reply_holds_as_many_names_as_a_packet_may(listener: Listener, letters: str) -> None:
    """Never more than every client takes, and all but the last nearly that."""
    for number in range(COUNT):
        listener.monitor.put(f"/share/{letters}{number}", b"")

    async def go() -> None:
        async with await listener.connect() as conn, conn.start_sftp_client() as sftp:
            handler = sftp._handler
            handle = await handler.opendir(b"/share")
            sizes, found = [], []
            with contextlib.suppress(asyncssh.SFTPEOFError):
                while True:
                    names, _ = await handler.readdir(handle)
                    sizes.append(sum(len(name.encode(3)) for name in names))
                    found += [name.filename for name in names]
            assert sorted(found) == sorted(
                [b".", b"..", *(f"{letters}{number}".encode() for number in range(COUNT))]
            )
            assert max(sizes) <= REPLY_LIMIT_BYTES
            assert min(sizes[:-1]) > REPLY_LIMIT_BYTES - 1024

    asyncio.run(go())


def test_listings_are_asked_for_ahead(listener: Listener) -> None:
    """FileZilla asks again before it has the answer: each name comes once, and then the end."""
    for number in range(COUNT):
        listener.monitor.put(f"/share/{number}", b"")

    async def go() -> None:
        async with await listener.connect() as conn, conn.start_sftp_client() as sftp:
            handler = sftp._handler
            handle = await handler.opendir(b"/share")
            asked = [handler._make_request(FXP_READDIR, String(handle)) for _ in range(12)]
            answers = await asyncio.gather(*asked, return_exceptions=True)
            found = [name.filename for one in answers if isinstance(one, tuple) for name in one[0]]
            assert len(found) == len(set(found)) == COUNT + 2
            ends = [one for one in answers if not isinstance(one, tuple)]
            assert ends
            assert all(isinstance(one, asyncssh.SFTPEOFError) for one in ends)

    asyncio.run(go())


def test_a_listing_that_fails_never_looks_complete(listener: Listener) -> None:
    """Who asks on after an error hears it again, and not that this was the end."""
    for number in range(COUNT):
        listener.monitor.put(f"/share/{number}", b"")
    pages = iter(range(COUNT))

    def fault(operation: str) -> None:
        if operation == "page" and next(pages) > 100:
            raise SessionEndedError("idle")

    listener.monitor.fault = fault

    async def go() -> None:
        async with await listener.connect() as conn, conn.start_sftp_client() as sftp:
            handler = sftp._handler
            handle = await handler.opendir(b"/share")
            asked = [handler._make_request(FXP_READDIR, String(handle)) for _ in range(5)]
            answers = await asyncio.gather(*asked, return_exceptions=True)
            errors = [one for one in answers if not isinstance(one, tuple)]
            assert len(errors) >= 3
            assert all(isinstance(one, asyncssh.SFTPConnectionLost) for one in errors)

    asyncio.run(go())

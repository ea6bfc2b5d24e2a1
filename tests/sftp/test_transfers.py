"""Files and folders over SFTP, with asyncssh's client against the fake door."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace

import asyncssh
import pytest
from asyncssh.constants import FXP_WRITE
from asyncssh.packet import String, UInt64

from tests.sftp.conftest import ORDINARY, Listener
from tests.sftp.fake_files import QUOTA_BYTES
from tests.support.users import until


def _bytes(data: bytes | str) -> bytes:
    assert isinstance(data, bytes)
    return data


def test_put_and_get_bring_the_same_bytes(listener: Listener) -> None:
    """A file larger than several packets arrives whole and comes back whole."""
    content = os.urandom(3_000_001)

    async def go() -> None:
        async with await listener.connect() as conn, conn.start_sftp_client() as sftp:
            async with sftp.open("/share/a", "wb") as file:
                await file.write(content)
            async with sftp.open("/share/a", "rb") as file:
                assert _bytes(await file.read()) == content

    asyncio.run(go())
    assert listener.monitor.content("/share/a") == content


def test_limits_are_announced_and_reads_within_them_are_whole(listener: Listener) -> None:
    """OpenSSH shrinks its requests for good after one short answer."""
    listener.monitor.put("/share/a", bytes(1_000_000))

    async def go() -> None:
        async with await listener.connect() as conn, conn.start_sftp_client() as sftp:
            limits = sftp.limits
            assert limits.max_read_len == listener.settings.read_limit_bytes
            assert limits.max_write_len == listener.settings.write_limit_bytes
            handle = await sftp._handler.open(b"/share/a", asyncssh.FXF_READ, asyncssh.SFTPAttrs())
            pipelined = [sftp._handler.read(handle, at, limits.max_read_len) for at in range(3)]
            for data, _ in await asyncio.gather(*pipelined):
                assert len(data) == limits.max_read_len

    asyncio.run(go())


def test_read_length_of_four_gigabytes_is_clamped(listener: Listener) -> None:
    """A READ of 2^32-1 bytes answers no more than the limit."""
    listener.monitor.put("/share/a", bytes(1_000_000))

    async def go() -> None:
        async with await listener.connect() as conn, conn.start_sftp_client() as sftp:
            handler = sftp._handler
            handle = await handler.open(b"/share/a", asyncssh.FXF_READ, asyncssh.SFTPAttrs())
            data, _ = await handler.read(handle, 0, 2**32 - 1)
            assert len(data) == listener.settings.read_limit_bytes

    asyncio.run(go())


@pytest.mark.parametrize("offset", [2**63 - 1, 2**63, 2**64 - 1])
def test_far_offsets_read_nothing_and_write_nothing(listener: Listener, offset: int) -> None:
    """An absurd offset is end of file for a reader and an error for a writer."""
    listener.monitor.put("/share/a", b"abc")

    async def go() -> None:
        async with await listener.connect() as conn, conn.start_sftp_client() as sftp:
            handler = sftp._handler
            flags = asyncssh.FXF_READ | asyncssh.FXF_WRITE
            handle = await handler.open(b"/share/a", flags, asyncssh.SFTPAttrs())
            with pytest.raises(asyncssh.SFTPEOFError):
                await handler.read(handle, offset, 10)
            with pytest.raises(asyncssh.SFTPFailure):
                await handler.write(handle, offset, b"x")

    asyncio.run(go())
    assert listener.monitor.content("/share/a") == b"abc"


def test_append_ignores_the_clients_offset(listener: Listener) -> None:
    """Every write of a file open for appending goes to its end."""
    listener.monitor.put("/share/a", b"one")

    async def go() -> None:
        async with await listener.connect() as conn, conn.start_sftp_client() as sftp:
            handler = sftp._handler
            flags = asyncssh.FXF_WRITE | asyncssh.FXF_APPEND
            handle = await handler.open(b"/share/a", flags, asyncssh.SFTPAttrs())
            await handler.write(handle, 0, b"two")
            await handler.close(handle)

    asyncio.run(go())
    assert listener.monitor.content("/share/a") == b"onetwo"


def test_open_for_both_reads_what_was_written(listener: Listener) -> None:
    """READ with WRITE works on the content as written so far, and fstat tells its size."""
    listener.monitor.put("/share/a", b"0123456789")

    async def go() -> None:
        async with await listener.connect() as conn, conn.start_sftp_client() as sftp:
            async with sftp.open("/share/a", "rb+") as file:
                await file.write(b"ab", 9)
                assert _bytes(await file.read(-1, 0)) == b"012345678ab"
                assert (await file.stat()).size == 11
            assert (await sftp.stat("/share/a")).size == 11

    asyncio.run(go())


def test_exclusive_creation_refuses_a_name_that_is_taken(listener: Listener) -> None:
    """EXCL never replaces."""
    listener.monitor.put("/share/a", b"old")

    async def go() -> None:
        async with await listener.connect() as conn, conn.start_sftp_client() as sftp:
            with pytest.raises(asyncssh.SFTPFailure):
                await sftp.open("/share/a", "xb")

    asyncio.run(go())
    assert listener.monitor.content("/share/a") == b"old"


def test_a_writer_that_changes_nothing_leaves_no_version(listener: Listener) -> None:
    """Like sshfs, which opens for writing and closes without a write."""
    listener.monitor.put("/share/a", b"old")

    async def go() -> None:
        async with await listener.connect() as conn, conn.start_sftp_client() as sftp:
            async with sftp.open("/share/a", "rb+") as file:
                await file.utime((5, 7))
            assert (await sftp.stat("/share/a")).mtime == 7

    asyncio.run(go())
    assert listener.monitor.events == [("unchanged", "/share/a")]


def test_an_empty_new_file_is_committed(listener: Listener) -> None:
    """Creating is a change even without a byte."""

    async def go() -> None:
        async with (
            await listener.connect() as conn,
            conn.start_sftp_client() as sftp,
            sftp.open("/share/empty", "wb"),
        ):
            pass

    asyncio.run(go())
    assert listener.monitor.content("/share/empty") == b""


def test_setting_size_and_times_by_path(listener: Listener) -> None:
    """SETSTAT truncates and keeps times; mode and owner are accepted and ignored."""
    listener.monitor.put("/share/a", b"0123456789")

    async def go() -> None:
        async with await listener.connect() as conn, conn.start_sftp_client() as sftp:
            await sftp.truncate("/share/a", 4)
            await sftp.utime("/share/a", (1, 1_600_000_000))
            await sftp.chmod("/share/a", 0o777)
            await sftp.chown("/share/a", 0, 0)
            found = await sftp.stat("/share/a")
            assert (found.size, found.mtime) == (4, 1_600_000_000)
            assert (found.permissions, found.uid) == (0o100600, 1000)
            with pytest.raises(asyncssh.SFTPNoSuchFile):
                await sftp.chmod("/share/missing", 0o600)

    asyncio.run(go())


def test_rename_replaces_only_as_posix_rename(listener: Listener) -> None:
    """The draft's rename fails on a name that is taken; posix-rename replaces."""
    listener.monitor.put("/share/a", b"new")
    listener.monitor.put("/share/b", b"old")

    async def go() -> None:
        async with await listener.connect() as conn, conn.start_sftp_client() as sftp:
            with pytest.raises(asyncssh.SFTPFailure):
                await sftp._handler.rename(b"/share/a", b"/share/b", 0)
            await sftp.posix_rename("/share/a", "/share/b")
            await sftp.posix_rename("/share/b", "/share/./x/../b")

    asyncio.run(go())
    assert listener.monitor.content("/share/b") == b"new"
    assert listener.monitor.content("/share/a") is None


def test_remove_takes_files_and_rmdir_empty_folders(listener: Listener) -> None:
    """Neither does the other's work."""
    listener.monitor.put("/share/f", None)
    listener.monitor.put("/share/f/a", b"1")

    async def go() -> None:
        async with await listener.connect() as conn, conn.start_sftp_client() as sftp:
            for refused in (sftp.rmdir("/share/f"), sftp.rmdir("/share/f/a")):
                with pytest.raises(asyncssh.SFTPFailure):
                    await refused
            with pytest.raises(asyncssh.SFTPFailure):
                await sftp.remove("/share/f")
            await sftp.remove("/share/f/a")
            await sftp.rmdir("/share/f")

    asyncio.run(go())
    assert len(listener.monitor.tree) == 2


def test_listing_is_complete_and_a_missing_folder_fails_at_opendir(listener: Listener) -> None:
    """Five hundred names come over several batches."""
    for number in range(500):
        listener.monitor.put(f"/share/{number:03}", b"x")

    async def go() -> None:
        async with await listener.connect() as conn, conn.start_sftp_client() as sftp:
            names = await sftp.listdir("/share")
            assert sorted(names) == [".", "..", *(f"{number:03}" for number in range(500))]
            with pytest.raises(asyncssh.SFTPNoSuchFile):
                await sftp._handler.opendir(b"/missing")
            with pytest.raises(asyncssh.SFTPFailure):
                await sftp._handler.opendir(b"/share/001")

    asyncio.run(go())


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        ("", "/"),
        (".", "/"),
        ("..", "/"),
        ("/a//b/../c/", "/a/c"),
        ("../../etc/passwd", "/etc/passwd"),
    ],
)
def test_realpath_is_lexical_and_no_activity(listener: Listener, asked: str, answer: str) -> None:
    """REALPATH touches nothing, so that a keep-alive by it defers no log-off."""
    seen: list[str] = []
    listener.monitor.fault = seen.append

    async def go() -> None:
        async with await listener.connect() as conn, conn.start_sftp_client() as sftp:
            assert await sftp.realpath(asked) == answer

    asyncio.run(go())
    assert seen == []


@pytest.mark.parametrize(
    "name", [b"/share/\xff", b"/share/a\\b", b"/share/a\0b", b"/share/" + b"x" * 256]
)
def test_names_that_no_node_can_have_are_refused(listener: Listener, name: bytes) -> None:
    """Bad encodings and forbidden characters are errors, in whatever operation."""

    async def go() -> None:
        async with await listener.connect() as conn, conn.start_sftp_client() as sftp:
            handler = sftp._handler
            attrs = asyncssh.SFTPAttrs()
            for operation in (
                handler.mkdir(name, attrs),
                handler.stat(name, 0),
                handler.open(name, asyncssh.FXF_WRITE | asyncssh.FXF_CREAT, attrs),
                handler.rename(b"/share", name, 0),
                handler.realpath(name),
            ):
                with pytest.raises(asyncssh.SFTPError):
                    await operation

    asyncio.run(go())
    assert len(listener.monitor.tree) == 2


def test_links_are_unsupported(listener: Listener) -> None:
    """What the tree does not have is refused."""
    listener.monitor.put("/share/a", b"1")

    async def go() -> None:
        async with await listener.connect() as conn, conn.start_sftp_client() as sftp:
            for refused in (
                sftp.symlink("/etc/passwd", "/share/l"),
                sftp.readlink("/share/a"),
                sftp.link("/share/a", "/share/b"),
            ):
                with pytest.raises(asyncssh.SFTPOpUnsupported):
                    await refused

    asyncio.run(go())


def test_space_is_the_shares(listener: Listener) -> None:
    """Asking for statvfs tells what the quota leaves."""
    listener.monitor.put("/share/a", bytes(8192))

    async def go() -> None:
        async with await listener.connect() as conn, conn.start_sftp_client() as sftp:
            found = await sftp.statvfs("/share/a")
            assert found.blocks * found.frsize == QUOTA_BYTES
            assert found.bavail * found.frsize == QUOTA_BYTES - 8192

    asyncio.run(go())


@pytest.mark.parametrize("asked", [3, 4, 6])
def test_version_3_is_spoken_with_everyone(listener: Listener, asked: int) -> None:
    """Later ones are complete or not offered."""
    listener.monitor.put("/share/a", b"hello")

    async def go() -> None:
        async with (
            await listener.connect() as conn,
            conn.start_sftp_client(sftp_version=asked) as sftp,
        ):
            assert sftp.version == 3
            assert (await sftp.stat("/share/a")).size == 5

    asyncio.run(go())


def test_what_comes_behind_the_data_of_a_write_is_not_looked_at(listener: Listener) -> None:
    """The rclone of Debian 12 sends the rest of its buffer along."""

    async def go() -> None:
        async with await listener.connect() as conn, conn.start_sftp_client() as sftp:
            handler = sftp._handler
            file = await sftp.open("/share/a", "wb")
            body = String(file.handle) + UInt64(0) + String(b"hello") + b"the rest"
            await handler._make_request(FXP_WRITE, body)
            await file.close()

    asyncio.run(go())
    assert listener.monitor.content("/share/a") == b"hello"


def test_quota_is_reported_and_commits_nothing(listener: Listener) -> None:
    """A refused write is told to the client; the old content stays."""
    listener.monitor.put("/share/a", b"old")

    async def go() -> None:
        async with await listener.connect() as conn, conn.start_sftp_client() as sftp:
            with pytest.raises(asyncssh.SFTPFailure, match="quota"):
                await sftp.truncate("/share/a", QUOTA_BYTES + 1)

    asyncio.run(go())
    assert listener.monitor.content("/share/a") == b"old"
    assert listener.monitor.open_writers == 0


def test_a_failing_commit_fails_the_close(listener: Listener) -> None:
    """CLOSE answers what the commit says, and nothing stays open."""

    def fault(operation: str) -> None:
        if operation == "commit":
            message = "secret detail"
            raise ValueError(message)

    listener.monitor.fault = fault

    async def go() -> None:
        async with await listener.connect() as conn, conn.start_sftp_client() as sftp:
            file = await sftp.open("/share/a", "wb")
            with pytest.raises(asyncssh.SFTPFailure) as caught:
                await file.close()
            assert "secret" not in str(caught.value)

    asyncio.run(go())
    assert listener.monitor.content("/share/a") is None
    until(lambda: listener.monitor.open_writers == 0, "the writer is given up")


def test_unknown_errors_reach_neither_client_nor_log(
    listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    """An exception's text stays here; the client gets a number that the log has too."""

    def fault(_operation: str) -> None:
        message = "/share/secret.txt is broken"
        raise RuntimeError(message)

    listener.monitor.fault = fault

    async def go() -> None:
        async with await listener.connect() as conn, conn.start_sftp_client() as sftp:
            with pytest.raises(asyncssh.SFTPFailure) as caught:
                await sftp.stat("/share")
            told = str(caught.value)
            assert "secret" not in told + caplog.text
            assert told.rsplit(maxsplit=1)[-1].rstrip(".") in caplog.text

    asyncio.run(go())


def test_handles_are_capped_and_given_back(start: Callable[..., Listener]) -> None:
    """The cap covers files and folders over all channels; closing makes room."""
    listener = start(replace(ORDINARY, max_handles_per_session=3))
    listener.monitor.put("/share/a", b"1")

    async def go() -> None:
        async with (
            await listener.connect() as conn,
            conn.start_sftp_client() as one,
            conn.start_sftp_client() as two,
        ):
            attrs = asyncssh.SFTPAttrs()
            held = [await one._handler.open(b"/share/a", asyncssh.FXF_READ, attrs) for _ in "ab"]
            await two._handler.opendir(b"/share")
            for refused in (
                two._handler.open(b"/share/a", asyncssh.FXF_READ, attrs),
                one._handler.opendir(b"/share"),
            ):
                with pytest.raises(asyncssh.SFTPFailure, match="Too many"):
                    await refused
            await one._handler.close(held[0])
            await two._handler.open(b"/share/a", asyncssh.FXF_READ, attrs)

    asyncio.run(go())


def test_foreign_and_random_handles_are_invalid(listener: Listener) -> None:
    """A handle belongs to its channel; a closed one is gone."""
    listener.monitor.put("/share/a", b"1")

    async def go() -> None:
        async with (
            await listener.connect() as conn,
            conn.start_sftp_client() as one,
            conn.start_sftp_client() as two,
        ):
            attrs = asyncssh.SFTPAttrs()
            handle = await one._handler.open(b"/share/a", asyncssh.FXF_READ, attrs)
            for bad in (handle, b"", b"\xff" * 4, b"x" * 300):
                with pytest.raises(asyncssh.SFTPError):
                    await two._handler.read(bad, 0, 1)
                with pytest.raises(asyncssh.SFTPError):
                    await two._handler.close(bad)
            await one._handler.close(handle)
            with pytest.raises(asyncssh.SFTPError):
                await one._handler.close(handle)

    asyncio.run(go())

"""Programs on a folder mounted through sshfs, which opens files before their last close arrives."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import sqlite3
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import asyncssh
import psutil
import pytest

from tests.support.gateway import RunningGateway, running_gateway
from tests.support.pipelined import SCENES
from tests.support.sshfs import mounted_by_key

CYCLES = 250
NAMES = 5
HELD_LIMIT = 4
SIZES = (0, 3, 100, 5000, 70_000)
PROGRAM_TIMEOUT_S = 60


@pytest.fixture
def share(gateway: RunningGateway, tmp_path: Path) -> Iterator[Path]:
    """A new folder of the scanner's share, mounted."""
    with mounted_by_key(gateway, "scanner", "/scans", tmp_path / "mnt") as mount:
        folder = mount / tmp_path.name
        folder.mkdir()
        yield folder


def stored(gateway: RunningGateway, folder: str, point: Path) -> dict[str, bytes]:
    """Return what another session, with a mount of its own, finds in the folder."""
    with mounted_by_key(gateway, "scanner", f"/scans/{folder}", point) as mount:
        return contents(mount)


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files below the folder by relative name."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


@pytest.mark.parametrize("scene", SCENES)
def test_pipelined_requests_are_answered_in_any_order(
    gateway: RunningGateway,
    tmp_path: Path,
    scene: Callable[[asyncssh.SFTPClient, str], Awaitable[dict[str, bytes]]],
) -> None:
    """Each as if the client had waited for the ones before; others find it so afterwards."""
    folder = f"/scans/{tmp_path.name}"
    expected: dict[str, bytes] = {}

    async def go() -> None:
        async with connected(gateway) as conn, conn.start_sftp_client() as sftp:
            await sftp.mkdir(folder)
            expected.update(await scene(sftp, folder))
        async with connected(gateway) as conn, conn.start_sftp_client() as sftp:
            for path, content in expected.items():
                async with sftp.open(path, "rb") as file:
                    found: object = await file.read()
                    assert found == content, path

    asyncio.run(go())
    assert expected


def connected(gateway: RunningGateway) -> AbstractAsyncContextManager[asyncssh.SSHClientConnection]:
    """Return a connection of the scanner, for a session of its own."""
    return asyncssh.connect(
        "127.0.0.1",
        gateway.sftp_port,
        username="scanner",
        client_keys=[str(gateway.users["scanner"].ssh_key)],
        known_hosts=str(gateway.info["known_hosts"]),
        config=None,
        agent_path=None,
    )


@dataclass(slots=True)
class Player:
    """Does the same to several folders, in the order that a seed decides.

    Files that are held stay open while others of their name are opened, so that their closes come
    as late as the kernel may send them.
    """

    folders: tuple[Path, ...]
    rng: random.Random
    held: list[list[IO[bytes]]] = field(default_factory=list)

    def play(self, cycles: int) -> None:
        steps = (
            self.write,
            self.append,
            self.patch,
            self.truncate,
            self.rename,
            self.remove,
            self.write_to_held,
            self.release,
        )
        try:
            for _ in range(cycles):
                self.rng.choice(steps)()
        finally:
            while self.held:
                self.release()

    def name(self) -> str:
        return f"file {self.rng.randrange(NAMES)}"

    def present(self) -> str:
        """Return the name of a file that is there."""
        name = self.name()
        if not (self.folders[0] / name).exists():
            self.change(name, "wb", lambda stream: stream.write(b"new"))
        return name

    def change(self, name: str, mode: str, how: Callable[[IO[bytes]], object]) -> None:
        with contextlib.ExitStack() as stack:
            streams = [stack.enter_context((folder / name).open(mode)) for folder in self.folders]
            for stream in streams:
                how(stream)
                stream.flush()
            if self.rng.random() < 0.2:
                for stream in streams:
                    os.fsync(stream.fileno())
            if len(self.held) < HELD_LIMIT and self.rng.random() < 0.5:
                self.held.append(streams)
                stack.pop_all()

    def data(self) -> bytes:
        return self.rng.randbytes(self.rng.choice(SIZES))

    def write(self) -> None:
        data = self.data()
        self.change(self.name(), "wb", lambda stream: stream.write(data))

    def append(self) -> None:
        data = self.data()
        self.change(self.name(), "ab", lambda stream: stream.write(data))

    def patch(self) -> None:
        offset, data = self.rng.randrange(80_000), self.data()

        def put(stream: IO[bytes]) -> None:
            stream.seek(offset)
            stream.write(data)

        self.change(self.present(), "r+b", put)

    def truncate(self) -> None:
        name, size_bytes = self.present(), self.rng.randrange(80_000)
        for folder in self.folders:
            os.truncate(folder / name, size_bytes)

    def rename(self) -> None:
        source, target = self.present(), self.name()
        for folder in self.folders:
            (folder / source).replace(folder / target)

    def remove(self) -> None:
        name = self.present()
        for folder in self.folders:
            (folder / name).unlink()

    def write_to_held(self) -> None:
        if self.held:
            data = self.data()
            for stream in self.rng.choice(self.held):
                stream.write(data)
                stream.flush()

    def release(self) -> None:
        if self.held:
            for stream in self.held.pop(self.rng.randrange(len(self.held))):
                stream.close()


@pytest.mark.parametrize("seed", [1, 2])
def test_late_closes_give_what_a_plain_folder_gives(
    gateway: RunningGateway, share: Path, tmp_path: Path, seed: int
) -> None:
    """Writing, appending, cutting, renaming over and deleting files that are still open."""
    model = tmp_path / "model"
    model.mkdir()
    Player((model, share), random.Random(seed)).play(CYCLES)
    assert contents(share) == contents(model)
    assert stored(gateway, share.name, tmp_path / "other") == contents(model)


GIT_SETTINGS = """
[user]
    name = tester
    email = tester@localhost
[core]
    fsync = all
[safe]
    directory = *
"""


def test_git_keeps_a_repository_on_it(share: Path, tmp_path: Path) -> None:
    """It writes each object beside its place, syncs, renames and reads it at once."""
    (tmp_path / ".gitconfig").write_text(GIT_SETTINGS)
    work = share / "work"
    work.mkdir()
    for number in range(50):
        (work / f"{number}.txt").write_text(f"file {number}\n" * (number * 40 + 1))
    git(work, tmp_path, "init", "--quiet", ".")
    git(work, tmp_path, "add", ".")
    git(work, tmp_path, "commit", "--quiet", "--message", "fifty files")
    (work / "7.txt").write_text("changed\n")
    git(work, tmp_path, "commit", "--quiet", "--all", "--message", "one changed")
    assert git(work, tmp_path, "fsck", "--full") == ""
    assert git(work, tmp_path, "status", "--porcelain") == ""
    assert git(work, tmp_path, "show", "HEAD:7.txt") == "changed\n"


def git(work: Path, home: Path, *arguments: str) -> str:
    """Run git with the settings in ``home`` alone; return what it printed."""
    done = subprocess.run(
        ["git", *arguments],
        cwd=work,
        env={"PATH": os.environ["PATH"], "HOME": str(home), "GIT_CONFIG_NOSYSTEM": "1"},
        capture_output=True,
        text=True,
        timeout=PROGRAM_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("journal", ["DELETE", "TRUNCATE", "PERSIST"])
def test_a_database_lives_on_it(
    gateway: RunningGateway, share: Path, tmp_path: Path, journal: str
) -> None:
    """SQLite writes in place, syncs before and after, and opens its journal again and again."""
    path = share / "database"
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute(f"PRAGMA journal_mode={journal}")
        database.execute("CREATE TABLE scans (id INTEGER PRIMARY KEY, name TEXT, image BLOB)")
        for number in range(10):
            with database:
                rows = ((f"scan {number}-{row}", bytes([row]) * 700) for row in range(20))
                database.executemany("INSERT INTO scans (name, image) VALUES (?, ?)", rows)
        with contextlib.suppress(ZeroDivisionError), database:
            database.execute("DELETE FROM scans")
            raise ZeroDivisionError
    found = stored(gateway, share.name, tmp_path / "other")
    copy = tmp_path / "copy"
    copy.write_bytes(found["database"])
    for place in (path, copy):
        with contextlib.closing(sqlite3.connect(place)) as database:
            assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert database.execute(
                "SELECT count(*), count(DISTINCT name) FROM scans"
            ).fetchall() == [(200, 200)]


def test_what_was_synced_survives_the_death_of_the_gateway(tmp_path: Path) -> None:
    """Though it was never closed: new files, and those that were changed in place."""
    old, synced = os.urandom(400_000), {"small": os.urandom(10), "large": os.urandom(300_000)}
    expected = synced | {
        f"changed {name}": content + old[len(content) :] for name, content in synced.items()
    }
    with running_gateway(tmp_path / "gateway") as gateway:
        with (
            mounted_by_key(gateway, "scanner", "/scans", tmp_path / "mnt") as mount,
            contextlib.ExitStack() as stack,
        ):
            for name, content in synced.items():
                (mount / f"changed {name}").write_bytes(old)
                for stream in ((mount / name).open("wb"), (mount / f"changed {name}").open("r+b")):
                    stack.callback(close_in_vain, stream)
                    stream.write(content)
                    stream.flush()
                    os.fsync(stream.fileno())
                    stream.write(b"not synced")
                    stream.flush()
            kill(gateway)
        gateway.start()
        with mounted_by_key(gateway, "scanner", "/scans", tmp_path / "again") as mount:
            assert contents(mount) == expected


def close_in_vain(stream: IO[bytes]) -> None:
    """Close what the gateway that is gone cannot close."""
    with contextlib.suppress(OSError):
        stream.close()


def kill(gateway: RunningGateway) -> None:
    """End all processes of the gateway at once, without a word."""
    assert gateway.process is not None
    supervisor = psutil.Process(gateway.process.pid)
    family = [supervisor, *supervisor.children(recursive=True)]
    for each in family:
        each.kill()
    gateway.process.wait()
    psutil.wait_procs(family)

"""rclone copies, checks and mounts a folder over WebDAV."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.programs import home, make_tree, mounting, read_tree, run, short_folder
from tests.support.gateway import RunningGateway
from tests.support.users import until

SIZE_BYTES = 2_000_000
STEPS = 60
STEP_LIMIT_BYTES = 50_000


@dataclass(frozen=True, slots=True)
class Rclone:
    """rclone with the remote ``dav:``, which is a folder of the gateway."""

    command: list[str]
    env: dict[str, str]

    def __call__(self, *arguments: str, typed: str = "") -> str:
        """Run a command of rclone; return what it said; fail when it failed."""
        return run([*self.command, *arguments], env=self.env, typed=typed)

    def mounted(self, place: Path, cache_mode: str) -> contextlib.AbstractContextManager[Path]:
        """Mount the remote below ``place``."""
        options = ["--vfs-cache-mode", cache_mode, "--cache-dir", str(place / "cache")]
        options += ["--vfs-write-back", "0s", "--dir-cache-time", "0s"]
        options += ["--vfs-read-chunk-size", "64k"]
        point = place / "mnt"
        return mounting([*self.command, "mount", "dav:", str(point), *options], point, self.env)


@pytest.fixture
def rclone(gateway: RunningGateway, folder: str, tmp_path: Path) -> Rclone:
    """The program as alice, on ``folder``."""
    env = home(tmp_path)
    secret = run(["rclone", "obscure", "-"], env=env, typed=gateway.webdav_secret("alice")).strip()
    settings = tmp_path / "rclone.conf"
    settings.write_text(
        f"[dav]\ntype = webdav\nurl = {gateway.url}{folder}\nvendor = owncloud\n"
        f"user = alice\npass = {secret}\n"
    )
    authority = str(gateway.info["ca_file"])
    options = ["--config", str(settings), "--ca-cert", authority, "--retries", "1"]
    return Rclone(["rclone", *options], env)


@pytest.fixture
def place() -> Iterator[Path]:
    """An empty folder for a mount and its cache."""
    with short_folder() as folder:
        yield folder


def test_a_tree_is_copied_and_checked(rclone: Rclone, tmp_path: Path) -> None:
    """There and back byte for byte, with its times; a second copy finds nothing to do."""
    tree, back = tmp_path / "tree", tmp_path / "back"
    files = make_tree(tree)
    os.utime(tree / "empty", (1_500_000_000, 1_500_000_000))
    rclone("copy", str(tree), "dav:tree")
    rclone("check", str(tree), "dav:tree")
    rclone("check", "--download", str(tree), "dav:tree")
    assert "There was nothing to transfer" in rclone("-v", "copy", str(tree), "dav:tree")
    rclone("copy", "dav:tree", str(back))
    assert read_tree(back) == files
    assert (back / "empty").stat().st_mtime == 1_500_000_000


def test_a_tree_is_synced_moved_and_purged(
    gateway: RunningGateway, rclone: Rclone, folder: str, tmp_path: Path
) -> None:
    """What changed is carried over, what is gone goes; a folder moves in one request."""
    tree = tmp_path / "tree"
    make_tree(tree)
    rclone("sync", str(tree), "dav:tree")
    (tree / "notes.txt").write_text("changed\n")
    (tree / "empty").unlink()
    rclone("sync", str(tree), "dav:tree")
    rclone("check", "--download", str(tree), "dav:tree")
    rclone("move", "dav:tree", "dav:moved")
    rclone("check", str(tree), "dav:moved")
    assert gateway.curl("alice", "GET", f"{folder}/moved/notes.txt").body == b"changed\n"
    rclone("purge", "dav:moved")
    assert rclone("lsf", "dav:") == ""


def test_what_is_piped_arrives_whole(gateway: RunningGateway, rclone: Rclone, folder: str) -> None:
    """Both below and above the size up to which rclone holds a stream back to know its length."""
    for size in (10, 300_000):
        rclone("rcat", f"dav:{size}", typed="x" * size)
        assert gateway.curl("alice", "GET", f"{folder}/{size}").body == b"x" * size


def test_space_is_told(rclone: Rclone) -> None:
    """What is used, and what is free."""
    told = rclone("about", "--json", "dav:")
    assert '"free"' in told
    assert '"used"' in told


@pytest.mark.parametrize("cache_mode", ["writes", "full"])
def test_a_mounted_file_is_read_and_written_anywhere(
    gateway: RunningGateway, rclone: Rclone, folder: str, place: Path, cache_mode: str
) -> None:
    """Random reads, writes, appends and cuts give what they give in memory; curl sees it too."""
    chance = random.Random(20231121)
    model = bytearray(chance.randbytes(SIZE_BYTES))
    assert gateway.curl("alice", "PUT", f"{folder}/file", body=bytes(model)).status == 201
    with rclone.mounted(place, cache_mode) as point:
        with (point / "file").open("rb") as stream:
            for _ in range(STEPS):
                offset, size = chance.randrange(len(model)), chance.randrange(STEP_LIMIT_BYTES)
                stream.seek(offset)
                assert stream.read(size) == model[offset : offset + size]
        with (point / "file").open("r+b", buffering=0) as stream:
            for _ in range(STEPS):
                change(stream.fileno(), model, chance)
        assert (point / "file").read_bytes() == model
        until(
            lambda: gateway.curl("alice", "GET", f"{folder}/file").body == bytes(model),
            "rclone has uploaded the file",
        )


def change(descriptor: int, model: bytearray, chance: random.Random) -> None:
    """Do one random thing to an open file and to what it should hold."""
    offset, size = chance.randrange(len(model)), chance.randrange(STEP_LIMIT_BYTES)
    what = chance.choice(["read", "write", "write", "append", "cut"])
    if what == "read":
        assert os.pread(descriptor, size, offset) == model[offset : offset + size]
    elif what == "cut":
        length = len(model) - chance.randrange(1000)
        os.ftruncate(descriptor, length)
        del model[length:]
    else:
        offset = len(model) if what == "append" else offset
        data = chance.randbytes(size)
        assert os.pwrite(descriptor, data, offset) == size
        model[offset : offset + size] = data


def test_a_mounted_folder_behaves_like_one(
    gateway: RunningGateway, rclone: Rclone, folder: str, place: Path
) -> None:
    """Making, renaming, removing, and space, each seen by others at once."""
    with rclone.mounted(place, "full") as point:
        (point / "sub").mkdir()
        (point / "sub" / "new").write_bytes(b"new")
        until(
            lambda: gateway.curl("alice", "GET", f"{folder}/sub/new").body == b"new",
            "rclone has uploaded the file",
        )
        (point / "sub" / "new").rename(point / "sub" / "old")
        (point / "sub").rename(point / "sub2")
        assert gateway.curl("alice", "GET", f"{folder}/sub2/old").body == b"new"
        assert gateway.curl("alice", "PUT", f"{folder}/beside", body=b"beside").status == 201
        assert (point / "beside").read_bytes() == b"beside"
        (point / "sub2" / "old").unlink()
        (point / "sub2").rmdir()
        assert [path.name for path in point.iterdir()] == ["beside"]
        space = os.statvfs(point)
        assert 0 < space.f_bavail <= space.f_blocks
    assert gateway.curl("alice", "HEAD", f"{folder}/sub2").status == 404

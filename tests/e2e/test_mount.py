"""A folder mounted through sshfs behaves like a folder."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.programs import make_tree
from tests.support import openssh
from tests.support.gateway import RunningGateway
from tests.support.users import until


@pytest.fixture
def mounted(gateway: RunningGateway, folder: str, tmp_path: Path) -> Iterator[Path]:
    """``folder`` mounted by sshfs as alice."""
    point = tmp_path / "mnt"
    point.mkdir()
    login = gateway.sftp_login("alice")
    # sshfs splits its options at commas and the command at spaces.
    ssh_command = " ".join(["ssh", *gateway.ssh_options("alice")]).replace(",", "\\,")
    remote = f"alice@{gateway.info['sftp_host']}:{folder}"
    process = subprocess.Popen(
        ["sshfs", "-f", remote, str(point), "-o", f"ssh_command={ssh_command}"],
        env=openssh.environment(tmp_path, login.password, login.code),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        until(lambda: os.path.ismount(point) or process.poll() is not None, "sshfs has mounted")
        if process.poll() is not None:
            said, _ = process.communicate()
            pytest.fail(f"sshfs ended: {said.decode(errors='replace')}")
        yield point
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            subprocess.run(["fusermount3", "-u", str(point)], check=True, capture_output=True)
        process.terminate()
        process.communicate(timeout=15)


def test_tree_is_copied_renamed_and_removed(
    gateway: RunningGateway, mounted: Path, folder: str, tmp_path: Path
) -> None:
    """Copying a tree in, reading it back, renaming and removing work as on a disk."""
    files = make_tree(tmp_path / "tree")
    shutil.copytree(tmp_path / "tree", mounted / "tree")
    for name, content in files.items():
        assert (mounted / "tree" / name).read_bytes() == content, name
        assert gateway.curl("alice", "GET", f"{folder}/tree/{name}").body == content, name

    (mounted / "tree").rename(mounted / "renamed")
    (mounted / "renamed" / "notes.txt").replace(mounted / "renamed" / "empty")
    assert (mounted / "renamed" / "empty").read_bytes() == b"notes\n"
    assert gateway.curl("alice", "GET", f"{folder}/tree/empty").status == 404

    shutil.rmtree(mounted / "renamed")
    assert list(mounted.iterdir()) == []


def test_an_archive_is_unpacked(mounted: Path, tmp_path: Path) -> None:
    """By tar, which makes folders first, sets times and modes, and renames nothing."""
    files = make_tree(tmp_path / "tree")
    archive, when_s = tmp_path / "archive.tar", 1_500_000_000
    for path in [tmp_path / "tree", *(tmp_path / "tree").rglob("*")]:
        os.utime(path, (when_s, when_s))
    subprocess.run(["tar", "-cf", archive, "-C", tmp_path, "tree"], check=True, timeout=60)
    unpack: list[str | Path] = ["tar", "-xf", archive, "-C", mounted, "--no-same-owner"]
    subprocess.run(unpack, check=True, timeout=60)
    for name, content in files.items():
        assert (mounted / "tree" / name).read_bytes() == content, name
        assert (mounted / "tree" / name).stat().st_mtime == when_s, name
    compare: list[str | Path] = ["tar", "-df", archive, "-C", mounted]
    said = subprocess.run(compare, capture_output=True, check=False, timeout=60).stdout.decode()
    # The tree has no owners and no modes of its own.
    assert [
        line for line in said.splitlines() if "Mode" not in line and "id differs" not in line
    ] == []


def test_file_is_changed_in_place(gateway: RunningGateway, mounted: Path, folder: str) -> None:
    """Writes in the middle, appends and truncation give what they give on a disk."""
    expected = bytearray(os.urandom(300_000))
    file = mounted / "file"
    file.write_bytes(expected)
    with file.open("r+b") as stream:
        for offset, data in ((0, b"start"), (65_530, b"over a chunk's edge"), (299_990, b"end")):
            stream.seek(offset)
            stream.write(data)
            expected[offset : offset + len(data)] = data
    with file.open("ab") as stream:
        stream.write(b"appended")
        expected += b"appended"
    assert file.read_bytes() == expected
    os.truncate(file, 100_001)
    assert file.read_bytes() == expected[:100_001]
    assert gateway.curl("alice", "GET", f"{folder}/file").body == expected[:100_001]


def test_times_are_kept_and_space_is_told(mounted: Path) -> None:
    """A modification time that a client sets stays; df shows a size and free space."""
    file = mounted / "file"
    file.write_bytes(b"x")
    os.utime(file, (1_500_000_000, 1_500_000_000))
    assert file.stat().st_mtime == 1_500_000_000
    space = os.statvfs(mounted)
    assert 0 < space.f_bavail <= space.f_blocks


def test_there_are_no_links(mounted: Path) -> None:
    """Neither symbolic nor hard links can be made."""
    (mounted / "file").write_bytes(b"x")
    with pytest.raises(OSError, match="symlink"):
        (mounted / "symlink").symlink_to("file")
    with pytest.raises(OSError, match="hardlink"):
        (mounted / "hardlink").hardlink_to(mounted / "file")

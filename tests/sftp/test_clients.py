"""Clients other than OpenSSH's, where they are installed: psftp and sshfs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import asyncssh
import pytest

from tests.sftp.conftest import LIMIT_S, Listener
from tests.sftp.fake_door import CODE, PASSWORD
from tests.sftp.test_openssh import client_options

BATCH = ("-b", "batch", "alice@127.0.0.1")


def test_psftp_is_prompted_and_lists_long_names(listener: Listener, tmp_path: Path) -> None:
    """Its ``ls`` prints the server's long names, and its two prompts come one by one."""
    listener.monitor.put("/share/a", b"hello")
    (tmp_path / "up").write_bytes(b"by psftp")
    (tmp_path / "batch").write_text("ls /share\nput up /share/up\nmv /share/up /share/b\nquit\n")
    fingerprint = asyncssh.read_private_key(listener.host_key).get_fingerprint()
    process = subprocess.Popen(
        ["psftp", "-P", str(listener.port), "-hostkey", fingerprint, *BATCH],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        start_new_session=True,  # without a terminal it asks on its output
        bufsize=0,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    told = b""
    for prompt, answer in ((b"Password: ", PASSWORD), (b"Verification code: ", CODE)):
        while not told.endswith(prompt):
            told += process.stdout.read(1) or pytest.fail(told.decode())
        process.stdin.write(answer.encode() + b"\n")
    told += process.communicate(timeout=LIMIT_S)[0]
    assert process.returncode == 0
    assert b"-rw-------    1 alice    sealgate            5" in told
    assert listener.monitor.content("/share/b") == b"by psftp"


def test_sshfs_mounts_and_edits_in_place(listener: Listener, tmp_path: Path) -> None:
    """Random writes, fsync, truncation, renaming over, times and free space."""
    mount = tmp_path / "mount"
    mount.mkdir()
    options = [part for one in client_options(listener, tmp_path) for part in ("-o", one)]
    subprocess.run(
        ["sshfs", *options, "alice@127.0.0.1:/share", str(mount)],
        check=True,
        capture_output=True,
        timeout=LIMIT_S,
    )
    try:
        (mount / "a").write_bytes(b"0123456789")
        with (mount / "a").open("r+b") as file:
            file.seek(4)
            file.write(b"xy")
            file.flush()
            os.fsync(file.fileno())
            file.truncate(8)
        (mount / "b").write_bytes(b"old")
        (mount / "a").rename(mount / "b")
        os.utime(mount / "b", (1, 1_600_000_000))
        (mount / "f").mkdir()
        assert sorted(path.name for path in mount.iterdir()) == ["b", "f"]
        assert (mount / "b").read_bytes() == b"0123xy67"
        assert (mount / "b").stat().st_mtime == 1_600_000_000
        assert os.statvfs(mount).f_bavail > 0
        with pytest.raises(OSError, match=r"."):
            (mount / "l").symlink_to("b")
    finally:
        subprocess.run(["fusermount3", "-u", str(mount)], check=True, timeout=LIMIT_S)
    assert listener.monitor.content("/share/b") == b"0123xy67"
    assert ("sync", "/share/a") in listener.monitor.events

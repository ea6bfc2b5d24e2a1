"""Clients that people use besides curl and sftp: each carries a file in, back, and away."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import openssh
from tests.support.gateway import RunningGateway

CONTENT = os.urandom(300_001)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    file = tmp_path / "source"
    file.write_bytes(CONTENT)
    return file


def run(
    command: list[str],
    *,
    env: dict[str, str] | None = None,
    typed: str = "",
    cwd: Path | None = None,
) -> str:
    """Run a client without a terminal; return what it said; fail when it failed."""
    done = subprocess.run(
        command,
        input=typed,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=60,
        check=False,
        env=env,
        cwd=cwd,
        start_new_session=True,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def on_terminal(command: list[str]) -> list[str]:
    """Return ``command`` on a terminal of its own, for programs that ask nowhere else."""
    return ["script", "--quiet", "--return", "--command", shlex.join(command), "/dev/null"]


def alice_environment(gateway: RunningGateway, home: Path) -> dict[str, str]:
    login = gateway.sftp_login("alice")
    return openssh.environment(home, login.password, login.code) | {"HOME": str(home)}


def test_scp(gateway: RunningGateway, folder: str, tmp_path: Path, source: Path) -> None:
    """Scp, which speaks SFTP since OpenSSH 9.0, copies in (keeping times) and out."""
    env = alice_environment(gateway, tmp_path)
    os.utime(source, (1_500_000_000, 1_500_000_000))
    remote = f"alice@{gateway.info['sftp_host']}:{folder}/file"
    options = gateway.ssh_options("alice")
    run(["scp", "-p", *options, str(source), remote], env=env)
    run(["scp", "-p", *options, remote, str(tmp_path / "back")], env=env)
    assert (tmp_path / "back").read_bytes() == CONTENT
    assert (tmp_path / "back").stat().st_mtime == 1_500_000_000


def test_commands_and_the_old_scp_are_refused(gateway: RunningGateway, tmp_path: Path) -> None:
    """Nothing can be executed: neither a command nor scp's old protocol, and no shell opens."""
    env = alice_environment(gateway, tmp_path)
    host = f"alice@{gateway.info['sftp_host']}"
    options = gateway.ssh_options("alice")
    for command in (
        ["ssh", *options, host, "id"],
        ["ssh", *options, "-T", host],
        ["scp", "-O", *options, f"{host}:/radiology", str(tmp_path / "stolen")],
    ):
        done = subprocess.run(
            command, env=env, capture_output=True, timeout=60, check=False, input=b"id\n"
        )
        assert done.returncode != 0, command
        assert b"uid=" not in done.stdout
    assert not (tmp_path / "stolen").exists()


def test_lftp(gateway: RunningGateway, folder: str, tmp_path: Path, source: Path) -> None:
    """Lftp mirrors a tree in and out and removes it."""
    tree = tmp_path / "tree" / "deep"
    tree.mkdir(parents=True)
    (tree / "größe.bin").write_bytes(source.read_bytes())
    ssh = " ".join(["ssh", "-a", "-x", *gateway.ssh_options("alice")])
    commands = [
        "set net:max-retries 1",
        "set net:timeout 20",
        f'set sftp:connect-program "{ssh}"',
        f"open -u alice,unused sftp://{gateway.info['sftp_host']}:{gateway.sftp_port}",
        f"mirror -R {tmp_path}/tree {folder}/tree",
        f"mirror {folder}/tree {tmp_path}/back",
        f"rm -r {folder}/tree",
    ]
    run(["lftp", "-c", "; ".join(commands)], env=alice_environment(gateway, tmp_path))
    assert (tmp_path / "back" / "deep" / "größe.bin").read_bytes() == CONTENT
    assert gateway.curl("alice", "GET", f"{folder}/tree/deep/größe.bin").status == 404


def test_psftp(gateway: RunningGateway, folder: str, tmp_path: Path, source: Path) -> None:
    """PuTTY's client answers both prompts, and puts, lists, gets and deletes."""
    known_hosts = str(gateway.info["known_hosts"])
    fingerprints = re.findall(r"SHA256:\S+", run(["ssh-keygen", "-lf", known_hosts]))
    hostkeys = [part for one in fingerprints for part in ("-hostkey", one)]
    batch = tmp_path / "batch"
    batch.write_text(
        f"put {source} {folder}/file\nls {folder}\nget {folder}/file {tmp_path}/back\n"
        f"mv {folder}/file {folder}/moved\nrm {folder}/moved\n"
    )
    login = gateway.sftp_login("alice")
    host = f"alice@{gateway.info['sftp_host']}"
    said = run(
        on_terminal(["psftp", "-P", str(gateway.sftp_port), *hostkeys, "-b", str(batch), host]),
        env={"HOME": str(tmp_path), "PATH": os.environ["PATH"]},
        typed=f"{login.password}\n{login.code}\n",
    )
    assert re.search(r"300001 .* file", said), said
    assert (tmp_path / "back").read_bytes() == CONTENT


def test_rclone(gateway: RunningGateway, folder: str, tmp_path: Path, source: Path) -> None:
    """Rclone syncs a tree over WebDAV with its times, checks it, and finds nothing to do twice."""
    tree = tmp_path / "tree"
    (tree / "deep").mkdir(parents=True)
    (tree / "deep" / "ü ; ?.bin").write_bytes(source.read_bytes())
    (tree / "empty").touch()
    os.utime(tree / "empty", (1_500_000_000, 1_500_000_000))
    env = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    secret = run(["rclone", "obscure", "-"], env=env, typed=gateway.webdav_secret("alice")).strip()
    settings = tmp_path / "rclone.conf"
    settings.write_text(
        f"[dav]\ntype = webdav\nurl = {gateway.url}{folder}\nvendor = owncloud\n"
        f"user = alice\npass = {secret}\n"
    )
    options = [
        "--config",
        str(settings),
        "--ca-cert",
        str(gateway.info["ca_file"]),
        "--retries",
        "1",
    ]
    run(["rclone", *options, "sync", str(tree), "dav:tree"], env=env)
    run(["rclone", *options, "check", "--download", str(tree), "dav:tree"], env=env)
    again = run(["rclone", *options, "-v", "sync", str(tree), "dav:tree"], env=env)
    assert "There was nothing to transfer" in again
    listed = run(["rclone", *options, "lsl", "dav:tree"], env=env)
    assert "2017-07-14" in listed
    run(["rclone", *options, "purge", "dav:tree"], env=env)


def test_cadaver(gateway: RunningGateway, folder: str, tmp_path: Path, source: Path) -> None:
    """Cadaver puts, locks, copies, gets and deletes."""
    netrc = tmp_path / ".netrc"
    netrc.write_text(
        f'machine 127.0.0.1\nlogin alice\npassword "{gateway.webdav_secret("alice")}"\n'
    )
    netrc.chmod(0o600)
    # The first answer accepts the certificate, which cadaver cannot be told to trust.
    commands = "y\nput source file\nlock file\nunlock file\ncopy file copy\nget copy back\ndelete file\nls\nquit\n"
    env = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "TERM": "dumb"}
    command = on_terminal(["cadaver", f"{gateway.url}{folder}/"])
    said = run(command, env=env, typed=commands, cwd=tmp_path)
    assert (tmp_path / "back").exists(), said
    assert (tmp_path / "back").read_bytes() == CONTENT
    assert gateway.curl("alice", "GET", f"{folder}/file").status == 404


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder into which davfs2 can still look once it has given up being root."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.skipif(os.getuid() != 0, reason="only root may mount with davfs2")
def test_davfs2(gateway: RunningGateway, folder: str, public: Path) -> None:
    """A davfs2 mount writes, reads back, renames and removes."""
    point = public / "mnt"
    point.mkdir()
    secrets = public / "secrets"
    secrets.write_text(f'{point} alice "{gateway.webdav_secret("alice")}"\n')
    secrets.chmod(0o600)
    authority = public / "ca.pem"
    shutil.copyfile(gateway.info["ca_file"], authority)
    authority.chmod(0o644)
    settings = public / "davfs2.conf"
    settings.write_text(
        f"secrets {secrets}\nask_auth 0\ntrust_ca_cert {authority}\nuse_locks 1\ndelay_upload 0\n"
    )
    run(["mount.davfs", f"{gateway.url}{folder}", str(point), "-o", f"conf={settings}"])
    try:
        (point / "sub").mkdir()
        (point / "sub" / "file").write_bytes(CONTENT)
        assert (point / "sub" / "file").read_bytes() == CONTENT
        (point / "sub" / "file").rename(point / "renamed")
        (point / "sub").rmdir()
    finally:
        # Returns once everything is uploaded.
        run(["umount", str(point)])
    assert gateway.curl("alice", "GET", f"{folder}/renamed").body == CONTENT
    assert gateway.curl("alice", "GET", f"{folder}/sub/file").status == 404

"""Clients that people run by hand: each carries a file in, back, and away."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.programs import home, on_terminal, run
from tests.support import openssh
from tests.support.gateway import RunningGateway

CONTENT = os.urandom(300_001)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    file = tmp_path / "source"
    file.write_bytes(CONTENT)
    return file


def alice_environment(gateway: RunningGateway, place: Path) -> dict[str, str]:
    login = gateway.sftp_login("alice")
    return openssh.environment(place, login.password, login.code) | {"HOME": str(place)}


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
        env=home(tmp_path),
        typed=f"{login.password}\n{login.code}\n",
    )
    assert re.search(r"300001 .* file", said), said
    assert (tmp_path / "back").read_bytes() == CONTENT


def test_curl(gateway: RunningGateway, folder: str, tmp_path: Path, source: Path) -> None:
    """As people type it: up (waiting for the word, or piped), down, in parts, and only if newer."""
    curl = ["curl", "--fail", "--silent", "--show-error", "--noproxy", "*"]
    curl += ["--cacert", str(gateway.info["ca_file"])]
    curl += ["--user", f"alice:{gateway.webdav_secret('alice')}"]
    url, back = f"{gateway.url}{folder}", tmp_path / "back"
    waiting = ["--header", "Expect: 100-continue", "--expect100-timeout", "20"]
    run([*curl, "--request", "MKCOL", f"{url}/sub/"])
    run([*curl, *waiting, "--upload-file", str(source), f"{url}/sub/file"])
    run([*curl, "--upload-file", "-", f"{url}/piped"], typed="x" * 100_000)
    back.write_bytes(CONTENT[:1000])
    run([*curl, "--continue-at", "-", "--output", str(back), f"{url}/sub/file"])
    assert back.read_bytes() == CONTENT
    assert run([*curl, "--range", "99990-", f"{url}/piped"]) == "x" * 10
    moved = ["--request", "MOVE", "--header", f"Destination: {url}/moved", f"{url}/sub"]
    run([*curl, *moved])
    tag = tmp_path / "tag"
    told = ["--write-out", "%{http_code}", "--output", "/dev/null", f"{url}/moved/file"]
    assert run([*curl, "--etag-save", str(tag), *told]) == "200"
    assert run([*curl, "--etag-compare", str(tag), *told]) == "304"
    run([*curl, "--request", "DELETE", f"{url}/moved"])
    assert "404" in run([*curl, "--head", f"{url}/moved/file"], fails=True)


@pytest.fixture
def cadaver(gateway: RunningGateway, folder: str, tmp_path: Path) -> Callable[..., str]:
    """How to run commands of cadaver in ``folder``, as alice; returns what it said."""
    netrc = tmp_path / ".netrc"
    secret = gateway.webdav_secret("alice")
    netrc.write_text(f'machine 127.0.0.1\nlogin alice\npassword "{secret}"\n')
    netrc.chmod(0o600)

    def commanded(*commands: str) -> str:
        # The first answer accepts the certificate, which cadaver cannot be told to trust.
        typed = "\n".join(["y", *commands, "quit", ""])
        command = on_terminal(["cadaver", f"{gateway.url}{folder}/"])
        return run(command, env=home(tmp_path) | {"TERM": "dumb"}, typed=typed, cwd=tmp_path)

    return commanded


def test_cadaver(
    gateway: RunningGateway,
    folder: str,
    tmp_path: Path,
    source: Path,
    cadaver: Callable[..., str],
) -> None:
    """Cadaver makes folders, puts, gets, copies, moves, locks, sets properties and removes."""
    said = cadaver(
        "mkcol sub",
        "put source file",
        "lock file",
        "discover file",
        "put source file",
        "unlock file",
        "copy file sub/copy",
        "move file moved",
        "propset moved colour red",
        "propget moved colour",
        "ls sub",
        "get sub/copy back",
        "delete moved",
        "rmcol sub",
        "ls",
    )
    assert (tmp_path / "back").exists(), said
    assert (tmp_path / "back").read_bytes() == CONTENT
    assert "failed" not in said, said
    assert "red" in said, said
    for name in ("file", "moved", "sub"):
        assert gateway.curl("alice", "HEAD", f"{folder}/{name}").status == 404


def test_a_lock_outlives_the_program(
    gateway: RunningGateway, folder: str, source: Path, cadaver: Callable[..., str]
) -> None:
    """Cadaver leaves without unlocking: others read, and write no more until the lock ends."""
    cadaver("put source file", "lock file")
    assert gateway.curl("alice", "PUT", f"{folder}/file", body=b"lost").status == 423
    assert gateway.curl("alice", "GET", f"{folder}/file").body == CONTENT

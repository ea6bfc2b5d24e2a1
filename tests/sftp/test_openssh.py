"""OpenSSH's own clients against the listener."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import asyncssh
import pytest

from tests.sftp.conftest import LIMIT_S, Listener
from tests.sftp.fake_door import CODE, PASSWORD
from tests.support import openssh
from tests.support.users import until


def _arguments(listener: Listener, folder: Path, method: str) -> list[str]:
    public = asyncssh.read_private_key(listener.host_key).export_public_key().decode()
    known_hosts = folder / "known_hosts"
    known_hosts.write_text(f"[127.0.0.1]:{listener.port} {public}")
    return openssh.options(
        port=listener.port,
        known_hosts=str(known_hosts),
        method=method,
        key=listener.user_key if method == "publickey" else None,
        address="127.0.0.1",
    )


def client_options(listener: Listener, folder: Path) -> list[str]:
    """Return ``name=value`` options by which any client built on ssh logs in with the key."""
    arguments = _arguments(listener, folder, "publickey")
    return [one.removeprefix("-o") for one in arguments if one.startswith("-o")]


def _run(
    command: list[str], folder: Path, *, stdin: str = "", code: str = CODE
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
        cwd=folder,
        env=openssh.environment(folder, PASSWORD, code),
    )


def _sftp(
    listener: Listener, folder: Path, commands: str, method: str = "publickey", code: str = CODE
) -> subprocess.CompletedProcess[str]:
    batch = folder / "batch"
    batch.write_text(commands)
    options = _arguments(listener, folder, method)
    return _run(["sftp", "-b", str(batch), *options, "alice@127.0.0.1"], folder, code=code)


def test_a_session_of_everyday_commands(listener: Listener, tmp_path: Path) -> None:
    """What people type works, and what comes back is what went in."""
    content = os.urandom(2_000_003)
    (tmp_path / "up").write_bytes(content)
    done = _sftp(
        listener,
        tmp_path,
        "mkdir /share/f\nput -p up /share/f/a\nls -la /share/f\nrename /share/f/a /share/f/b\n"
        "get -p /share/f/b down\ndf /share\nchmod 600 /share/f/b\nln -s x /share/l\n",
    )
    assert done.returncode == 1
    assert "ln" in done.stderr or "symlink" in done.stderr
    assert "-rw-------" in done.stdout
    assert (tmp_path / "down").read_bytes() == content
    assert (tmp_path / "down").stat().st_mtime == int((tmp_path / "up").stat().st_mtime)
    assert listener.monitor.content("/share/f/b") == content
    done = _sftp(listener, tmp_path, "rm /share/f/b\nrmdir /share/f\nls /share\n")
    assert done.returncode == 0, done.stderr
    assert listener.monitor.content("/share/f/b") is None


def test_interrupted_transfers_are_taken_up(listener: Listener, tmp_path: Path) -> None:
    """Both reget and reput go on where the shorter side ends."""
    content = os.urandom(900_000)
    listener.monitor.put("/share/a", content)
    listener.monitor.put("/share/b", content[:400_000])
    (tmp_path / "a").write_bytes(content[:300_000])
    (tmp_path / "b").write_bytes(content)
    done = _sftp(listener, tmp_path, "reget /share/a a\nreput b /share/b\n")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a").read_bytes() == content
    assert listener.monitor.content("/share/b") == content


@pytest.mark.parametrize("method", ["keyboard-interactive", "password"])
def test_prompts_are_answered(listener: Listener, tmp_path: Path, method: str) -> None:
    """By prompts, or by one secret of password and code."""
    secret_code = CODE
    options = _arguments(listener, tmp_path, method)
    environment = openssh.environment(tmp_path, PASSWORD, secret_code)
    if method == "password":
        environment["ANSWER_PASSWORD"] = PASSWORD + CODE
    done = subprocess.run(
        ["sftp", *options, "alice@127.0.0.1"],
        input="ls /\n",
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert "share" in done.stdout


def test_a_wrong_code_is_refused(listener: Listener, tmp_path: Path) -> None:
    """OpenSSH hears "permission denied" and nothing more."""
    done = _sftp(listener, tmp_path, "ls\n", method="keyboard-interactive", code="000000")
    assert done.returncode != 0
    assert "Permission denied" in done.stderr
    assert listener.monitor.sessions == {}


def test_scp_works_by_sftp_and_not_by_its_old_protocol(listener: Listener, tmp_path: Path) -> None:
    """``scp`` of OpenSSH 9 speaks SFTP; ``scp -O`` runs a command, which is refused."""
    (tmp_path / "up").write_bytes(b"by scp")
    options = _arguments(listener, tmp_path, "publickey")
    target = "alice@127.0.0.1:/share/a"
    assert _run(["scp", "-s", *options, "up", target], tmp_path).returncode == 0
    assert listener.monitor.content("/share/a") == b"by scp"
    assert _run(["scp", "-O", *options, "up", target], tmp_path).returncode != 0
    until(lambda: listener.monitor.refusals, "the refusal is recorded")
    assert listener.monitor.refusals[0][0] == "exec scp: default-deny"


def test_idle_openssh_is_told_why(listener: Listener, tmp_path: Path) -> None:
    """The reason of the sign-off reaches the person."""
    options = _arguments(listener, tmp_path, "publickey")
    options = [one.replace("LogLevel=ERROR", "LogLevel=INFO") for one in options]
    process = subprocess.Popen(
        ["sftp", *options, "alice@127.0.0.1"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=openssh.environment(tmp_path, PASSWORD, CODE),
    )
    until(lambda: listener.monitor.sessions, "it has logged in")
    listener.monitor.clock.advance(601)
    # Its input stays open meanwhile: it would take an end of input for "bye".
    assert process.stderr is not None
    told = next((line for line in process.stderr if b"Signed off" in line), b"")
    process.communicate(timeout=LIMIT_S)
    assert b"Signed off after 10 minutes without activity" in told

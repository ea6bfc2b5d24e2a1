"""The servers that ``bench/sftp.py`` compares: OpenSSH, rclone on a crypt remote, Sealgate's demo.

Starts each on a loopback port with everything it keeps below one temporary folder, and ends it.
No measuring and no client load here. Imports ``peers`` and the test support that runs the demo.
"""

from __future__ import annotations

import contextlib
import getpass
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.peers import START_TIMEOUT_S, STOP_TIMEOUT_S, PeerError, obscured
from tests.support.gateway import RunningGateway, free_ports

SSHD = "/usr/sbin/sshd"
KEX = "curve25519-sha256"
"""The key exchange that all three know, so that a login costs each the same mathematics."""

SETTLE_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class SftpSite:
    """A running server: ``folder`` is a path, without a slash at its end, to do anything in."""

    name: str
    port: int
    user: str
    key: Path
    folder: str
    cipher: str
    process_id: int

    def options(self) -> list[str]:
        """Return the options with which OpenSSH's programs reach the server."""
        chosen = {
            "BatchMode": "yes",
            "Ciphers": self.cipher,
            "ControlPath": "none",
            "GlobalKnownHostsFile": "none",
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "IdentityFile": str(self.key),
            "KexAlgorithms": KEX,
            "LogLevel": "ERROR",
            "Port": str(self.port),
            "PreferredAuthentications": "publickey",
            "StrictHostKeyChecking": "no",
            "UserKnownHostsFile": "/dev/null",
        }
        return ["-F", "none", *(f"-o{name}={value}" for name, value in chosen.items())]

    def processes(self) -> list[psutil.Process]:
        """Return the server's process and all below it."""
        root = psutil.Process(self.process_id)
        return [root, *root.children(recursive=True)]

    def cpu_by_process_s(self) -> dict[int, float]:
        """Return the CPU seconds of each process, with those of its ended children, by its id."""
        used = {}
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                used[process.pid] = (
                    times.user + times.system + times.children_user + times.children_system
                )
        return used

    def cpu_s(self) -> float:
        """Return the CPU seconds that the server's processes have used, ended ones included."""
        return sum(self.cpu_by_process_s().values())

    def settle(self, process_count: int) -> None:
        """Return when no more than ``process_count`` processes are left.

        OpenSSH has a process for each session; what it used is its parent's once it has ended.
        """
        until_s = time.monotonic() + SETTLE_TIMEOUT_S
        while len(self.processes()) > process_count and time.monotonic() < until_s:
            time.sleep(0.005)


def gateway_site(gateway: RunningGateway, cipher: str) -> SftpSite:
    """Return the running demo's share ``scans`` as the scanner, who needs a key alone."""
    key = gateway.users["scanner"].ssh_key
    assert key is not None, "the demo's scanner has a key"
    assert gateway.process is not None
    port, process_id = gateway.sftp_port, gateway.process.pid
    return SftpSite("ours", port, "scanner", key, "/scans", cipher, process_id)


@contextlib.contextmanager
def openssh(folder: Path, key: Path, cipher: str) -> Iterator[SftpSite]:
    """Run OpenSSH's sshd over a plain folder. Raises PeerError when it does not start.

    Without PAM and with the server inside the session's process: its fastest.
    """
    if not Path(SSHD).exists():
        raise PeerError("OpenSSH's server is missing. Run: apt-get install openssh-server")
    (port,) = free_ports(1)
    content = folder / "content"
    content.mkdir(parents=True)
    # Where sshd, as root, confines the part of it that strangers speak to; it makes none itself.
    with contextlib.suppress(PermissionError):
        Path("/run/sshd").mkdir(exist_ok=True)
    chosen = {
        "AuthorizedKeysFile": str(_authorized(folder, key)),
        "HostKey": str(_host_key(folder)),
        "ListenAddress": "127.0.0.1",
        "PidFile": "none",
        "Port": str(port),
        "StrictModes": "no",
        "Subsystem": "sftp internal-sftp",
    }
    flags = [f"-o{name}={value}" for name, value in chosen.items()]
    command = [SSHD, "-D", "-e", "-f", "/dev/null", *flags]
    log = folder / "sshd.log"
    with _running("OpenSSH", command, log, port) as process_id:
        yield SftpSite("OpenSSH", port, getpass.getuser(), key, str(content), cipher, process_id)


@contextlib.contextmanager
def rclone(folder: Path, key: Path, cipher: str, program: str) -> Iterator[SftpSite]:
    """Run ``rclone serve sftp`` on a crypt remote over a plain folder, its VFS cache off."""
    (port,) = free_ports(1)
    (folder / "content").mkdir(parents=True)
    config = folder / "rclone.conf"
    config.write_text(
        "[sealed]\n"
        "type = crypt\n"
        f"remote = {folder / 'content'}\n"
        f"password = {obscured(program, secrets.token_urlsafe(16))}\n"
        f"password2 = {obscured(program, secrets.token_urlsafe(16))}\n"
    )
    command = [
        *(program, "serve", "sftp", "sealed:"),
        *("--config", str(config)),
        *("--cache-dir", str(folder / "cache")),
        *("--addr", f"127.0.0.1:{port}"),
        *("--authorized-keys", str(_authorized(folder, key))),
        *("--key", str(_host_key(folder))),
        *("--vfs-cache-mode", "off"),
    ]
    with _running("rclone", command, folder / "rclone.log", port) as process_id:
        yield SftpSite("rclone", port, "scanner", key, "", cipher, process_id)


def _host_key(folder: Path) -> Path:
    path = folder / "host"
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
    subprocess.run(command, check=True, capture_output=True)
    return path


def _authorized(folder: Path, key: Path) -> Path:
    path = folder / "authorized"
    command = ["ssh-keygen", "-y", "-f", str(key)]
    path.write_bytes(subprocess.run(command, check=True, capture_output=True).stdout)
    return path


@contextlib.contextmanager
def _running(name: str, command: list[str], log: Path, port: int) -> Iterator[int]:
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    try:
        _await_greeting(name, process, port, log)
        yield process.pid
    finally:
        family = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for child in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()


def _await_greeting(name: str, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    until_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < until_s and process.poll() is None:
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", port), 5) as connection,
        ):
            if connection.recv(4) == b"SSH-":
                return
        time.sleep(0.05)
    raise PeerError(f"{name} did not start:\n{log.read_text(errors='replace')[-2000:]}")

"""One large file up and down by SFTP, as ratios to OpenSSH's server in the same run.

That server keeps plain files; Sealgate runs as the demo: sealed, versioned, audited, fsynced. The
client is OpenSSH's sftp. Times drift with the machine; only the ratios within a run count. For
WebDAV see ``bench/webdav.py``.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.gateway import free_ports, running_gateway

MIB = 1024 * 1024
SSHD = "/usr/sbin/sshd"


@dataclass(frozen=True, slots=True)
class Work:
    """One kind of transfer and how each side does it."""

    name: str
    ours: Callable[[], None]
    peer: Callable[[], None]
    peer_name: str


def quiet(command: list[str], *, typed: str = "") -> None:
    """Run a client to its end; CalledProcessError when it fails."""
    subprocess.run(command, input=typed, text=True, check=True, capture_output=True)


@contextlib.contextmanager
def openssh_server(folder: Path) -> Iterator[list[str]]:
    """Run sshd on a loopback port; give the sftp command that reaches it."""
    (port,) = free_ports(1)
    for name in ("host", "client"):
        quiet(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)])
    authorized = folder / "authorized"
    authorized.write_text((folder / "client.pub").read_text())
    Path("/run/sshd").mkdir(exist_ok=True)
    options = {
        "ListenAddress": "127.0.0.1",
        "Port": str(port),
        "HostKey": str(folder / "host"),
        "AuthorizedKeysFile": str(authorized),
        "StrictModes": "no",
        "PidFile": "none",
        "Subsystem": "sftp internal-sftp",
    }
    flags = [f"-o{name}={value}" for name, value in options.items()]
    server = subprocess.Popen([SSHD, "-D", "-f", "/dev/null", *flags], stderr=subprocess.DEVNULL)
    client = sftp_command(port, folder / "client", f"{os.environ.get('USER', 'root')}@127.0.0.1")
    try:
        for _ in range(100):
            with contextlib.suppress(subprocess.CalledProcessError):
                quiet(client, typed="pwd\n")
                break
            time.sleep(0.05)
        yield client
    finally:
        server.terminate()
        server.wait()


def sftp_command(port: int, key: Path, target: str) -> list[str]:
    """Return OpenSSH's sftp with the cipher that both sides use."""
    options = {
        "BatchMode": "yes",
        "Ciphers": "aes128-gcm@openssh.com",
        "IdentitiesOnly": "yes",
        "StrictHostKeyChecking": "no",
        "UserKnownHostsFile": "/dev/null",
    }
    flags = [f"-o{name}={value}" for name, value in options.items()]
    return ["sftp", "-q", *flags, "-i", str(key), "-P", str(port), "-b", "-", target]


def compare(work: Work, rounds: int) -> str:
    """Return a line with both medians (seconds) and the median of the ratios peer/ours."""
    times: list[tuple[float, float]] = []
    work.ours()
    work.peer()
    for _ in range(rounds):
        pair = []
        for side in (work.ours, work.peer):
            began_s = time.perf_counter()
            side()
            pair.append(time.perf_counter() - began_s)
        times.append((pair[0], pair[1]))
    ours, peer = (statistics.median(column) for column in zip(*times, strict=True))
    ratio = statistics.median(theirs / mine for mine, theirs in times)
    return f"{work.name:12} ours {ours:6.2f} s   {work.peer_name:18} {peer:6.2f} s   {ratio:5.2f}x"


def main() -> int:
    """Print one line a kind of transfer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=256, help="size of the file")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        upload, plain = folder / "upload", folder / "plain"
        plain.mkdir()
        with upload.open("wb") as file:
            for _ in range(arguments.mib):
                file.write(os.urandom(MIB))
        gateway = stack.enter_context(running_gateway(folder / "gateway"))
        peer_sftp = stack.enter_context(openssh_server(folder))
        key = gateway.users["scanner"].ssh_key
        assert key is not None
        own_sftp = sftp_command(gateway.sftp_port, key, "scanner@127.0.0.1")
        works = [
            Work(
                "SFTP put",
                lambda: quiet(own_sftp, typed=f"put {upload} /scans/bench\n"),
                lambda: quiet(peer_sftp, typed=f"put {upload} {plain}/bench\n"),
                "OpenSSH",
            ),
            Work(
                "SFTP get",
                lambda: quiet(own_sftp, typed="get /scans/bench /dev/null\n"),
                lambda: quiet(peer_sftp, typed=f"get {plain}/bench /dev/null\n"),
                "OpenSSH",
            ),
        ]
        print(f"{arguments.mib} MiB, {arguments.rounds} rounds; more than 1x: we are faster")
        for work in works:
            print(compare(work, arguments.rounds), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

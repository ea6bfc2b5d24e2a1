"""The clients' side of ``bench/sftp.py``: OpenSSH's sftp, rclone, sshfs, and idle sessions.

Every load is the same for each server; a load says how much was done in how long. Starts no
server and judges no result. Imports ``sftp_peers`` for what a server is.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import asyncssh
import psutil

from bench.sftp_peers import KEX, SftpSite
from bench.webdav_load import CLIENT_TIMEOUT_S, KIB, Effort, LoadError, quiet, transfer_at_once

READ_BYTES = 4 * KIB
RCLONE_TRANSFERS = 8
MOUNT_TIMEOUT_S = 20.0


def sftp_command(site: SftpSite, batch: Path | str) -> list[str]:
    """Return OpenSSH's sftp with a file of commands, or ``-`` for those typed."""
    return ["sftp", "-q", *site.options(), "-b", str(batch), f"{site.user}@127.0.0.1"]


def sftp_batch(site: SftpSite, commands: Sequence[str]) -> str:
    """Run commands in one session; return what was said. Raises LoadError when one fails."""
    done = subprocess.run(
        sftp_command(site, "-"),
        input="\n".join(commands) + "\n",
        text=True,
        capture_output=True,
        timeout=CLIENT_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        raise LoadError(f"sftp to {site.name} ended with {done.returncode}: {done.stderr[-500:]}")
    return done.stdout


def put_file(site: SftpSite, source: Path, name: str) -> Effort:
    """Upload one file; raises LoadError unless the server then lists it with its size."""
    began_s = time.perf_counter()
    sftp_batch(site, [f"put {source} {site.folder}/{name}"])
    seconds = time.perf_counter() - began_s
    size = source.stat().st_size
    said = sftp_batch(site, [f"ls -ln {site.folder}/{name}"]).splitlines()[-1]
    if said.split()[4] != str(size):
        raise LoadError(f"{site.name} does not list the {size} bytes that were sent: {said}")
    return Effort(size, seconds)


def get_file(site: SftpSite, name: str, size_bytes: int) -> Effort:
    """Download one file of a known size to nowhere."""
    began_s = time.perf_counter()
    sftp_batch(site, [f"get {site.folder}/{name} {os.devnull}"])
    return Effort(size_bytes, time.perf_counter() - began_s)


def put_small(site: SftpSite, sources: Path, folder: str) -> Effort:
    """Make a folder and upload every file of the folder ``sources`` to it, in one session."""
    names = sorted(path.name for path in sources.iterdir())
    target = f"{site.folder}/{folder}"
    commands = [f"mkdir {target}", f"cd {target}", f"lcd {sources}"]
    began_s = time.perf_counter()
    sftp_batch(site, [*commands, *(f"put {name}" for name in names)])
    return Effort(len(names), time.perf_counter() - began_s)


def get_small(site: SftpSite, folder: str, count: int, target: Path) -> Effort:
    """Download a folder of ``count`` files in one session."""
    target.mkdir()
    began_s = time.perf_counter()
    sftp_batch(site, [f"cd {site.folder}/{folder}", f"lcd {target}", "get *"])
    seconds = time.perf_counter() - began_s
    copied = sum(1 for _ in target.iterdir())
    shutil.rmtree(target)
    if copied != count:
        raise LoadError(f"{site.name}: {copied} files of {count} came down.")
    return Effort(count, seconds)


def log_in(site: SftpSite, count: int) -> Effort:
    """Log in ``count`` times, one after the other, each with a new client."""
    began_s = time.perf_counter()
    for _ in range(count):
        sftp_batch(site, ["pwd"])
    return Effort(count, time.perf_counter() - began_s)


def rclone_copy(site: SftpSite, program: str, source: str, target: str) -> Effort:
    """Copy a folder with rclone; one of the two is ``site:`` and a path. Counts no files."""
    environment = {
        "RCLONE_CONFIG": os.devnull,
        "RCLONE_CONFIG_SITE_TYPE": "sftp",
        "RCLONE_CONFIG_SITE_HOST": "127.0.0.1",
        "RCLONE_CONFIG_SITE_PORT": str(site.port),
        "RCLONE_CONFIG_SITE_USER": site.user,
        "RCLONE_CONFIG_SITE_KEY_FILE": str(site.key),
        # Sealgate has no shell to run md5sum in; the others shall not do more.
        "RCLONE_CONFIG_SITE_SHELL_TYPE": "none",
        "RCLONE_CONFIG_SITE_DISABLE_HASHCHECK": "true",
        "RCLONE_CONFIG_SITE_CIPHERS": site.cipher,
        "RCLONE_CONFIG_SITE_KEY_EXCHANGE": KEX,
    }
    command = [program, "copy", "--transfers", str(RCLONE_TRANSFERS), source, target]
    began_s = time.perf_counter()
    quiet(command, environment)
    return Effort(1, time.perf_counter() - began_s)


def at_once(site: SftpSite, scratch: Path, batches: Sequence[str], size_bytes: int) -> Effort:
    """Run one client for each batch side by side; each is to move ``size_bytes``."""
    commands = []
    for number, batch in enumerate(batches):
        path = scratch / f"batch-{number}"
        path.write_text(batch + "\n")
        commands.append(sftp_command(site, path))
    return Effort(len(batches) * size_bytes, transfer_at_once(commands))


@contextlib.contextmanager
def mounted(site: SftpSite, point: Path) -> Iterator[Path]:
    """Mount the site's folder with sshfs; each read then goes to the server as it is asked."""
    point.mkdir(exist_ok=True)
    # sshfs splits its options at commas and the command at spaces.
    ssh = " ".join(["ssh", *site.options()]).replace(",", "\\,")
    process = subprocess.Popen(
        [
            *("sshfs", "-f", f"{site.user}@127.0.0.1:{site.folder}/", str(point)),
            *("-o", f"ssh_command={ssh}", "-o", "direct_io"),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        until_s = time.monotonic() + MOUNT_TIMEOUT_S
        while not os.path.ismount(point):
            if process.poll() is not None or time.monotonic() > until_s:
                raise LoadError(f"sshfs did not mount {site.name}.")
            time.sleep(0.02)
        yield point
    finally:
        subprocess.run(["fusermount3", "-uz", str(point)], check=False, capture_output=True)
        process.terminate()
        process.wait()


def read_randomly(site: SftpSite, point: Path, name: str, count: int) -> Effort:
    """Read ``count`` blocks of 4 KiB of a file, at the same random places for every server."""
    places = random.Random(0)
    with mounted(site, point):
        file = os.open(point / name, os.O_RDONLY)
        try:
            blocks = os.fstat(file).st_size // READ_BYTES
            began_s = time.perf_counter()
            for _ in range(count):
                if len(os.pread(file, READ_BYTES, places.randrange(blocks) * READ_BYTES)) == 0:
                    raise LoadError(f"{site.name} gave nothing inside the file.")
            return Effort(count, time.perf_counter() - began_s)
        finally:
            os.close(file)


def idle_bytes_each(site: SftpSite, count: int) -> float:
    """Return the memory (USS, all processes) of each idle session beyond the first of ``count``."""
    return asyncio.run(_idle_bytes_each(site, count))


async def _idle_bytes_each(site: SftpSite, count: int) -> float:
    async with contextlib.AsyncExitStack() as stack:
        first_bytes = 0
        for number in range(count):
            connection = await stack.enter_async_context(
                asyncssh.connect(
                    "127.0.0.1",
                    site.port,
                    username=site.user,
                    client_keys=[str(site.key)],
                    known_hosts=None,
                    config=None,
                    encryption_algs=[site.cipher],
                    kex_algs=[KEX],
                )
            )
            sftp = await stack.enter_async_context(connection.start_sftp_client())
            await sftp.stat(f"{site.folder}/")
            if number == 0:
                first_bytes = _memory_bytes(site)
        return (_memory_bytes(site) - first_bytes) / (count - 1)


def _memory_bytes(site: SftpSite) -> int:
    total = 0
    for process in site.processes():
        with contextlib.suppress(psutil.NoSuchProcess):
            total += process.memory_full_info().uss
    return total

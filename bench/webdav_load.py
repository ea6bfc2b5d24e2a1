"""The clients' side of ``bench/webdav.py``: curl, wrk, rclone and a listing read byte by byte.

Every load is the same for each server; a load says how much was done in how long. Starts no
server and judges no result. Imports ``peers`` for what a server is.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

import psutil

from bench.peers import TLS_SUITE, Site, obscured

KIB = 1024
MIB = 1024 * KIB
SMALL_BYTES = 4 * KIB
CONNECTIONS = 4
CLIENT_TIMEOUT_S = 1800

NAMED_PROPERTIES = (
    '<?xml version="1.0"?><D:propfind xmlns:D="DAV:"><D:prop><D:displayname/>'
    "<D:getlastmodified/><D:getcontentlength/><D:resourcetype/></D:prop></D:propfind>"
)
"""What rclone's client asks for; an empty body asks for all, as Windows does."""

_SCRIPT = Template("""\
wrk.method = "$method"
wrk.headers["Authorization"] = "Basic $token"
$headers
wrk.body = $body
local sent = 0
function request()
  local number = sent % $names
  sent = sent + 1
  return wrk.format(nil, string.format("$path", number))
end
function done(summary)
  local e = summary.errors
  io.write(string.format("result %d %d %d %d\\n", summary.requests, summary.duration,
    e.status, e.connect + e.read + e.write + e.timeout))
end
""")


class LoadError(Exception):
    """A client was refused, or was given something else than it should have been."""


@dataclass(frozen=True, slots=True)
class Effort:
    """What a load did: ``amount`` bytes, requests or files, in ``seconds``."""

    amount: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Requests:
    """Small requests of one kind; ``path`` holds a ``%d`` form of a number below ``names``."""

    method: str
    path: str
    names: int = 1
    body: str = "nil"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Listing:
    """How a long listing came: ``grown_bytes`` is by how much the worst process's peak grew."""

    entries: int
    size_bytes: int
    first_byte_s: float
    seconds: float
    grown_bytes: int


def quiet(command: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    """Run a client to its end and return what it printed; raises LoadError when it fails."""
    done = subprocess.run(
        command,
        env={**os.environ, **(environment or {})},
        text=True,
        capture_output=True,
        timeout=CLIENT_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        raise LoadError(f"{command[0]} ended with {done.returncode}: {done.stderr[-500:]}")
    return done.stdout


def curl(site: Site, *arguments: str) -> list[str]:
    """Return a curl command that signs in at ``site``."""
    return [
        *("curl", "--disable", "-sS", "--fail", "--noproxy", "*", "--tlsv1.3"),
        *("--tls13-ciphers", TLS_SUITE),
        *("--cacert", str(site.ca_file), "-u", f"{site.user}:{site.secret}", *arguments),
    ]


def make_folder(site: Site, name: str) -> None:
    """Make the folder ``name`` at the top of the site."""
    quiet(curl(site, "-X", "MKCOL", f"{site.url}/{name}"))


def put_file(site: Site, source: Path, name: str) -> Effort:
    """Upload one file with curl."""
    began_s = time.perf_counter()
    quiet(curl(site, "-o", os.devnull, "-T", str(source), f"{site.url}/{name}"))
    return Effort(source.stat().st_size, time.perf_counter() - began_s)


def get_file(site: Site, name: str, size_bytes: int) -> Effort:
    """Download one file of a known size with curl, to nowhere."""
    began_s = time.perf_counter()
    said = quiet(curl(site, "-o", os.devnull, "-w", "%{size_download}", f"{site.url}/{name}"))
    seconds = time.perf_counter() - began_s
    if int(said) != size_bytes:
        raise LoadError(f"{site.name} sent {said} bytes of {size_bytes}.")
    return Effort(size_bytes, seconds)


def put_numbered(site: Site, folder: str, sources: Path, count: int) -> None:
    """Upload ``image-0000.dcm`` and so on from the folder ``sources``."""
    pattern = f"{sources}/image-[0000-{count - 1:04d}].dcm"
    quiet(curl(site, "-o", os.devnull, "-T", pattern, f"{site.url}/{folder}/"))


def count_listed(site: Site, folder: str, body: str) -> int:
    """Return how many resources a PROPFIND of Depth 1 names, the folder included."""
    options = ("-X", "PROPFIND", "-H", "Depth: 1", "-H", "Content-Type: application/xml")
    said = quiet(curl(site, *options, "--data", body, f"{site.url}/{folder}/"))
    return said.count("</D:response>")


def wrk(site: Site, scratch: Path, requests: Requests, duration_s: int) -> Effort:
    """Send requests over four kept connections for ``duration_s``; any but 2xx and 3xx fails."""
    script = scratch / "load.lua"
    script.write_text(
        _SCRIPT.substitute(
            method=requests.method,
            token=site.basic_token,
            headers="\n".join(
                f'wrk.headers["{name}"] = "{value}"' for name, value in requests.headers.items()
            ),
            body=requests.body,
            names=requests.names,
            path=site.base_path + requests.path,
        )
    )
    command = ["wrk", "-t", "1", "-c", str(CONNECTIONS), "-d", f"{duration_s}s", "--timeout", "30s"]
    said = quiet([*command, "-s", str(script), site.url])
    result = next(line for line in said.splitlines() if line.startswith("result "))
    count, duration_us, refused, broken = (int(word) for word in result.split()[1:])
    if refused or broken or not count:
        raise LoadError(
            f"{site.name}: of {count} {requests.method} {refused} were refused, {broken} broke."
        )
    return Effort(count, duration_us / 1e6)


def rclone_environment(site: Site, program: str) -> dict[str, str]:
    """Return the environment in which rclone knows ``site`` as the remote ``site:``."""
    return {
        "RCLONE_CONFIG": os.devnull,
        "RCLONE_CONFIG_SITE_TYPE": "webdav",
        "RCLONE_CONFIG_SITE_URL": site.url,
        "RCLONE_CONFIG_SITE_VENDOR": "other",
        "RCLONE_CONFIG_SITE_USER": site.user,
        "RCLONE_CONFIG_SITE_PASS": obscured(program, site.secret),
        "RCLONE_CA_CERT": str(site.ca_file),
        # By default it waits 10 ms between calls, and then every server is as fast as any other.
        "RCLONE_WEBDAV_PACER_MIN_SLEEP": "0",
    }


def rclone_copy(site: Site, program: str, source: str, target: str, count: int) -> Effort:
    """Copy a tree of ``count`` files with rclone; one of the two is ``site:`` and a folder."""
    environment = rclone_environment(site, program)
    began_s = time.perf_counter()
    quiet([program, "copy", source, target], environment)
    seconds = time.perf_counter() - began_s
    if not target.startswith("site:"):
        copied = sum(len(files) for _, _, files in os.walk(target))
        shutil.rmtree(target)
        if copied != count:
            raise LoadError(f"{site.name}: {copied} files of {count} came down.")
    return Effort(count, seconds)


def transfer_at_once(commands: Sequence[Sequence[str]]) -> float:
    """Run several clients side by side; return the seconds until the last one ended."""
    began_s = time.perf_counter()
    running = [
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for command in commands
    ]
    try:
        failed = [process.wait(CLIENT_TIMEOUT_S) for process in running]
    finally:
        for process in running:
            process.kill()
            process.communicate()
    if any(failed):
        raise LoadError(f"{sum(map(bool, failed))} of {len(running)} transfers failed.")
    return time.perf_counter() - began_s


def warm_memory(size_bytes: int) -> None:
    """Touch memory and give it back, so that the next page cache does not pay for new pages.

    The host of a virtual machine provides pages when they are first touched: 2.5 CPU seconds a
    GiB where this was written, ten times what writing to the page cache costs after that. Whoever
    comes first would pay it for all.
    """
    pages = mmap.mmap(-1, size_bytes)
    for offset in range(0, size_bytes, mmap.PAGESIZE):
        pages[offset] = 1
    pages.close()


def forget_peaks(site: Site) -> None:
    """Let the peak memory of each of the server's processes begin anew (proc(5), clear_refs)."""
    for process in site.processes():
        Path(f"/proc/{process.pid}/clear_refs").write_text("5")


def peaks_bytes(site: Site) -> dict[int, int]:
    """Return the peak resident memory (VmHWM) of each of the server's processes, by its id."""
    peaks = {}
    for process in site.processes():
        with contextlib.suppress(psutil.NoSuchProcess, OSError):
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            peak = next(line for line in lines if line.startswith("VmHWM:"))
            peaks[process.pid] = int(peak.split()[1]) * KIB
    return peaks


def fill(site: Site, scratch: Path, folder: str, count: int) -> None:
    """Put at least ``count`` empty files into the folder."""
    done = turn = 0
    while done < count:
        path = f"/{folder}/{turn:03d}-%07d.dcm"
        effort = wrk(site, scratch, Requests("PUT", path, names=10_000_000, body='""'), 5)
        done += int(effort.amount)
        turn += 1


def read_listing(site: Site, folder: str) -> Listing:
    """Ask for a folder by PROPFIND and read the answer to its end without keeping it."""
    path = f"{site.base_path}/{folder}/"
    body = NAMED_PROPERTIES.encode()
    head = (
        f"PROPFIND {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Basic {site.basic_token}\r\n"
        f"Depth: 1\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    forget_peaks(site)
    before = peaks_bytes(site)
    entries = size = first_byte_s = 0.0
    with site.connect() as connection:
        began_s = time.perf_counter()
        connection.sendall(head.encode() + body)
        tail = b""
        while block := connection.recv(256 * KIB):
            first_byte_s = first_byte_s or time.perf_counter() - began_s
            text = tail + block
            entries += text.count(b"</D:response>")
            # Short enough that no whole closing tag in it is counted twice.
            tail = text[-(len(b"</D:response>") - 1) :]
            size += len(block)
        seconds = time.perf_counter() - began_s
    after = peaks_bytes(site)
    grown = max(peak - before.get(number, peak) for number, peak in after.items())
    return Listing(int(entries) - 1, int(size), first_byte_s, seconds, grown)

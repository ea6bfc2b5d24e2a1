"""What rows cost: committed creates against plain small files, and a catalog of many nodes.

Part of ``bench/vault.py``. A create is a file of 4 KiB, sealed, vouched for and committed; its
peer is the least that keeps a plain one safe: create, write, fsync, rename, fsync of the folder.
"""

from __future__ import annotations

import os
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

from backends.blobs.local import LocalBlobStore
from backends.catalog.engine import Catalog
from backends.catalog.nodes import NO_VERSION, NodeRow
from backends.catalog.sqlite import open_catalog
from backends.keyring import MasterKey
from backends.ledger import changes
from backends.share import Shares, ShareSettings
from backends.vault import Node, Vault
from gateway.model import Transaction, system_clock
from gateway.paths import VirtualPath

SHARE = "bench"
CREATE_BYTES = 4096
CREATES = 500
PAGE_ENTRIES = 1000
LOOK_UPS = 5000
FOLDER_NODES = 1000
LARGE_FOLDER_NODES = 100_000
AUTHOR = "bench"


@dataclass(frozen=True, slots=True)
class Rows:
    """A vault on the disk that is measured."""

    folder: Path
    catalog: Catalog
    vault: Vault

    @classmethod
    def made(cls, folder: Path) -> Rows:
        """Return a new, empty vault."""
        folder.mkdir()
        catalog = open_catalog(folder)
        catalog.migrate()
        shares = Shares(MasterKey.generate(), {SHARE: ShareSettings(SHARE)}, os.urandom)
        with catalog.begin() as tx:
            shares.create_missing(tx, system_clock)
        store = LocalBlobStore.prepare(folder / "blobs")
        vault = Vault(shares, store, clock=system_clock, random_bytes=os.urandom)
        return cls(folder, catalog, vault)

    def fill(self, parent: VirtualPath, name: str, count: int) -> VirtualPath:
        """Make a folder of ``count`` empty folders below ``parent``, in one transaction."""
        with self.catalog.begin() as tx:
            above = self._folder(tx, parent)
            share = above.share
            made = self.vault.add_folder(tx, above, name, author=AUTHOR)
            with changes(tx, share.id, share.seal) as ledger:
                ledger.add_nodes(
                    NodeRow(
                        id=os.urandom(16),
                        share_id=share.id,
                        parent_id=made.id,
                        name_sealed=share.names.seal(made.id, f"name-{number:06}"),
                        is_folder=True,
                        version_id=NO_VERSION,
                        size_bytes=0,
                        created_us=1,
                        modified_us=1,
                        created_by=AUTHOR,
                    )
                    for number in range(count)
                )
        return parent.child(name)

    def creates_per_s(self, parent: VirtualPath, tag: str) -> float:
        """Return how many files of 4 KiB are made durably in a second, a commit each."""
        data = os.urandom(CREATE_BYTES)
        begun = time.perf_counter()
        for number in range(CREATES):
            with self.catalog.begin() as tx:
                folder = self._folder(tx, parent)
                draft = self.vault.draft(folder.share, None)
                draft.write_at(0, data)
                self.vault.add_file(
                    tx, folder, f"{tag}-{number}", draft.seal(), modified_us=1, author=AUTHOR
                )
        return CREATES / (time.perf_counter() - begun)

    def look_up_us(self, parent: VirtualPath, count: int) -> float:
        """Return how long finding one of the ``count`` nodes in ``parent`` takes."""
        begun = time.perf_counter()
        for number in range(LOOK_UPS):
            with self.catalog.snapshot() as tx:
                path = parent.child(f"name-{number * 7919 % count:06}")
                assert self.vault.find(tx, path) is not None
        return (time.perf_counter() - begun) / LOOK_UPS * 1e6

    def listing_us(self, parent: VirtualPath, count: int) -> float:
        """Return how long each entry of a listing takes."""
        with self.catalog.snapshot() as tx:
            folder = self._folder(tx, parent)
            begun = time.perf_counter()
            after, found = b"", 0
            while rows := self.vault.entries(tx, folder, after, PAGE_ENTRIES):
                after, found = rows[-1][1].name_sealed, found + len(rows)
            assert found == count
            return (time.perf_counter() - begun) / count * 1e6

    def close(self) -> None:
        """Let go of everything."""
        self.vault.close()
        self.catalog.close()

    def _folder(self, tx: Transaction, path: VirtualPath) -> Node:
        found = self.vault.find(tx, path)
        assert found is not None
        return found


def plain_creates_per_s(folder: Path) -> float:
    """Return how many plain files of 4 KiB are made safely in a second."""
    folder.mkdir(exist_ok=True)
    data = os.urandom(CREATE_BYTES)
    begun = time.perf_counter()
    for number in range(CREATES):
        path = folder / f"{number}"
        descriptor = os.open(path.with_suffix(".new"), os.O_WRONLY | os.O_CREAT)
        os.write(descriptor, data)
        os.fsync(descriptor)
        os.close(descriptor)
        path.with_suffix(".new").rename(path)
        descriptor = os.open(folder, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
    return CREATES / (time.perf_counter() - begun)


def measure(folder: Path, *, node_count: int, rounds: int) -> None:
    """Print one line a measurement."""
    rows = Rows.made(folder / "rows")
    share = VirtualPath((SHARE,))
    rows.creates_per_s(share, "warm")
    ratios, rates = [], []
    for number in range(rounds):
        plain = plain_creates_per_s(folder / "plain-files")
        rates.append(rows.creates_per_s(share, f"round-{number}"))
        ratios.append(rates[-1] / plain)
    print(
        f"4 KiB committed creates {statistics.median(rates):7.0f} /s   "
        f"{statistics.median(ratios):5.2f}x plain (wanted 0.3x)",
        flush=True,
    )
    small = rows.fill(share, "small", FOLDER_NODES)
    empty_create = statistics.median(rows.creates_per_s(small, f"e{n}") for n in range(rounds))
    few = rows.fill(share, "few", FOLDER_NODES)
    empty_look_up = statistics.median(rows.look_up_us(few, FOLDER_NODES) for _ in range(rounds))
    begun = time.perf_counter()
    large = rows.fill(share, "large", LARGE_FOLDER_NODES)
    for number in range((node_count - LARGE_FOLDER_NODES) // FOLDER_NODES):
        rows.fill(share, f"many-{number}", FOLDER_NODES)
    print(f"a catalog of {node_count} nodes filled in {time.perf_counter() - begun:.0f} s")
    for name, path, count in (("few", few, FOLDER_NODES), ("large", large, LARGE_FOLDER_NODES)):
        look_up = statistics.median(rows.look_up_us(path, count) for _ in range(rounds))
        print(
            f"look-up in the {name} folder {look_up:6.0f} us   "
            f"{look_up / empty_look_up:5.2f}x that in an empty catalog (wanted <= 1.5x)"
        )
    for name, path in (("small", small), ("large", large)):
        rate = statistics.median(rows.creates_per_s(path, f"f{n}") for n in range(rounds))
        print(
            f"creates in the {name} folder {rate:7.0f} /s   "
            f"{empty_create / rate:5.2f}x the time in an empty catalog (wanted <= 1.5x)"
        )
    count = LARGE_FOLDER_NODES + rounds * CREATES
    listing = statistics.median(rows.listing_us(large, count) for _ in range(rounds))
    print(f"listing {count} entries {listing:5.2f} us an entry (wanted <= 3)", flush=True)
    rows.close()

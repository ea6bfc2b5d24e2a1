"""A whole vault in memory and a temporary folder, with a settable clock and repeatable randomness."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import shake_256
from pathlib import Path

from backends.blobs.memory import MemoryBlobStore
from backends.catalog import nodes
from backends.catalog.engine import Catalog
from backends.catalog.sqlite import open_catalog
from backends.catalog.statement import Tx
from backends.draft import Draft
from backends.keyring import MasterKey
from backends.segment import CHUNK_SIZE_BYTES
from backends.share import EpochKey, Shares, ShareSettings
from backends.vault import Node, Vault
from gateway.model import SECOND_US
from gateway.paths import VirtualPath

BLOCK = CHUNK_SIZE_BYTES
START_US = 1_700_000_000 * SECOND_US
SETTINGS = {
    "docs": ShareSettings("docs"),
    "small": ShareSettings("small", quota_bytes=100_000),
    "kept": ShareSettings("kept", trash_s=3600),
}


def sample(size_bytes: int, seed: str = "sample") -> bytes:
    """Return bytes that do not compress, do not repeat and are the same every time."""
    return shake_256(seed.encode()).digest(size_bytes)


@dataclass
class SetClock:
    """A clock that moves only when told to."""

    now_us: int = START_US

    def __call__(self) -> int:
        return self.now_us


@dataclass
class World:
    """The parts of a running vault."""

    catalog: Catalog
    store: MemoryBlobStore
    shares: Shares
    vault: Vault
    master: MasterKey
    catalog_file: Path
    random_bytes: Callable[[int], bytes]
    clock: SetClock = field(default_factory=SetClock)

    def node(self, tx: Tx, path: str) -> Node:
        """Return the node at ``path``, which must exist."""
        found = self.vault.find(tx, VirtualPath.parse(path))
        assert found is not None, path
        return found

    def exists(self, path: str) -> bool:
        with self.catalog.snapshot() as tx:
            return self.vault.find(tx, VirtualPath.parse(path)) is not None

    def mkdir(self, path: str) -> None:
        target = VirtualPath.parse(path)
        with self.catalog.begin() as tx:
            parent = self.node(tx, str(target.parent))
            self.vault.add_folder(tx, parent, target.name, author="p1")

    def write(self, path: str, content: bytes, *, offset: int = 0, keep: bool = False) -> None:
        """Put ``content`` into the file at ``path``, new or as a new version."""
        target = VirtualPath.parse(path)
        with self.catalog.begin() as tx:
            folder = self.node(tx, str(target.parent))
            file = self.vault.find(tx, target)
            base = self.vault.open_content(tx, file) if file is not None and keep else None
            draft = self.vault.draft(folder.share, base)
            draft.write_at(offset, content)
            sealed = draft.seal()
            now_us = self.clock()
            if file is None:
                self.vault.add_file(
                    tx, folder, target.name, sealed, modified_us=now_us, author="p1"
                )
            else:
                self.vault.add_version(tx, file, sealed, modified_us=now_us, author="p1")

    def read(self, path: str) -> bytes:
        with self.catalog.snapshot() as tx:
            content = self.vault.open_content(tx, self.node(tx, path))
        return content.read_at(0, content.size_bytes)

    def copy_in_turns(
        self, tx: Tx, folder: Node, parent: Node, name: str, *, author: str = "p1"
    ) -> Node:
        """Copy a folder as a large one is, node by node, but in one transaction."""
        copies, share = self.vault.copies, folder.share
        staged = copies.begin(tx, share, folder.row, name, author=author)
        for node_id, folder_id, _is_folder in list(nodes.below(tx, folder.id)):
            found = copies.present(tx, share, folder_id, [node_id])
            staged.take(folder_id, copies.add(tx, share, staged, folder_id, found))
        row = copies.attach(tx, share, staged, parent.id, name)
        return Node(share, row, parent.path.child(name))

    def restart(self, master: MasterKey | None = None) -> None:
        """Go on with new objects over the same catalog and blobs, as a new process would."""
        self.vault.close()
        self.shares = Shares(master or self.master, SETTINGS, self.random_bytes)
        self.vault = Vault(
            self.shares, self.store, clock=self.clock, random_bytes=self.random_bytes
        )

    def collect(self, *, strays: bool = True) -> int:
        """Delete unused segments, and blobs that no row names; return how many."""
        noted: list[int] = []
        count = self.vault.collect_unused(
            self.catalog.begin, lambda _tx, forgotten: noted.append(forgotten)
        )
        assert sum(noted) == count
        return count + (self.vault.collect_strays(self.catalog) if strays else 0)

    def names(self, path: str) -> list[str]:
        with self.catalog.snapshot() as tx:
            children = self.vault.children(tx, self.node(tx, path))
            return sorted(child.path.name for child in children)

    def counters(self, share: str) -> tuple[int, int]:
        """Return (used bytes, nodes) of a share."""
        with self.catalog.snapshot() as tx:
            usage = self.vault.usage(tx, share)
        return usage.used_bytes, usage.node_count


@contextmanager
def running_world(
    folder: Path, capacity_bytes: int = 1 << 40, catalog: Catalog | None = None
) -> Iterator[World]:
    """Make a vault with the shares of SETTINGS; its catalog is a file unless ``catalog`` is not."""
    random_bytes = random.Random(7).randbytes
    clock = SetClock()
    master = MasterKey(bytes(range(32)))
    catalog = catalog or open_catalog(folder)
    catalog.migrate()
    store = MemoryBlobStore(capacity_bytes, clock)
    shares = Shares(master, SETTINGS, random_bytes)
    with catalog.begin() as tx:
        shares.create_missing(tx, clock)
    vault = Vault(shares, store, clock=clock, random_bytes=random_bytes)
    file = folder / "catalog.sqlite"
    world = World(catalog, store, shares, vault, master, file, random_bytes, clock)
    try:
        yield world
    finally:
        world.vault.close()
        catalog.close()


@dataclass
class Bench:
    """What a draft needs, without a catalog."""

    store: MemoryBlobStore
    key: EpochKey
    executor: ThreadPoolExecutor
    random_bytes: Callable[[int], bytes]

    def draft(self) -> Draft:
        return Draft(
            self.store, self.key, None, executor=self.executor, random_bytes=self.random_bytes
        )


@contextmanager
def running_bench() -> Iterator[Bench]:
    """Make what a draft needs."""
    random_bytes = random.Random(11).randbytes
    with ThreadPoolExecutor(2) as executor:
        key = EpochKey(b"s" * 16, 1, b"k" * 32)
        yield Bench(MemoryBlobStore(), key, executor, random_bytes)

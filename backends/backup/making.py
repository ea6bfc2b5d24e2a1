"""Making a backup while the gateway goes on: one snapshot of the catalog, then its segments.

Segments are immutable, so that those of the snapshot can be copied long after it was taken, as
long as none is collected: a hold in the catalog sees to that. Imports the catalog, blobs, keys.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from backends.backup import manifest as manifests
from backends.backup.checking import (
    Meter,
    Named,
    check_segment,
    every_share,
    in_parallel,
    named_segments,
)
from backends.backup.folder import BackupFolder
from backends.backup.manifest import Damaged, Manifest
from backends.blobs import BlobStore
from backends.catalog import dump, keys, marks, segments
from backends.catalog.migrations import REVISION
from backends.errors import (
    IntegrityError,
    StorageError,
    StorageFullError,
    StorageUnavailableError,
)
from backends.keyring import MasterKeySource, RandomBytes
from backends.share import SYSTEM_KEY, Shares, master_key_id, system_key
from gateway.model import SECOND_US, Clock, Transaction, UnitOfWork

HOLD_US = 3600 * SECOND_US
"""How long a backup that was killed holds back the collection of segments."""

RENEW_US = 600 * SECOND_US
"""How often a backup that runs renews its hold."""

DAMAGE_LIMIT = 10_000
"""The most damaged segments that one backup notes."""

UNAVAILABLE_LIMIT = 20
"""After so many segments in a row that the blob store did not give, it is the store that is gone."""

SPARE_BYTES = 16 * 1024 * 1024
"""What must be left on the backup's disk when all that is known to come is there."""

PRUNE_BATCH = 500


@dataclass(frozen=True, slots=True)
class Source:
    """The gateway that is backed up. ``release`` is the version of this program."""

    catalog: UnitOfWork
    store: BlobStore
    masters: MasterKeySource
    node: str
    release: str
    clock: Clock
    random_bytes: RandomBytes


@dataclass(frozen=True, slots=True)
class Made:
    """A finished backup, and what it took."""

    manifest: Manifest
    copied_count: int
    copied_bytes: int
    pruned_count: int


class Pace:
    """Lets so many bytes through a second. Thread-safe."""

    def __init__(
        self,
        limit_bytes_per_s: int | None,
        now: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._limit = limit_bytes_per_s
        self._now = now
        self._pause = pause
        self._lock = threading.Lock()
        self._free_s = 0.0

    def take(self, size_bytes: int) -> None:
        """Return when ``size_bytes`` more may pass."""
        if self._limit is None:
            return
        with self._lock:
            now_s = self._now()
            start_s = max(now_s, self._free_s)
            self._free_s = start_s + size_bytes / self._limit
        if start_s > now_s:
            self._pause(start_s - now_s)


class Hold:
    """Keeps segments from being collected, for as long as it is renewed."""

    def __init__(self, catalog: UnitOfWork, clock: Clock, hold_id: str) -> None:
        self._catalog = catalog
        self._clock = clock
        self._id = hold_id
        self._renewed_us = 0

    def renew(self) -> None:
        """Renew the hold if it is time to."""
        now_us = self._clock()
        if now_us - self._renewed_us >= RENEW_US:
            with self._catalog.begin() as tx:
                marks.place_hold(tx, self._id, now_us=now_us, until_us=now_us + HOLD_US)
            self._renewed_us = now_us

    def lift(self) -> None:
        """Let go; a catalog that does not answer forgets the hold by itself."""
        with contextlib.suppress(StorageError), self._catalog.begin() as tx:
            marks.lift_hold(tx, self._id)


@contextlib.contextmanager
def claimed(source: Source, folder: BackupFolder) -> Iterator[Maker]:
    """Keep ``folder`` for one backup of ``source``.

    Raises BackupError for a folder that holds anything but backups of this gateway.
    """
    with source.catalog.snapshot() as tx:
        gateway_id = manifests.gateway_id(system_key(tx, source.masters))
    known = manifests.unverified(folder.manifest()) if folder.is_finished else None
    with folder.claimed(gateway_id, known.gateway_id if known else None):
        yield Maker(source, folder, known)


class Maker:
    """Makes one backup into a folder that is kept for it."""

    def __init__(self, source: Source, folder: BackupFolder, known: Manifest | None) -> None:
        self.id = source.random_bytes(16).hex()
        self._source = source
        self._folder = folder
        self._known = known
        self._hold = Hold(source.catalog, source.clock, self.id)
        self._damaged: list[Damaged] = []
        self._copied_count = 0
        self._copied_bytes = 0

    def make(self, meter: Meter, pace: Pace, *, prune: bool = False) -> Made:
        """Copy everything, put the new backup in force and return what it is.

        Segments that did not verify are in its manifest's ``damaged``. With ``prune``, segments
        that only earlier backups named are removed. Raises StorageError; what was copied stays.
        """
        source, folder = self._source, self._folder
        self._hold.renew()
        try:
            made_us = source.clock()
            rows = self._copy_catalog(meter)
            with dump.open_dump(folder.catalog(self.id)) as tx:
                shares = every_share(tx, source.masters, source.random_bytes)
                self._copy_segments(tx, shares, meter, pace)
                meter.begin("finishing", 0)
                folder.settle()
                manifest = self._manifest(tx, shares, rows, made_us)
                folder.finish(manifest.signed(system_key(tx, source.masters)), self.id)
                meter.begin("clearing up", 0)
                pruned = _pruned(tx, folder) if prune else 0
        finally:
            self._hold.lift()
        return Made(manifest, self._copied_count, self._copied_bytes, pruned)

    def _copy_catalog(self, meter: Meter) -> dict[str, int]:
        meter.begin("copying the catalog", 0)
        draft = self._folder.draft_catalog(self.id, self._known.id if self._known else None)

        def moved(count: int) -> None:
            self._hold.renew()
            meter.advance(count)

        with dump.new_dump(draft) as target, self._source.catalog.snapshot() as tx:
            tables = dump.copy_rows(tx, target, moved)
        self._folder.keep_catalog(self.id)
        return {table.name: table.row_count for table in tables}

    def _copy_segments(self, tx: Transaction, shares: Shares, meter: Meter, pace: Pace) -> None:
        missing = sum(each.row.size_sealed_bytes for each in self._missing(tx, shares) if each.key)
        available = self._folder.available_bytes()
        if missing + SPARE_BYTES > available:
            raise StorageFullError(
                f"The backup needs {missing + SPARE_BYTES} more bytes on the disk of "
                f"{self._folder.path}, which has {available}. Make room, then run 'sealgate backup "
                f"resume {self._folder.path}'."
            )
        meter.begin("copying segments", missing)
        in_a_row = 0

        def copied(named: Named) -> StorageError | None:
            try:
                self._copy(named, pace)
            except IntegrityError as error:
                return error
            return None

        for named, error in in_parallel(self._missing(tx, shares), copied):
            self._hold.renew()
            if error is None:
                in_a_row = 0
                self._copied_count += 1
                self._copied_bytes += named.row.size_sealed_bytes
                meter.advance(named.row.size_sealed_bytes)
                continue
            in_a_row += isinstance(error.__cause__, StorageUnavailableError)
            self._damaged.append(named.damaged(str(error)))
            if in_a_row >= UNAVAILABLE_LIMIT:
                raise StorageUnavailableError(str(error)) from error
            if len(self._damaged) > DAMAGE_LIMIT:
                raise StorageUnavailableError(
                    f"More than {DAMAGE_LIMIT} segments are missing or damaged. Check that the "
                    "blob store is the right one."
                )

    def _missing(self, tx: Transaction, shares: Shares) -> Iterator[Named]:
        """Yield the segments that the folder lacks, and those that no key opens."""
        for named in named_segments(tx, shares):
            row = named.row
            if not named.key or not self._folder.has_segment(row.id, row.size_sealed_bytes):
                yield named

    def _copy(self, named: Named, pace: Pace) -> None:
        """Copy one segment, verified; IntegrityError, caused by what the blob store said."""
        if named.key is None:
            raise IntegrityError(named.trouble)
        row = named.row
        pace.take(row.size_sealed_bytes)
        try:
            # One byte more shows a segment that was extended.
            data = self._source.store.read(row.id, 0, row.size_sealed_bytes + 1)
        except StorageUnavailableError as error:
            raise IntegrityError(f"Segment {named.label} cannot be read: {error}") from error
        check_segment(named, data)
        self._folder.write_segment(row.id, data)

    def _manifest(
        self, tx: Transaction, shares: Shares, rows: dict[str, int], made_us: int
    ) -> Manifest:
        damaged = {each.segment for each in self._damaged}
        count = size_bytes = 0
        for named in named_segments(tx, shares):
            if named.label not in damaged:
                count += 1
                size_bytes += named.row.size_sealed_bytes
        catalog_bytes, sha256 = self._folder.catalog_digest(self.id)
        wrapped = keys.setting(tx, SYSTEM_KEY)
        assert wrapped is not None
        return Manifest(
            id=self.id,
            made_us=made_us,
            node=self._source.node,
            release=self._source.release,
            revision=REVISION,
            gateway_id=manifests.gateway_id(system_key(tx, self._source.masters)),
            master_key_id=master_key_id(tx) or "",
            system_key_wrapped=wrapped.hex(),
            catalog_size_bytes=catalog_bytes,
            catalog_sha256=sha256,
            rows=rows,
            segment_count=count,
            segment_size_bytes=size_bytes,
            damaged=tuple(self._damaged),
        )


def _pruned(tx: Transaction, folder: BackupFolder) -> int:
    """Remove the segments that the catalog ``tx`` does not name; return how many."""
    count = 0
    batch: list[bytes] = []
    for segment_id in folder.segment_ids():
        batch.append(segment_id)
        if len(batch) == PRUNE_BATCH:
            count += _removed(tx, folder, batch)
            batch.clear()
    return count + _removed(tx, folder, batch)


def _removed(tx: Transaction, folder: BackupFolder, segment_ids: list[bytes]) -> int:
    doomed = set(segment_ids) - segments.known(tx, segment_ids)
    for segment_id in doomed:
        folder.remove_segment(segment_id)
    return len(doomed)

"""Resealing: what lies under older epochs of a share is brought under its current one.

Works beside running gateways, some segments at a time, and can be cut off anywhere: a run goes on
with whatever is left. Begins no epoch (``backends.rotation``), ends none (``backends.epochs``) and
deletes no segment that the catalog knows. Imports the catalog, blobs, shares, the history and the
ledger.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from backends.blobs import BlobStore
from backends.catalog import keys, segments, versions
from backends.catalog.versions import SegmentRow, VersionRow
from backends.content import RUN_LIMIT_CHUNKS, RUN_SIZE_BYTES, StoredSegment, sealed_space
from backends.errors import ConflictError, IntegrityError, KeyUnavailableError, LimitError
from backends.extents import Extent
from backends.history import History
from backends.keyring import RandomBytes
from backends.ledger import Ledger, changes
from backends.room import Room
from backends.segment import HEADER_SIZE_BYTES, ID_SIZE_BYTES, SegmentShape
from backends.share import EpochKey, Share, Shares
from gateway.model import Clock, Transaction, UnitOfWork

SEGMENT_BATCH = 64
"""The most segments sealed anew before the catalog takes them over: 1 GiB, lost by a crash."""

VERSION_BATCH = 100
"""The most versions without segments that are sealed anew in one transaction."""

PAGE_LIMIT = 1000
"""The most versions, or places of one version, looked up at once."""

DAMAGE_LIMIT = 1000
"""How much damage may be found before resealing gives up."""


@dataclass(frozen=True, slots=True)
class Damage:
    """Something that could not be resealed and stays as it was. ``segment_id`` empty: a version."""

    share: str
    node_id: bytes
    version_id: bytes
    segment_id: bytes
    reason: str


class Resealing:
    """One run over one share. One thread at a time."""

    def __init__(
        self,
        catalog: UnitOfWork,
        store: BlobStore,
        shares: Shares,
        name: str,
        *,
        clock: Clock,
        random_bytes: RandomBytes,
        done: Callable[[int], None],
    ) -> None:
        """``done`` is called with the sealed bytes of each piece, outside any transaction."""
        self.damages: list[Damage] = []
        self.segment_count = 0
        self.version_count = 0
        self._catalog = catalog
        self._store = store
        self._shares = shares
        self._name = name
        self._clock = clock
        self._random_bytes = random_bytes
        self._done = done
        self._history = History(shares, store, clock=clock, random_bytes=random_bytes)
        self._room = Room(store, clock)
        self._failed: set[bytes] = set()
        self._plain = memoryview(bytearray(RUN_SIZE_BYTES))
        self._sealed = sealed_space(RUN_LIMIT_CHUNKS)

    def run(self) -> None:
        """Reseal what lies under older epochs; ``damages`` then tells what had to stay.

        Raises QuotaExceededError when the storage is nearly full, ConflictError when the epoch
        was destroyed meanwhile; what was resealed until then stays so.
        """
        waiting: dict[bytes, SegmentRow] = {}
        small: list[bytes] = []
        for version_id, epoch in self._versions():
            # A version may lie in many places of one segment.
            seen: set[bytes] = set()
            for row in self._old_segments(version_id, epoch):
                if row.id not in seen and row.id not in self._failed:
                    waiting[row.id] = row
                seen.add(row.id)
                if len(waiting) >= SEGMENT_BATCH:
                    self._reseal_segments(waiting)
            if not seen:
                small.append(version_id)
            if len(small) >= VERSION_BATCH:
                self._reseal_rows(small)
        self._reseal_segments(waiting)
        self._reseal_rows(small)

    def _versions(self) -> Iterator[tuple[bytes, int]]:
        """Yield (version id, the epoch that is current) of everything to reseal."""
        after_id = b""
        while True:
            with self._catalog.snapshot() as tx:
                share = self._shares.get(tx, self._name)
                page = versions.to_reseal(tx, share.id, share.key.epoch, after_id, PAGE_LIMIT)
            for version_id in page:
                yield version_id, share.key.epoch
            if len(page) < PAGE_LIMIT:
                return
            after_id = page[-1]

    def _old_segments(self, version_id: bytes, epoch: int) -> Iterator[SegmentRow]:
        """Yield the segments of a version that lie under an epoch before ``epoch``."""
        from_block = 0
        while True:
            with self._catalog.snapshot() as tx:
                page = versions.places_under_older_epoch(
                    tx, version_id, epoch, from_block, PAGE_LIMIT
                )
            for row, _ in page:
                yield row
            if len(page) < PAGE_LIMIT:
                return
            from_block = page[-1][1] + 1

    def _reseal_segments(self, waiting: dict[bytes, SegmentRow]) -> None:
        """Seal segments anew and put all versions that use them over the new ones."""
        if not waiting:
            return
        with self._catalog.snapshot() as tx:
            share = self._shares.get(tx, self._name)
        made: dict[bytes, SegmentRow] = {}
        for row in waiting.values():
            self._room.require_reserve()
            try:
                made[row.id] = self._sealed_anew(share, row)
                self._done(row.size_sealed_bytes)
            except (IntegrityError, KeyUnavailableError) as error:
                self._note_damaged_segment(row, error)
        waiting.clear()
        with self._catalog.begin() as tx:
            used = self._swap(tx, made, share.key)
        # Only now: after a commit of which nobody knows how it ended they may be in use.
        for old_id, row in made.items():
            if old_id not in used:
                self._store.delete(row.id)
        self.segment_count += len(used)

    def _sealed_anew(self, share: Share, row: SegmentRow) -> SegmentRow:
        """Return a new durable segment under the share's key with the chunks of ``row``."""
        with self._catalog.snapshot() as tx:
            old_key = self._shares.epoch_key(tx, share.id, row.epoch)
        try:
            source = StoredSegment(self._store, row, old_key)
            count = SegmentShape.of(row.size_sealed_bytes).chunk_count
        except TypeError as error:
            raise IntegrityError(
                f"Segment {row.id.hex()} has no size: its row in the catalog was edited."
            ) from error
        new_id = self._random_bytes(ID_SIZE_BYTES)
        cipher = share.key.new_segment(new_id, self._random_bytes)
        writer = self._store.create(new_id)
        size_sealed_bytes = 0
        try:
            for start in range(0, count, RUN_LIMIT_CHUNKS):
                run = min(RUN_LIMIT_CHUNKS, count - start)
                size = source.read_into(start, run, self._plain, self._sealed)
                put = 0
                if start == 0:
                    put = HEADER_SIZE_BYTES
                    self._sealed[:put] = cipher.header.pack()
                put += cipher.seal_run(
                    start,
                    self._plain[:size],
                    self._sealed[put:],
                    ends_segment=start + run == count,
                )
                writer.write(self._sealed[:put])
                size_sealed_bytes += put
            writer.finish()
        finally:
            # Does nothing once the segment is finished.
            writer.discard()
        return SegmentRow(new_id, share.id, share.key.epoch, size_sealed_bytes)

    def _swap(self, tx: Transaction, made: dict[bytes, SegmentRow], key: EpochKey) -> set[bytes]:
        """Let every version that lies in old segments lie in the new ones; return which were used.

        Who uses them is asked again here: versions came and went while they were sealed.
        """
        share = self._current(tx, key)
        used: set[bytes] = set()
        users = {user for old_id in made for user in versions.users_of(tx, old_id)}
        with changes(tx, share.id, share.seal) as ledger:
            for version_id in sorted(users):
                row = versions.by_id(tx, version_id)
                if row is None or row.share_id != share.id:
                    continue
                used |= self._put_over(tx, ledger, share, row, made)
        versions.add_segments(tx, [made[old_id] for old_id in used], self._clock())
        for old_id in used:
            # All of its chunks verified a moment ago, whatever was found before.
            segments.release(tx, old_id)
        return used

    def _put_over(
        self,
        tx: Transaction,
        ledger: Ledger,
        share: Share,
        row: VersionRow,
        made: dict[bytes, SegmentRow],
    ) -> set[bytes]:
        """Put one version over the new segments; return the old ones that it lay in."""
        try:
            version = self._history.verified(tx, row)
        except (IntegrityError, KeyUnavailableError) as error:
            self._note(row, b"", error)
            return set()
        moved = {extent.segment_id for extent in version.extents} & made.keys()
        extents = tuple(_moved(extent, made) for extent in version.extents)
        ledger.put_version(row, self._history.resealed(tx, version, share.key, extents), None)
        for old_id in moved:
            versions.replace_segment(tx, row.id, old_id, made[old_id].id)
        self.version_count += 1
        return moved

    def _reseal_rows(self, small: list[bytes]) -> None:
        """Seal versions anew that lie in no older segment: what is in their rows, and the MAC."""
        if not small:
            return
        size_bytes = 0
        with self._catalog.begin() as tx:
            share = self._current(tx, None)
            with changes(tx, share.id, share.seal) as ledger:
                for version_id in small:
                    row = versions.by_id(tx, version_id)
                    if row is None or row.share_id != share.id or row.epoch >= share.key.epoch:
                        continue
                    size_bytes += len(row.inline_sealed or b"")
                    try:
                        version = self._history.verified(tx, row)
                        new = self._history.resealed(tx, version, share.key, version.extents)
                    except (IntegrityError, KeyUnavailableError) as error:
                        self._note(row, b"", error)
                        continue
                    ledger.put_version(row, new, None)
                    self.version_count += 1
        small.clear()
        self._done(size_bytes)

    def _current(self, tx: Transaction, made_under: EpochKey | None) -> Share:
        """Return the share as it is now; its epoch may be newer than that of new segments."""
        share = self._shares.get(tx, self._name)
        if made_under is not None and (
            share.id != made_under.share_id
            or keys.epoch_key(tx, share.id, made_under.epoch) is None
        ):
            raise ConflictError(
                f"The key of share '{self._name}' was destroyed while it was resealed. Run this "
                "again for what is left."
            )
        return share

    def _note_damaged_segment(self, segment: SegmentRow, error: Exception) -> None:
        self._failed.add(segment.id)
        with self._catalog.snapshot() as tx:
            users = versions.users_of(tx, segment.id)
            rows = [versions.by_id(tx, user) for user in users]
        for row in rows:
            if row is not None:
                self._note(row, segment.id, error)

    def _note(self, row: VersionRow, segment_id: bytes, error: Exception) -> None:
        found = Damage(self._name, row.node_id, row.id, segment_id, str(error))
        if any((one.version_id, one.segment_id) == (row.id, segment_id) for one in self.damages):
            return
        if len(self.damages) >= DAMAGE_LIMIT:
            raise LimitError(
                f"Share '{self._name}' is damaged in more than {DAMAGE_LIMIT} places. Restore it "
                "from a backup."
            )
        self.damages.append(found)


def _moved(extent: Extent, made: dict[bytes, SegmentRow]) -> Extent:
    new = made.get(extent.segment_id)
    if new is None:
        return extent
    return Extent(extent.block_start, extent.block_count, new.id, extent.chunk_start)

"""The scrub of a vault, in pieces: whoever calls decides in which order, how much, and records it.

Each method works in the caller's transaction or in none; none reads blobs in a write transaction.
Imports the rest of this package, the history and the blob store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from backends.blobs import BlobStore
from backends.catalog import keys, nodes, segments, versions
from backends.catalog.segments import Damage, Due
from backends.catalog.versions import SegmentRow, VersionRow
from backends.content import Content
from backends.errors import IntegrityError, KeyUnavailableError, NotFoundError, StorageError
from backends.history import History, Verified
from backends.ledger import changes
from backends.scrub import repair
from backends.scrub.finding import Finding, Kind
from backends.scrub.judge import IMPOSSIBLE
from backends.scrub.places import path_of
from backends.scrub.reading import Pace, verify_segment
from backends.scrub.rows import RowCheck, Rows
from backends.share import EpochKey, Share, Shares
from gateway.model import Clock, Transaction, UnitOfWork

FILE_LIMIT = 100
"""The most files that are named for one damaged segment."""

STRAY_BATCH_LIMIT = 500
"""The most blobs that are looked up at once."""


@dataclass(frozen=True, slots=True)
class DueSegment:
    """A segment to verify, and when it last was; ``key`` is an error when there is none."""

    row: SegmentRow
    verified_us: int
    key: EpochKey | KeyUnavailableError

    @property
    def size_bytes(self) -> int:
        """How large it is by its row; 0 when that holds no number."""
        size_bytes: object = self.row.size_sealed_bytes
        return size_bytes if isinstance(size_bytes, int) else 0

    @property
    def place(self) -> tuple[int, bytes]:
        """Where it stands in the order of segments that are due."""
        return self.verified_us, self.row.id


class Scrub:
    """Thread-safe: all its state is in the transaction and the blob store."""

    def __init__(
        self,
        shares: Shares,
        store: BlobStore,
        history: History,
        clock: Clock,
    ) -> None:
        self._shares = shares
        self._store = store
        self._history = history
        self._clock = clock

    # The catalog

    def rows(self, tx: Transaction, name: str, advance: Callable[[int], None]) -> Rows:
        """Judge the catalog of share ``name``, within one snapshot.

        ``advance`` is called with a number of rows from time to time and may raise. Raises
        KeyUnavailableError when the share's keys do not open, NotFoundError.
        """
        share = self._shares.get(tx, name, checked=False)
        return RowCheck(tx, share, self._shares, self._history, advance=advance).run()

    def foreign_rows(self, tx: Transaction) -> list[Finding]:
        """Return findings about rows that belong to no share."""
        found = []
        for share_id in nodes.unknown_shares(tx):
            # Of a share that was destroyed on purpose no key is left.
            if any(row.key_wrapped is not None for row in keys.epochs_of(tx, share_id)):
                text = f"Share {share_id.hex()} has files and keys, but its own row is gone."
                remedy = "Restore the catalog from a backup."
                found.append(Finding(Kind.SHARE, "", text, remedy))
        count = nodes.count_ownerless_properties(tx)
        if count:
            text = f"The properties of {count} nodes are in the catalog, and the nodes are not."
            remedy = "The rows of those nodes were dropped; restore the catalog from a backup."
            found.append(Finding(Kind.PROPERTIES, "", text, remedy))
        return found

    def share(self, tx: Transaction, name: str) -> Share:
        """Return a share whose row may have been edited; NotFoundError, KeyUnavailableError."""
        return self._shares.get(tx, name, checked=False)

    # Segments

    def due(
        self, tx: Transaction, span: Due, after: tuple[int, bytes], count: int
    ) -> list[DueSegment]:
        """Return the next segments that are due after ``after``, least recently verified first."""
        found = segments.least_recently_verified(tx, span, after, count)
        return [DueSegment(row, verified_us, self._key(tx, row)) for row, verified_us in found]

    def quarantined(self, tx: Transaction) -> list[tuple[Damage, DueSegment | None]]:
        """Return what is in quarantine; None beside what the catalog does not know any more."""
        found: list[tuple[Damage, DueSegment | None]] = []
        for damage in segments.damages(tx):
            row = versions.segment(tx, damage.segment_id)
            found.append((damage, None if row is None else DueSegment(row, 0, self._key(tx, row))))
        return found

    def verify(self, segment: DueSegment, pace: Pace) -> int:
        """Read a segment whole and return its sealed size in bytes.

        IntegrityError, KeyUnavailableError, StorageUnavailableError, StoppedError.
        """
        if isinstance(segment.key, KeyUnavailableError):
            raise segment.key
        return verify_segment(self._store, segment.row, segment.key, pace)

    def damage(
        self, tx: Transaction, segment: SegmentRow, error: StorageError, known: frozenset[bytes]
    ) -> list[Finding]:
        """Return a finding for each file that needs a damaged segment; none: it is needed no more.

        ``known`` are the segments that were found damaged before, whatever this is about.
        """
        kind = Kind.SEGMENT if isinstance(error, IntegrityError) else Kind.UNREADABLE
        if isinstance(error, KeyUnavailableError):
            kind = Kind.KEY
        bad = known | {segment.id}
        needing: dict[bytes, list[bytes]] = {}
        if versions.segment(tx, segment.id) is not None:
            for version_id in versions.users_of(tx, segment.id):
                version = versions.by_id(tx, version_id)
                node_id = b"" if version is None else version.node_id
                needing.setdefault(node_id, []).append(version_id)
        template = Finding(
            kind=kind,
            share="",
            text=str(error),
            remedy="",
            segment_id=segment.id.hex(),
            error=type(error).__name__,
        )
        return [
            self._needed(tx, segment, template, node_id, version_ids, bad)
            for node_id, version_ids in list(needing.items())[:FILE_LIMIT]
        ]

    def _needed(  # noqa: PLR0917  private
        self,
        tx: Transaction,
        segment: SegmentRow,
        finding: Finding,
        node_id: bytes,
        version_ids: list[bytes],
        bad: frozenset[bytes],
    ) -> Finding:
        """Return ``finding`` with what one node has to do with the damaged segment."""
        row = keys.share_by_id(tx, segment.share_id)
        share = self._configured(tx, "" if row is None else row.name)
        node = nodes.any_by_id(tx, node_id)
        current = node is not None and node.version_id in version_ids
        path = "" if share is None or node is None else path_of(tx, share, node_id)
        remedy = (
            f"Put blob {segment.id.hex()} back from a backup; 'sealgate scrub --repair' then takes "
            "it out of quarantine."
        )
        what = "an unfinished upload needs it"
        if node is not None:
            which = "its current content" if current else "only older ones"
            what = f"{len(version_ids)} versions of a file need it, {which}"
        whole = self._newest_whole(tx, node_id, bad) if current else None
        if whole is not None:
            command = f"sealgate versions restore '{path}' {whole.hex()}"
            remedy += f" The newest version that is whole comes back with: {command}"
        return replace(
            finding,
            share="" if row is None else row.name,
            text=f"{finding.text} Segment {segment.id.hex()}: {what}.",
            remedy=remedy,
            node_id=node_id.hex(),
            version_id=(node.version_id if node is not None and current else version_ids[0]).hex(),
            path=path,
        )

    def _newest_whole(self, tx: Transaction, node_id: bytes, bad: frozenset[bytes]) -> bytes | None:
        """Return the newest version of a file that verifies and lacks none of its segments."""
        bad |= {damage.segment_id for damage in segments.damages(tx)}
        for row in versions.of_node(tx, node_id):
            try:
                version = self._history.verified(tx, row)
                self._history.content(tx, version)
                found = versions.segments_of(tx, row.id)
                if all(
                    each.id not in bad and self._store.size(each.id) == each.size_sealed_bytes
                    for each in found
                ):
                    return row.id
            except (StorageError, *IMPOSSIBLE):
                continue
        return None

    def _configured(self, tx: Transaction, name: str) -> Share | None:
        try:
            return self._shares.get(tx, name, checked=False)
        except (NotFoundError, KeyUnavailableError):
            return None

    def _key(self, tx: Transaction, row: SegmentRow) -> EpochKey | KeyUnavailableError:
        try:
            return self._shares.epoch_key(tx, row.share_id, row.epoch)
        except KeyUnavailableError as error:
            return error
        except IMPOSSIBLE:
            return KeyUnavailableError(f"The row of segment {row.id.hex()} was edited.")

    # The SHA-256 of contents that were changed in place

    def unhashed(self, tx: Transaction, name: str, after_id: bytes, count: int) -> list[VersionRow]:
        """Return versions of a share whose SHA-256 is not known, from after ``after_id`` on."""
        share = self._shares.get(tx, name, checked=False)
        return versions.unhashed(tx, share.id, after_id, count)

    def opened(self, tx: Transaction, row: VersionRow) -> tuple[Verified, Content]:
        """Return a version and its content; IntegrityError, KeyUnavailableError."""
        version = self._history.verified(tx, row)
        return version, self._history.content(tx, version)

    def note_hash(self, tx: Transaction, name: str, version: Verified, sha256: bytes) -> bool:
        """Note the SHA-256 of a version's content; False when the version changed meanwhile."""
        share = self._shares.get(tx, name)
        if versions.by_id(tx, version.row.id) != version.row:
            return False
        with changes(tx, share.id, share.seal) as ledger:
            ledger.put_version(version.row, self._history.hashed(version, sha256), None)
        return True

    # Blobs that no row names

    def strays(self, catalog: UnitOfWork) -> Iterator[tuple[int, int]]:
        """Yield (blobs, strays among them) for each batch of the blob store's listing."""
        batch: list[bytes] = []
        for blob_id, _ in self._store.listing():
            batch.append(blob_id)
            if len(batch) == STRAY_BATCH_LIMIT:
                yield len(batch), self._stray_count(catalog, batch)
                batch.clear()
        yield len(batch), self._stray_count(catalog, batch)

    @staticmethod
    def _stray_count(catalog: UnitOfWork, batch: list[bytes]) -> int:
        with catalog.snapshot() as tx:
            return len(set(batch) - segments.needed(tx, batch))

    # Repair

    def quarantine(self, tx: Transaction, row: SegmentRow, reason: str) -> None:
        """Put a damaged segment into quarantine."""
        repair.quarantine(tx, row, reason, self._clock())

    def keep_lost(self, tx: Transaction, name: str, node_id: bytes) -> bool:
        """Put a node that lies below nothing into its share's trash; False as of ``repair``."""
        return repair.keep_lost(tx, self._shares.get(tx, name), node_id, self._clock())

    def reseal(self, tx: Transaction, name: str, rows: Rows) -> bool:
        """Make the share's sealed state agree with its rows; False as of ``repair``."""
        return repair.reseal(tx, self._shares.get(tx, name, checked=False), rows)

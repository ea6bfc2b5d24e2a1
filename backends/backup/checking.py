"""Whether sealed copies are right: a segment's every tag, and every row that carries a MAC.

Reads and reports; changes nothing. Imports the catalog, keys, shares, the segment format and what
vouches for rows.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, Protocol, TypeVar

from backends.backup.folder import BackupFolder
from backends.backup.manifest import Damaged, Manifest
from backends.blobs import BlobStore
from backends.catalog import dump, keys, nodes, versions
from backends.catalog.versions import SegmentRow
from backends.errors import IntegrityError, KeyUnavailableError, StorageError
from backends.history import History
from backends.keyring import MasterKeySource, RandomBytes
from backends.ledger import DIGEST_MODULUS
from backends.segment import (
    CHUNK_SIZE_BYTES,
    HEADER_SIZE_BYTES,
    ID_SIZE_BYTES,
    SegmentShape,
    chunk_offset_sealed,
)
from backends.share import EpochKey, Shares, ShareSettings
from gateway.model import Clock, Transaction

RUN_CHUNKS = 16
"""How many chunks are opened at once."""

THREADS = 4
"""How many segments are copied or checked at once; each lies in memory meanwhile."""

PAGE_ROWS = 1000

# What a value of a type or range that Sealgate never writes leads to.
_IMPOSSIBLE = (struct.error, TypeError, ValueError, AttributeError, AssertionError, OverflowError)

_EDITED = "A row of the table of segments was edited in the catalog."

_Item = TypeVar("_Item")
_Answer = TypeVar("_Answer")


class Meter(Protocol):
    """Is told how far the work is; called by one thread."""

    def begin(self, phase: str, total: int) -> None:
        """Begin a phase of ``total`` bytes or rows; 0 when nobody knows."""

    def advance(self, count: int) -> None:
        """So many more are done."""


class Named(NamedTuple):
    """A segment that a catalog names: its key, or why there is none."""

    row: SegmentRow
    key: EpochKey | None
    trouble: str

    @property
    def label(self) -> str:
        """The segment's id in hex, also when it is none."""
        return _hex(self.row.id)

    def damaged(self, reason: str) -> Damaged:
        """Return the note that the segment is not right."""
        return Damaged(self.label, _hex(self.row.share_id), reason)


def in_parallel(
    items: Iterable[_Item], work: Callable[[_Item], _Answer], threads: int = THREADS
) -> Iterator[tuple[_Item, _Answer]]:
    """Yield each item with what ``work`` returns for it, in order, a few items ahead."""
    with ThreadPoolExecutor(threads, thread_name_prefix="backup") as executor:
        waiting: deque[tuple[_Item, Future[_Answer]]] = deque()
        try:
            for item in items:
                waiting.append((item, executor.submit(work, item)))
                if len(waiting) > 2 * threads:
                    oldest, answer = waiting.popleft()
                    yield oldest, answer.result()
            while waiting:
                oldest, answer = waiting.popleft()
                yield oldest, answer.result()
        finally:
            for _, answer in waiting:
                answer.cancel()


def named_segments(tx: Transaction, shares: Shares) -> Iterator[Named]:
    """Yield every segment of the catalog but those whose key was destroyed, which nobody reads."""
    destroyed: dict[bytes, frozenset[int]] = {}
    for row in dump.all_segments(tx):
        try:
            _require_id(row.id)
            SegmentShape.of(row.size_sealed_bytes)
            yield Named(row, shares.epoch_key(tx, row.share_id, row.epoch), "")
        except KeyUnavailableError as error:
            if row.share_id not in destroyed:
                epochs = keys.epochs_of(tx, row.share_id)
                destroyed[row.share_id] = frozenset(
                    each.epoch for each in epochs if each.key_wrapped is None
                )
            if row.epoch not in destroyed[row.share_id]:
                yield Named(row, None, str(error))
        except IntegrityError as error:
            yield Named(row, None, str(error))
        except _IMPOSSIBLE:
            yield Named(row, None, _EDITED)


def check_segment(named: Named, data: bytes) -> None:
    """Raise IntegrityError unless ``data`` is the whole segment and every tag in it is right."""
    row, key = named.row, named.key
    if key is None:
        raise IntegrityError(named.trouble)
    if len(data) != row.size_sealed_bytes:
        raise IntegrityError(
            f"Segment {named.label} has another size than the {row.size_sealed_bytes} bytes that "
            "the catalog names: it was cut or extended."
        )
    shape = SegmentShape.of(len(data))
    cipher = key.open_segment(row.id, data[:HEADER_SIZE_BYTES])
    sealed, plain = memoryview(data), memoryview(bytearray(RUN_CHUNKS * CHUNK_SIZE_BYTES))
    for start in range(0, shape.chunk_count, RUN_CHUNKS):
        end = min(start + RUN_CHUNKS, shape.chunk_count)
        run = sealed[chunk_offset_sealed(start) : min(chunk_offset_sealed(end), len(data))]
        cipher.unseal_run(start, run, plain, ends_segment=end == shape.chunk_count)


def read_checked(folder: BackupFolder, named: Named) -> bytes:
    """Return a segment of a backup, every tag verified; IntegrityError."""
    if named.key is None:
        raise IntegrityError(named.trouble)
    data = folder.read_segment(named.row.id, named.row.size_sealed_bytes)
    check_segment(named, data)
    return data


def damaged_in_backup(
    tx: Transaction, folder: BackupFolder, manifest: Manifest, shares: Shares, meter: Meter
) -> Iterator[Damaged]:
    """Yield every segment that is not right in a backup, but those that its manifest lists."""
    known = frozenset(each.segment for each in manifest.damaged)

    def checked(named: Named) -> str:
        try:
            read_checked(folder, named)
        except IntegrityError as error:
            return str(error)
        return ""

    meter.begin("verifying segments", manifest.segment_size_bytes)
    wanted = (named for named in named_segments(tx, shares) if named.label not in known)
    for named, reason in in_parallel(wanted, checked):
        meter.advance(named.row.size_sealed_bytes if named.key else 0)
        if reason:
            yield named.damaged(reason)


def every_share(tx: Transaction, masters: MasterKeySource, random_bytes: RandomBytes) -> Shares:
    """Return all shares of a catalog with their keys, whatever is configured."""
    settings = {row.name: ShareSettings(row.name) for row in keys.all_shares(tx)}
    return Shares(masters, settings, random_bytes)


class RowCheck:
    """Checks the rows of one catalog that carry a MAC."""

    def __init__(
        self,
        tx: Transaction,
        shares: Shares,
        store: BlobStore,
        *,
        clock: Clock,
        random_bytes: RandomBytes,
    ) -> None:
        self._tx = tx
        self._shares = shares
        self._history = History(shares, store, clock=clock, random_bytes=random_bytes)

    def problems(self, name: str, meter: Meter) -> Iterator[str]:
        """Yield a sentence for each row of the share ``name`` that does not verify."""
        tx = self._tx
        try:
            share = self._shares.get(tx, name)
            state = share.seal.state_of(share.row)
        except StorageError as error:
            yield str(error)
            return
        meter.begin("verifying rows", 0)
        digest = 0
        for node in _pages(lambda after: nodes.of_share(tx, share.id, after, PAGE_ROWS)):
            try:
                digest += share.seal.element(share.seal.checked(node).mac)
            except IntegrityError as error:
                yield str(error)
            properties = nodes.properties_of(tx, node.id)
            if properties is not None:
                digest += share.seal.property_element(node.id, properties)
            meter.advance(1)
        for version in _pages(lambda after: versions.of_share(tx, share.id, after, PAGE_ROWS)):
            try:
                verified = self._history.verified(tx, version)
                if version.inline_sealed is not None:
                    self._history.content(tx, verified)
                digest += share.seal.element(version.mac)
            except StorageError as error:
                yield str(error)
            meter.advance(1)
        if digest % DIGEST_MODULUS != state.digest:
            yield (
                f"The rows of share {share.id.hex()} are not those that its sealed state vouches "
                "for: some were dropped, added or put back in the catalog."
            )


class _Identified(Protocol):
    @property
    def id(self) -> bytes: ...


_Row = TypeVar("_Row", bound=_Identified)


def _pages(page: Callable[[bytes], list[_Row]]) -> Iterator[_Row]:
    """Yield all rows that ``page`` gives from after an id on."""
    rows = page(b"")
    while rows:
        yield from rows
        rows = page(rows[-1].id)


def _require_id(value: object) -> None:
    if not isinstance(value, bytes) or len(value) != ID_SIZE_BYTES:
        raise IntegrityError(_EDITED)


def _hex(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else repr(value)

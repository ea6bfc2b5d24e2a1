"""Destroying a share: its keys first, in one transaction; then the proof; then what is left.

Whoever has the master key and this catalog cannot open the share any more once the first step is
committed. Clearing away what is left only makes room, and may be cut off anywhere. Imports the
catalog, blobs, shares and the history.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from backends.blobs import BlobStore
from backends.catalog import keys, marks, nodes, remains, segments, versions
from backends.catalog.engine import giving_way
from backends.catalog.nodes import NodeRow
from backends.catalog.versions import SegmentRow, VersionRow
from backends.content import StoredSegment, sealed_space
from backends.errors import ConflictError, IntegrityError, KeyUnavailableError, NotFoundError
from backends.history import History
from backends.keyring import MasterKey
from backends.segment import CHUNK_SIZE_BYTES
from backends.share import EPOCH_PURPOSE, NAME_PURPOSE, Shares, epoch_context
from gateway.model import Clock, Transaction, UnitOfWork

SAMPLE_LIMIT = 100
"""The most versions, segments and names each that are tried before and after."""

CLEAR_BATCH = 500
"""The most rows cleared away in one transaction."""

_MARK_SIZE_BYTES = 8
_INVERTED = bytes(255 - value for value in range(256))


@dataclass(frozen=True, slots=True)
class Destroyed:
    """A share whose keys are destroyed and that is not yet cleared away.

    ``pieces`` are the first eight bytes of every wrapped key that was destroyed: enough to look
    for them, and nothing that a key could be made from.
    """

    share_id: bytes
    name: str
    pieces: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Samples:
    """Some of what is sealed under the keys of a share."""

    name: str
    versions: tuple[VersionRow, ...]
    segments: tuple[SegmentRow, ...]
    nodes: tuple[NodeRow, ...]


@dataclass(frozen=True, slots=True)
class Opened:
    """How many samples opened."""

    version_count: int
    segment_count: int
    name_count: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.version_count + self.segment_count + self.name_count


@dataclass(frozen=True, slots=True)
class Cleared:
    """How much was cleared away."""

    node_count: int
    version_count: int
    segment_count: int


def samples_of(tx: Transaction, share_id: bytes, name: str) -> Samples:
    """Return samples of what a share holds, or of what is left of it."""
    return Samples(
        name,
        tuple(versions.of_share(tx, share_id, b"", SAMPLE_LIMIT)),
        tuple(
            row
            for segment_id in segments.ids_of_share(tx, share_id, SAMPLE_LIMIT)
            if (row := versions.segment(tx, segment_id)) is not None
        ),
        # The root's name is not sealed, and so never opens.
        tuple(nodes.of_share(tx, share_id, b"", SAMPLE_LIMIT)),
    )


def try_all(
    tx: Transaction, shares: Shares, store: BlobStore, history: History, samples: Samples
) -> Opened:
    """Try to open each of the samples with the keys of this transaction; return how many do."""
    return Opened(
        sum(_opens(history.verified, tx, row) for row in samples.versions),
        sum(_opens(_open_segment, tx, shares, store, row) for row in samples.segments),
        sum(_opens(_unseal_name, tx, shares, samples.name, row) for row in samples.nodes),
    )


def destroy(tx: Transaction, share: keys.ShareRow, now_us: int) -> Destroyed:
    """Destroy every key of a share. Its epochs stay as a trace, without their keys."""
    wrapped = [share.name_key_wrapped]
    for row in keys.epochs_of(tx, share.id):
        if row.key_wrapped is not None:
            wrapped.append(row.key_wrapped)
            keys.put_epoch(tx, row._replace(key_wrapped=None, destroyed_us=now_us))
    keys.remove_share(tx, share.id)
    made = Destroyed(
        share.id, share.name, tuple(sorted({each[:_MARK_SIZE_BYTES] for each in wrapped}))
    )
    # Inverted, so that the note is not itself found when the files are searched.
    pieces = b"".join(made.pieces).translate(_INVERTED)
    remains.note_act(tx, share.id, share.name.encode("utf-8") + b"\0" + pieces)
    return made


def all_destroyed(tx: Transaction) -> list[Destroyed]:
    """Return the shares whose keys are destroyed and that are not cleared away."""
    found = []
    for share_id, note in remains.acts(tx).items():
        name, _, pieces = note.partition(b"\0")
        cut = tuple(_cut(pieces.translate(_INVERTED)))
        found.append(Destroyed(share_id, name.decode("utf-8", "replace"), cut))
    return found


def keys_that_open(tx: Transaction, master: MasterKey, share_id: bytes) -> int:
    """Return how many values in the catalog open as a key of that share under ``master``."""
    places = [(NAME_PURPOSE, share_id)]
    places += [
        (EPOCH_PURPOSE, epoch_context(share_id, row.epoch)) for row in keys.epochs_of(tx, share_id)
    ]
    return sum(
        _opens(master.unwrap, value, *place) for value in keys.all_wrapped(tx) for place in places
    )


def clear(
    catalog: UnitOfWork,
    store: BlobStore,
    share_id: bytes,
    *,
    clock: Clock,
    done: Callable[[int], None],
) -> Cleared:
    """Remove what is left of a destroyed share, some rows at a time.

    ``done`` is called with how many rows and segments went. Raises ConflictError while a backup
    runs, which may need the segments.
    """
    node_count = version_count = segment_count = 0
    after_id = b""
    while True:
        with giving_way(), catalog.begin() as tx:
            node_ids = remains.nodes_of_share(tx, share_id, after_id, CLEAR_BATCH)
            remains.remove_nodes(tx, node_ids)
        if not node_ids:
            break
        node_count, after_id = node_count + len(node_ids), node_ids[-1]
        done(len(node_ids))
    while True:
        with giving_way(), catalog.begin() as tx:
            version_ids = versions.ids_of_share(tx, share_id, CLEAR_BATCH)
            versions.remove(tx, version_ids)
        if not version_ids:
            break
        version_count += len(version_ids)
        done(len(version_ids))
    while True:
        with catalog.begin() as tx:
            if marks.held(tx, clock()):
                raise ConflictError(
                    "A backup runs, and the share's segments are left for it. The share cannot be "
                    "opened any more; run this again afterwards to clear its segments away."
                )
            segment_ids = segments.ids_of_share(tx, share_id, CLEAR_BATCH)
            segments.remove(tx, segment_ids)
        if not segment_ids:
            break
        for segment_id in segment_ids:
            store.delete(segment_id)
        segment_count += len(segment_ids)
        done(len(segment_ids))
    with catalog.begin() as tx:
        remains.remove_rest(tx, share_id)
    return Cleared(node_count, version_count, segment_count)


def _opens(attempt: Callable[..., object], *values: object) -> bool:
    try:
        attempt(*values)
    # A row whose values are of impossible types was edited.
    except (KeyUnavailableError, NotFoundError, IntegrityError, TypeError):
        return False
    return True


def _open_segment(tx: Transaction, shares: Shares, store: BlobStore, row: SegmentRow) -> None:
    key = shares.epoch_key(tx, row.share_id, row.epoch)
    plain = memoryview(bytearray(CHUNK_SIZE_BYTES))
    StoredSegment(store, row, key).read_into(0, 1, plain, sealed_space(1))


def _unseal_name(tx: Transaction, shares: Shares, name: str, row: NodeRow) -> None:
    shares.get(tx, name, checked=False).names.unseal(row.parent_id, row.name_sealed)


def _cut(pieces: bytes) -> Iterator[bytes]:
    for start in range(0, len(pieces), _MARK_SIZE_BYTES):
        yield pieces[start : start + _MARK_SIZE_BYTES]

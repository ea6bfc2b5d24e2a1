"""The catalog of one share, judged within one snapshot: every row, and whether any is missing.

Reads no blob. A row is judged by its own MAC or seal, by the rows that it names, and all of them
together by the share's sealed digest and counters. Imports the catalog, the ledger and the history.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from backends.catalog import keys, nodes, uploads, versions
from backends.catalog.nodes import NO_VERSION, NodeRow
from backends.catalog.uploads import UnfinishedRow
from backends.catalog.versions import SegmentRow, VersionRow
from backends.errors import IntegrityError, KeyUnavailableError
from backends.extents import Extent
from backends.history import History, Verified
from backends.ledger import DIGEST_MODULUS, State
from backends.properties import unpacked
from backends.scrub.finding import Finding, Kind
from backends.scrub.judge import Judge, Place
from backends.segment import SegmentShape
from backends.share import Share, Shares
from backends.unfinished import require_sound
from gateway.model import Transaction

PAGE_LIMIT = 500
"""The most rows read at once."""

VERSION_PAGE_LIMIT = 100
"""The most versions read at once, each with up to 16 KiB of content."""

LOST_LIMIT = 10_000
"""The most lost nodes that are named; the next scrub names more."""

_ROOT_NAME = b"root"
_BACKUP = "Restore the catalog from a backup, or delete it and restore what the backup has of it."


class _HasId(Protocol):
    @property
    def id(self) -> bytes: ...


_Row = TypeVar("_Row", bound=_HasId)


@dataclass(frozen=True, slots=True)
class Rows:
    """What the catalog of one share looks like.

    ``counted`` is the state by its rows; ``drift`` how much more that is than the sealed one, None
    when that does not open. ``sound``: every row that is there verifies by itself. ``lost`` are the
    nodes that lie below nothing; what lies below them is not among them.
    """

    share: keys.ShareRow
    findings: tuple[Finding, ...]
    more_findings: int
    row_count: int
    counted: State
    drift: State | None
    sound: bool
    lost: tuple[bytes, ...]


class RowCheck:
    """Judges one share; ``run`` once.

    Holds the ids of the share's folders in memory, about 200 bytes each, and nothing else that
    grows with the share.
    """

    def __init__(
        self,
        tx: Transaction,
        share: Share,
        shares: Shares,
        history: History,
        *,
        advance: Callable[[int], None],
    ) -> None:
        """``advance`` is called with a number of rows when they were judged; it may raise."""
        self._tx = tx
        self._share = share
        self._shares = shares
        self._history = history
        self._advance = advance
        self._judge = Judge(tx, share)
        self._digest = 0
        self._used_bytes = 0
        self._node_count = 0
        self._row_count = 0
        self._unreadable: Counter[int] = Counter()
        self._epochs: list[keys.EpochRow] = []
        self._folders: dict[bytes, bytes] = {}
        self._lost: list[bytes] = []

    def run(self) -> Rows:
        """Judge every row."""
        tx, share = self._tx, self._share
        self._check_keys()
        self._folders = dict(nodes.folders_of_share(tx, share.id))
        for node in self._pages(lambda *page: nodes.of_share(tx, share.id, *page), PAGE_LIMIT):
            self._check_node(node)
        self._check_tree()
        self._check_properties()
        for version in self._pages(
            lambda *page: versions.of_share(tx, share.id, *page), VERSION_PAGE_LIMIT
        ):
            self._check_version(version)
        for upload in uploads.of_share(tx, share.id):
            self._check_upload(upload)
        self._report_unreadable()
        epoch = max((row.epoch for row in self._epochs if row.key_wrapped), default=share.row.epoch)
        digest = self._digest % DIGEST_MODULUS
        counted = State(digest, self._used_bytes, self._node_count, epoch)
        return Rows(
            share=share.row,
            drift=self._check_state(counted),
            findings=tuple(self._judge.found.kept),
            more_findings=self._judge.found.more,
            row_count=self._row_count,
            counted=counted,
            sound=self._judge.sound,
            lost=tuple(self._lost),
        )

    # One kind of row after the other

    def _check_keys(self) -> None:
        self._epochs = keys.epochs_of(self._tx, self._share.id)
        for row in self._epochs:
            if row.key_wrapped is None:
                continue
            with self._judge.judging(Kind.KEY, _BACKUP):
                self._shares.epoch_key(self._tx, self._share.id, row.epoch)

    def _check_node(self, row: NodeRow) -> None:
        share, is_root = self._share, row.id == self._share.row.root_id
        self._node_count += not is_root
        self._count(row.mac)
        if not is_root and row.parent_id not in self._folders:
            self._lose(row.id)
        with self._judge.judging(Kind.NODE, _BACKUP, Place(row.id)) as judged:
            share.seal.checked(row)
            if not is_root:
                share.names.unseal(row.parent_id, row.name_sealed)
        if not judged:
            return
        if is_root:
            if row.parent_id != share.id or row.name_sealed != _ROOT_NAME or not row.is_folder:
                text = f"Share '{share.name}' names another node than its root as its root."
                self._judge.add(Kind.SHARE, text, _BACKUP, Place(row.id))
        elif row.is_folder:
            if row.version_id != NO_VERSION:
                self._judge.add(Kind.NODE, "A folder has content.", _BACKUP, Place(row.id))
        else:
            self._check_current(row)

    def _check_current(self, file: NodeRow) -> None:
        kept = versions.dated(self._tx, file.id)
        current = next((each for each in kept if each.id == file.version_id), None)
        place = Place(file.id, file.version_id)
        if current is None:
            remedy = "Restore the catalog from a backup, or an older version if there is one."
            self._judge.add(
                Kind.VERSION, "The current version of a file is missing.", remedy, place
            )
        elif current.size_bytes != file.size_bytes:
            text = "A file has another size than its current version."
            self._judge.add(Kind.VERSION, text, _BACKUP, place)
        elif current.id != kept[0].id:
            text = "A file's current version is not its newest: a row was put back, or added."
            remedy = "'sealgate versions list' shows them all; restore the right one."
            self._judge.add(Kind.VERSION, text, remedy, place)

    def _check_tree(self) -> None:
        """Find cycles of folders: each has a parent, and none can be reached from the root."""
        root_id = self._share.row.root_id
        if root_id not in self._folders:
            text = f"Share '{self._share.name}' has lost its root: nothing in it can be reached."
            self._judge.add(Kind.SHARE, text, _BACKUP, Place(root_id))
        known = {root_id}
        for first_id in self._folders:
            way: dict[bytes, None] = {}
            folder_id = first_id
            while folder_id in self._folders and folder_id not in known and folder_id not in way:
                way[folder_id] = None
                folder_id = self._folders[folder_id]
            if folder_id in way:
                cycle = list(way)
                self._lose(min(cycle[cycle.index(folder_id) :]))
            known.update(way)

    def _lose(self, node_id: bytes) -> None:
        text = "A file or folder lies below nothing: the folder that it was in is gone."
        remedy = (
            "Restore the catalog from a backup; or 'sealgate scrub --repair' puts it, with all "
            "below it, into the trash of its share, from where it can be restored."
        )
        self._judge.add(Kind.LOST, text, remedy, Place(node_id))
        if len(self._lost) < LOST_LIMIT:
            self._lost.append(node_id)

    def _check_properties(self) -> None:
        after = b""
        while page := nodes.properties_of_share(self._tx, self._share.id, after, PAGE_LIMIT):
            for node_id, sealed in page:
                with self._judge.judging(Kind.PROPERTIES, _BACKUP, Place(node_id)):
                    self._digest += self._share.seal.property_element(node_id, sealed)
                    unpacked(self._share, node_id, sealed)
            after = page[-1][0]
            self._done(len(page))

    def _check_version(self, row: VersionRow) -> None:
        self._count(row.mac)
        if isinstance(row.size_bytes, int):
            self._used_bytes += row.size_bytes
        place = Place(row.node_id, row.id)
        try:
            with self._judge.judging(Kind.VERSION, _BACKUP, place) as judged:
                verified = self._history.verified(self._tx, row)
        except KeyUnavailableError:
            self._unreadable[row.epoch] += 1
            return
        if not judged:
            return
        if not self._has_owner(row):
            text = "A version belongs to no file: the row of its file is gone."
            self._judge.add(Kind.VERSION, text, _BACKUP, place)
        try:
            with self._judge.judging(Kind.CONTENT, _BACKUP, place, sound=True):
                self._check_content(verified, place)
        except KeyUnavailableError:
            self._unreadable[row.epoch] += 1

    def _has_owner(self, version: VersionRow) -> bool:
        node = nodes.any_by_id(self._tx, version.node_id)
        if node is not None:
            return node.share_id == self._share.id and not node.is_folder
        upload = uploads.by_id(self._tx, version.node_id)
        return upload is not None and upload.share_id == self._share.id

    def _check_content(self, version: Verified, place: Place) -> None:
        if version.row.inline_sealed is not None:
            content = self._history.content(self._tx, version)
            if content.size_bytes != version.row.size_bytes:
                raise IntegrityError("A content has another length than its version.")
            return
        found = {row.id: row for row in versions.segments_of(self._tx, version.row.id)}
        for extent in version.extents:
            at = place._replace(segment_id=extent.segment_id)
            with self._judge.judging(Kind.CONTENT, _BACKUP, at, sound=True):
                self._require_segment(found.get(extent.segment_id), extent)

    def _require_segment(self, row: SegmentRow | None, extent: Extent) -> None:
        label = f"Segment {extent.segment_id.hex()}"
        if row is None:
            raise IntegrityError(f"{label} is not in the catalog.")
        if row.share_id != self._share.id:
            raise IntegrityError(f"{label} belongs to another share.")
        shape = SegmentShape.of(row.size_sealed_bytes)
        if extent.chunk_start + extent.block_count > shape.chunk_count:
            raise IntegrityError(f"{label} is shorter than the file needs.")
        self._shares.epoch_key(self._tx, row.share_id, row.epoch)

    def _check_upload(self, row: UnfinishedRow) -> None:
        remedy = "It can be uploaded anew; what arrived is cleared away within a day."
        version = versions.by_id(self._tx, row.version_id)
        with self._judge.judging(Kind.UPLOAD, remedy):
            require_sound(self._share, row)
            self._share.names.unseal(row.folder_id, row.name_sealed)
            if version is None or version.node_id != row.id:
                raise IntegrityError(f"The content of unfinished upload {row.id.hex()} is missing.")
        self._done(1)

    def _report_unreadable(self) -> None:
        for epoch, count in sorted(self._unreadable.items()):
            known = next((row for row in self._epochs if row.epoch == epoch), None)
            what = "is not in the catalog" if known is None else "does not open"
            if known is not None and known.key_wrapped is None:
                what = "was destroyed"
            text = f"The key of epoch {epoch} {what}: {count} versions cannot be read any more."
            remedy = "If that was not done on purpose, restore the catalog from a backup."
            self._judge.add(Kind.KEY, text, remedy, error="KeyUnavailableError")

    def _check_state(self, counted: State) -> State | None:
        """Return how far the counted state is from the sealed one; None when that is edited."""
        remedy = (
            "Compare with a backup and with the audit trail, which names what was there. "
            "'sealgate scrub --repair' makes the share agree with the rows that there are, if "
            "every one of them verifies; what was dropped stays lost."
        )
        name = self._share.name
        try:
            sealed = self._share.seal.state_of(self._share.row)
        except IntegrityError:
            text = f"The row of share '{name}' was edited in the catalog: nobody can use it now."
            self._judge.add(Kind.SHARE, text, remedy)
            return None
        drift = State(
            (counted.digest - sealed.digest) % DIGEST_MODULUS,
            counted.used_bytes - sealed.used_bytes,
            counted.node_count - sealed.node_count,
            0,
        )
        if drift != State(0, 0, 0, 0):
            text = (
                f"Share '{name}' holds other rows than Sealgate wrote: some were dropped, added or "
                f"put back ({drift.node_count:+d} files and folders, {drift.used_bytes:+d} bytes)."
            )
            self._judge.add(Kind.ROWS, text, remedy)
        if sealed.epoch != counted.epoch:
            text = (
                f"Share '{name}' has lost the key of epoch {sealed.epoch}, which it writes under."
            )
            self._judge.add(Kind.KEY, text, _BACKUP)
        return drift

    # What all of them share

    def _pages(self, fetch: Callable[[bytes, int], Sequence[_Row]], limit: int) -> Iterator[_Row]:
        after = b""
        while page := fetch(after, limit):
            yield from page
            after = page[-1].id
            self._done(len(page))

    def _done(self, row_count: int) -> None:
        self._row_count += row_count
        self._advance(row_count)

    def _count(self, mac: bytes) -> None:
        if isinstance(mac, bytes):
            self._digest += self._share.seal.element(mac)

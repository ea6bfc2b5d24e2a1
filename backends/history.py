"""The versions of files: recording one, opening one, and letting another file share one.

Every version carries a MAC over its manifest, so that a row that was edited, dropped or swapped is
noticed before anything is read by it. No names and no tree. FORMAT.md section 7 is the
specification. Imports the catalog, keys, segments and blobs.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from backends.blobs import BlobStore
from backends.catalog import keys, segments, versions
from backends.catalog.nodes import NodeRow
from backends.catalog.versions import Dated, VersionRow
from backends.content import Content, StoredSegment
from backends.draft import SealedContent
from backends.errors import ConflictError, IntegrityError
from backends.extents import Extent, ExtentMap
from backends.keyring import RandomBytes
from backends.ledger import Ledger
from backends.memo import Memo
from backends.segment import HEADER_SIZE_BYTES, ID_SIZE_BYTES, seal_whole, unseal_whole
from backends.share import EpochKey, Shares
from gateway.model import Clock, Transaction

# What a value of a type or range that Sealgate never writes leads to.
_IMPOSSIBLE = (struct.error, TypeError, ValueError, AttributeError, AssertionError)

VERIFIED_LIMIT = 256
"""How many verified versions are remembered; with 16 KiB of inline content each, 4 MiB."""

MEMO_EXTENTS_LIMIT = 100
"""The most extents of a version that is remembered."""

_HASH_CONTEXT = b"sha256"
_MANIFEST_HEAD = struct.Struct(">16s16s16sIQQQH")
_MANIFEST_EXTENT = struct.Struct(">QQ16sI")


@dataclass(frozen=True, slots=True)
class Verified:
    """A version whose manifest verified: its row, its SHA-256 if known, its extents, its key."""

    row: VersionRow
    sha256: bytes | None
    extents: tuple[Extent, ...]
    key: EpochKey


class History:
    """Thread-safe: all its state is in the transaction, the blob store and immutable keys."""

    def __init__(
        self, shares: Shares, store: BlobStore, *, clock: Clock, random_bytes: RandomBytes
    ) -> None:
        self._shares = shares
        self._store = store
        self._clock = clock
        self._random_bytes = random_bytes
        self._verified: Memo[VersionRow, Verified] = Memo(VERIFIED_LIMIT)

    def record(
        self,
        tx: Transaction,
        ledger: Ledger,
        node_id: bytes,
        sealed: SealedContent,
        *,
        modified_us: int,
        author: str,
        created_us: int | None = None,
    ) -> list[Dated]:
        """Add ``sealed`` to the versions of a file and return all of them, newest first.

        It counts as made now, unless ``created_us`` says that it is a copy of an older one.

        Raises ConflictError if what it was based on was cleared away, or the key that it was
        sealed under destroyed.
        """
        previous = versions.dated(tx, node_id)
        # Versions are ordered by this time, so that it may not go back when a clock does.
        newest_us = previous[0].created_us if previous else -1
        now_us = max(self._clock(), newest_us + 1) if created_us is None else created_us
        new = {segment.id for segment in sealed.new_segments}
        reused = {extent.segment_id for extent in sealed.extents} - new
        if reused and segments.known(tx, reused) != reused:
            raise ConflictError("What the file was based on has been cleared away; write it anew.")
        key = sealed.epoch_key
        if keys.epoch_key(tx, key.share_id, key.epoch) is None:
            raise ConflictError("The key that this was written under is gone; write it anew.")
        row = VersionRow(
            id=sealed.version_id,
            node_id=node_id,
            share_id=key.share_id,
            epoch=key.epoch,
            size_bytes=sealed.size_bytes,
            sha256_sealed=_sealed_digest(key, sealed.version_id, sealed.sha256),
            modified_us=modified_us,
            created_us=now_us,
            author=author,
            inline_sealed=sealed.inline_sealed,
            mac=b"",
        )
        row = row._replace(mac=_signature(key, row, sealed.sha256, sealed.extents))
        ledger.add_version(row, sealed.extents)
        versions.add_segments(tx, sealed.new_segments, now_us)
        recorded = [Dated(row.id, row.created_us, row.size_bytes, row.mac), *previous]
        return sorted(recorded, key=lambda it: (it.created_us, it.id), reverse=True)

    def current(self, tx: Transaction, file: NodeRow) -> Verified:
        """Return the current version of a file; IntegrityError when anything of it was edited."""
        row = versions.by_id(tx, file.version_id)
        if row is None or row.node_id != file.id:
            raise IntegrityError(
                f"The current version of node {file.id.hex()} of share {file.share_id.hex()} is "
                "missing: the catalog was edited."
            )
        verified = self.verified(tx, row)
        if row.size_bytes != file.size_bytes:
            raise _edited(row)
        return verified

    def all_of(self, tx: Transaction, node_id: bytes) -> list[Verified]:
        """Return every version of a node, newest first; IntegrityError."""
        return [self.verified(tx, row) for row in versions.of_node(tx, node_id)]

    def shared(self, tx: Transaction, version: Verified, key: EpochKey) -> SealedContent:
        """Return a version's content as a new version that shares its segments.

        ``key`` is the share's present epoch key, under which the new version is recorded.
        """
        version_id = self._random_bytes(ID_SIZE_BYTES)
        return SealedContent(
            version_id=version_id,
            epoch_key=key,
            size_bytes=version.row.size_bytes,
            sha256=version.sha256,
            inline_sealed=self._inline_again(tx, version, key, version_id),
            extents=version.extents,
            new_segments=(),
        )

    def handed_over(self, version: Verified, node_id: bytes) -> VersionRow:
        """Return the row of a version signed again as one of another node."""
        row = version.row._replace(node_id=node_id)
        return row._replace(mac=_signature(version.key, row, version.sha256, version.extents))

    def dated_again(self, version: Verified, created_us: int) -> VersionRow:
        """Return the row of a version signed again as one that was made at ``created_us``."""
        row = version.row._replace(created_us=created_us)
        return row._replace(mac=_signature(version.key, row, version.sha256, version.extents))

    def hashed(self, version: Verified, sha256: bytes) -> VersionRow:
        """Return the row of a version signed again with the SHA-256 of its content."""
        row = version.row._replace(
            sha256_sealed=_sealed_digest(version.key, version.row.id, sha256)
        )
        return row._replace(mac=_signature(version.key, row, sha256, version.extents))

    def resealed(
        self, tx: Transaction, version: Verified, key: EpochKey, extents: tuple[Extent, ...]
    ) -> VersionRow:
        """Return the row of a version under another epoch's key, over ``extents``.

        These must hold the same plaintext as the version's own.
        """
        row = version.row._replace(
            epoch=key.epoch,
            sha256_sealed=_sealed_digest(key, version.row.id, version.sha256),
            inline_sealed=self._inline_again(tx, version, key, version.row.id),
        )
        return row._replace(mac=_signature(key, row, version.sha256, extents))

    def _inline_again(
        self, tx: Transaction, version: Verified, key: EpochKey, version_id: bytes
    ) -> bytes | None:
        if version.row.inline_sealed is None:
            return None
        content = self.content(tx, version)
        cipher = key.new_segment(version_id, self._random_bytes)
        return seal_whole(cipher, content.read_at(0, content.size_bytes))

    def verified(self, tx: Transaction, row: VersionRow) -> Verified:
        """Return a version once the MAC over its manifest verified; IntegrityError.

        KeyUnavailableError when its key was destroyed.
        """
        try:
            extents = versions.extents_of(tx, row.id)
            key = self._shares.epoch_key(tx, row.share_id, row.epoch)
            known = self._verified.get(row)
            if known is not None and (known.extents, known.key) == (extents, key):
                return known
            digest = None
            if row.sha256_sealed is not None:
                digest = key.records.unseal(row.sha256_sealed, _HASH_CONTEXT + row.id)
            right = key.manifest_mac.verify(manifest(row, digest, extents), row.mac)
        except (IntegrityError, *_IMPOSSIBLE) as error:
            raise _edited(row) from error
        if not right:
            raise _edited(row)
        verified = Verified(row, digest, extents, key)
        if len(extents) <= MEMO_EXTENTS_LIMIT:
            self._verified.put(row, verified)
        return verified

    def content(self, tx: Transaction, version: Verified) -> Content:
        """Return the content of a version; IntegrityError when a segment is missing."""
        row = version.row
        label = f"Share {row.share_id.hex()}, node {row.node_id.hex()}"
        digest = "" if version.sha256 is None else version.sha256.hex()
        if row.inline_sealed is not None:
            try:
                cipher = version.key.open_segment(row.id, row.inline_sealed[:HEADER_SIZE_BYTES])
                return Content.of_bytes(unseal_whole(cipher, row.inline_sealed), sha256=digest)
            except (IntegrityError, *_IMPOSSIBLE) as error:
                raise IntegrityError(f"{label}: {error}") from error
        try:
            sources = {
                segment.id: StoredSegment(
                    self._store,
                    segment,
                    self._shares.epoch_key(tx, row.share_id, segment.epoch),
                )
                for segment in versions.segments_of(tx, row.id)
            }
        except (IntegrityError, *_IMPOSSIBLE) as error:
            raise IntegrityError(f"{label}: {error}") from error
        missing = {extent.segment_id for extent in version.extents} - sources.keys()
        if missing:
            raise IntegrityError(f"{label}: segment {missing.pop().hex()} is not in the catalog.")
        extents = ExtentMap(version.extents)
        return Content(row.size_bytes, extents, sources, label=label, sha256=digest)


def _sealed_digest(key: EpochKey, version_id: bytes, sha256: bytes | None) -> bytes | None:
    return None if sha256 is None else key.records.seal(sha256, _HASH_CONTEXT + version_id)


def _signature(
    key: EpochKey, row: VersionRow, sha256: bytes | None, extents: tuple[Extent, ...]
) -> bytes:
    return key.manifest_mac.tag(manifest(row, sha256, extents))


def _edited(version: VersionRow) -> IntegrityError:
    return IntegrityError(
        f"The manifest of version {_hex(version.id)} of node {_hex(version.node_id)} of share "
        f"{_hex(version.share_id)} does not verify: the catalog was edited."
    )


def manifest(version: VersionRow, digest: bytes | None, extents: tuple[Extent, ...]) -> bytes:
    """Return the bytes that a version's MAC covers (FORMAT.md section 7).

    ``digest`` is the content's SHA-256 in clear, None while it is not known.
    """
    author = version.author.encode("utf-8")
    # ``struct`` cuts what is longer than its field: a longer id would have the same MAC.
    if {len(version.id), len(version.node_id), len(version.share_id)} != {ID_SIZE_BYTES}:
        raise ValueError("an id of another length")
    parts = [
        _MANIFEST_HEAD.pack(
            version.id,
            version.node_id,
            version.share_id,
            version.epoch,
            version.size_bytes,
            version.created_us,
            len(extents),
            len(author),
        ),
        author,
        b"\0" * 33 if digest is None else b"\1" + digest,
        b"\0" if version.inline_sealed is None else b"\1",
    ]
    parts.extend(
        _MANIFEST_EXTENT.pack(
            extent.block_start, extent.block_count, extent.segment_id, extent.chunk_start
        )
        for extent in extents
    )
    return b"".join(parts)


def _hex(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else repr(value)

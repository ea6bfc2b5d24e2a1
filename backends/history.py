"""The versions of files: recording one, opening one, and letting another file share one.

Every version carries a MAC over its manifest, so that a row that was edited, dropped or swapped is
noticed before anything is read by it. No names and no tree. FORMAT.md section 7 is the
specification. Imports the catalog, keys, segments and blobs.
"""

from __future__ import annotations

import struct
from dataclasses import replace

from backends.blobs import BlobStore
from backends.catalog import retention, versions
from backends.catalog.nodes import NodeRow
from backends.catalog.versions import VersionRow
from backends.content import Content, StoredSegment
from backends.draft import SealedContent
from backends.errors import ConflictError, IntegrityError
from backends.extents import Extent, ExtentMap
from backends.keyring import RandomBytes
from backends.segment import HEADER_SIZE_BYTES, ID_SIZE_BYTES, seal_whole, unseal_whole
from backends.share import EpochKey, Shares
from gateway.model import Clock, Transaction

# What a value of a type or range that Sealgate never writes leads to.
_IMPOSSIBLE = (struct.error, TypeError, ValueError, AttributeError, AssertionError)

_HASH_CONTEXT = b"sha256"
_MANIFEST_HEAD = struct.Struct(">16s16s16sIQQQH")
_MANIFEST_EXTENT = struct.Struct(">QQ16sI")


class History:
    """Thread-safe: all its state is in the transaction, the blob store and immutable keys."""

    def __init__(
        self, shares: Shares, store: BlobStore, *, clock: Clock, random_bytes: RandomBytes
    ) -> None:
        self._shares = shares
        self._store = store
        self._clock = clock
        self._random_bytes = random_bytes

    def record(
        self,
        tx: Transaction,
        node_id: bytes,
        sealed: SealedContent,
        *,
        modified_us: int,
        author: str,
    ) -> list[retention.Dated]:
        """Add ``sealed`` to the versions of a file and return all of them, newest first.

        Raises ConflictError if what it was based on was cleared away.
        """
        previous = retention.history(tx, node_id)
        # Versions are ordered by this time, so that it may not go back when a clock does.
        now_us = max(self._clock(), previous[0].created_us + 1) if previous else self._clock()
        new = {segment.id for segment in sealed.new_segments}
        reused = list({extent.segment_id for extent in sealed.extents} - new)
        if reused and retention.known_segments(tx, reused) != frozenset(reused):
            raise ConflictError("What the file was based on has been cleared away; write it anew.")
        key = sealed.epoch_key
        row = VersionRow(
            id=sealed.version_id,
            node_id=node_id,
            share_id=key.share_id,
            epoch=key.epoch,
            size_bytes=sealed.size_bytes,
            sha256_sealed=(
                None
                if sealed.sha256 is None
                else key.records.seal(sealed.sha256, _HASH_CONTEXT + sealed.version_id)
            ),
            modified_us=modified_us,
            created_us=now_us,
            author=author,
            inline_sealed=sealed.inline_sealed,
            mac=b"",
        )
        mac = key.manifest_mac.tag(manifest(row, sealed.sha256, sealed.extents))
        versions.insert(tx, replace(row, mac=mac), sealed.extents)
        versions.insert_segments(tx, sealed.new_segments, now_us)
        return [retention.Dated(row.id, row.created_us, row.size_bytes), *previous]

    def open(self, tx: Transaction, file: NodeRow) -> Content:
        """Return the current content of a file, its manifest verified; IntegrityError."""
        return self._opened(tx, file)[0]

    def shared(self, tx: Transaction, file: NodeRow, key: EpochKey) -> SealedContent:
        """Return a file's current content as a new version that shares its segments.

        ``key`` is the share's present epoch key, under which the new version is recorded.
        """
        content, digest = self._opened(tx, file)
        version_id = self._random_bytes(ID_SIZE_BYTES)
        inline = None
        if content.inline:
            cipher = key.new_segment(version_id, self._random_bytes)
            inline = seal_whole(cipher, content.read_at(0, content.size_bytes))
        return SealedContent(
            version_id=version_id,
            epoch_key=key,
            size_bytes=content.size_bytes,
            sha256=digest,
            inline_sealed=inline,
            extents=tuple(content.extents),
            new_segments=(),
        )

    def _opened(self, tx: Transaction, file: NodeRow) -> tuple[Content, bytes | None]:
        """Return the current content and its SHA-256, if that is known."""
        try:
            version = versions.by_id(tx, file.version_id)
            if version is None or version.node_id != file.id:
                raise IntegrityError(f"The current version of node {file.id.hex()} is missing.")
            digest, extents = self._verified(tx, version)
            if version.size_bytes != file.size_bytes:
                raise _edited(version)
            return self._content(tx, version, extents), digest
        except _IMPOSSIBLE as error:
            raise IntegrityError(f"The version of node {file.id.hex()} was edited.") from error

    def _verified(
        self, tx: Transaction, version: VersionRow
    ) -> tuple[bytes | None, tuple[Extent, ...]]:
        """Return the version's hash and extents once the MAC over them verified."""
        extents = versions.extents_of(tx, version.id)
        key = self._shares.epoch_key(tx, version.share_id, version.epoch)
        digest = None
        if version.sha256_sealed is not None:
            digest = key.records.unseal(version.sha256_sealed, _HASH_CONTEXT + version.id)
        if not key.manifest_mac.verify(manifest(version, digest, extents), version.mac):
            raise _edited(version)
        return digest, extents

    def _content(
        self, tx: Transaction, version: VersionRow, extents: tuple[Extent, ...]
    ) -> Content:
        if version.inline_sealed is not None:
            key = self._shares.epoch_key(tx, version.share_id, version.epoch)
            header = version.inline_sealed[:HEADER_SIZE_BYTES]
            cipher = key.open_segment(version.id, header)
            return Content.of_bytes(unseal_whole(cipher, version.inline_sealed))
        sources = {
            row.id: StoredSegment(
                self._store, row, self._shares.epoch_key(tx, version.share_id, row.epoch)
            )
            for row in versions.segments_of(tx, version.id)
        }
        missing = {extent.segment_id for extent in extents} - sources.keys()
        if missing:
            raise IntegrityError(f"Segment {missing.pop().hex()} is not in the catalog.")
        return Content(version.size_bytes, ExtentMap(extents), sources)


def _edited(version: VersionRow) -> IntegrityError:
    return IntegrityError(
        f"The manifest of version {version.id.hex()} of node {version.node_id.hex()} does not "
        "verify: the catalog was edited."
    )


def manifest(version: VersionRow, digest: bytes | None, extents: tuple[Extent, ...]) -> bytes:
    """Return the bytes that a version's MAC covers (FORMAT.md section 7).

    ``digest`` is the content's SHA-256 in clear, None while it is not known.
    """
    author = version.author.encode("utf-8")
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

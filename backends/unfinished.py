"""Unfinished uploads: what was cut off before its end waits, sealed, for its uploader to go on.

Only the principal who began one ever sees it; everyone else sees the old content or nothing. Its
content is kept like a version's, under the upload's id in place of a node's. Imports the catalog,
the history and the ledger; knows no sessions and no protocol.
"""

from __future__ import annotations

from dataclasses import dataclass

from backends.catalog import uploads, versions
from backends.catalog.uploads import UnfinishedRow
from backends.content import Content
from backends.draft import SealedContent
from backends.errors import IntegrityError
from backends.history import History
from backends.keyring import RandomBytes
from backends.ledger import changes
from backends.segment import ID_SIZE_BYTES
from backends.share import Share
from gateway.model import SECOND_US, Clock, Kind, NodeInfo, Transaction
from gateway.paths import VirtualPath

KEEP_US = 24 * 3600 * SECOND_US
"""How long an unfinished upload waits after it was last written to."""

BATCH_LIMIT = 100
"""The most expired uploads removed in one transaction."""

_PURPOSE = b"unfinished"


@dataclass(frozen=True, slots=True)
class UnfinishedUpload:
    """An unfinished upload within one transaction, with its name in clear."""

    share: Share
    row: UnfinishedRow
    name: str

    @property
    def id(self) -> bytes:
        """The upload's id."""
        return self.row.id

    def info(self, path: VirtualPath) -> NodeInfo:
        """Return what the door tells its uploader about it."""
        row = self.row
        return NodeInfo(
            path=path,
            kind=Kind.FILE,
            node_id=row.id.hex(),
            version_id=row.version_id.hex(),
            size_bytes=row.size_bytes,
            created_us=row.created_us,
            modified_us=row.modified_us,
        )


class Unfinished:
    """Thread-safe: all its state is in the transaction and the blob store."""

    def __init__(self, history: History, *, clock: Clock, random_bytes: RandomBytes) -> None:
        self._history = history
        self._clock = clock
        self._random_bytes = random_bytes

    def keep(
        self,
        tx: Transaction,
        share: Share,
        folder_id: bytes,
        name: str,
        sealed: SealedContent,
        *,
        principal_id: str,
        modified_us: int,
    ) -> UnfinishedUpload:
        """Keep what arrived of an upload, in place of an earlier try at the same name."""
        earlier = self.find(tx, share, folder_id, name, principal_id=principal_id)
        if earlier is not None:
            self.remove(tx, earlier)
        now_us = self._clock()
        row = UnfinishedRow(
            id=self._random_bytes(ID_SIZE_BYTES),
            share_id=share.id,
            folder_id=folder_id,
            name_sealed=share.names.seal(folder_id, name),
            principal_id=principal_id,
            version_id=sealed.version_id,
            size_bytes=sealed.size_bytes,
            created_us=now_us,
            modified_us=modified_us,
            expires_us=now_us + KEEP_US,
        )
        row = row._replace(mac=share.seal.tag(_PURPOSE, *_fields(row)))
        with changes(tx, share.id, share.seal) as ledger:
            self._history.record(
                tx, ledger, row.id, sealed, modified_us=modified_us, author=principal_id
            )
        uploads.add(tx, row)
        return UnfinishedUpload(share, row, name)

    def find(
        self, tx: Transaction, share: Share, folder_id: bytes, name: str, *, principal_id: str
    ) -> UnfinishedUpload | None:
        """Return the principal's unfinished upload of that name; IntegrityError if edited."""
        sealed_name = share.names.seal(folder_id, name)
        row = uploads.by_name(tx, folder_id, sealed_name, principal_id)
        if row is None:
            return None
        self._require_sound(share, row)
        return None if row.expires_us <= self._clock() else UnfinishedUpload(share, row, name)

    def in_folder(
        self, tx: Transaction, share: Share, folder_id: bytes, *, principal_id: str
    ) -> list[UnfinishedUpload]:
        """Return the principal's unfinished uploads in the folder, in no order."""
        found = []
        for row in uploads.of_folder(tx, folder_id, principal_id):
            self._require_sound(share, row)
            if row.expires_us > self._clock():
                name = share.names.unseal(folder_id, row.name_sealed)
                found.append(UnfinishedUpload(share, row, name))
        return found

    def open(self, tx: Transaction, upload: UnfinishedUpload) -> Content:
        """Return what arrived, its manifest verified."""
        version = versions.by_id(tx, upload.row.version_id)
        if version is None or version.node_id != upload.id:
            raise IntegrityError(f"The content of unfinished upload {upload.id.hex()} is missing.")
        return self._history.content(tx, self._history.verified(tx, version))

    def remove(self, tx: Transaction, upload: UnfinishedUpload) -> None:
        """Remove an unfinished upload, because it was finished or is no longer wanted."""
        with changes(tx, upload.share.id, upload.share.seal) as ledger:
            ledger.remove_versions(versions.dated(tx, upload.id))
        uploads.remove(tx, upload.id)

    def expire_next(self, tx: Transaction, share: Share) -> int:
        """Remove a batch of the share's uploads that waited too long; return how many."""
        expired = uploads.expired(tx, share.id, self._clock(), BATCH_LIMIT)
        for row in expired:
            self.remove(tx, UnfinishedUpload(share, row, ""))
        return len(expired)

    @staticmethod
    def _require_sound(share: Share, row: UnfinishedRow) -> None:
        share.seal.require_tag(row.mac, _PURPOSE, *_fields(row))


def _fields(row: UnfinishedRow) -> tuple[bytes, ...]:
    return (
        row.id,
        row.share_id,
        row.folder_id,
        row.name_sealed,
        row.principal_id.encode("utf-8"),
        row.version_id,
        *(
            number.to_bytes(8, "big", signed=True)
            for number in (row.size_bytes, row.created_us, row.modified_us, row.expires_us)
        ),
    )

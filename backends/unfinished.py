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
        base_id: bytes,
        modified_us: int,
    ) -> UnfinishedUpload:
        """Keep what arrived of an upload, in place of an earlier try at the same name.

        ``base_id``: the version that the name held when it began, empty for none.
        """
        name_sealed = share.names.seal(folder_id, name)
        earlier = uploads.by_name(tx, folder_id, name_sealed, principal_id)
        if earlier is not None:
            self._remove_row(tx, share, earlier)
        now_us = self._clock()
        row = UnfinishedRow(
            id=self._random_bytes(ID_SIZE_BYTES),
            share_id=share.id,
            folder_id=folder_id,
            name_sealed=name_sealed,
            principal_id=principal_id,
            base_id=base_id,
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
        """Return the principal's unfinished upload of that name.

        None for a row that was edited: it must not keep its owner from the name. ``sealgate
        scrub`` reports it.
        """
        row = uploads.by_name(tx, folder_id, share.names.seal(folder_id, name), principal_id)
        if row is None or not _is_sound(share, row) or row.expires_us <= self._clock():
            return None
        return UnfinishedUpload(share, row, name)

    def in_folder(
        self, tx: Transaction, share: Share, folder_id: bytes, *, principal_id: str
    ) -> list[UnfinishedUpload]:
        """Return the principal's unfinished uploads in the folder, in no order."""
        found = []
        for row in uploads.of_folder(tx, folder_id, principal_id):
            if _is_sound(share, row) and row.expires_us > self._clock():
                name = share.names.unseal(folder_id, row.name_sealed)
                found.append(UnfinishedUpload(share, row, name))
        return found

    @staticmethod
    def is_current(upload: UnfinishedUpload, present_id: bytes | None) -> bool:
        """Return whether an upload still stands for its name, which holds ``present_id`` now.

        That is the version id of a file, empty when nothing is there, None for a folder. Once
        anybody has put something else there, nobody goes on with the upload or looks at it.
        """
        return upload.row.base_id == present_id

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
            self._remove_row(tx, share, row)
        return len(expired)

    def _remove_row(self, tx: Transaction, share: Share, row: UnfinishedRow) -> None:
        # A made-up row could name a file in place of an upload, whose versions would go.
        if _is_sound(share, row):
            self.remove(tx, UnfinishedUpload(share, row, ""))
        else:
            uploads.remove(tx, row.id)


def require_sound(share: Share, row: UnfinishedRow) -> None:
    """Raise IntegrityError unless the row is as it was written."""
    share.seal.require_tag(row.mac, _PURPOSE, *_fields(row))


def _is_sound(share: Share, row: UnfinishedRow) -> bool:
    try:
        require_sound(share, row)
    except IntegrityError:
        return False
    return True


def _fields(row: UnfinishedRow) -> tuple[bytes, ...]:
    try:
        return (
            row.id,
            row.share_id,
            row.folder_id,
            row.name_sealed,
            row.principal_id.encode("utf-8"),
            row.base_id,
            row.version_id,
            *(
                number.to_bytes(8, "big", signed=True)
                for number in (row.size_bytes, row.created_us, row.modified_us, row.expires_us)
            ),
        )
    except (AttributeError, OverflowError) as error:
        raise IntegrityError(
            f"Unfinished upload {_hex(row.id)} of share {_hex(row.share_id)} was edited in the "
            "catalog."
        ) from error


def _hex(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else repr(value)

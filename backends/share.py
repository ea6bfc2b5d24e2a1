"""Shares as the vault sees them: their ids, ciphers and keys, unwrapped once and kept.

Unwrapped keys are kept only under the wrapped bytes that the current transaction read, so a
change made by another process is noticed without any message. Imports the keyring and the
catalog.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from backends.catalog import keys, nodes
from backends.errors import KeyUnavailableError, NotFoundError
from backends.keyring import (
    Mac,
    MasterKey,
    MasterKeySource,
    NameCipher,
    RandomBytes,
    RecordCipher,
    new_epoch_key,
    new_name_key,
)
from backends.ledger import RowSeal, State
from backends.memo import Memo
from backends.segment import ID_SIZE_BYTES, SALT_SIZE_BYTES, SegmentCipher
from gateway.model import Clock, Transaction

log = logging.getLogger(__name__)

MASTER_KEY_ID = "master_key_id"
SYSTEM_KEY = "system_key_wrapped"
"""The catalog's own settings that hold a master key's id and the wrapped system key."""

_ROOT_NAME = b"root"

SYSTEM_PURPOSE = "system"
NAME_PURPOSE = "names"
EPOCH_PURPOSE = "epoch"

OPENED_SEGMENTS_LIMIT = 256
"""How many segments' ciphers an epoch key remembers."""

EPOCH_LIMIT = 0xFFFFFFFF
"""The highest epoch: segment headers hold 32 bits of it."""


def epoch_context(share_id: bytes, epoch: int) -> bytes:
    """Return the place that an epoch key is wrapped for; KeyUnavailableError for no epoch."""
    if not 0 < epoch <= EPOCH_LIMIT:
        raise KeyUnavailableError(f"Share {share_id.hex()} has no epoch {epoch}.")
    return share_id + epoch.to_bytes(4, "big")


@dataclass(frozen=True, slots=True)
class ShareSettings:
    """What the configuration says of a share. ``quota_bytes`` None: bounded by the disk alone.

    ``versions_keep`` old versions of a file are kept, none longer than ``versions_for_s`` after
    it was replaced; deleted nodes stay restorable for ``trash_s`` (0: not at all).
    """

    name: str
    quota_bytes: int | None = None
    versions_keep: int = 30
    versions_for_s: int = 90 * 24 * 3600
    trash_s: int = 0


class EpochKey:
    """One share's key of one epoch, and everything that is sealed directly under it."""

    __slots__ = ("_key", "_opened", "epoch", "manifest_mac", "records", "share_id")

    def __init__(self, share_id: bytes, epoch: int, key: bytes) -> None:
        self.share_id = share_id
        self.epoch = epoch
        self._key = key
        self.manifest_mac = Mac(key, "manifest")
        self.records = RecordCipher(key, "version")
        self._opened: Memo[tuple[bytes, bytes], SegmentCipher] = Memo(OPENED_SEGMENTS_LIMIT)

    def new_segment(self, segment_id: bytes, random_bytes: RandomBytes) -> SegmentCipher:
        """Return the cipher for a new segment, under a salt never used before."""
        salt = random_bytes(SALT_SIZE_BYTES)
        return SegmentCipher.create(self._key, self.share_id, self.epoch, segment_id, salt)

    def open_segment(self, segment_id: bytes, header: bytes) -> SegmentCipher:
        """Return the cipher for a stored segment; IntegrityError when it is not that segment."""
        known = self._opened.get((segment_id, header))
        if known is None:
            known = SegmentCipher.open(self._key, self.share_id, self.epoch, segment_id, header)
            self._opened.put((segment_id, header), known)
        return known


@dataclass(frozen=True, slots=True)
class Share:
    """A share within one transaction: its row, its settings, its ciphers."""

    row: keys.ShareRow
    settings: ShareSettings
    names: NameCipher
    records: RecordCipher
    seal: RowSeal
    key: EpochKey

    @property
    def id(self) -> bytes:
        """The share's id."""
        return self.row.id

    @property
    def name(self) -> str:
        """The share's name."""
        return self.row.name


class Shares:
    """Finds shares and their keys. Thread-safe."""

    def __init__(
        self,
        masters: MasterKeySource,
        settings: Mapping[str, ShareSettings],
        random_bytes: RandomBytes,
    ) -> None:
        self._masters = masters
        self._settings = dict(settings)
        self._random_bytes = random_bytes
        # Each beside the wrapped bytes that it was unwrapped from; one entry a share and epoch.
        self._names: dict[bytes, tuple[bytes, NameCipher, RecordCipher, RowSeal]] = {}
        self._epochs: dict[tuple[bytes, int], tuple[bytes, EpochKey]] = {}

    def configure(self, settings: Mapping[str, ShareSettings]) -> None:
        """Take over the shares of a reloaded configuration."""
        self._settings = dict(settings)

    def get(self, tx: Transaction, name: str, *, checked: bool = True) -> Share:
        """Return the configured share of that name; NotFoundError when there is none.

        Raises IntegrityError when its row was edited, unless ``checked`` is False: who looks for
        damage needs the keys all the same.
        """
        if checked and ("share", name) in tx.seen:
            return cast(Share, tx.seen["share", name])
        settings = self._settings.get(name)
        row = keys.share_by_name(tx, name) if settings is not None else None
        if settings is None or row is None:
            raise NotFoundError("There is no such share.")
        cached = self._names.get(row.id)
        if cached is None or cached[0] != row.name_key_wrapped:
            name_key = self._master(tx).unwrap(row.name_key_wrapped, NAME_PURPOSE, row.id)
            records = RecordCipher(name_key, "node", self._random_bytes)
            seal = RowSeal(row.id, name_key)
            cached = (row.name_key_wrapped, NameCipher(name_key), records, seal)
            self._names[row.id] = cached
        _, names, records, seal = cached
        epoch = row.epoch
        if checked:
            seal.state_of(row)
        elif keys.epoch_key(tx, row.id, epoch) is None:
            # Set to an epoch that has no key: any other of the share's opens what there is.
            epoch = max(
                (each.epoch for each in keys.epochs_of(tx, row.id) if each.key_wrapped),
                default=epoch,
            )
        share = Share(row, settings, names, records, seal, self.epoch_key(tx, row.id, epoch))
        if checked:
            tx.seen["share", name] = share
        return share

    def epoch_key(self, tx: Transaction, share_id: bytes, epoch: int) -> EpochKey:
        """Return a share's key of one epoch; KeyUnavailableError when it was destroyed."""
        if (share_id, epoch) in tx.seen:
            return cast(EpochKey, tx.seen[share_id, epoch])
        wrapped = keys.epoch_key(tx, share_id, epoch)
        if wrapped is None:
            self._epochs.pop((share_id, epoch), None)
            raise KeyUnavailableError(
                f"Epoch {epoch} of share {share_id.hex()} has no key: it was destroyed, and what "
                "was sealed under it cannot be read any more."
            )
        cached = self._epochs.get((share_id, epoch))
        if cached is None or cached[0] != wrapped:
            context = epoch_context(share_id, epoch)
            key = self._master(tx).unwrap(wrapped, EPOCH_PURPOSE, context)
            cached = (wrapped, EpochKey(share_id, epoch, key))
            self._epochs[share_id, epoch] = cached
        tx.seen[share_id, epoch] = cached[1]
        return cached[1]

    def create_missing(self, tx: Transaction, clock: Clock) -> list[str]:
        """Make every configured share that the catalog lacks; return the names of the new ones."""
        made = []
        for name in sorted(self._settings):
            if keys.share_by_name(tx, name) is None:
                self._create(tx, name, clock())
                made.append(name)
        return made

    def _master(self, tx: Transaction) -> MasterKey:
        try:
            return master_key(tx, self._masters)
        except KeyUnavailableError as error:
            # The reason names the key file, which is no business of a client's.
            log.error("no share's keys can be opened: %s", error)
            raise KeyUnavailableError(
                "The key that the data is sealed under is not at hand. Tell the administrator."
            ) from error

    def _create(self, tx: Transaction, name: str, now_us: int) -> None:
        master = master_key(tx, self._masters)
        share_id = self._random_bytes(ID_SIZE_BYTES)
        name_key = new_name_key(self._random_bytes)
        seal = RowSeal(share_id, name_key)
        root = seal.signed(
            nodes.NodeRow(
                id=self._random_bytes(ID_SIZE_BYTES),
                share_id=share_id,
                parent_id=share_id,
                name_sealed=_ROOT_NAME,
                is_folder=True,
                version_id=nodes.NO_VERSION,
                size_bytes=0,
                created_us=now_us,
                modified_us=now_us,
                created_by="",
            )
        )
        nodes.add(tx, [root])
        row = keys.ShareRow(
            id=share_id,
            name=name,
            root_id=root.id,
            name_key_wrapped=master.wrap(name_key, NAME_PURPOSE, share_id),
            epoch=1,
            used_bytes=0,
            node_count=0,
            created_us=now_us,
            state_sealed=b"",
        )
        # The root is not counted among the share's nodes, but its row is vouched for like others.
        state = State(seal.element(root.mac), used_bytes=0, node_count=0, epoch=row.epoch)
        keys.insert_share(tx, seal.stated(row, state))
        keys.insert_epoch(tx, new_epoch(master, share_id, row.epoch, now_us, self._random_bytes))


def new_epoch(
    master: MasterKey, share_id: bytes, epoch: int, now_us: int, random_bytes: RandomBytes
) -> keys.EpochRow:
    """Return the row of a share's new epoch, with a new key wrapped under ``master``."""
    context = epoch_context(share_id, epoch)
    wrapped = master.wrap(new_epoch_key(random_bytes), EPOCH_PURPOSE, context)
    return keys.EpochRow(share_id, epoch, wrapped, now_us, None)


def master_key_id(tx: Transaction) -> str | None:
    """Return the id of the master key that the catalog is sealed under; None when it is new."""
    known = keys.setting(tx, MASTER_KEY_ID)
    return None if known is None else known.decode("ascii", "replace")


def master_key(tx: Transaction, masters: MasterKeySource) -> MasterKey:
    """Return the master key that the catalog's keys are wrapped under; KeyUnavailableError."""
    key_id = master_key_id(tx)
    return masters.newest if key_id is None else masters.named(key_id)


def system_key(
    tx: Transaction, masters: MasterKeySource, random_bytes: RandomBytes = os.urandom
) -> bytes:
    """Return the catalog's system key, which seals what belongs to no share.

    The first call on a new catalog (in a write transaction) makes it and notes the master key's
    id. Raises KeyUnavailableError when the catalog belongs to another master key.
    """
    master = master_key(tx, masters)
    if master_key_id(tx) is None:
        key = new_epoch_key(random_bytes)
        keys.put_setting(tx, MASTER_KEY_ID, master.key_id.encode("ascii"))
        keys.put_setting(tx, SYSTEM_KEY, master.wrap(key, SYSTEM_PURPOSE))
        return key
    wrapped = keys.setting(tx, SYSTEM_KEY)
    if wrapped is None:
        raise KeyUnavailableError("The catalog has lost its system key; restore it from a backup.")
    return master.unwrap(wrapped, SYSTEM_PURPOSE)

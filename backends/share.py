"""Shares as the vault sees them: their ids, ciphers and keys, unwrapped once and kept.

Unwrapped keys are kept only under the wrapped bytes that the current transaction read, so a
change made by another process is noticed without any message. Imports the keyring and the
catalog.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from backends.catalog import keys, nodes
from backends.errors import KeyUnavailableError, NotFoundError
from backends.keyring import (
    Mac,
    MasterKey,
    NameCipher,
    RandomBytes,
    RecordCipher,
    new_epoch_key,
    new_name_key,
)
from backends.segment import ID_SIZE_BYTES, SALT_SIZE_BYTES, SegmentCipher
from gateway.model import Clock, Transaction

_MASTER_KEY_ID = "master_key_id"
_SYSTEM_KEY = "system_key_wrapped"
_ROOT_NAME = b"root"

SYSTEM_PURPOSE = "system"
NAME_PURPOSE = "names"
EPOCH_PURPOSE = "epoch"

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

    __slots__ = ("_key", "epoch", "manifest_mac", "records", "share_id")

    def __init__(self, share_id: bytes, epoch: int, key: bytes) -> None:
        self.share_id = share_id
        self.epoch = epoch
        self._key = key
        self.manifest_mac = Mac(key, "manifest")
        self.records = RecordCipher(key, "version")

    def new_segment(self, segment_id: bytes, random_bytes: RandomBytes) -> SegmentCipher:
        """Return the cipher for a new segment, under a salt never used before."""
        salt = random_bytes(SALT_SIZE_BYTES)
        return SegmentCipher.create(self._key, self.share_id, self.epoch, segment_id, salt)

    def open_segment(self, segment_id: bytes, header: bytes) -> SegmentCipher:
        """Return the cipher for a stored segment; IntegrityError when it is not that segment."""
        return SegmentCipher.open(self._key, self.share_id, self.epoch, segment_id, header)


@dataclass(frozen=True, slots=True)
class Share:
    """A share within one transaction: its row, its settings, its ciphers."""

    row: keys.ShareRow
    settings: ShareSettings
    names: NameCipher
    records: RecordCipher
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
        self, master: MasterKey, settings: Mapping[str, ShareSettings], random_bytes: RandomBytes
    ) -> None:
        self._master = master
        self._settings = dict(settings)
        self._random_bytes = random_bytes
        self._names: dict[tuple[bytes, bytes], tuple[NameCipher, RecordCipher]] = {}
        self._epochs: dict[tuple[bytes, int, bytes], EpochKey] = {}

    def configure(self, settings: Mapping[str, ShareSettings]) -> None:
        """Take over the shares of a reloaded configuration."""
        self._settings = dict(settings)

    def get(self, tx: Transaction, name: str) -> Share:
        """Return the configured share of that name; NotFoundError when there is none."""
        settings = self._settings.get(name)
        row = keys.share_by_name(tx, name) if settings is not None else None
        if settings is None or row is None:
            raise NotFoundError("There is no such share.")
        ciphers = self._names.get((row.id, row.name_key_wrapped))
        if ciphers is None:
            name_key = self._master.unwrap(row.name_key_wrapped, NAME_PURPOSE, row.id)
            ciphers = (NameCipher(name_key), RecordCipher(name_key, "node", self._random_bytes))
            self._names[row.id, row.name_key_wrapped] = ciphers
        return Share(row, settings, *ciphers, self.epoch_key(tx, row.id, row.epoch))

    def epoch_key(self, tx: Transaction, share_id: bytes, epoch: int) -> EpochKey:
        """Return a share's key of one epoch; KeyUnavailableError when it was destroyed."""
        wrapped = keys.epoch_key(tx, share_id, epoch)
        if wrapped is None:
            raise KeyUnavailableError(
                f"Epoch {epoch} of share {share_id.hex()} has no key: it was destroyed, and what "
                "was sealed under it cannot be read any more."
            )
        cached = self._epochs.get((share_id, epoch, wrapped))
        if cached is None:
            context = epoch_context(share_id, epoch)
            key = self._master.unwrap(wrapped, EPOCH_PURPOSE, context)
            cached = EpochKey(share_id, epoch, key)
            self._epochs[share_id, epoch, wrapped] = cached
        return cached

    def create_missing(self, tx: Transaction, clock: Clock) -> list[str]:
        """Make every configured share that the catalog lacks; return the names of the new ones."""
        made = []
        for name in sorted(self._settings):
            if keys.share_by_name(tx, name) is None:
                self._create(tx, name, clock())
                made.append(name)
        return made

    def _create(self, tx: Transaction, name: str, now_us: int) -> None:
        share_id = self._random_bytes(ID_SIZE_BYTES)
        root_id = self._random_bytes(ID_SIZE_BYTES)
        row = keys.ShareRow(
            id=share_id,
            name=name,
            root_id=root_id,
            name_key_wrapped=self._master.wrap(
                new_name_key(self._random_bytes), NAME_PURPOSE, share_id
            ),
            epoch=1,
            used_bytes=0,
            node_count=0,
            created_us=now_us,
        )
        epoch_key = new_epoch_key(self._random_bytes)
        context = epoch_context(share_id, row.epoch)
        keys.insert_share(tx, row, self._master.wrap(epoch_key, EPOCH_PURPOSE, context))
        nodes.insert(
            tx,
            nodes.NodeRow(
                id=root_id,
                share_id=share_id,
                parent_id=share_id,
                name_sealed=_ROOT_NAME,
                is_folder=True,
                version_id=nodes.NO_VERSION,
                size_bytes=0,
                created_us=now_us,
                modified_us=now_us,
                created_by="",
            ),
        )


def system_key(tx: Transaction, master: MasterKey, random_bytes: RandomBytes = os.urandom) -> bytes:
    """Return the catalog's system key, which seals what belongs to no share.

    The first call on a new catalog (in a write transaction) makes it and notes the master key's
    id. Raises KeyUnavailableError when the catalog belongs to another master key.
    """
    known = keys.setting(tx, _MASTER_KEY_ID)
    if known is None:
        key = new_epoch_key(random_bytes)
        keys.put_setting(tx, _MASTER_KEY_ID, master.key_id.encode("ascii"))
        keys.put_setting(tx, _SYSTEM_KEY, master.wrap(key, SYSTEM_PURPOSE))
        return key
    if known != master.key_id.encode("ascii"):
        raise KeyUnavailableError(
            f"The data is sealed under master key {known.decode('ascii')}, but "
            f"{master.key_id} was given. Put the right key file under keys.master_key."
        )
    wrapped = keys.setting(tx, _SYSTEM_KEY)
    if wrapped is None:
        raise KeyUnavailableError("The catalog has lost its system key; restore it from a backup.")
    return master.unwrap(wrapped, SYSTEM_PURPOSE)

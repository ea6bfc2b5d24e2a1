"""Rotation: the catalog's keys under another master key, and shares under new epochs.

Each function works in the caller's transaction, so that the audit record commits with it. Which
keys a master key file holds is ``backends.keyfile``'s; what is sealed under an epoch is not
touched here. Imports the catalog, the keyring, key files, shares and what vouches for their rows.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from backends.catalog import keys
from backends.errors import KeyUnavailableError
from backends.keyfile import MasterKeys
from backends.keyring import MasterKey, MasterKeySource, RandomBytes
from backends.ledger import RowSeal, set_epoch
from backends.share import (
    EPOCH_LIMIT,
    EPOCH_PURPOSE,
    MASTER_KEY_ID,
    NAME_PURPOSE,
    SYSTEM_KEY,
    SYSTEM_PURPOSE,
    epoch_context,
    master_key,
    new_epoch,
    system_key,
)
from gateway.model import Transaction


@dataclass(frozen=True, slots=True)
class Rewrapped:
    """What was wrapped under another master key, besides the system key."""

    share_count: int
    epoch_count: int


def prepare_master(
    masters: MasterKeys, current_id: str, random_bytes: RandomBytes = os.urandom
) -> MasterKey:
    """Return the master key to rotate to, which is in the key file when this returns.

    That is the newest of the file if it is not the current one: a rotation that was cut off left
    it there. Otherwise a new key is made and added. Call within ``masters.changing``.
    """
    if masters.newest.key_id == current_id:
        masters.add(MasterKey.generate(random_bytes))
    return masters.newest


def rewrap(tx: Transaction, masters: MasterKeySource, new: MasterKey) -> Rewrapped:
    """Wrap every key of the catalog under ``new``, which is the catalog's master key from then on.

    No key is changed and nothing is sealed again. ``new`` must be where every process finds it
    before this commits. Raises KeyUnavailableError, naming the share, for a key that does not
    open; the caller rolls back, and everything stays under the old master.
    """
    old = master_key(tx, masters)
    keys.put_setting(tx, SYSTEM_KEY, new.wrap(system_key(tx, masters), SYSTEM_PURPOSE))
    epoch_count = 0
    shares = keys.all_shares(tx)
    for share in shares:
        try:
            name_key = old.unwrap(share.name_key_wrapped, NAME_PURPOSE, share.id)
            wrapped = new.wrap(name_key, NAME_PURPOSE, share.id)
            keys.put_share(tx, share._replace(name_key_wrapped=wrapped))
            for row in keys.epochs_of(tx, share.id):
                if row.key_wrapped is None:
                    continue
                context = epoch_context(share.id, row.epoch)
                epoch_key = old.unwrap(row.key_wrapped, EPOCH_PURPOSE, context)
                wrapped = new.wrap(epoch_key, EPOCH_PURPOSE, context)
                keys.put_epoch(tx, row._replace(key_wrapped=wrapped))
                epoch_count += 1
        except KeyUnavailableError as error:
            raise KeyUnavailableError(f"In share '{share.name}': {error}") from error
    keys.put_setting(tx, MASTER_KEY_ID, new.key_id.encode("ascii"))
    return Rewrapped(len(shares), epoch_count)


def rotate_share(
    tx: Transaction,
    masters: MasterKeySource,
    share: keys.ShareRow,
    now_us: int,
    random_bytes: RandomBytes = os.urandom,
) -> int:
    """Begin a new epoch of ``share`` (its row in this transaction) and return its number.

    What is written from the commit on is sealed under the new key, by every process; what was
    written before stays under the old ones. The only place where a share's epoch changes.
    """
    epoch = share.epoch + 1
    if epoch > EPOCH_LIMIT:
        raise KeyUnavailableError(f"Share '{share.name}' has used up its epochs.")
    master = master_key(tx, masters)
    name_key = master.unwrap(share.name_key_wrapped, NAME_PURPOSE, share.id)
    keys.insert_epoch(tx, new_epoch(master, share.id, epoch, now_us, random_bytes))
    set_epoch(tx, share, RowSeal(share.id, name_key), epoch)
    return epoch

"""The manifest: what a backup says of itself, under a MAC that only this gateway's keys make.

Pure: bytes in, records out; no files, no rows. Imports the keyring and the storage errors.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from typing import Any

from backends.errors import IntegrityError, StorageUnavailableError
from backends.keyring import Mac, MasterKey, MasterKeySource, derive_key
from backends.share import SYSTEM_PURPOSE

FORMAT = 1

_HEX = re.compile(r"([0-9a-f]{2})+")
_PURPOSE = "backup"


@dataclass(frozen=True, slots=True)
class Damaged:
    """A segment that is not in the backup because it did not verify: ids in hex, and why."""

    segment: str
    share: str
    reason: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What one backup holds. Ids, keys and hashes are lower-case hex."""

    id: str
    made_us: int
    node: str
    release: str
    revision: str
    gateway_id: str
    master_key_id: str
    system_key_wrapped: str
    catalog_size_bytes: int
    catalog_sha256: str
    rows: dict[str, int]
    segment_count: int
    segment_size_bytes: int
    damaged: tuple[Damaged, ...]

    def signed(self, system_key: bytes) -> bytes:
        """Return the manifest as it is kept, its MAC included."""
        fields = asdict(self) | {"format": FORMAT}
        tag = Mac(system_key, _PURPOSE).tag(_canonical(fields))
        text = json.dumps(fields | {"mac": tag.hex()}, sort_keys=True, indent=1)
        return text.encode("ascii") + b"\n"


def gateway_id(system_key: bytes) -> str:
    """Return what tells this gateway's backups from others', whatever its master key is."""
    return derive_key(system_key, "sealgate gateway id", size_bytes=8).hex()


def unverified(data: bytes) -> Manifest:
    """Return the manifest in ``data``, which anybody may have written; IntegrityError."""
    return _parsed(data)[0]


def opened(data: bytes, masters: MasterKeySource) -> tuple[Manifest, bytes]:
    """Return the manifest and the system key of the gateway that made it.

    Raises IntegrityError when it was edited, KeyUnavailableError when the master key that it
    needs is not at hand.
    """
    manifest, fields, tag = _parsed(data)
    master: MasterKey = masters.named(manifest.master_key_id)
    system_key = master.unwrap(bytes.fromhex(manifest.system_key_wrapped), SYSTEM_PURPOSE)
    if not Mac(system_key, _PURPOSE).verify(_canonical(fields), tag):
        raise IntegrityError("The manifest of the backup does not verify: it was edited.")
    return manifest, system_key


def _canonical(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode("ascii")


def _parsed(data: bytes) -> tuple[Manifest, dict[str, Any], bytes]:
    try:
        fields = json.loads(data.decode("ascii"))
        _require_format(fields["format"])
        tag = bytes.fromhex(fields.pop("mac"))
        values = {name: value for name, value in fields.items() if name != "format"}
        damaged = tuple(Damaged(**_texts(each)) for each in values.pop("damaged"))
        manifest = Manifest(**values, damaged=damaged)
        _check(manifest)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise IntegrityError("The manifest of the backup is damaged; it cannot be read.") from error
    return manifest, fields, tag


def _require_format(found: object) -> None:
    if type(found) is not int or found < FORMAT:
        raise ValueError(found)
    if found > FORMAT:
        raise StorageUnavailableError(
            f"The backup has format {found}, which this version of Sealgate does not know. Use the "
            "version that made it."
        )


def _check(manifest: Manifest) -> None:
    """Raise ValueError for values that no backup has: they name files and keys."""
    for text, size in (
        (manifest.id, 32),
        (manifest.gateway_id, 16),
        (manifest.master_key_id, 16),
        (manifest.system_key_wrapped, 80),
        (manifest.catalog_sha256, 64),
    ):
        if len(text) != size or not _HEX.fullmatch(text):
            raise ValueError(text)
    numbers = (
        manifest.made_us,
        manifest.catalog_size_bytes,
        manifest.segment_count,
        manifest.segment_size_bytes,
        *manifest.rows.values(),
    )
    _texts({"node": manifest.node, "release": manifest.release, "revision": manifest.revision})
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise ValueError(numbers)


def _texts(fields: dict[str, Any]) -> dict[str, str]:
    if not all(isinstance(value, str) for value in fields.values()):
        raise ValueError(fields)
    return fields

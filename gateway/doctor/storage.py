"""The master key, the data folder, the catalog and the blob store.

Writes nothing that stays: one unnamed file in the data folder, to see whether its disk syncs.
Imports the wiring, the configuration and the stores.
"""

from __future__ import annotations

import mmap
import os
import pwd
import tempfile
from collections.abc import Iterator
from pathlib import Path

from backends.catalog import marks
from backends.catalog.engine import Catalog
from backends.catalog.migrations import REVISION
from backends.catalog.statement import Tx
from backends.errors import StorageError
from backends.keyring import MasterKeySource
from backends.share import master_key_id, system_key
from gateway.app import has_data, open_storage, read_master_keys
from gateway.config import GatewayConfig
from gateway.doctor.finding import Detail, Finding, ok, problem, warning

MIB = 1 << 20
GIB = 1 << 30
LOW_BYTES = 5 * GIB
EMPTY_BYTES = 256 * MIB

_SHARED = ("nfs", "cifs", "smb", "9p", "fuse.sshfs", "fuse.glusterfs", "ceph", "lustre")
_FORGETFUL = ("tmpfs", "ramfs", "overlay")
_MOUNTS = Path("/proc/self/mounts")


def check_master_key(config: GatewayConfig) -> Iterator[Finding]:
    """Yield whether the master key is there, and readable by the gateway alone."""
    keys = read_master_keys(config)
    subject = f"master key {keys.path}"
    status = keys.path.stat()
    if status.st_mode & 0o040:
        message = "may be read by a whole group of accounts."
        yield warning(subject, message, f"Run 'chmod 600 {keys.path}'.")
    elif len(keys.key_ids) > 1:
        message = f"holds {len(keys.key_ids)} keys: a rotation has not come to its end."
        yield warning(
            subject, message, "Run 'sealgate keys rotate-master' again; see docs/KEYS.md."
        )
    else:
        yield ok(subject, "is readable by its owner alone, and lies outside the data.")


def check_data_folder(config: GatewayConfig, mounts: Path = _MOUNTS) -> Iterator[Finding]:
    """Yield who owns the data folder, what file system it is on, and how much room there is."""
    folder = config.storage.data_dir
    subject = f"data folder {folder}"
    if not folder.exists():
        yield ok(subject, "is not there yet; the first start makes it.")
        return
    owner, me = folder.stat().st_uid, os.geteuid()
    if owner != me:
        name = _account(owner)
        message = f"belongs to {name}; what this command leaves there may not."
        yield warning(subject, message, f"Run this as {name}: 'sudo -u {name} sealgate doctor'.")
    kind = file_system(folder, mounts)
    if config.storage.catalog is None and kind.startswith(_SHARED):
        message = f"lies on a network file system ({kind}), on which SQLite loses data."
        yield problem(subject, message, "Move it to a local disk, or use PostgreSQL.")
    elif kind in _FORGETFUL:
        message = f"lies on {kind}, which forgets everything with the machine or container."
        yield warning(subject, message, "Move it to a disk.")
    else:
        yield ok(subject, f"lies on {kind or 'a file system without a name'}.")
    yield _syncing(subject, folder)
    status = os.statvfs(folder)
    yield _room(subject, status.f_bavail * status.f_frsize)


def file_system(folder: Path, mounts: Path = _MOUNTS) -> str:
    """Return the kind of the file system that ``folder`` lies on; "" where nobody can tell."""
    real, best, kind = folder.resolve(), "", ""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    for line in lines:
        _, _, rest = line.partition(" ")
        point, named, *_ = rest.split(" ")
        point = point.replace("\\040", " ")
        if real.is_relative_to(point) and len(point) >= len(best):
            best, kind = point, named
    return kind


def _syncing(subject: str, folder: Path) -> Finding:
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(mmap.PAGESIZE))
            file.flush()
            os.fsync(file.fileno())
            # The index of SQLite's write-ahead log is shared memory over a file.
            with mmap.mmap(file.fileno(), mmap.PAGESIZE) as shared:
                shared[0] = 1
                shared.flush()
    except OSError as error:
        message = f"cannot be written and synced ({error.strerror})."
        return problem(subject, message, "Mend the disk or its rights; nothing can be stored.")
    return ok(subject, "can be written, synced and shared between processes.")


def _room(subject: str, free_bytes: int) -> Finding:
    free = f"{free_bytes / GIB:.1f} GiB"
    if free_bytes < EMPTY_BYTES:
        return problem(subject, f"has {free} left: uploads fail.", "Make room, or grow the disk.")
    if free_bytes < LOW_BYTES:
        return warning(subject, f"has {free} left.", "Make room, or grow the disk.")
    return ok(subject, f"has {free} left.")


def _account(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"account {number}"


def check_stores(
    config: GatewayConfig, *, catalog: Catalog, masters: MasterKeySource
) -> Iterator[Finding]:
    """Yield whether the catalog is of this version, whole, and under this master key."""
    subject = f"catalog {config.storage.catalog or config.storage.data_dir}"
    with catalog.snapshot() as tx:
        revision = _revision(tx)
        if revision != REVISION:
            known = "older" if revision < REVISION else "newer"
            message = f"is of an {known} version ({revision}) than this program ({REVISION})."
            remedy = (
                "Make a backup, then start the gateway: it brings the catalog up to date."
                if revision < REVISION
                else "Update this program."
            )
            tell = warning if revision < REVISION else problem
            yield tell(subject, message, remedy)
            return
        if marks.restoring(tx):
            message = "a restore into it has not come to its end."
            yield problem(subject, message, "Run 'sealgate restore' again.")
        named = master_key_id(tx)
        if named is not None:
            system_key(tx, masters)
        details = (Detail("version", REVISION), Detail("master key", named or "none yet"))
        yield ok(subject, "answers, is up to date and opens with the master key.", *details)


def _revision(tx: Tx) -> str:
    # Migrating is how Catalog itself finds out, and a check-up must not.
    row = tx.connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return str(row[0]) if row else ""


def open_stores(config: GatewayConfig) -> tuple[Catalog | None, list[Finding]]:
    """Return the catalog, None when there is none or it fails, and what was found on the way."""
    if not has_data(config):
        place = config.storage.catalog or config.storage.data_dir
        return None, [ok(f"catalog {place}", "is not there yet; the first start makes it.")]
    catalog, store = open_storage(config)
    subject = f"segments {config.storage.blobs or config.storage.data_dir}"
    try:
        room_bytes = store.available_bytes()
    except StorageError as error:
        return catalog, [problem(subject, str(error), "Mend the blob store, or its settings.")]
    if config.storage.blobs is None:
        return catalog, [_room(subject, room_bytes)]
    return catalog, [ok(subject, "the object store answers.")]

"""The folder of a backup: where its parts lie, and in which order they become durable.

Bytes and names only: no keys, no rows. A part has its final name only once it is durable, and the
manifest, which names all others, comes last; a crash leaves the backup that was there before.
Imports the storage errors and the syncing of folders.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from backends.errors import IntegrityError, StorageError, StorageFullError, StorageUnavailableError
from backends.keyring import sync_folder

MANIFEST = "backup.json"
UNFINISHED = "unfinished"
"""A file that lies in the folder while a backup into it has not come to its end."""

MANIFEST_LIMIT_BYTES = 8 * 1024 * 1024

_BLOBS = "blobs"
_PART = ".part"
_CATALOG = re.compile(r"catalog-[0-9a-f]{32}\.sqlite(\.part(-journal)?)?")
_FOLDER = re.compile(r"[0-9a-f]{2}")
_SEGMENT = re.compile(r"[0-9a-f]{32}")
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_FOREIGN = frozenset({"lost+found"})
_READ_BYTES = 1024 * 1024


class BackupError(StorageError):
    """The folder is no backup, or not the one that was meant."""


def catalog_name(backup_id: str) -> str:
    """Return the name of the catalog's copy in the backup of that id (32 hex digits)."""
    return f"catalog-{backup_id}.sqlite"


class BackupFolder:
    """One folder. Methods about segments are thread-safe."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # Names in them are not durable yet; adding to a set is atomic.
        self._unsettled: set[Path] = set()

    @property
    def is_finished(self) -> bool:
        """Whether there is a backup that can be restored."""
        return (self.path / MANIFEST).is_file()

    @property
    def is_begun(self) -> bool:
        """Whether a backup into the folder was cut off, or is running."""
        return (self.path / UNFINISHED).is_file()

    @contextlib.contextmanager
    def claimed(self, gateway_id: str, known_id: str | None) -> Iterator[None]:
        """Keep the folder for one run that writes into it; ends the run when the block ends well.

        ``known_id`` is the gateway whose finished backup lies here. Raises BackupError when the
        folder holds anything else than backups of ``gateway_id``, or another run keeps it.
        """
        with self._translating():
            self.path.mkdir(mode=0o700, exist_ok=True)
            found = {each.name for each in self.path.iterdir()} - _FOREIGN
            if found and not found & {MANIFEST, UNFINISHED}:
                raise BackupError(
                    f"{self.path} is not empty and holds no backup. Name a new folder, or one of "
                    "an earlier backup."
                )
            descriptor = os.open(self.path / UNFINISHED, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            self._lock(descriptor)
            begun_id = os.pread(descriptor, 64, 0).decode("ascii", "replace").strip()
            for other in (known_id, begun_id):
                if other and other != gateway_id:
                    if not begun_id:
                        (self.path / UNFINISHED).unlink(missing_ok=True)
                    raise BackupError(
                        f"{self.path} holds a backup of another gateway. Name another folder."
                    )
            with self._translating():
                os.pwrite(descriptor, f"{gateway_id}\n".encode("ascii"), 0)
                os.fsync(descriptor)
                (self.path / _BLOBS).mkdir(mode=0o700, exist_ok=True)
                if begun_id:
                    self._unsettled.update(self._segment_folders())
                sync_folder(self.path)
            yield
            with self._translating():
                (self.path / UNFINISHED).unlink(missing_ok=True)
                sync_folder(self.path)
        finally:
            os.close(descriptor)

    def available_bytes(self) -> int:
        """Return how many more bytes the folder's disk can keep."""
        with self._translating():
            status = os.statvfs(self.path)
        return status.f_bavail * status.f_frsize

    # Segments

    def has_segment(self, segment_id: bytes, size_bytes: int) -> bool:
        """Return whether the segment was copied, by its size; its content is not looked at."""
        try:
            return self._segment(segment_id).stat().st_size == size_bytes
        except FileNotFoundError:
            return False
        except OSError as error:
            raise self._failed(error) from error

    def read_segment(self, segment_id: bytes, limit_bytes: int) -> bytes:
        """Return the segment, at most a byte more than ``limit_bytes``; IntegrityError if none."""
        try:
            with self._segment(segment_id).open("rb") as file:
                return file.read(limit_bytes + 1)
        except FileNotFoundError:
            raise IntegrityError(f"Segment {segment_id.hex()} is missing.") from None
        except OSError as error:
            # One sector that cannot be read any more is one segment that is lost.
            raise IntegrityError(
                f"Segment {segment_id.hex()} cannot be read ({error.strerror})."
            ) from error

    def write_segment(self, segment_id: bytes, data: bytes) -> None:
        """Keep a segment; its name is durable only after ``settle``."""
        target = self._segment(segment_id)
        if target.parent not in self._unsettled:
            with self._translating():
                target.parent.mkdir(mode=0o700, exist_ok=True)
            self._unsettled.add(target.parent)
        self._write(target.with_name(target.name + _PART), data, target)

    def settle(self) -> None:
        """Make the names of all segments durable, those of a run that was cut off too."""
        with self._translating():
            while self._unsettled:
                sync_folder(self._unsettled.pop())
            sync_folder(self.path / _BLOBS)

    def segment_ids(self) -> Iterator[bytes]:
        """Yield the segments that lie here, and remove those that were cut off in writing."""
        with self._translating():
            for folder in self._segment_folders():
                with os.scandir(folder) as files:
                    for file in files:
                        if _SEGMENT.fullmatch(file.name):
                            yield bytes.fromhex(file.name)
                        elif _SEGMENT.fullmatch(file.name.removesuffix(_PART)):
                            Path(file.path).unlink(missing_ok=True)

    def remove_segment(self, segment_id: bytes) -> None:
        """Remove a segment."""
        with self._translating():
            self._segment(segment_id).unlink(missing_ok=True)

    # The catalog's copy and the manifest

    def catalog(self, backup_id: str) -> Path:
        """Return where the catalog's copy of a backup lies."""
        return self.path / catalog_name(backup_id)

    def draft_catalog(self, backup_id: str, known_id: str | None) -> Path:
        """Return where the catalog's copy is made; only that of backup ``known_id`` stays."""
        with self._translating():
            self._remove_catalogs(keep=catalog_name(known_id) if known_id else "")
        return self.path / (catalog_name(backup_id) + _PART)

    def keep_catalog(self, backup_id: str) -> None:
        """Give the catalog's copy, which is durable, its name."""
        with self._translating():
            (self.path / (catalog_name(backup_id) + _PART)).rename(self.catalog(backup_id))

    def catalog_digest(self, backup_id: str) -> tuple[int, str]:
        """Return size and SHA-256 (hex) of the catalog's copy; IntegrityError if there is none."""
        digest, size_bytes = hashlib.sha256(), 0
        try:
            with self.catalog(backup_id).open("rb") as file:
                while data := file.read(_READ_BYTES):
                    digest.update(data)
                    size_bytes += len(data)
        except FileNotFoundError:
            raise IntegrityError(f"{catalog_name(backup_id)} is missing in the backup.") from None
        except OSError as error:
            raise self._failed(error) from error
        return size_bytes, digest.hexdigest()

    def finish(self, manifest: bytes, backup_id: str) -> None:
        """Put the manifest in force; from then on this is the backup, and the one before is not."""
        with self._translating():
            sync_folder(self.path)
            self._write(self.path / (MANIFEST + _PART), manifest, self.path / MANIFEST)
            sync_folder(self.path)
            self._remove_catalogs(keep=catalog_name(backup_id))

    def manifest(self) -> bytes:
        """Return the manifest; BackupError when there is none."""
        try:
            with (self.path / MANIFEST).open("rb") as file:
                return file.read(MANIFEST_LIMIT_BYTES + 1)
        except FileNotFoundError:
            hint = "holds no backup."
            if self.is_begun:
                hint = (
                    "holds a backup that did not come to its end. Run 'sealgate backup resume "
                    f"{self.path}'."
                )
            raise BackupError(f"{self.path} {hint}") from None
        except OSError as error:
            raise self._failed(error) from error

    # Inside

    def _segment_folders(self) -> list[Path]:
        return [each for each in (self.path / _BLOBS).iterdir() if _FOLDER.fullmatch(each.name)]

    def _remove_catalogs(self, *, keep: str) -> None:
        for each in list(self.path.iterdir()):
            if _CATALOG.fullmatch(each.name) and each.name != keep:
                each.unlink(missing_ok=True)

    def _segment(self, segment_id: bytes) -> Path:
        name = segment_id.hex()
        return self.path / _BLOBS / name[:2] / name

    def _write(self, draft: Path, data: bytes, target: Path) -> None:
        with self._translating():
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb", buffering=0) as file:
                view = memoryview(data)
                while view:
                    view = view[file.write(view) :]
                os.fsync(file.fileno())
            draft.rename(target)

    def _lock(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever had it may have come to the end, and removed the file, meanwhile.
            current = (self.path / UNFINISHED).stat().st_ino == os.fstat(descriptor).st_ino
        except (BlockingIOError, FileNotFoundError):
            current = False
        if not current:
            raise BackupError(f"Another backup into {self.path} is running. Wait for its end.")

    @contextlib.contextmanager
    def _translating(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> StorageError:
        if error.errno in _FULL:
            return StorageFullError(
                f"The disk of the backup {self.path} is full. Make room, then run 'sealgate backup "
                f"resume {self.path}'."
            )
        return StorageUnavailableError(
            f"The backup folder {self.path} cannot be used ({error.strerror}). Check that it can be "
            "written, and run the command again."
        )

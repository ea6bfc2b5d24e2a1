"""Whether destroyed keys are gone from the files of an SQLite catalog, by looking at their bytes.

Only while this process has no connection to the catalog: closing a file lets go of every lock
that the process holds on it (the POSIX rule that SQLite's documentation warns of), and another
process could then take the log away under a connection. Knows no keys and no tables.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from backends.errors import StorageUnavailableError

BUSY_TIMEOUT_S = 10.0
_BLOCK_SIZE_BYTES = 4 * 1024 * 1024


def settle(catalog_file: Path) -> bool:
    """Bring the log into the catalog's file and cut it; return whether that could be done.

    Not while another process reads all the time, or holds a snapshot.
    """
    try:
        with contextlib.closing(
            sqlite3.connect(catalog_file, timeout=BUSY_TIMEOUT_S)
        ) as connection:
            connection.execute("PRAGMA secure_delete = ON")
            busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    except sqlite3.Error as error:
        raise StorageUnavailableError(f"The catalog's log cannot be settled ({error}).") from error
    return not busy


def holding(catalog_file: Path, pieces: Sequence[bytes]) -> list[Path]:
    """Return which of the catalog's files, and of copies that lie beside it, hold a piece.

    Those are all whose names begin like the catalog's.
    """
    beside = sorted(catalog_file.parent.glob(f"{catalog_file.name}*"))
    return [file for file in beside if file.is_file() and _holds(file, pieces)]


def _holds(file: Path, pieces: Sequence[bytes]) -> bool:
    if not pieces:
        return False
    overlap = max(map(len, pieces)) - 1
    try:
        with file.open("rb") as opened:
            tail = b""
            while block := opened.read(_BLOCK_SIZE_BYTES):
                seen = tail + block
                if any(piece in seen for piece in pieces):
                    return True
                tail = seen[-overlap:] if overlap else b""
    except FileNotFoundError:
        # The log goes away with its last connection.
        return False
    except OSError as error:
        raise StorageUnavailableError(
            f"{file} cannot be read ({error.strerror}), so that nothing is proven of it."
        ) from error
    return False

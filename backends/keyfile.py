"""The master key file: reading the keys in it, and changing which they are without losing any.

Knows nothing of the catalog: ``backends.rotation`` says which keys are in use. FORMAT.md section 1
is the specification. Imports the keyring and the storage errors.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from backends.errors import KeyUnavailableError
from backends.keyring import MASTER_KEY_PREFIX, MasterKey, sync_folder

MASTER_KEY_LIMIT = 4
"""The most keys in one master key file."""

_LINE = re.compile(f"{MASTER_KEY_PREFIX}([0-9A-Fa-f]{{64}})")
_READ_LIMIT_BYTES = 4096


class MasterKeys:
    """The keys of one master key file; more than one while and after the master is rotated.

    A key that a catalog names and that was not in the file at first is looked for there again:
    that is how running processes follow a rotation. Thread-safe.
    """

    __slots__ = ("_known", "_listed", "path")

    def __init__(self, path: Path) -> None:
        self.path = path
        self._listed: tuple[MasterKey, ...] = ()
        self._known: dict[str, MasterKey] = {}
        self.read()

    def read(self) -> None:
        """Read the file again; KeyUnavailableError says what is wrong with it."""
        self._listed = _parsed(self.path, _checked_text(self.path))
        # A transaction that began before a rotation still needs the key that is gone from the
        # file by now.
        self._known = self._known | {key.key_id: key for key in self._listed}

    @property
    def key_ids(self) -> tuple[str, ...]:
        """The ids of the keys in the file as last read, oldest first."""
        return tuple(key.key_id for key in self._listed)

    @property
    def newest(self) -> MasterKey:
        """The last key of the file."""
        return self._listed[-1]

    def named(self, key_id: str) -> MasterKey:
        """Return the key with that id; KeyUnavailableError when the file does not hold it."""
        if key_id not in self._known:
            self.read()
        found = self._known.get(key_id)
        if found is None:
            raise KeyUnavailableError(
                f"The data is sealed under master key {key_id}, but {self.path} holds "
                f"{' and '.join(self.key_ids)}. Put the right key file under keys.master_key; if "
                "systemd hands it over, restart the service after each change of it."
            )
        return found

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """Keep every other process from changing the file, which is read again first."""
        with contextlib.ExitStack() as held:
            try:
                folder = os.open(self.path.resolve().parent, os.O_RDONLY | os.O_DIRECTORY)
                held.callback(os.close, folder)
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise KeyUnavailableError(
                    f"The master key {self.path} is being changed by another command. Wait for it."
                ) from error
            except OSError as error:
                raise self._unchangeable(error) from error
            self.read()
            yield

    def add(self, key: MasterKey) -> None:
        """Add ``key`` to the file as its newest, durably; within ``changing``.

        Whenever the power fails, the file holds what it held before or what it shall hold.
        """
        if len(self._listed) >= MASTER_KEY_LIMIT:
            raise KeyUnavailableError(
                f"The master key file {self.path} holds {len(self._listed)} keys, the most that it "
                "may. Run 'sealgate keys remove-unused' first."
            )
        self._replace([*self._listed, key])

    def remove(self, key_ids: Sequence[str]) -> None:
        """Take the keys with these ids out of the file, never the last one; within ``changing``."""
        left = [key for key in self._listed if key.key_id not in key_ids]
        assert left
        self._replace(left)

    def _replace(self, keys: Sequence[MasterKey]) -> None:
        # A link in the file's place stays one.
        target = self.path.resolve()
        draft = target.with_name(f"{target.name}.new")
        try:
            known = target.stat()
            # What a crash left there was never the key file.
            draft.unlink(missing_ok=True)
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                with os.fdopen(descriptor, "w", encoding="ascii") as file:
                    os.fchown(descriptor, known.st_uid, known.st_gid)
                    os.fchmod(descriptor, stat.S_IMODE(known.st_mode))
                    file.write("".join(key.line() for key in keys))
                    file.flush()
                    os.fsync(descriptor)
                draft.replace(target)
            except OSError:
                draft.unlink(missing_ok=True)
                raise
            sync_folder(target.parent)
        except OSError as error:
            raise self._unchangeable(error) from error
        self.read()

    def _unchangeable(self, error: OSError) -> KeyUnavailableError:
        return KeyUnavailableError(
            f"The master key {self.path} cannot be changed ({error.strerror}). Run this as its "
            "owner, who must be able to write in its folder."
        )


def _checked_text(path: Path) -> str:
    """Return what the key file holds, its mode checked."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(_READ_LIMIT_BYTES)
    except OSError as error:
        raise KeyUnavailableError(
            f"The master key {path} cannot be read ({error.strerror}). Put the key file back "
            "from its safe copy, or make a first one with 'sealgate keys init'."
        ) from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO) & ~stat.S_IRGRP:
        raise KeyUnavailableError(
            f"The master key {path} is open to other users (mode {stat.S_IMODE(mode):o}). "
            f"Run: chmod 600 {path}"
        )
    return data.decode("ascii", "replace")


def _parsed(path: Path, text: str) -> tuple[MasterKey, ...]:
    keys: dict[str, MasterKey] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise KeyUnavailableError(
                f"{path} is not a Sealgate master key: line {number} is none. Name the right file "
                "under keys.master_key."
            )
        key = MasterKey(bytes.fromhex(match[1]))
        if key.key_id in keys:
            raise KeyUnavailableError(
                f"The master key {path} repeats a key in line {number}. Remove that line."
            )
        keys[key.key_id] = key
    if not keys:
        raise KeyUnavailableError(
            f"The master key {path} is empty. Put the key file back from its safe copy, or name "
            "the right file under keys.master_key."
        )
    if len(keys) > MASTER_KEY_LIMIT:
        raise KeyUnavailableError(
            f"The master key {path} holds {len(keys)} keys; at most {MASTER_KEY_LIMIT} may stand "
            "in one file. Remove the lines of keys that are no longer in use."
        )
    return tuple(keys.values())

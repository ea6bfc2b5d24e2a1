"""The hierarchy of keys: master key → epoch keys → what they seal, and the sealing of names.

Keys only: no segments, no rows (the wrapped keys come from the catalog and go back to it as
bytes). FORMAT.md sections 1 and 5 are the specification. Imports ``cryptography`` and the storage
errors.
"""

from __future__ import annotations

import hmac
import os
import stat
from collections.abc import Callable
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESSIV
from cryptography.hazmat.primitives.kdf.kbkdf import KBKDFHMAC, CounterLocation, Mode
from cryptography.hazmat.primitives.keywrap import (
    InvalidUnwrap,
    aes_key_unwrap,
    aes_key_wrap,
)

from backends.errors import IntegrityError, KeyUnavailableError

RandomBytes = Callable[[int], bytes]
"""Returns that many bytes fit for keys, salts and ids (``os.urandom`` outside tests)."""

MASTER_KEY_SIZE_BYTES = 32
_MASTER_PREFIX = "SEALGATE-MASTER-KEY-1 "
_NAME_KEY_SIZE_BYTES = 64
_NONCE_SIZE_BYTES = 12


def derive_key(key: bytes, label: str, context: bytes = b"", *, size_bytes: int = 32) -> bytes:
    """Return ``size_bytes`` derived from ``key`` by SP 800-108 (HMAC-SHA-256, counter mode)."""
    return KBKDFHMAC(
        algorithm=hashes.SHA256(),
        mode=Mode.CounterMode,
        length=size_bytes,
        rlen=4,
        llen=4,
        location=CounterLocation.BeforeFixed,
        label=label.encode("ascii"),
        context=context,
        fixed=None,
    ).derive(key)


class MasterKey:
    """The key-encryption key: wraps epoch keys and does nothing else."""

    __slots__ = ("_key", "key_id")

    def __init__(self, key: bytes) -> None:
        assert len(key) == MASTER_KEY_SIZE_BYTES
        self._key = key
        self.key_id = derive_key(key, "sealgate master key id", size_bytes=8).hex()
        """Sixteen hex digits that name the key without revealing it."""

    @classmethod
    def generate(cls, random_bytes: RandomBytes = os.urandom) -> MasterKey:
        """Return a new random master key."""
        return cls(random_bytes(MASTER_KEY_SIZE_BYTES))

    @classmethod
    def from_file(cls, path: Path) -> MasterKey:
        """Return the key kept in ``path``.

        Raises KeyUnavailableError when the file is missing, unreadable, readable by other users,
        or not a Sealgate master key.
        """
        try:
            with path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                data = file.read(4096)
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
        text = data.decode("ascii", "replace").strip()
        try:
            key = bytes.fromhex(text.removeprefix(_MASTER_PREFIX))
        except ValueError:
            key = b""
        if not text.startswith(_MASTER_PREFIX) or len(key) != MASTER_KEY_SIZE_BYTES:
            raise KeyUnavailableError(
                f"{path} is not a Sealgate master key. Name the right file under keys.master_key."
            )
        return cls(key)

    def write(self, path: Path) -> None:
        """Write the key to the new file ``path``, readable by its owner alone, durably.

        Raises FileExistsError rather than overwrite: a lost master key loses everything.
        """
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(f"{_MASTER_PREFIX}{self._key.hex()}\n")
            file.flush()
            os.fsync(file.fileno())
        # A key whose name is lost with the power loses everything that was sealed meanwhile.
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def wrap(self, key: bytes, purpose: str, context: bytes = b"") -> bytes:
        """Return ``key`` wrapped (AES-KW, RFC 3394) for one purpose and place.

        AES-KW binds no context of its own, so that each place has a wrapping key derived for it:
        wrapped keys that were exchanged in the catalog do not open.
        """
        return aes_key_wrap(self._wrapping_key(purpose, context), key)

    def unwrap(self, wrapped: bytes, purpose: str, context: bytes = b"") -> bytes:
        """Return the key inside ``wrapped``.

        Raises KeyUnavailableError if this master did not wrap it, or for another place.
        """
        try:
            return aes_key_unwrap(self._wrapping_key(purpose, context), wrapped)
        except (InvalidUnwrap, ValueError, TypeError) as error:
            raise KeyUnavailableError(
                f"A key does not open under master key {self.key_id}: either this is not the "
                "master key that the data was sealed with, or the catalog was edited."
            ) from error

    def _wrapping_key(self, purpose: str, context: bytes) -> bytes:
        return derive_key(self._key, f"sealgate wrap {purpose}", context)


def new_epoch_key(random_bytes: RandomBytes = os.urandom) -> bytes:
    """Return a new random 256-bit epoch key."""
    return random_bytes(32)


def new_name_key(random_bytes: RandomBytes = os.urandom) -> bytes:
    """Return a new random key for one share's names (512 bits: AES-256-SIV)."""
    return random_bytes(_NAME_KEY_SIZE_BYTES)


class NameCipher:
    """Seals the names in one share so that equal names in one folder are found by index."""

    __slots__ = ("_aead",)

    def __init__(self, key: bytes) -> None:
        self._aead = AESSIV(key)

    def seal(self, parent_id: bytes, name: str) -> bytes:
        """Return ``name`` (NFC, not empty) sealed for the folder ``parent_id``."""
        return self._aead.encrypt(name.encode("utf-8"), [parent_id])

    def unseal(self, parent_id: bytes, sealed: bytes) -> str:
        """Return the name; IntegrityError when it was edited or moved to another folder."""
        try:
            return self._aead.decrypt(sealed, [parent_id]).decode("utf-8")
        except (InvalidTag, ValueError, TypeError) as error:
            raise IntegrityError(
                f"A name in folder {parent_id.hex()} does not verify: the catalog was edited."
            ) from error


class RecordCipher:
    """Seals small records (properties, lock owners, code seeds, audit detail) for one purpose.

    The key is derived for the purpose; nonces are random, which is safe for 2³² records a key.
    """

    __slots__ = ("_aead", "_purpose", "_random_bytes")

    def __init__(self, key: bytes, purpose: str, random_bytes: RandomBytes = os.urandom) -> None:
        self._aead = AESGCM(derive_key(key, f"sealgate record {purpose}"))
        self._purpose = purpose
        self._random_bytes = random_bytes

    def seal(self, plain: bytes, context: bytes) -> bytes:
        """Return ``plain`` sealed: 12 bytes of nonce, then ciphertext and tag.

        ``context`` says where the record belongs; it must be given again to unseal.
        """
        nonce = self._random_bytes(_NONCE_SIZE_BYTES)
        return nonce + self._aead.encrypt(nonce, plain, context)

    def unseal(self, sealed: bytes, context: bytes) -> bytes:
        """Return the plaintext; IntegrityError when it was edited or belongs elsewhere."""
        try:
            return self._aead.decrypt(
                sealed[:_NONCE_SIZE_BYTES], sealed[_NONCE_SIZE_BYTES:], context
            )
        except (InvalidTag, ValueError, TypeError) as error:
            raise IntegrityError(
                f"A sealed {self._purpose} record does not verify: the catalog was edited."
            ) from error


class Mac:
    """HMAC-SHA-256 under a key derived for one purpose."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes, purpose: str) -> None:
        self._key = derive_key(key, f"sealgate mac {purpose}")

    def tag(self, data: bytes) -> bytes:
        """Return the 32-byte tag of ``data``."""
        return hmac.digest(self._key, data, "sha256")

    def verify(self, data: bytes, tag: bytes) -> bool:
        """Return whether ``tag`` is right for ``data``, in constant time."""
        return hmac.compare_digest(self.tag(data), tag)

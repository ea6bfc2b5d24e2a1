"""The hierarchy of keys: master key → epoch keys → what they seal, and the sealing of names.

Keys only: no segments, no rows (the wrapped keys come from the catalog and go back to it as
bytes), no key file that holds more than one (``backends.keyfile``). FORMAT.md sections 1 and 5
are the specification. Imports ``cryptography``, the memo and the storage errors.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

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
from backends.memo import Memo

RandomBytes = Callable[[int], bytes]
"""Returns that many bytes fit for keys, salts and ids (``os.urandom`` outside tests)."""

MASTER_KEY_SIZE_BYTES = 32
MASTER_KEY_PREFIX = "SEALGATE-MASTER-KEY-1 "
"""What a line of a master key file begins with."""

UNSEALED_NAMES_LIMIT = 16_384
"""How many names of a share are remembered in clear: some 5 MiB of a process's memory."""

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


class MasterKeySource(Protocol):
    """Where the master key comes from that a catalog's keys are wrapped under."""

    @property
    def newest(self) -> MasterKey:
        """The key that a new catalog begins with."""

    def named(self, key_id: str) -> MasterKey:
        """Return the key with that id; KeyUnavailableError when it is not here."""


class MasterKey:
    """The key-encryption key: wraps other keys and does nothing else. A source of itself."""

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

    @property
    def newest(self) -> MasterKey:
        """This key."""
        return self

    def named(self, key_id: str) -> MasterKey:
        """Return this key if that is its id; KeyUnavailableError when it is not."""
        if key_id != self.key_id:
            raise KeyUnavailableError(
                f"The data is sealed under master key {key_id}, but {self.key_id} was given. "
                "Find the file, or the key shares, of the right one."
            )
        return self

    def to_bytes(self) -> bytes:
        """Return the key itself, which is for splitting it and for nothing else."""
        return self._key

    def line(self) -> str:
        """Return the key as a line of a master key file, its end included."""
        return f"{MASTER_KEY_PREFIX}{self._key.hex()}\n"

    def write(self, path: Path) -> None:
        """Write the key to the new file ``path``, readable by its owner alone, durably.

        Raises FileExistsError rather than overwrite: a lost master key loses everything.
        """
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(self.line())
            file.flush()
            os.fsync(file.fileno())
        # A key whose name is lost with the power loses everything that was sealed meanwhile.
        sync_folder(path.parent)

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


def sync_folder(path: Path) -> None:
    """Make the names in the folder ``path`` durable."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def new_epoch_key(random_bytes: RandomBytes = os.urandom) -> bytes:
    """Return a new random 256-bit epoch key."""
    return random_bytes(32)


def new_name_key(random_bytes: RandomBytes = os.urandom) -> bytes:
    """Return a new random key for one share's names (512 bits: AES-256-SIV)."""
    return random_bytes(_NAME_KEY_SIZE_BYTES)


class NameCipher:
    """Seals the names in one share so that equal names in one folder are found by index."""

    __slots__ = ("_aead", "_unsealed")

    def __init__(self, key: bytes) -> None:
        self._aead = AESSIV(key)
        self._unsealed: Memo[tuple[bytes, bytes], str] = Memo(UNSEALED_NAMES_LIMIT)

    def seal(self, parent_id: bytes, name: str) -> bytes:
        """Return ``name`` (NFC, not empty) sealed for the folder ``parent_id``."""
        return self._aead.encrypt(name.encode("utf-8"), [parent_id])

    def unseal(self, parent_id: bytes, sealed: bytes) -> str:
        """Return the name; IntegrityError when it was edited or moved to another folder."""
        known = self._unsealed.get((parent_id, sealed))
        if known is not None:
            return known
        try:
            name = self._aead.decrypt(sealed, [parent_id]).decode("utf-8")
        except (InvalidTag, ValueError, TypeError) as error:
            raise IntegrityError(
                f"A name in folder {parent_id.hex()} does not verify: the catalog was edited."
            ) from error
        self._unsealed.put((parent_id, sealed), name)
        return name


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


class StateCipher:
    """Seals one record that changes with every write for as long as its key lives.

    AES-SIV needs no nonce, so that no number of changes wears the key out.
    """

    __slots__ = ("_aead",)

    def __init__(self, key: bytes, purpose: str) -> None:
        label = f"sealgate state {purpose}"
        self._aead = AESSIV(derive_key(key, label, size_bytes=_NAME_KEY_SIZE_BYTES))

    def seal(self, plain: bytes, context: bytes) -> bytes:
        """Return ``plain`` sealed for its place: 16 bytes of synthetic IV, then the ciphertext."""
        return self._aead.encrypt(plain, [context])

    def unseal(self, sealed: bytes, context: bytes) -> bytes:
        """Return the plaintext; IntegrityError when it was edited or belongs elsewhere."""
        try:
            return self._aead.decrypt(sealed, [context])
        except (InvalidTag, ValueError, TypeError) as error:
            raise IntegrityError(
                "A sealed state does not verify: the catalog was edited."
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

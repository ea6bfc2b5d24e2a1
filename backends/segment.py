"""The segment format: how a run of plaintext chunks is sealed, opened and measured.

Pure functions and two small classes over bytes; no files, no catalog, no policy. FORMAT.md
sections 2 to 4 are the specification. Imports ``cryptography`` and the storage errors only.
"""

from __future__ import annotations

import hmac
import struct
from dataclasses import dataclass
from hashlib import sha256

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.kbkdf import KBKDFHMAC, CounterLocation, Mode

from backends.errors import IntegrityError

CHUNK_SIZE_BYTES = 64 * 1024
"""Plaintext bytes of every chunk but the last of a segment."""

TAG_SIZE_BYTES = 16
SEALED_CHUNK_SIZE_BYTES = CHUNK_SIZE_BYTES + TAG_SIZE_BYTES
SEGMENT_CHUNK_LIMIT = 256
"""The most chunks that a segment holds: 16 MiB of plaintext."""

ID_SIZE_BYTES = 16
SALT_SIZE_BYTES = 32
EPOCH_KEY_SIZE_BYTES = 32

MAGIC = b"SEALGATE"
FORMAT_VERSION = 1
SUITE_AES_256_GCM = 1

_HEADER = struct.Struct(">8sBBHI16sI16s32s32s12s")
HEADER_SIZE_BYTES = _HEADER.size
_RESERVED = bytes(12)
_LABEL = b"sealgate segment v1"
_NONCE = struct.Struct(">7xIB")
_CHUNK_AAD = struct.Struct(">IB")

# What names the chunks that do not end their segment, by index.
_NONCES = [_NONCE.pack(index, 0) for index in range(SEGMENT_CHUNK_LIMIT)]
_PLACES = [_CHUNK_AAD.pack(index, 0) for index in range(SEGMENT_CHUNK_LIMIT)]


def chunk_count(size_plain_bytes: int) -> int:
    """Return how many chunks hold ``size_plain_bytes``; an empty segment still has one."""
    return max(1, -(-size_plain_bytes // CHUNK_SIZE_BYTES))


def sealed_size_bytes(size_plain_bytes: int) -> int:
    """Return the size of the sealed segment that holds ``size_plain_bytes`` of plaintext."""
    return HEADER_SIZE_BYTES + size_plain_bytes + TAG_SIZE_BYTES * chunk_count(size_plain_bytes)


def chunk_offset_sealed(index: int) -> int:
    """Return where sealed chunk ``index`` begins within its segment."""
    return HEADER_SIZE_BYTES + index * SEALED_CHUNK_SIZE_BYTES


@dataclass(frozen=True, slots=True)
class SegmentShape:
    """What a segment's sealed size alone tells: how many chunks, and how long the last one is."""

    chunk_count: int
    last_chunk_sealed_bytes: int

    @classmethod
    def of(cls, size_sealed_bytes: int) -> SegmentShape:
        """Return the shape of a segment of ``size_sealed_bytes``; IntegrityError if impossible."""
        body = size_sealed_bytes - HEADER_SIZE_BYTES
        count = -(-body // SEALED_CHUNK_SIZE_BYTES)
        last = body - (count - 1) * SEALED_CHUNK_SIZE_BYTES
        if body < TAG_SIZE_BYTES or count > SEGMENT_CHUNK_LIMIT or last < TAG_SIZE_BYTES:
            raise IntegrityError(f"A segment of {size_sealed_bytes} bytes is cut or too long.")
        if last == TAG_SIZE_BYTES and count > 1:
            raise IntegrityError("A segment ends in an empty chunk.")
        return cls(count, last)

    def sealed_bytes(self, index: int) -> int:
        """Return the sealed size of chunk ``index``."""
        return self.last_chunk_sealed_bytes if self.is_final(index) else SEALED_CHUNK_SIZE_BYTES

    def is_final(self, index: int) -> bool:
        """Return whether chunk ``index`` is the segment's last."""
        return index == self.chunk_count - 1


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """The 128 bytes in front of the chunks (FORMAT.md section 2)."""

    share_id: bytes
    epoch: int
    segment_id: bytes
    salt: bytes
    commitment: bytes

    def pack(self) -> bytes:
        """Return the header as it lies on disk."""
        return _HEADER.pack(
            MAGIC,
            FORMAT_VERSION,
            SUITE_AES_256_GCM,
            0,
            CHUNK_SIZE_BYTES,
            self.share_id,
            self.epoch,
            self.segment_id,
            self.salt,
            self.commitment,
            _RESERVED,
        )

    @classmethod
    def parse(cls, data: bytes) -> SegmentHeader:
        """Return the header in ``data``; IntegrityError names the first field that is wrong."""
        if len(data) != HEADER_SIZE_BYTES:
            raise IntegrityError(f"A segment header has {len(data)} bytes instead of 128.")
        (magic, version, suite, flags, chunk_size, share_id, epoch, segment_id, salt, commitment,
         reserved) = _HEADER.unpack(data)  # fmt: skip
        if magic != MAGIC:
            raise IntegrityError("A segment does not begin with SEALGATE: it is no segment.")
        if version != FORMAT_VERSION:
            raise IntegrityError(f"Segment format {version} is unknown; a newer Sealgate made it.")
        if suite != SUITE_AES_256_GCM:
            raise IntegrityError(f"Segment cipher suite {suite} is unknown.")
        if flags or reserved != _RESERVED:
            raise IntegrityError("A segment header sets flags that this version does not know.")
        if chunk_size != CHUNK_SIZE_BYTES:
            raise IntegrityError(f"A segment has chunks of {chunk_size} bytes, which is unknown.")
        return cls(share_id, epoch, segment_id, salt, commitment)


def _cut(data: memoryview, size_bytes: int) -> list[memoryview]:
    """Return ``data`` in pieces of ``size_bytes``, the last as short as it comes."""
    if len(data) <= size_bytes:
        return [data]
    return [data[start : start + size_bytes] for start in range(0, len(data), size_bytes)]


def _derive(epoch_key: bytes, salt: bytes, segment_id: bytes) -> tuple[bytes, bytes]:
    """Return the segment's key and its commitment: SP 800-108 in counter mode, 64 bytes."""
    derived = KBKDFHMAC(
        algorithm=hashes.SHA256(),
        mode=Mode.CounterMode,
        length=64,
        rlen=4,
        llen=4,
        location=CounterLocation.BeforeFixed,
        label=_LABEL,
        context=salt + segment_id,
        fixed=None,
    ).derive(epoch_key)
    return derived[:32], derived[32:]


class SegmentCipher:
    """Seals and opens the chunks of one segment. Thread-safe: it keeps no state between calls."""

    __slots__ = ("_aead", "_header_hash", "header")

    def __init__(self, header: SegmentHeader, key: bytes) -> None:
        self.header = header
        self._aead = AESGCM(key)
        self._header_hash = sha256(header.pack()).digest()

    @classmethod
    def create(
        cls, epoch_key: bytes, share_id: bytes, epoch: int, segment_id: bytes, salt: bytes
    ) -> SegmentCipher:
        """Return the cipher of a new segment. ``salt`` must be fresh randomness, even on a retry."""
        key, commitment = _derive(epoch_key, salt, segment_id)
        return cls(SegmentHeader(share_id, epoch, segment_id, salt, commitment), key)

    @classmethod
    def open(
        cls, epoch_key: bytes, share_id: bytes, epoch: int, segment_id: bytes, header_data: bytes
    ) -> SegmentCipher:
        """Return the cipher of the stored segment that must be the named one.

        Raises IntegrityError when the header is malformed, names another share, epoch or segment,
        or does not commit to this epoch key; nothing is decrypted before that is known.
        """
        header = SegmentHeader.parse(header_data)
        if (header.share_id, header.epoch, header.segment_id) != (share_id, epoch, segment_id):
            raise IntegrityError("A segment's header names another segment: they were swapped.")
        key, commitment = _derive(epoch_key, header.salt, segment_id)
        if not hmac.compare_digest(commitment, header.commitment):
            raise IntegrityError("A segment was not sealed under this share's key.")
        return cls(header, key)

    def seal(self, index: int, plain: bytes | bytearray | memoryview, *, final: bool) -> bytes:
        """Return sealed chunk ``index``. Each index may be sealed once in a segment's life."""
        return self._aead.encrypt(_NONCE.pack(index, final), plain, self._bound(index, final=final))

    def unseal(self, index: int, sealed: bytes | memoryview, *, final: bool) -> bytes:
        """Return the plaintext of chunk ``index``; IntegrityError when its tag does not verify."""
        try:
            return self._aead.decrypt(
                _NONCE.pack(index, final), sealed, self._bound(index, final=final)
            )
        except InvalidTag as error:
            raise self._forged(index) from error

    def seal_run(
        self, first: int, plain: memoryview, sealed: memoryview, *, ends_segment: bool
    ) -> int:
        """Seal ``plain`` into ``sealed`` as the chunks from ``first`` on; return their sealed size.

        All chunks are full but one that ends the segment. Each index may be sealed once.
        """
        nonces, bounds = self._run(first, chunk_count(len(plain)), ends_segment=ends_segment)
        size = len(plain) + TAG_SIZE_BYTES * len(nonces)
        chunks = _cut(plain, CHUNK_SIZE_BYTES)
        return sum(
            map(
                self._aead.encrypt_into,
                nonces,
                chunks,
                bounds,
                _cut(sealed[:size], SEALED_CHUNK_SIZE_BYTES),
            )
        )

    def unseal_run(
        self, first: int, sealed: memoryview, plain: memoryview, *, ends_segment: bool
    ) -> int:
        """Open ``sealed``, the chunks from ``first`` on, into ``plain``; return the plain size.

        IntegrityError when a tag does not verify; ``plain`` then holds zeros, since what cannot be
        verified must not be seen by anybody.
        """
        chunks = _cut(sealed, SEALED_CHUNK_SIZE_BYTES)
        nonces, bounds = self._run(first, len(chunks), ends_segment=ends_segment)
        plain = plain[: len(sealed) - TAG_SIZE_BYTES * len(chunks)]
        index = first
        try:
            for _ in map(
                self._aead.decrypt_into, nonces, chunks, bounds, _cut(plain, CHUNK_SIZE_BYTES)
            ):
                index += 1
        except InvalidTag as error:
            plain[:] = bytes(len(plain))
            raise self._forged(index) from error
        return len(plain)

    def _run(
        self, first: int, count: int, *, ends_segment: bool
    ) -> tuple[list[bytes], list[bytes]]:
        """Return nonces and associated data of ``count`` chunks.

        They are made ahead of all AEAD calls: two threads get in each other's way by whatever
        Python does between one call and the next.
        """
        end = first + count
        nonces = _NONCES[first:end]
        bounds = [self._header_hash + place for place in _PLACES[first:end]]
        if ends_segment:
            nonces[-1], bounds[-1] = _NONCE.pack(end - 1, 1), self._bound(end - 1, final=True)
        return nonces, bounds

    def _bound(self, index: int, *, final: bool) -> bytes:
        return self._header_hash + _CHUNK_AAD.pack(index, final)

    def _forged(self, index: int) -> IntegrityError:
        return IntegrityError(
            f"Chunk {index} of segment {self.header.segment_id.hex()} does not verify."
        )


def seal_whole(cipher: SegmentCipher, plain: bytes | bytearray | memoryview) -> bytes:
    """Return the complete sealed segment that holds ``plain`` (at most 16 MiB)."""
    count = chunk_count(len(plain))
    assert count <= SEGMENT_CHUNK_LIMIT
    view = memoryview(plain)
    parts = [cipher.header.pack()]
    for index in range(count):
        start = index * CHUNK_SIZE_BYTES
        chunk = view[start : start + CHUNK_SIZE_BYTES]
        parts.append(cipher.seal(index, chunk, final=index == count - 1))
    return b"".join(parts)


def unseal_whole(cipher: SegmentCipher, sealed: bytes) -> bytes:
    """Return all plaintext of the complete segment ``sealed``; IntegrityError if any part is off."""
    shape = SegmentShape.of(len(sealed))
    view = memoryview(sealed)
    parts = []
    for index in range(shape.chunk_count):
        start = chunk_offset_sealed(index)
        chunk = view[start : start + shape.sealed_bytes(index)]
        parts.append(cipher.unseal(index, chunk, final=shape.is_final(index)))
    return b"".join(parts)

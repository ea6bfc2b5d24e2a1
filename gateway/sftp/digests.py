"""The check-file extension: what a file, or each block of it, hashes to.

draft-ietf-secsh-filexfer-extensions-00 section 3. WinSCP and paramiko ask for it instead of
reading everything back. Only SHA-2: MD5 and SHA-1 prove nothing. No packets are read or sent here.
Imports asyncssh's encoding and the shared nouns.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Protocol

import asyncssh
from asyncssh.packet import SSHPacket, String

BLOCK_MIN_BYTES = 256
"""The smallest block that may be asked for (section 3)."""

HASHES_LIMIT = 4096
"""The most blocks in one answer."""

_ALGORITHMS = ("sha256", "sha384", "sha512")
_READ_BYTES = 256 * 1024


class Readable(Protocol):
    """An open file."""

    @property
    def size_bytes(self) -> int:
        """Its size."""

    def read_at(self, offset: int, size: int) -> bytes:
        """Return up to ``size`` bytes from ``offset``; short only at the end."""


@dataclass(frozen=True, slots=True)
class DigestRequest:
    """What is asked for. ``length`` 0: to the end; ``block_bytes`` 0: one hash for it all."""

    algorithm: str
    offset: int
    length: int
    block_bytes: int

    @classmethod
    def parse(cls, packet: SSHPacket) -> DigestRequest:
        """Read the rest of a request; SFTPError says what of it cannot be done."""
        wanted = packet.get_string().decode("ascii", "replace").split(",")
        offset, length, block_bytes = packet.get_uint64(), packet.get_uint64(), packet.get_uint32()
        packet.check_end()
        algorithm = next((name for name in wanted if name in _ALGORITHMS), None)
        if algorithm is None:
            raise asyncssh.SFTPOpUnsupported("Only these are calculated: " + ", ".join(_ALGORITHMS))
        if 0 < block_bytes < BLOCK_MIN_BYTES:
            raise asyncssh.SFTPFailure(f"A block has at least {BLOCK_MIN_BYTES} bytes.")
        return cls(algorithm, offset, length, block_bytes)

    def whole(self, size_bytes: int) -> bool:
        """Return whether one hash of a whole file of that size is asked for."""
        return (
            self.offset == 0 and self.block_bytes == 0 and (self.length or size_bytes) >= size_bytes
        )


@dataclass(frozen=True, slots=True)
class DigestReply:
    """The answer. paramiko's ``check-file`` repeats the extension's name in it (``named``)."""

    algorithm: str
    hashes: bytes
    named: bool

    def encode(self, _version: int) -> bytes:
        """Return the data of the SSH_FXP_EXTENDED_REPLY."""
        name = String(b"check-file") if self.named else b""
        return name + String(self.algorithm.encode("ascii")) + self.hashes


def calculated(file: Readable, request: DigestRequest, known_sha256: str) -> bytes:
    """Return the hashes of what is asked for, joined; SFTPError for too many.

    ``known_sha256`` (hex, or empty) is that of the whole file, which saves reading it.
    """
    if request.algorithm == "sha256" and known_sha256 and request.whole(file.size_bytes):
        return bytes.fromhex(known_sha256)
    end = file.size_bytes
    if request.length:
        end = min(end, request.offset + request.length)
    block_bytes = request.block_bytes or max(end - request.offset, 1)
    starts = range(request.offset, max(end, request.offset + 1), block_bytes)
    if len(starts) > HASHES_LIMIT:
        raise asyncssh.SFTPFailure(f"More than {HASHES_LIMIT} blocks at once; ask for fewer.")
    return b"".join(
        _hash(file, request.algorithm, start, min(start + block_bytes, end)) for start in starts
    )


def _hash(file: Readable, algorithm: str, start: int, end: int) -> bytes:
    hashed = hashlib.new(algorithm)
    while start < end:
        data = file.read_at(start, min(_READ_BYTES, end - start))
        if not data:
            break
        hashed.update(data)
        start += len(data)
    return hashed.digest()

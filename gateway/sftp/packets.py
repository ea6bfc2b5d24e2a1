# ruff: noqa: ARG002  the methods keep the library's signatures
"""What SSH packets are sealed with and put together in: a cipher, kept memory, pieces in a row.

Nothing of what packets mean, and no connection. Imports asyncssh's cipher interface, and
``cryptography`` for AES-GCM in SSH (RFC 5647).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from asyncssh.encryption import Encryption, GCMEncryption
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

TAG_BYTES = 16
BLOCK_BYTES = 16

ROOM_PLAIN_BYTES = 64 * 1024
ROOM_SEALED_BYTES = 320 * 1024
"""How much memory is kept for packets that are sent: the answer to a read of 256 KiB fits."""

_COUNT_MASK = 0xFFFFFFFFFFFFFFFF


class PacketCipher(Encryption):
    """One direction's AES-GCM: the library's own makes a new cipher object for each packet."""

    def __init__(self, stock: GCMEncryption) -> None:
        """Take over where ``stock`` stands."""
        cipher = stock._cipher  # noqa: SLF001
        self._aead = AESGCM(cipher._key)  # noqa: SLF001
        self._fixed = cipher._iv[:4]  # noqa: SLF001
        self._count = int.from_bytes(cipher._iv[4:], "big")  # noqa: SLF001

    def encrypt_packet(self, seq: int, header: bytes, packet: bytes) -> tuple[bytes, bytes]:
        """Return the sealed packet with its header and tag, and no further MAC."""
        sealed = self._aead.encrypt(self._nonce(), packet, header)
        self.accept()
        return header + sealed, b""

    def decrypt_header(self, seq: int, first_block: bytes, header_len: int) -> tuple[bytes, bytes]:
        """Return the first block as it is, and the length, which is sent in clear."""
        return first_block, first_block[:header_len]

    def decrypt_packet(
        self, seq: int, first: bytes, rest: bytes, header_len: int, mac: bytes
    ) -> bytes | None:
        """Return the packet's plaintext; None when its tag is wrong."""
        plain = self.peek(memoryview(first + rest + mac))
        if plain is not None:
            self.accept()
        return plain

    def peek(self, packet: memoryview) -> bytes | None:
        """Return the plaintext of a whole sealed packet, and do not go on to the next one."""
        try:
            return self._aead.decrypt(self._nonce(), packet[4:], packet[:4])
        except InvalidTag:
            return None

    def accept(self) -> None:
        """Go on to the next packet."""
        self._count = (self._count + 1) & _COUNT_MASK

    def seal_into(self, header: memoryview, plain: memoryview, sealed: memoryview) -> None:
        """Seal ``plain`` with its tag into ``sealed``; go on to the next packet."""
        self._aead.encrypt_into(self._nonce(), plain, header, sealed)
        self.accept()

    def _nonce(self) -> bytes:
        return self._fixed + self._count.to_bytes(8, "big")


class SealingRoom:
    """Memory in which packets are put together and sealed, used again and again.

    One for all connections of an event loop: each is done with it before the next has its turn.
    """

    def __init__(self) -> None:
        self._plain = memoryview(bytearray(ROOM_PLAIN_BYTES))
        self._sealed = memoryview(bytearray(ROOM_SEALED_BYTES))

    def plain(self, size: int) -> memoryview:
        """Return ``size`` bytes for a packet's plaintext."""
        if size > len(self._plain):
            self._plain = memoryview(bytearray(size))
        return self._plain

    def sealed(self, size: int) -> memoryview:
        """Return ``size`` bytes for sealed packets."""
        if size > ROOM_SEALED_BYTES:
            return memoryview(bytearray(size))
        return self._sealed

    def send(self, sealed: memoryview, transport: asyncio.WriteTransport) -> None:
        """Send packets that were sealed here."""
        transport.write(sealed)
        if transport.get_write_buffer_size():
            # From Python 3.12 on asyncio keeps what it was given until all of it is sent.
            self._sealed = memoryview(bytearray(ROOM_SEALED_BYTES))


class Parts:
    """Several pieces of bytes, read one after another."""

    __slots__ = ("_at", "_index", "_parts")

    def __init__(self, parts: Sequence[bytes]) -> None:
        self._parts = [memoryview(part) for part in parts]
        self._index = 0
        self._at = 0

    def copy_into(self, room: memoryview) -> None:
        """Fill ``room`` with what comes next."""
        filled = 0
        while filled < len(room):
            part = self._parts[self._index]
            piece = part[self._at : self._at + len(room) - filled]
            room[filled : filled + len(piece)] = piece
            filled += len(piece)
            self._at += len(piece)
            if self._at == len(part):
                self._index, self._at = self._index + 1, 0

"""SSH packets under AES-GCM on their way in and out, many at a time and with few copies.

A subclass of asyncssh's connection (pinned by ``tests/sftp/test_stock.py``): the library opens and
seals one packet at a time and copies each of them five to nine times. What is not channel data in
its plain form is left to it, packet by packet, so that its rules stay the only ones. No log-in and
no SFTP lives here. Imports asyncssh and ``gateway.sftp.packets``.
"""

from __future__ import annotations

import asyncio
import os
import struct
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, cast

from asyncssh.connection import SSHServerConnection
from asyncssh.constants import MSG_CHANNEL_DATA, MSG_CHANNEL_WINDOW_ADJUST, MSG_IGNORE
from asyncssh.encryption import GCMEncryption
from asyncssh.packet import SSHPacketLogger
from asyncssh.session import DataType

from gateway.sftp.packets import BLOCK_BYTES, TAG_BYTES, PacketCipher, Parts, SealingRoom

if TYPE_CHECKING:
    from asyncssh.channel import SSHChannel

STRANGERS_PORTION_BYTES = 4 * 1024
"""How much of what a stranger sends is looked at at once."""

EXCHANGE_LIMIT_S = 30.0
"""How long a client may take to exchange keys; what it is to be sent waits for that."""

DEFERRED_LIMIT = 1000
"""How many of the library's packets may wait for the end of a key exchange."""

# RFC 4253 section 6: the length in clear, then what it counts; RFC 4254 section 5.2.
_LENGTH = struct.Struct(">I")
_DATA_HEAD = struct.Struct(">BBII")
_PADDING_MIN_BYTES = 4
_SEQUENCE_MASK = 0xFFFFFFFF


class DataChannel(Protocol):
    """A channel that takes data past the library's packet parser."""

    def accept(self, data: memoryview) -> bool:
        """Take data; False: it may not come now, and the library says what is wrong."""

    def widen(self, size: int) -> bool:
        """Let ``size`` bytes more be sent, with the next ``flush``; False as for ``accept``."""

    def flush(self) -> None:
        """Send what waits for the window to widen."""


class PacketTransport(SSHServerConnection):
    """An SSH connection whose channel data takes the short way while AES-GCM is in force."""

    room: SealingRoom
    """Set by whoever makes the connection."""
    _exchange_timer: asyncio.TimerHandle | None = None
    _heard_s = 0.0

    @property
    def exchanging_keys(self) -> bool:
        """Whether a key exchange is under way, so that channel data must wait."""
        return not self._kex_complete

    def _send_kexinit(self) -> None:
        """Begin to exchange keys, and hang up on a client that does not come to an end with it."""
        super()._send_kexinit()
        if self._exchange_timer is None:
            overdue = self._exchange_overdue
            self._exchange_timer = self._loop.call_later(EXCHANGE_LIMIT_S, overdue)

    def _exchange_overdue(self) -> None:
        self._exchange_timer = None
        self.abort()

    def _exchange_ended(self) -> None:
        if self._exchange_timer is not None:
            self._exchange_timer.cancel()
            self._exchange_timer = None

    def _cleanup(self, exc: Exception | None) -> None:
        self._exchange_ended()
        super()._cleanup(exc)

    def send_newkeys(self, k: bytes, h: bytes) -> None:
        """Exchange keys, and seal with one cipher object a key; then send what waited for it."""
        super().send_newkeys(k, h)
        self._exchange_ended()
        if isinstance(self._send_encryption, GCMEncryption):
            self._send_encryption = PacketCipher(self._send_encryption)
        if isinstance(self._next_recv_encryption, GCMEncryption):
            self._next_recv_encryption = PacketCipher(self._next_recv_encryption)
        for channel in tuple(self._channels.values()):
            cast(DataChannel, channel).flush()

    def send_packet(
        self, pkttype: int, *args: bytes, handler: SSHPacketLogger | None = None
    ) -> None:
        """Send a packet, without the empty one that asyncssh puts in front.

        It hides the CBC chaining value (RFC 4251 section 9.3.1); no CBC cipher is ever offered,
        and encrypting it costs as much as a small reply.
        """
        if pkttype != MSG_IGNORE:
            super().send_packet(pkttype, *args, handler=handler)
        if len(self._deferred_packets) > DEFERRED_LIMIT:
            # Answers to whoever asks and asks, and never lets the keys be exchanged.
            self.abort()

    # Life signs

    def _reset_keepalive_timer(self) -> None:
        """Note that the client lives; the library makes a new timer whenever something arrives."""
        self._heard_s = self._loop.time()

    def _keepalive_timer_callback(self) -> None:
        """Ask for a sign of life, unless there was one since the timer was set."""
        left_s = self._heard_s + self._keepalive_interval - self._loop.time()
        if left_s > 0:
            again = self._keepalive_timer_callback
            self._keepalive_timer = self._loop.call_later(left_s, again)
        else:
            super()._keepalive_timer_callback()

    # In

    def data_received(self, data: bytes, datatype: DataType = None) -> None:
        """Take what arrived, before the log-in in small portions.

        The library copies all that is left of a portion for each packet in it.
        """
        if self._auth_complete:
            self._take_arrived(data, datatype)
            return
        for at in range(0, len(data), STRANGERS_PORTION_BYTES):
            if self._transport is not None:
                super().data_received(data[at : at + STRANGERS_PORTION_BYTES], datatype)

    def _take_arrived(self, data: bytes, datatype: DataType) -> None:
        """Take what arrived after the log-in.

        First the rest of a packet that was cut, so that what follows need not be copied behind it.
        """
        missing = self._missing_bytes()
        if not 0 < missing < len(data):
            super().data_received(data, datatype)
            return
        super().data_received(data[:missing], datatype)
        rest, at = memoryview(data)[missing:], 0
        # Asked for now: that packet may have changed the key, or may take its time.
        cipher = self._short_cipher()
        if cipher is not None and not self._inpbuf and self._transport is not None:
            try:
                at, _ = self._take_packets(cipher, rest)
            except Exception:  # noqa: BLE001  as the library deals with its own
                self.internal_error()
                return
        if at < len(rest) and self._transport is not None:
            super().data_received(bytes(rest[at:]), datatype)

    def _missing_bytes(self) -> int:
        """Return how much is missing of the packet that was cut; 0 where that is not known."""
        if len(self._inpbuf) < _LENGTH.size or self._short_cipher() is None:
            return 0
        (length,) = _LENGTH.unpack_from(self._inpbuf)
        return int(_LENGTH.size + length + TAG_BYTES - len(self._inpbuf))

    def _short_cipher(self) -> PacketCipher | None:
        """Return the cipher of what arrives, if the short way is open.

        It is not while the library is within a packet, or still deals with one.
        """
        cipher = self._recv_encryption
        if self._recv_handler != self._recv_pkthdr or self._decompressor:
            return None
        short = isinstance(cipher, PacketCipher) and self._auth_complete
        return cast(PacketCipher, cipher) if short else None

    def _recv_pkthdr(self) -> bool:
        """Take the channel data that has arrived; leave the first packet of another kind."""
        cipher = self._short_cipher()
        if cipher is not None:
            at, whole = self._take_packets(cipher, memoryview(self._inpbuf))
            if at:
                self._inpbuf = self._inpbuf[at:]
            if not whole:
                return False
        return super()._recv_pkthdr()

    def _take_packets(self, cipher: PacketCipher, view: memoryview) -> tuple[int, bool]:
        """Take the packets of the short way at the beginning of ``view``.

        Returns how many bytes they were, and whether one of another kind follows as a whole.
        """
        at, whole = 0, False
        widened: set[DataChannel] = set()
        while len(view) - at >= BLOCK_BYTES and self._transport is not None:
            (length,) = _LENGTH.unpack_from(view, at)
            end = at + _LENGTH.size + length + TAG_BYTES
            too_long = length > self._max_recv_pktlen
            whole = too_long or end <= len(view)
            if too_long or not whole or not self._take_packet(cipher, view[at:end], widened):
                break
            at, whole = end, False
        for channel in widened:
            channel.flush()
        return at, whole

    def _take_packet(
        self, cipher: PacketCipher, packet: memoryview, widened: set[DataChannel]
    ) -> bool:
        """Take one packet if it is sound, and data for an open channel or more room for its own."""
        plain = cipher.peek(packet)
        if plain is None or len(plain) < _DATA_HEAD.size:
            return False
        padding, kind, number, size = _DATA_HEAD.unpack_from(plain)
        channel = cast(DataChannel | None, self._channels.get(number))
        end = len(plain) - padding
        if end < _DATA_HEAD.size or padding < _PADDING_MIN_BYTES or channel is None:
            return False
        if kind == MSG_CHANNEL_DATA:
            data = memoryview(plain)[_DATA_HEAD.size : end]
            taken = len(data) == size and channel.accept(data)
        elif kind == MSG_CHANNEL_WINDOW_ADJUST and end == _DATA_HEAD.size:
            taken = channel.widen(size)
            widened.add(channel)
        else:
            taken = False
        if taken:
            cipher.accept()
            self._recv_seq = (self._recv_seq + 1) & _SEQUENCE_MASK
            self._auth_final = True
        return taken

    # Out

    def send_data(
        self, channel: SSHChannel[bytes], size: int, limit: int, parts: Sequence[bytes]
    ) -> bool:
        """Send ``parts``, ``size`` bytes in all, in packets of up to ``limit``; False: not now.

        All of it goes to the socket in one call. During a key exchange, or where one is due, the
        library sends, which knows what must wait.
        """
        cipher, limit = self._send_encryption, min(limit, size)
        if (
            not isinstance(cipher, PacketCipher)
            or self._compressor
            or not (self._kex_complete and self._auth_complete)
            or self._rekey_is_due(size)
            or self._transport is None
        ):
            return False
        number = channel._send_chan  # noqa: SLF001
        count = -(-size // limit)
        room, source, at = self.room, Parts(parts), 0
        sealed = room.sealed(size + count * (_DATA_HEAD.size + 3 * BLOCK_BYTES + 4))
        plain = room.plain(limit + 3 * BLOCK_BYTES)
        # Asked for once: the kernel's random bytes cost more than a small packet's sealing.
        noise = os.urandom(2 * BLOCK_BYTES)
        for left in range(size, 0, -limit):
            piece = min(limit, left)
            end = _DATA_HEAD.size + piece
            padding = -end % BLOCK_BYTES
            if padding < _PADDING_MIN_BYTES:
                padding += BLOCK_BYTES
            length = end + padding
            _DATA_HEAD.pack_into(plain, 0, padding, MSG_CHANNEL_DATA, number, piece)
            source.copy_into(plain[_DATA_HEAD.size : end])
            plain[end:length] = noise[:padding]
            _LENGTH.pack_into(sealed, at, length)
            body, at = at + 4, at + 4 + length + TAG_BYTES
            cipher.seal_into(sealed[body - 4 : body], plain[:length], sealed[body:at])
            self._rekey_bytes_sent += length
        self._send_seq = (self._send_seq + count) & _SEQUENCE_MASK
        room.send(sealed[:at], self._transport)
        return True

    def _rekey_is_due(self, size: int) -> bool:
        if self._rekey_seconds and time.monotonic() >= self._rekey_time:
            return True
        return self._rekey_bytes_sent + size >= self._rekey_bytes

"""What an SSH listener offers, found out by asking it: its identification and its KEXINIT.

Speaks the first two messages of RFC 4253 and then hangs up. Imports nothing of the project.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from typing import BinaryIO

IDENTIFICATION = b"SSH-2.0-SealgateDoctor\r\n"
LINE_LIMIT_BYTES = 255
LINE_LIMIT = 50
PACKET_LIMIT_BYTES = 35_000
_MSG_KEXINIT = 20
_COOKIE_END = 17
_LISTS = 5
STRICT = "kex-strict-s-v00@openssh.com"


class NoSshError(Exception):
    """Whatever answers there does not speak SSH; the message says how that showed."""


@dataclass(frozen=True, slots=True)
class SshAnswer:
    """What a server said of itself; names as it sent them, best first."""

    identification: str
    kex: tuple[str, ...]
    host_keys: tuple[str, ...]
    ciphers: tuple[str, ...]
    macs: tuple[str, ...]

    @property
    def strict_kex(self) -> bool:
        """Whether it offers strict key exchange, which stops prefix truncation (Terrapin)."""
        return STRICT in self.kex


def ask(address: tuple[str, int], timeout_s: float, source: str = "") -> SshAnswer:
    """Return what the server at ``address`` offers to a client at ``source`` (any, when empty).

    Raises OSError when it cannot be reached and NoSshError when it is no SSH server.
    """
    bound = (source, 0) if source else None
    with socket.create_connection(address, timeout_s, source_address=bound) as sock:
        sock.sendall(IDENTIFICATION)
        with sock.makefile("rb") as stream:
            identification = ""
            for _ in range(LINE_LIMIT):
                line = stream.readline(LINE_LIMIT_BYTES)
                if line.startswith(b"SSH-") or not line:
                    identification = line.decode("utf-8", "replace").strip()
                    break
            if not identification:
                raise NoSshError("it sends no identification of SSH")
            return _kexinit(identification, _packet(stream))


def _packet(stream: BinaryIO) -> bytes:
    """Return the payload of one unencrypted packet (RFC 4253 section 6)."""
    head = stream.read(5)
    if len(head) < 5:
        raise NoSshError("it hangs up before it says what it offers")
    length, padding = struct.unpack(">IB", head)
    if not padding + 1 < length <= PACKET_LIMIT_BYTES:
        raise NoSshError("its first packet is none of SSH")
    body = stream.read(length - 1)
    return body[: length - 1 - padding]


def _kexinit(identification: str, payload: bytes) -> SshAnswer:
    """Return what a KEXINIT says (RFC 4253 section 7.1)."""
    if payload[:1] != bytes([_MSG_KEXINIT]):
        raise NoSshError("its first packet is no KEXINIT")
    lists, place = [], _COOKIE_END
    for _ in range(_LISTS):
        (length,) = struct.unpack(">I", payload[place : place + 4].rjust(4, b"\xff"))
        place += 4 + length
        if place > len(payload):
            raise NoSshError("its KEXINIT is cut short")
        names = payload[place - length : place].decode("ascii", "replace")
        lists.append(tuple(name for name in names.split(",") if name))
    kex, host_keys, ciphers, _, macs = lists
    return SshAnswer(identification, kex, host_keys, ciphers, macs)

"""What the SFTP front end owes to any bytes, as targets like those of ``targets.py``.

``sftp_packets`` plays what a logged-in client sends on its channel, ``ssh_packets`` what a stranger
sends before the key exchange is over; both over a wire in memory, in front of the fake door.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, cast

import asyncssh
from asyncssh.logging import logger
from asyncssh.packet import String, UInt32, UInt64

from gateway.model import Attempt, Client, Wire
from gateway.sftp.connection import SftpConnection
from gateway.sftp.files import VirtualFiles
from gateway.sftp.handler import FilesHandler
from gateway.sftp.inbox import Inbox
from gateway.sftp.server import _options
from gateway.sftp.service import Service
from gateway.sftp.settings import SftpSettings
from tests.fuzz.grammar import Grammar
from tests.fuzz.targets import Parser
from tests.sftp.fake_door import CODE, PASSWORD, FakeMonitor

SETTINGS: Final = SftpSettings(transfer_threads=1, login_threads=1, max_handles_per_session=8)

_STATUS: Final = 101
_VERSION: Final = 2
_NEVER_SAID: Final = (b"Internal error", b"Uncaught", b"Traceback", b"Error:", b"object at 0x")
_CLIENT: Final = Client(address="192.0.2.1", software="fuzz")
_VERSION_LINE: Final = b"SSH-2.0-fuzz\r\n"
_KEXINIT: Final = 20


def framed(body: bytes) -> bytes:
    """Return an SFTP packet."""
    return UInt32(len(body)) + body


def whole_packets(data: bytes, limit_bytes: int) -> Iterator[bytes]:
    """Yield the bodies of the packets that a reader of ``data`` can take, up to the first it cannot.

    That is one that is cut off, is longer than allowed, or has no room for its type and number.
    """
    position = 0
    while position + 4 <= len(data):
        size = int.from_bytes(data[position : position + 4], "big")
        body = data[position + 4 : position + 4 + size]
        if size > limit_bytes or len(body) < max(size, 5):
            return
        yield body
        position += 4 + size


class _Reader(asyncio.StreamReader):
    """The incoming half of a channel that is in memory."""

    logger = logger

    def get_extra_info(self, name: str, default: str = "") -> str:
        """Return the default: nothing is known of a client in memory."""
        del name
        return default


@dataclass(slots=True)
class _Writer:
    """The outgoing half, and the channel's own end."""

    sent: bytearray = field(default_factory=bytearray)
    closed: bool = False

    @property
    def channel(self) -> _Writer:
        return self

    def write(self, data: bytes) -> None:
        self.sent += data

    def send_parts(self, *parts: bytes) -> None:
        self.sent += b"".join(parts)

    async def drain(self) -> None:
        """Return at once: memory takes everything."""

    def close(self) -> None:
        self.closed = True

    def exit(self, status: int) -> None:
        """Take the exit status."""

    def is_closing(self) -> bool:
        return self.closed


@dataclass(slots=True)
class _Connection:
    """As much of a connection as a channel needs."""

    service: Service
    handler: FilesHandler | None = None
    draining: bool = False

    @property
    def open_handles(self) -> int:
        return self.handler.open_handles if self.handler is not None else 0

    @property
    def has_free_handle(self) -> bool:
        return self.open_handles < SETTINGS.max_handles_per_session

    async def until_writable(self) -> None:
        """Return at once."""

    async def record_refusal(self, what: str) -> None:
        """Keep nothing."""

    def request_answered(self) -> None:
        """Serve on."""


async def _served(data: bytes, monitor: FakeMonitor) -> bytes:
    """Return what the server says on a channel on which ``data`` arrives."""
    attempt = Attempt("alice", Wire.SFTP, _CLIENT, secret=PASSWORD + CODE)
    session = monitor.login(attempt)
    service = Service(monitor.facade(), SETTINGS)
    reader, writer = _Reader(), _Writer()
    channel = cast("asyncssh.SSHServerChannel[bytes]", writer)
    files = VirtualFiles(
        channel,
        monitor.facade().bind(session),
        service.workers,
        monitor.clock,
        SETTINGS.read_limit_bytes,
    )
    inbox = Inbox(packet_limit_bytes=SETTINGS.packet_limit_bytes, read=lambda _waiting: None)
    connection = _Connection(service)
    connection.handler = FilesHandler(
        cast(SftpConnection, connection),
        files,
        inbox,
        cast("asyncssh.SSHReader[bytes]", reader),
        cast("asyncssh.SSHWriter[bytes]", writer),
    )
    inbox.feed(data)
    inbox.end()
    try:
        await connection.handler.run()
    finally:
        service.workers.shut_down()
    assert connection.handler.open_handles == 0
    return bytes(writer.sent)


def sftp_packets(data: bytes) -> None:
    """Every whole packet has one reply with its number, and nothing stays open."""
    monitor = FakeMonitor()
    for name in ("a", "b"):
        monitor.put(f"/share/{name}", b"content of " + name.encode())
    sent = asyncio.run(_served(data, monitor))
    replies = list(whole_packets(sent, len(sent)))
    assert sum(4 + len(reply) for reply in replies) == len(sent)
    assert monitor.open_writers == 0
    taken = list(whole_packets(data, SETTINGS.packet_limit_bytes))
    if not replies:
        return
    first, *answers = replies
    assert first[0] == _VERSION
    # Not in the same order: a copy is answered beside the requests that follow it.
    asked = sorted(packet[1:5] for packet in taken[1:])
    assert sorted(answer[1:5] for answer in answers) == asked
    for answer in answers:
        assert answer[0] in range(_STATUS, _STATUS + 5) or answer[0] == 201
        if answer[0] == _STATUS:
            for never in _NEVER_SAID:
                assert never not in answer, answer


class _Transport(asyncio.Transport):
    """A connection that is in memory."""

    def __init__(self) -> None:
        super().__init__({"peername": ("192.0.2.1", 4711), "sockname": ("192.0.2.2", 22)})
        self.sent = bytearray()
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent += data

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Take the limits."""


async def _greeted(data: bytes, monitor: FakeMonitor) -> bytes:
    """Return what a server says to a stranger who sends ``data`` and goes."""
    failures: list[dict[str, object]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: failures.append(context))
    service, transport = Service(monitor.facade(), SETTINGS), _Transport()
    with TemporaryDirectory() as folder:
        key = Path(folder, "key")
        asyncssh.generate_private_key("ssh-ed25519").write_private_key(key)
        options = await _options([key], service)
    connection = SftpConnection(loop, options, service)
    connection.connection_made(transport)
    for part in (data[: len(data) // 2], data[len(data) // 2 :]):
        if not transport.closed:
            connection.data_received(part)
            await asyncio.sleep(0)
    connection.connection_lost(None)
    await connection.wait_closed()
    await service.settle()
    service.workers.shut_down()
    assert connection.session is None
    assert not service.connections
    assert not failures, failures
    return bytes(transport.sent)


def ssh_packets(data: bytes) -> None:
    """A stranger hears the version and what a disconnect may say; nobody is asked who it is."""
    monitor = FakeMonitor()
    sent = asyncio.run(_greeted(data, monitor))
    assert sent.startswith(b"SSH-2.0-Sealgate\r\n")
    for never in (*_NEVER_SAID, b"Exception"):
        assert never not in sent, sent
    assert not monitor.attempts
    assert not monitor.sessions


def _requests() -> Iterator[bytes]:
    """Yield bodies of sound requests, each with a number of its own."""
    handle, path, attrs = String(bytes(4)), String("/share/a"), UInt32(0)
    hashes = String("md5,sha256") + UInt64(0) * 2 + UInt32(256)
    bodies = {
        3: path + UInt32(3) + attrs,
        4: handle,
        5: handle + UInt64(0) + UInt32(100),
        6: handle + UInt64(3) + String("xyz"),
        7: path,
        8: handle,
        9: path + UInt32(9) + UInt64(5) + UInt32(1) + UInt32(2),
        10: handle + UInt32(8) + UInt32(1) + UInt32(2),
        11: String("/share"),
        12: handle,
        13: path,
        14: String("/share/d") + attrs,
        15: String("/share/d"),
        16: String("../share/./a"),
        17: path,
        18: path + String("/share/c"),
        19: path,
        20: path + String("/share/l"),
    }
    for kind, rest in bodies.items():
        yield bytes([kind]) + UInt32(kind) + rest
    for name, rest in (
        ("posix-rename@openssh.com", path + String("/share/b")),
        ("statvfs@openssh.com", path),
        ("fstatvfs@openssh.com", handle),
        ("fsync@openssh.com", handle),
        ("lsetstat@openssh.com", path + attrs),
        ("limits@openssh.com", b""),
        ("copy-data", handle + UInt64(0) * 2 + String(b"\0\0\0\1") + UInt64(0)),
        ("copy-data", handle + UInt64(1) + UInt64(9) + handle + UInt64(5)),
        ("check-file", handle + hashes),
        ("check-file-handle", handle + hashes),
        ("check-file-name", path + hashes),
        ("home-directory", String("alice")),
        ("expand-path@openssh.com", String("~/share/a")),
        ("hardlink@openssh.com", path + String("/share/l")),
        ("ranges@asyncssh.com", handle + UInt64(0) * 2),
    ):
        yield bytes([200]) + UInt32(len(name)) + String(name) + rest


_NUMBERS: Final = (
    *(UInt32(number) for number in (0, 1, 3, 4, 255, 2**31, 2**32 - 1)),
    *(UInt64(number) for number in (2**31, 2**63 - 1, 2**63, 2**64 - 1)),
)
_INIT: Final = framed(b"\1" + UInt32(3))
_OPENED: Final = framed(b"\3" + UInt32(1) + String("/share/a") + UInt32(3) + UInt32(0))
_BLANK_KEX: Final = bytes([_KEXINIT]) + bytes(16) + String("curve25519-sha256") + UInt32(0) * 9


def ssh_framed(payload: bytes) -> bytes:
    """Return an SSH packet as it is sent before there are keys (RFC 4253 section 6)."""
    padding = 8 + -(5 + len(payload)) % 8
    return UInt32(1 + len(payload) + padding) + bytes([padding]) + payload + bytes(padding)


SFTP_PARSERS: Final = {
    "sftp-packet": Parser(
        sftp_packets,
        Grammar(
            (
                *map(framed, _requests()),
                *(framed(bytes([kind]) + UInt32(9) + String(bytes(4))) for kind in (0, 2, 21, 255)),
                *_NUMBERS,
                *map(String, ("", "..", "/share/../..", "/share/b", "/share/" + "n" * 256)),
                *map(String, (b"\0", b"\xff\xfe", b"/share/\\", bytes(4), b"\0\0\0\1")),
            ),
            (b"", _INIT, _INIT + _OPENED, _INIT + _OPENED * 2, framed(b"\1" + UInt32(6))),
        ),
    ),
    "ssh-preauth": Parser(
        ssh_packets,
        Grammar(
            (
                *(ssh_framed(bytes([kind]) + String("ssh-userauth")) for kind in (1, 2, 4, 5, 6)),
                *(ssh_framed(bytes([kind]) + UInt32(7)) for kind in (3, 21, 30, 50, 61, 80, 90)),
                ssh_framed(_BLANK_KEX),
                ssh_framed(b""),
                *_NUMBERS,
                *map(String, ("none", "zlib", "zlib@openssh.com", "curve25519-sha256")),
                _VERSION_LINE,
                b"GET / HTTP/1.1\r\n",
            ),
            (b"", _VERSION_LINE, _VERSION_LINE + ssh_framed(_BLANK_KEX), b"SSH-1.99-\xff\n"),
        ),
    ),
}
"""Both targets by the names of their folders of seeds."""

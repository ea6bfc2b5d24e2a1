"""SFTP as an attacker speaks it: packets byte by byte over paramiko's transport.

paramiko logs in and encrypts; every SFTP packet is written here, so that none need be sound.
Imports nothing from the project.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import paramiko
import psutil

from tests.attacks.support import SECRET_NAME, Target
from tests.process.support import ServedGateway
from tests.support.replies import Record
from tests.support.users import until

LIMIT_S = 30.0

# Requests and replies of version 3 (draft-ietf-secsh-filexfer-02 section 3).
INIT, VERSION, OPEN, CLOSE, READ, WRITE, LSTAT, FSTAT, SETSTAT, FSETSTAT = range(1, 11)
OPENDIR, READDIR, REMOVE, MKDIR, RMDIR, REALPATH, STAT, RENAME, READLINK, SYMLINK = range(11, 21)
STATUS, HANDLE, DATA, NAME, ATTRS = range(101, 106)
EXTENDED = 200

OK, EOF, NO_SUCH_FILE, DENIED, FAILURE, BAD_MESSAGE, _, _, UNSUPPORTED = range(9)

FOR_READING, FOR_WRITING, APPENDING, CREATING, TRUNCATING = 1, 2, 4, 8, 16
NEW = FOR_WRITING | CREATING | TRUNCATING

NO_ATTRS = bytes(4)

_NEVER_SAID = (SECRET_NAME.encode(), b"Traceback", b'File "', b"Error", b"sqlite", b"Uncaught")


def text(value: str | bytes) -> bytes:
    """Return a string of the protocol."""
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack(">I", len(raw)) + raw


def word(value: int) -> bytes:
    """Return a number of 32 bits."""
    return struct.pack(">I", value)


def long(value: int) -> bytes:
    """Return a number of 64 bits."""
    return struct.pack(">Q", value)


def packet(kind: int, number: int, *parts: bytes) -> bytes:
    """Return a framed packet."""
    body = bytes([kind]) + word(number) + b"".join(parts)
    return word(len(body)) + body


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply; ``body`` is what follows the request's number."""

    kind: int
    number: int
    body: bytes

    @property
    def code(self) -> int:
        """The code of a status; OK for any other kind of reply."""
        return int.from_bytes(self.body[:4], "big") if self.kind == STATUS else OK

    @property
    def handle(self) -> bytes:
        """The handle that an open was answered with."""
        assert self.kind == HANDLE, self
        return self.body[4:]

    @property
    def data(self) -> bytes:
        """What was read."""
        assert self.kind == DATA, self
        return self.body[4:]


@dataclass(slots=True)
class Client:
    """One ``sftp`` channel; the version is agreed on."""

    channel: paramiko.Channel
    number: int = 0
    received: bytearray = field(default_factory=bytearray)

    def send(self, raw: bytes) -> None:
        """Send bytes as they are."""
        self.channel.sendall(raw)

    def receive(self) -> Answer:
        """Return the next reply, which is harmless."""
        body = self._exactly(int.from_bytes(self._exactly(4), "big"))
        answer = Answer(body[0], int.from_bytes(body[1:5], "big"), body[5:])
        if answer.kind == STATUS:
            for said in _NEVER_SAID:
                assert said not in answer.body, answer
        return answer

    def ask(self, kind: int, *parts: bytes) -> Answer:
        """Send one request and return its reply."""
        self.number += 1
        self.send(packet(kind, self.number, *parts))
        answer = self.receive()
        assert answer.number == self.number
        return answer

    def open(self, path: str | bytes, flags: int) -> Answer:
        """Ask for a file."""
        return self.ask(OPEN, text(path), word(flags), NO_ATTRS)

    def put(self, path: str, content: bytes) -> None:
        """Store a small file."""
        handle = self.open(path, NEW).handle
        assert self.ask(WRITE, text(handle), long(0), text(content)).code == OK
        assert self.ask(CLOSE, text(handle)).code == OK

    def get(self, path: str) -> bytes:
        """Return what a small file holds."""
        handle = self.open(path, FOR_READING).handle
        data = self.ask(READ, text(handle), long(0), word(65536)).data
        assert self.ask(CLOSE, text(handle)).code == OK
        return data

    def ended(self) -> bool:
        """Return whether the gateway closes the channel without another reply."""
        return not self.received and self.channel.recv(1) == b""

    def _exactly(self, size: int) -> bytes:
        while len(self.received) < size:
            part = self.channel.recv(65536)
            assert part, "the channel ended instead of a reply"
            self.received += part
        found = bytes(self.received[:size])
        del self.received[:size]
        return found


class Tap(socket.socket):
    """A connection that takes nothing while ``paused`` is set, whatever lies in its buffer."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.paused = threading.Event()
        self.connect(("127.0.0.1", port))

    def recv(self, size: int, flags: int = 0) -> bytes:
        if self.paused.is_set():
            threading.Event().wait(0.05)
            raise TimeoutError
        return super().recv(size, flags)


@dataclass(slots=True)
class Attacker:
    """The scanner, who logs in with a key alone: all of ``scans``, deposits in ``inbox``."""

    target: Target
    gateway: ServedGateway = field(init=False)
    worker: psutil.Process = field(init=False)

    def __post_init__(self) -> None:
        self.gateway = self.target.gateway
        (self.worker,) = self.gateway.workers("sftp")

    @contextlib.contextmanager
    def transport(self, sock: Tap | None = None) -> Iterator[paramiko.Transport]:
        """Yield a connection that is logged in; returns when its session has been logged off.

        What is given up with a connection is recorded later, and would be taken for what the
        next one did.
        """
        mark = self.target.mark()
        path = self.gateway.users["scanner"].ssh_key
        assert path is not None
        with self.stranger(sock) as transport:
            transport.auth_publickey(
                "scanner", paramiko.Ed25519Key.from_private_key_file(str(path))
            )
            yield transport
        until(lambda: self._logged_off(mark), "the session is logged off")

    def _logged_off(self, mark: int) -> bool:
        return any(
            record.action == "logoff" and record.principal == "scanner"
            for record in self.target.since(mark)
        )

    @contextlib.contextmanager
    def stranger(self, sock: Tap | None = None) -> Iterator[paramiko.Transport]:
        """Yield a connection after its key exchange, not logged in."""
        transport = paramiko.Transport(sock or self.connect())
        try:
            transport.start_client(timeout=LIMIT_S)
            yield transport
        finally:
            transport.close()

    @contextlib.contextmanager
    def client(self) -> Iterator[Client]:
        """Yield a channel on a connection of its own."""
        with self.transport() as transport:
            yield channel_on(transport)

    def connect(self, address: str = "127.0.0.1") -> socket.socket:
        """Return a connection from ``address`` on which nothing was said yet."""
        there = ("127.0.0.1", self.gateway.sftp_port)
        return socket.create_connection(there, LIMIT_S, source_address=(address, 0))

    def records(self, mark: int, count: int) -> list[Record]:
        """Return the scanner's records after ``mark``, once there are ``count`` of them.

        Without look-ups, which are written up to a second after what was asked, and without the
        end of a connection that an earlier test closed.
        """
        late = {"stat", "logoff"}

        def recorded() -> list[Record]:
            since = self.target.since(mark)
            found = [one for one in since if one.principal == "scanner" and one.action not in late]
            return found if len(found) >= count else []

        return until(recorded, f"{count} records") if count else recorded()

    def resident_mib(self) -> float:
        """Return how much memory the worker has now."""
        return self.worker.memory_info().rss / 2**20

    def settled(self) -> None:
        """Wait until the worker does nothing more."""

        def idle() -> bool:
            before_s = self._busy_s()
            threading.Event().wait(0.3)
            return self._busy_s() - before_s < 0.03

        until(idle, "the worker is idle", LIMIT_S)

    def _busy_s(self) -> float:
        times = self.worker.cpu_times()
        return times.user + times.system

    def peak_mib(self) -> float:
        """Return the most memory that the worker has had since it started."""
        lines = Path(f"/proc/{self.worker.pid}/status").read_text().splitlines()
        peak = next(line for line in lines if line.startswith("VmHWM"))
        return int(peak.split()[1]) / 1024

    def healthy(self) -> None:
        """See that the worker lives, serves a newcomer, and logged no failure and no path."""
        assert self.worker.is_running()
        with self.client() as newcomer:
            assert newcomer.ask(STAT, text("/scans")).kind == ATTRS
        said = self.gateway.log()
        for never in (" ERROR ", "Traceback", SECRET_NAME, "/scans/"):
            assert never not in said, said


def channel_on(
    transport: paramiko.Transport, opening: bytes | None = None, window_bytes: int | None = None
) -> Client:
    """Return a channel that began with ``opening``, by default as version 3 with its reply read."""
    channel = transport.open_session(window_size=window_bytes, timeout=LIMIT_S)
    channel.settimeout(LIMIT_S)
    channel.invoke_subsystem("sftp")
    client = Client(channel)
    client.send(word(5) + bytes([INIT]) + word(3) if opening is None else opening)
    if opening is None:
        assert client.receive().kind == VERSION
    return client

"""How a process that will be killed tells its parent what happened, past the disk that dies.

Messages are whole or absent. They go by ``send`` and not by ``write``, so that faults injected
into ``write`` do not hit them.
"""

from __future__ import annotations

import pickle
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.crash.model import Operation

_SIZE = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class Begun:
    """A thread is about to do ``operation``."""

    thread: int
    operation: Operation


@dataclass(frozen=True, slots=True)
class Done:
    """The operation that the thread had begun was acknowledged."""

    thread: int
    version_id: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The operation that the thread had begun reported ``error``; it may have happened."""

    thread: int
    error: str


@dataclass(frozen=True, slots=True)
class Resolved:
    """After a refusal the thread looked: the operation ``happened`` or it did not."""

    thread: int
    happened: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the check before the work found. ``happened``: how many of a thread's open operations."""

    happened: dict[int, int]
    digests: dict[str, str]
    findings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Armed:
    """From now on the process may be killed at any moment."""


END = "the end of the plan"
"""The boundary of a process that had nothing left to do."""


@dataclass(frozen=True, slots=True)
class Struck:
    """The boundary that was planned is reached, or END; the disaster comes next."""

    boundary: str


@dataclass(frozen=True, slots=True)
class Broken:
    """Something happened that no crash explains: ``text`` is for the finder of the bug."""

    text: str


Message = Begun | Done | Refused | Resolved | Verdict | Armed | Struck | Broken


@dataclass(slots=True)
class Sender:
    """The dying process's end. Thread-safe."""

    socket: socket.socket
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def send(self, message: Message) -> None:
        """Send one message; it has left the process when this returns."""
        data = pickle.dumps(message)
        with self._lock:
            self.socket.sendall(_SIZE.pack(len(data)) + data)


@dataclass(slots=True)
class Receiver:
    """The parent's end. ``closed`` once the other end is gone."""

    socket: socket.socket
    closed: bool = False
    _buffer: bytearray = field(default_factory=bytearray)

    def receive(self) -> Iterator[Message]:
        """Yield the messages that have arrived; waits for some bytes or the other end's end."""
        try:
            data = self.socket.recv(1 << 20)
        except (ConnectionResetError, TimeoutError):
            data = b""
        self.closed = self.closed or not data
        self._buffer += data
        while len(self._buffer) >= _SIZE.size:
            (size,) = _SIZE.unpack_from(self._buffer)
            if len(self._buffer) < _SIZE.size + size:
                return
            message: Message = pickle.loads(self._buffer[_SIZE.size : _SIZE.size + size])
            del self._buffer[: _SIZE.size + size]
            yield message


def channel() -> tuple[Sender, Receiver]:
    """Return the two ends of a new channel."""
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    return Sender(ours), Receiver(theirs)

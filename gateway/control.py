"""What the supervisor and its workers say to each other: JSON lines over a socket pair.

The form of the messages and nothing of what they cause. Imports nothing from the project.
"""

from __future__ import annotations

import json
import socket
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

LINE_LIMIT_BYTES = 8 * 1024 * 1024

ANY_CORE = "any"
"""What stands for the core of a worker that may run on all of them, on its command line."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message: ``verb`` and the text that goes with it.

    To a worker: ``start`` and ``reload`` (the configuration's text), ``drain`` (seconds). From a
    worker: ``ready``, ``reloaded``, ``failed`` (a sentence for the administrator).
    """

    verb: str
    text: str = ""


class Control:
    """One end of the line. Messages are read by one thread; sending is for any."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._buffer = b""
        self._waiting: deque[Message] = deque()

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._socket.fileno()

    def send(self, message: Message) -> bool:
        """Send; False when the other end is gone."""
        line = json.dumps([message.verb, message.text]).encode("utf-8") + b"\n"
        try:
            self._socket.sendall(line)
        except OSError:
            return False
        return True

    def receive(self) -> list[Message] | None:
        """Block until something came; return what is complete, None at the end of the line."""
        try:
            data = self._socket.recv(64 * 1024)
        except OSError:
            return None
        if not data or len(self._buffer) > LINE_LIMIT_BYTES:
            return None
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        return [Message(*json.loads(line)) for line in lines]

    def messages(self) -> Iterator[Message]:
        """Yield messages until the other end is gone; another call goes on where this stopped."""
        while True:
            # Several may come at once, of which the caller may take only the first.
            while self._waiting:
                yield self._waiting.popleft()
            received = self.receive()
            if received is None:
                return
            self._waiting.extend(received)

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

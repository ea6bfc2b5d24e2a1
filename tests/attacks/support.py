"""A running gateway as an attacker sees it: raw requests over TLS, its worker's memory, its trail.

The gateway is the real process; the trail is read beside it, as ``sealgate audit export`` would.
"""

from __future__ import annotations

import base64
import contextlib
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from gateway.app import Gateway, open_gateway
from gateway.audit import trail
from gateway.config import load_config
from tests.process.support import ServedGateway, served
from tests.support.replies import Record
from tests.webdav.support import LIMIT_S, Reply, read_reply

SECRET_NAME = "patient-4711-others-secret"
"""A file where alice may not even list: no answer to her may hold its name."""

STALE_S = 300
"""After how long without a request a user signs in anew."""

# Repeated look-ups become one counted record a second, so their number is not fixed.
LOOK_UPS = frozenset({"stat", "login", "list"})
ORDINARY = frozenset({"ok", "failed"})

_NEVER_SAID = (SECRET_NAME.encode(), b"Traceback", b'File "', b"sqlite", b"/data/", b"Error(")


@dataclass(slots=True)
class Target:
    """The gateway under attack. ``inside`` opens the same data, to read what was recorded."""

    gateway: ServedGateway
    inside: Gateway
    worker: psutil.Process
    context: ssl.SSLContext
    asked_s: dict[str, float] = field(default_factory=dict)

    def basic(self, user: str) -> str:
        """Return the Authorization field of a user's living session."""
        now_s = time.monotonic()
        # Between two modules of attacks so long may pass that sessions idle out.
        stale = now_s - self.asked_s.get(user, now_s) > STALE_S
        self.asked_s[user] = now_s
        secret = self.gateway.webdav_secret(user, fresh=stale)
        return "Basic " + base64.b64encode(f"{user}:{secret}".encode()).decode()

    def connect(self) -> ssl.SSLSocket:
        """Return a TLS connection."""
        plain = self.connect_plain()
        try:
            return self.context.wrap_socket(plain, server_hostname="127.0.0.1")
        except OSError:
            plain.close()
            raise

    def connect_plain(self) -> socket.socket:
        """Return a connection on which nothing was said yet."""
        return socket.create_connection(("127.0.0.1", self.gateway.webdav_port), LIMIT_S)

    def request(
        self, method: str, target: str, *fields: str, body: bytes = b"", user: str = "alice"
    ) -> bytes:
        """Return a request as bytes; the size of ``body`` is added unless ``fields`` frame it."""
        lines = [f"{method} {target} HTTP/1.1", "Host: localhost"]
        lines += [f"Authorization: {self.basic(user)}", *fields]
        framed = any(
            line.lower().startswith(("content-length", "transfer-encoding")) for line in fields
        )
        if body and not framed:
            lines.append(f"Content-Length: {len(body)}")
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + body

    def send(self, raw: bytes) -> Reply:
        """Send ``raw`` on a connection of its own and return the first answer, if it is harmless."""
        with self.connect() as sock:
            # The answer may come, and the connection go, before all is sent.
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                sock.sendall(raw)
            return harmless(read_reply(sock, to_head=raw.startswith(b"HEAD ")))

    def ask(
        self, method: str, target: str, *fields: str, body: bytes = b"", user: str = "alice"
    ) -> Reply:
        """Send a request by ``user`` and return the answer, which is harmless."""
        return self.send(self.request(method, target, *fields, body=body, user=user))

    def audited(
        self, method: str, target: str, *fields: str, body: bytes = b""
    ) -> tuple[Reply, list[Record]]:
        """Return the answer to a request by alice, and what it left in the trail."""
        mark = self.mark()
        reply = self.ask(method, target, *fields, body=body)
        return reply, self.since(mark)

    def holds(self, path: str) -> bool:
        """Return whether there is something at ``path``."""
        return self.ask("HEAD", path, user="admin").status != 404

    def mark(self) -> int:
        """Return the time for ``since``."""
        return self.inside.clock()

    def since(self, mark: int) -> list[Record]:
        """Return the records after ``mark`` but those of logins and of look-ups that were let in."""
        with self.inside.catalog.snapshot() as tx:
            lines = list(trail.lines(tx, self.inside.audit_cipher, since_us=mark))
        return [
            record
            for record in map(Record.of, lines)
            if record.action not in LOOK_UPS or record.outcome not in ORDINARY
        ]

    def peak_mib(self) -> float:
        """Return the most memory that the worker has had so far."""
        text = Path(f"/proc/{self.worker.pid}/status").read_text()
        line = next(line for line in text.splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024

    def cpu_s(self) -> float:
        """Return the processor time that the worker has used so far."""
        times = self.worker.cpu_times()
        return times.user + times.system


def harmless(reply: Reply) -> Reply:
    """Return the answer after a look for what no answer may tell or let a browser do."""
    for word in _NEVER_SAID:
        assert word not in reply.body
        assert word.decode() not in reply.head
    if reply.status != 100:
        head = reply.head.lower()
        assert "\r\nx-content-type-options: nosniff" in head
        assert "\r\ncontent-security-policy: default-src 'none'" in head
        assert "\r\nstrict-transport-security: max-age=" in head
    assert reply.status != 500
    return reply


@contextlib.contextmanager
def attacked(folder: Path) -> Iterator[Target]:
    """Run a gateway to attack, and see at the end that its log tells of no failure and no name."""
    with served(folder) as gateway:
        inside = open_gateway(load_config(gateway.config))
        (worker,) = gateway.workers("webdav")
        context = ssl.create_default_context(cafile=gateway.info["ca_file"])
        target = Target(gateway, inside, worker, context)
        try:
            for share in ("inbox", "scans"):
                put = target.ask("PUT", f"/{share}/{SECRET_NAME}", body=b"x", user="admin")
                assert put.status == 201
            target.ask("PROPFIND", "/", "Depth: 1")
            yield target
            assert worker.is_running()
        finally:
            inside.close()
        said = gateway.log()
        for word in (" ERROR ", "Traceback", SECRET_NAME, "/radiology/"):
            assert word not in said, said

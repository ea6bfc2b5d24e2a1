"""How the tests of the WebDAV front end ask: the application directly, or over a socket."""

from __future__ import annotations

import base64
import datetime as dt
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast
from xml.etree import ElementTree as ET

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gateway.webdav.app import WebdavApp
from gateway.webdav.body import Body, Inbox
from gateway.webdav.messages import Request, Response
from gateway.webdav.server import WebdavServer
from gateway.webdav.settings import TlsFiles, WebdavSettings
from tests.webdav.fake_door import SECRET, FakeMonitor

if TYPE_CHECKING:
    from gateway.monitor import Monitor

LIMIT_S = 20.0


def basic(name: str = "alice", secret: str = SECRET) -> str:
    return "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()


def body_of(data: bytes, length: int | None = -1) -> Body:
    """Return ``data`` as a request's body; ``length`` None reads it as chunked coding."""
    left = bytearray(data)

    def receive(view: memoryview) -> int:
        size = min(len(view), len(left))
        view[:size] = left[:size]
        del left[:size]
        return size

    return Body(Inbox(receive), len(data) if length == -1 else length)


@dataclass(slots=True)
class Site:
    """The application over a fake door, asked without any socket."""

    monitor: FakeMonitor = field(default_factory=FakeMonitor)
    settings: WebdavSettings = field(default_factory=WebdavSettings)

    def ask(
        self,
        method: str,
        target: str,
        body: bytes | Body = b"",
        *,
        user: str = "alice",
        **headers: str,
    ) -> Response:
        """Return the answer; ``if_match="..."`` sends the header ``if-match``."""
        sent = {"host": "localhost", "authorization": basic(user)}
        sent |= {name.rstrip("_").replace("_", "-"): value for name, value in headers.items()}
        app = WebdavApp(cast("Monitor", self.monitor), self.settings)
        whole = body_of(body) if isinstance(body, bytes) else body
        return app(Request(method, target, sent, whole, "127.0.0.1"))


def content(response: Response) -> bytes:
    """Return all of a response's content, and close it."""
    if response.stream is None:
        return response.body
    data = b"".join(response.stream.blocks())
    response.stream.close(complete=True)
    return data


def header(response: Response, name: str) -> str:
    """Return the one header of that name, "" without one."""
    values = [value for key, value in response.headers if key.lower() == name.lower()]
    assert len(values) <= 1
    return values[0] if values else ""


def parsed(response: Response) -> ET.Element:
    return ET.fromstring(response.body.decode())


def properties(response: Response, status: int = 200) -> dict[str, dict[str, ET.Element]]:
    """Return href -> tag -> element of the propstats with that status."""
    found: dict[str, dict[str, ET.Element]] = {}
    for one in parsed(response).iterfind("{DAV:}response"):
        href = one.findtext("{DAV:}href") or ""
        found[href] = {
            element.tag: element
            for propstat in one.iterfind("{DAV:}propstat")
            if f" {status} " in (propstat.findtext("{DAV:}status") or "")
            for prop in propstat.iterfind("{DAV:}prop")
            for element in prop
        }
    return found


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer as it came over a socket."""

    status: int
    head: str
    body: bytes


@dataclass(slots=True)
class Live:
    """A listening server in a thread of its own."""

    monitor: FakeMonitor
    server: WebdavServer
    port: int
    tls: ssl.SSLContext | None

    def connect(self, *, handshake: bool = True) -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", self.port), timeout=LIMIT_S)
        if self.tls is not None and handshake:
            return self.tls.wrap_socket(sock, server_hostname="localhost")
        return sock

    def exchange(self, raw: bytes) -> Reply:
        """Send ``raw`` on a connection of its own; return the first answer."""
        with self.connect() as sock:
            sock.sendall(raw)
            return read_reply(sock)


def request(
    method: str, target: str, *fields: str, body: bytes = b"", user: str = "alice"
) -> bytes:
    """Return a well-formed head with credentials and ``fields``, then ``body``."""
    lines = [f"{method} {target} HTTP/1.1", "Host: localhost", f"Authorization: {basic(user)}"]
    return "\r\n".join([*lines, *fields, "", ""]).encode() + body


def read_reply(sock: socket.socket, *, to_head: bool = False) -> Reply:
    """Return one answer from ``sock``; interim answers are answers too."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = sock.recv(65536)
        assert more, f"the connection ended within a head: {data!r}"
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    text = head.decode("latin-1")
    announced = re.search(r"(?im)^content-length: (\d+)", text)
    size = int(announced[1]) if announced else 0
    while len(body) < size and not to_head:
        more = sock.recv(65536)
        if not more:
            break
        body += more
    return Reply(int(text.split(" ")[1]), text, body)


def at_end(sock: socket.socket) -> bool:
    """Return whether the server has closed the connection (waits for either)."""
    try:
        return sock.recv(1) == b""
    except ConnectionError:
        return True


@contextmanager
def live(settings: WebdavSettings, tls_files: TlsFiles | None = None) -> Iterator[Live]:
    """Run a server over a new fake door; drains it at the end."""
    sock = socket.create_server(("127.0.0.1", 0))
    monitor = FakeMonitor()
    server = WebdavServer(sock, tls_files, cast("Monitor", monitor), settings)
    context = None
    if tls_files is not None:
        context = ssl.create_default_context(cafile=tls_files.certificate)
    port: int = sock.getsockname()[1]
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    try:
        yield Live(monitor, server, port, context)
    finally:
        server.drain(1)
        thread.join(LIMIT_S)
        assert not thread.is_alive()


def make_tls_files(folder: Path) -> TlsFiles:
    """Write a self-signed certificate for localhost and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = TlsFiles(folder / "certificate.pem", folder / "key.pem")
    files.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files.private_key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return files

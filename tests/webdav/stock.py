"""A stock cheroot server, without anything of ours, to attack beside our own.

For ``test_stock_cheroot.py``. Imports nothing of the project but the place of a certificate.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from cheroot import wsgi
from cheroot.ssl.builtin import BuiltinSSLAdapter

from gateway.webdav.settings import TlsFiles
from tests.webdav.support import LIMIT_S

StartResponse = Callable[[str, list[tuple[str, str]]], object]


@dataclass(slots=True)
class Stock:
    """A stock cheroot server around an application that stores what it is told is the body."""

    server: wsgi.Server
    stored: dict[str, bytes] = field(default_factory=dict)
    closing: bool = False
    short: bool = False

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Answer 401 without credentials and without reading, else store the body: 201."""
        if "HTTP_AUTHORIZATION" not in environ:
            start_response("401 Unauthorized", [("Content-Length", "0")])
            return []
        if self.short:
            start_response("200 OK", [("Content-Length", "10")])
            return [b"hello"]
        coded = environ.get("HTTP_TRANSFER_ENCODING") == "chunked"
        length = None if coded else int(environ.get("CONTENT_LENGTH") or 0)
        self.stored[environ["PATH_INFO"]] = environ["wsgi.input"].read(length)
        headers = [("Content-Length", "0")]
        if self.closing:
            headers.append(("Connection", "close"))
        start_response("201 Created", headers)
        return []

    @property
    def port(self) -> int:
        port: int = self.server.bind_addr[1]
        return port

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=LIMIT_S)


@contextlib.contextmanager
def stock_server(timeout_s: int = 20, tls_files: TlsFiles | None = None) -> Iterator[Stock]:
    """Run a stock server with two threads for the length of a ``with`` block."""
    server = wsgi.Server(
        ("127.0.0.1", 0), None, numthreads=2, timeout=timeout_s, shutdown_timeout=1
    )
    stock = Stock(server)
    server.wsgi_app = stock
    if tls_files is not None:
        server.ssl_adapter = BuiltinSSLAdapter(
            str(tls_files.certificate), str(tls_files.private_key)
        )
    server.prepare()
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    try:
        yield stock
    finally:
        server.stop()
        thread.join(LIMIT_S)

"""What a client program sends, request by request, against the real listener and the real door.

A program's test is its recorded order of ``Step``s, played over TLS by a ``Program``. Knows nothing
of any one program. May import the WebDAV server and the tests' gateway in one process.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from xml.etree import ElementTree as ET

from gateway.webdav.server import WebdavServer
from gateway.webdav.settings import TlsFiles, WebdavSettings
from tests.door.support import Gate, at, password_of
from tests.webdav.support import LIMIT_S, basic, read_reply

NO_HEADERS: Mapping[str, str] = {}
EMPTY: Mapping[str, str] = {"Content-Length": "0"}
SETTINGS = WebdavSettings(threads=4, drain_limit_s=0.2)


@dataclass(frozen=True, slots=True)
class Step:
    """One request as the program sends it, and the status that it needs to go on.

    ``target`` stands escaped in the request line. In it and in header values ``{folder}`` is the
    program's folder, ``{host}`` where the listener is, ``{token}`` that of its lock on this target
    and ``{etag}`` the last entity tag. With ``chunks`` the body goes in chunked coding, one chunk
    each. A body's length is added; a program that sends one without a body says so itself.
    """

    method: str
    target: str
    needs: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    chunks: Sequence[bytes] | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def xml(self) -> ET.Element:
        return ET.fromstring(self.body.decode())

    def properties(self) -> dict[str, ET.Element]:
        """Return tag -> element of what the first response of a multistatus has."""
        return {
            element.tag: element
            for propstat in self.xml.iterfind("{DAV:}response[1]/{DAV:}propstat")
            if " 200 " in (propstat.findtext("{DAV:}status") or "")
            for element in propstat.iterfind("{DAV:}prop/*")
        }

    def text(self, name: str) -> str:
        """Return the text of the DAV property ``name``; KeyError when it is not there."""
        return self.properties()[f"{{DAV:}}{name}"].text or ""

    @property
    def hrefs(self) -> list[str]:
        return [one.findtext("{DAV:}href") or "" for one in self.xml.iterfind("{DAV:}response")]

    @property
    def lock_token(self) -> str:
        """The first token of the lockdiscovery in the body; "" when there is none."""
        return self.xml.findtext(".//{DAV:}activelock/{DAV:}locktoken/{DAV:}href") or ""


@dataclass(slots=True)
class Program:
    """A client program: the headers that it always sends, one kept connection, what it remembers.

    ``folder`` is where it works. When the server closes the connection it makes a new one.
    """

    port: int
    trust: ssl.SSLContext
    folder: str
    always: Mapping[str, str]
    authorization: str
    tokens: dict[str, str] = field(default_factory=dict)
    etag: str = ""
    _sock: ssl.SSLSocket | None = field(default=None, repr=False)

    @property
    def host(self) -> str:
        return f"localhost:{self.port}"

    def play(self, *steps: Step) -> list[Answer]:
        """Send the steps in order; return the answers; each must be what its step needs."""
        return [self.send(step) for step in steps]

    def send(self, step: Step) -> Answer:
        """Send one step, and return its answer, which must be what the step needs."""
        sock = self.begin(step)
        if step.chunks is None:
            sock.sendall(step.body)
        else:
            for chunk in (*step.chunks, b""):
                sock.sendall(f"{len(chunk):X}\r\n".encode() + chunk + b"\r\n")
        return self.finish(step)

    def begin(self, step: Step) -> ssl.SSLSocket:
        """Send the head of ``step`` alone; return the connection."""
        if self._sock is None:
            plain = socket.create_connection(("127.0.0.1", self.port), timeout=LIMIT_S)
            self._sock = self.trust.wrap_socket(plain, server_hostname="localhost")
        given = {"Host": self.host, **self.always}
        if self.authorization:
            given["Authorization"] = self.authorization
        known = {
            "folder": self.folder,
            "host": self.host,
            "token": self.tokens.get(step.target, ""),
            "etag": self.etag,
        }
        given |= {name: value.format_map(known) for name, value in step.headers.items()}
        if step.chunks is not None:
            given["Transfer-Encoding"] = "chunked"
        elif step.body:
            given["Content-Length"] = str(len(step.body))
        lines = [f"{step.method} {step.target.format_map(known)} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in given.items()]
        self._sock.sendall("\r\n".join([*lines, "", ""]).encode())
        return self._sock

    def finish(self, step: Step) -> Answer:
        """Return the answer to a step that was sent whole; remembers lock and entity tag."""
        assert self._sock is not None
        reply = read_reply(self._sock, to_head=step.method == "HEAD")
        lines = [line.partition(":") for line in reply.head.split("\r\n")[1:]]
        headers = {name.lower(): value.strip() for name, _, value in lines}
        answer = Answer(reply.status, headers, reply.body)
        if headers.get("connection") == "close":
            self.close()
        assert answer.status == step.needs, (step.method, step.target, reply.head, reply.body)
        if "etag" in headers:
            self.etag = headers["etag"]
        if step.method == "LOCK" and answer.status in {200, 201}:
            self.tokens[step.target] = answer.lock_token
        return answer

    def close(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None


@dataclass(slots=True)
class Site:
    """A listening gateway; ``gate`` is what tests look behind the scenes with."""

    gate: Gate
    port: int
    trust: ssl.SSLContext
    programs: list[Program] = field(default_factory=list)

    def program(
        self,
        always: Mapping[str, str] = NO_HEADERS,
        *,
        name: str = "alice",
        secret: str = "",
        folder: str = "",
    ) -> Program:
        """Return a program that signs in as ``name``: with the present code, or with ``secret``.

        It works in a new folder of the share ``archive``, or in ``folder``.
        """
        secret = secret or password_of(name) + self.gate.code(name)
        if not folder:
            folder = f"/archive/{len(self.programs)}"
            self.gate.door("alice").mkdir(at(folder))
        program = Program(self.port, self.trust, folder, always, basic(name, secret))
        self.programs.append(program)
        return program


@contextmanager
def listening(
    gate: Gate, tls_files: TlsFiles, settings: WebdavSettings = SETTINGS
) -> Iterator[Site]:
    """Serve ``gate`` over TLS for the length of a ``with`` block."""
    sock = socket.create_server(("127.0.0.1", 0))
    port: int = sock.getsockname()[1]
    server = WebdavServer(sock, tls_files, gate.monitor, settings)
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    site = Site(gate, port, ssl.create_default_context(cafile=tls_files.certificate))
    try:
        yield site
    finally:
        for program in site.programs:
            program.close()
        server.drain(1)
        thread.join(LIMIT_S)
        assert not thread.is_alive()

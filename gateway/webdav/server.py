"""The listener: cheroot's server around a bound socket, with our connections in its threads.

The socket comes bound from the supervisor. cheroot gives the accept loop, the selector for idle
connections and the thread pool; what is overridden of them is small and named below. Imports
cheroot, ``connection``, ``app`` and ``settings``.
"""

from __future__ import annotations

import errno
import logging
import resource
import selectors
import socket
import ssl
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from cheroot.connections import ConnectionManager
from cheroot.server import HTTPServer
from cheroot.workers.threadpool import ThreadPool

from gateway.webdav.app import WebdavApp
from gateway.webdav.connection import App, Connection
from gateway.webdav.settings import TlsFiles, WebdavSettings

if TYPE_CHECKING:
    from gateway.monitor import Monitor

log = logging.getLogger(__name__)

# Forward secrecy and AES-GCM only. OpenSSL's list for TLS 1.3 cannot be set from Python before
# 3.15, but it begins with AES-GCM, and the server's order decides.
_CIPHERS = "ECDHE+AESGCM"
_OUT_OF_FILES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


def make_tls_context(files: TlsFiles) -> ssl.SSLContext:
    """Return a server context: TLS 1.2 and later (the best that the client has), AES-GCM.

    Raises OSError (ssl.SSLError among them) when a file cannot be read or does not fit.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(files.certificate, files.private_key)
    return context


class WebdavServer:
    """Serves WebDAV on a bound socket; ``tls`` None (tests, benches) serves plain HTTP."""

    def __init__(
        self,
        sock: socket.socket,
        tls: TlsFiles | None,
        monitor: Monitor,
        settings: WebdavSettings | None = None,
    ) -> None:
        settings = settings or WebdavSettings()
        self._tls = tls
        self._listener = Listener(
            sock,
            None if tls is None else make_tls_context(tls),
            WebdavApp(monitor, settings),
            settings,
        )

    def serve(self) -> None:
        """Serve until ``drain`` is called from another thread; returns when all has ended."""
        self._listener.start()
        self._listener.drain(0.0)

    def drain(self, timeout_s: float) -> None:
        """Accept no more, let requests under way finish, cut them after ``timeout_s``.

        A PUT that is cut commits nothing. Idempotent; returns when every thread has ended. Not
        to be called in the thread that is in ``serve`` (a signal handler there, for one).
        """
        self._listener.drain(timeout_s)

    def reload_tls(self) -> None:
        """Read the certificate anew for connections to come; raises OSError, the old one stays."""
        if self._tls is not None:
            self._listener.tls_context = make_tls_context(self._tls)


class Listener(HTTPServer):
    """cheroot's server on a socket that is bound already."""

    def __init__(
        self,
        sock: socket.socket,
        tls_context: ssl.SSLContext | None,
        app: App,
        settings: WebdavSettings,
    ) -> None:
        super().__init__(sock.getsockname()[:2], gateway=None, server_name="Sealgate")
        self.settings = settings
        self.tls_context = tls_context
        self.app = app
        self.connections: set[Connection] = set()
        self.connections_max = min(settings.connections_max, _files_limit() // 2)
        self._given = sock
        self._stopped = False
        # From now on clients queue, so that whoever made this may say "ready" before ``serve``.
        sock.listen(settings.backlog)
        self._stopping = threading.Lock()
        self.requests = Pool(self, min=settings.threads, max=settings.threads)

    def process_conn(self, conn: Connection) -> None:
        """Queue a connection for a thread, unless its deadline has passed.

        ``Waiting`` alone would never see one late that sends a byte whenever it looks.
        """
        if conn.deadline < time.monotonic():
            conn.close()
            return
        super().process_conn(conn)

    @property
    def busy(self) -> bool:
        """Whether other connections wait for a thread."""
        waiting: int = self.requests.qsize
        return waiting > 0

    def prepare(self) -> None:
        """Take the given socket; cheroot would bind one, or take systemd's."""
        with self._stopping:
            if self._stopped:
                return
            self.socket = self._given
            self.socket.settimeout(0)
            self._connections = Waiting(self)
            self.requests.start()
            self.ready = True

    def serve(self) -> None:
        """Accept and hand out connections until stopped.

        cheroot's own keeps another thread for the connections that a full queue refuses; this
        queue is never full, ``Waiting`` limits connections before they are in it.
        """
        while self.ready:
            try:
                self._connections.run(self.expiration_interval)
            except Exception as error:  # noqa: BLE001  a listener goes on
                log.error("listener: %s", type(error).__name__)

    def drain(self, timeout_s: float) -> None:
        """Stop; see ``WebdavServer.drain``."""
        with self._stopping:
            if self._stopped:
                return
            self._stopped = True
            self.ready = False
            waiting: Waiting | None = getattr(self, "_connections", None)
            if waiting is not None:
                waiting.stop()
                self._given.close()
                waiting.close()
                self.requests.stop(timeout_s)
            self._given.close()

    def stop(self) -> None:
        """End ``serve``; cheroot calls this in a worker thread that breaks."""
        self.ready = False
        self._connections.request_stop()

    def error_log(
        self,
        msg: str = "",
        level: int = 20,
        traceback: bool = False,  # noqa: ARG002, FBT001, FBT002  cheroot's signature
    ) -> None:
        """Send cheroot's words to our log, without the tracebacks that could name files."""
        log.log(level, "%s", msg.partition("\n")[0][:200])


def _files_limit() -> int:
    """Return how many files this process may have open; half of them are for what is stored."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if limit == resource.RLIM_INFINITY else limit


_TURN_S = 0.0003
"""How long a listener leaves the next client to the other workers, which share its socket; they
take longer to wake up than it takes to accept, and the first one would get a whole crowd."""


class Waiting(ConnectionManager):
    """The selector in which connections wait for bytes, each with a deadline of its own."""

    server: Listener
    _selector: Any

    def request_stop(self) -> None:
        """Ask ``run`` to return, without waiting for it."""
        self._stop_requested = True

    def put(self, conn: Connection) -> None:
        """Take a connection back from its thread (or from ``accept``)."""
        if conn.has_more:
            self.server.process_conn(conn)
            return
        try:
            self._selector.register(conn.socket.fileno(), selectors.EVENT_READ, data=conn)
        except (KeyError, ValueError, OSError):
            # The selector was closed by a drain that began a moment ago.
            conn.close()

    def _expire(self, threshold: float) -> None:  # noqa: ARG002  the deadlines are ours
        now = time.monotonic()
        late = [
            (descriptor, conn)
            for descriptor, conn in self._selector.connections
            if conn is not self.server and conn.deadline < now
        ]
        for descriptor, conn in late:
            self._selector.unregister(descriptor)
            conn.close()

    def _from_server_socket(self, server_socket: socket.socket) -> None:
        """Accept one connection straight into the selector: no thread until it says something."""
        try:
            sock, address = server_socket.accept()
        except OSError as error:
            if error.errno in _OUT_OF_FILES:
                # The listener stays readable: without a pause this thread would spin.
                time.sleep(0.05)
            return
        limit = self.server.connections_max
        if len(self.server.connections) >= limit:
            self._give_up_longest_idle()
        if len(self.server.connections) >= limit + max(1, limit // 4):
            sock.close()
            return
        try:
            self.put(Connection(self.server, sock, address))
        except OSError:
            sock.close()
        time.sleep(_TURN_S)

    def _give_up_longest_idle(self) -> None:
        """Have the connection closed that would be given up first, so that strangers keep nobody out.

        Not at once: it may be among those that the selector has just seen, and its number would be
        given to the next one that is accepted.
        """
        waiting = [
            conn
            for _, conn in self._selector.connections
            if conn is not self.server and conn.deadline > 0
        ]
        if waiting:
            min(waiting, key=lambda conn: conn.deadline).deadline = 0.0


class Pool(ThreadPool):
    """cheroot's worker threads; those that outlast a drain have their connections cut."""

    @staticmethod
    def _force_close(conn: Any) -> None:  # noqa: ANN401  None or a Connection
        if conn is not None:
            conn.abort()

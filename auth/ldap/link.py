"""One connection to an LDAP server: strict TLS, a deadline on every answer, nothing followed.

Knows requests and answers, not accounts. Imports ldap3 and the settings.
"""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import ldap3
from ldap3.core.exceptions import LDAPException

from auth.errors import DirectoryConfigError
from auth.ldap.settings import LdapSettings, Server

ANSWER_LIMIT_BYTES = 8 * 1024 * 1024
"""The most that a server may send in answer to one request."""

Scope = Literal["BASE", "SUBTREE"]

SUCCESS, TIME_LIMIT, SIZE_LIMIT, REFERRAL, NO_OBJECT = 0, 3, 4, 10, 32
INVALID_CREDENTIALS = 49
# operationsError (Active Directory: the bind was lost), timeLimitExceeded, adminLimitExceeded,
# busy, unavailable, other: this server cannot answer now, another may.
_SERVER_TROUBLE = frozenset({1, TIME_LIMIT, 11, 51, 52, 80})

# What ldap3 lets out when a peer is gone, refuses TLS, or sends something that is not LDAP.
_BROKEN = (LDAPException, OSError, ValueError, LookupError, TypeError)


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry that a search found; attribute names are in lower case."""

    dn: str
    attributes: Mapping[str, list[bytes]]

    def values(self, attribute: str) -> list[bytes]:
        """Return the attribute's values as they came; none for an attribute not asked for."""
        return self.attributes.get(attribute.lower(), []) if attribute else []

    def texts(self, attribute: str) -> list[str]:
        """Return the attribute's values as text."""
        return [value.decode("utf-8", "replace") for value in self.values(attribute)]

    def text(self, attribute: str) -> str:
        """Return the attribute's first value as text; empty without one."""
        return next(iter(self.texts(attribute)), "")


class LinkError(Exception):
    """A connection is of no more use. ``slow``: it ran into its time limit."""

    def __init__(self, why: str, *, slow: bool) -> None:
        super().__init__(why)
        self.slow = slow


class _TimedSocket:
    """A socket on which a whole answer, not each read of it, has a time and a size limit.

    ldap3's receive_timeout starts anew with each read, so a server that sends a byte now and
    then would hold a login for ever. Guarded by ``test_trickling_server_is_given_up``.
    """

    def __init__(self, raw: Any, timeout_s: float) -> None:  # noqa: ANN401  TCP or TLS socket
        self.raw = raw
        self._timeout_s = timeout_s
        self.restart()

    def restart(self) -> None:
        """Begin a new exchange."""
        self._deadline = time.monotonic() + self._timeout_s
        self._left_bytes = ANSWER_LIMIT_BYTES

    def _limit(self) -> None:
        left_s = self._deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("timed out")
        self.raw.settimeout(left_s)

    def recv(self, size: int) -> bytes:
        """Return what came; raises OSError once the exchange took too long or grew too big."""
        self._limit()
        data: bytes = self.raw.recv(size)
        self._left_bytes -= len(data)
        if self._left_bytes < 0:
            raise OSError("the answer is too big")
        return data

    def sendall(self, data: bytes) -> None:
        """Send all of ``data`` within the exchange's time."""
        self._limit()
        self.raw.sendall(data)

    def shutdown(self, how: int) -> None:
        """Shut the socket down."""
        self.raw.shutdown(how)

    def close(self) -> None:
        """Close the socket."""
        self.raw.close()


class _StrictTls(ldap3.Tls):
    """TLS that refuses a certificate of another name during the handshake, before any request.

    ldap3 turns OpenSSL's own check of the host name off and calls ``ssl.match_hostname``, which
    Python 3.12 dropped (ldap3/core/tls.py). Guarded by ``test_bad_certificate_is_refused``.
    """

    def __init__(self, context: ssl.SSLContext, host: str, timeout_s: float) -> None:
        super().__init__(validate=ssl.CERT_REQUIRED, sni=host)
        self._context = context
        self._host = host
        self._timeout_s = timeout_s

    def wrap_socket(self, connection: Any, do_handshake: bool = False) -> None:  # noqa: ANN401, ARG002, FBT001, FBT002
        """Replace the connection's socket by one that speaks TLS with a checked peer."""
        raw = connection.socket.raw if isinstance(connection.socket, _TimedSocket) else None
        wrapped = self._context.wrap_socket(raw or connection.socket, server_hostname=self._host)
        connection.socket = _TimedSocket(wrapped, self._timeout_s)


class Link:
    """One TLS connection to one server, used by one thread at a time."""

    def __init__(self, server: Server, settings: LdapSettings, context: ssl.SSLContext) -> None:
        # A Server of its own for each connection: ldap3 keeps the address in use on the Server,
        # and a second connection that cannot open then passes for open (ldap3/strategy/base.py).
        target = ldap3.Server(
            server.host,
            port=server.port,
            use_ssl=server.tls_at_once,
            get_info=ldap3.NONE,
            tls=_StrictTls(context, server.host, settings.receive_timeout_s),
            connect_timeout=settings.connect_timeout_s,
            allowed_referral_hosts=[],
        )
        self._connection: Any = ldap3.Connection(
            target,
            client_strategy=ldap3.SAFE_SYNC,
            auto_referrals=False,
            check_names=False,
            read_only=True,
            auto_escape=False,
            return_empty_attributes=False,
            receive_timeout=settings.receive_timeout_s,
        )
        self.last_used = time.monotonic()
        try:
            self._open(server, settings)
        except BaseException:
            self.close()
            raise

    def _open(self, server: Server, settings: LdapSettings) -> None:
        connection = self._connection
        with _translated():
            connection.open(read_server_info=False)
            if not server.tls_at_once:
                connection.socket = _TimedSocket(connection.socket, settings.receive_timeout_s)
                connection.start_tls(read_server_info=False)
        # ldap3's start_tls can decline by returning False: no credential may follow in the clear.
        encrypted = isinstance(getattr(connection.socket, "raw", None), ssl.SSLSocket)
        if not encrypted:
            raise LinkError("the server did not start TLS", slow=False)

    def bind(self, dn: str, password: str) -> int:
        """Return the result code of a simple bind; raises LinkError."""
        connection = self._connection
        connection.user = dn
        # Bytes go out as they are; text would first pass ldap3's SASLprep, which changes some
        # passwords and raises on others.
        connection.password = password.encode("utf-8")
        connection.authentication = ldap3.SIMPLE
        try:
            with _translated():
                connection.socket.restart()
                _, result, _, _ = connection.bind(read_server_info=False)
                return _checked_code(result)
        finally:
            connection.password = None

    def search(
        self, base: str, text: str, attributes: Iterable[str], *, scope: Scope, limit: int
    ) -> tuple[int, list[Entry]]:
        """Return the result code and the entries, referrals left out; raises LinkError."""
        with _translated():
            self._connection.socket.restart()
            _, result, response, _ = self._connection.search(
                base,
                text,
                search_scope=scope,
                dereference_aliases=ldap3.DEREF_NEVER,
                attributes=[name for name in attributes if name] or [ldap3.NO_ATTRIBUTES],
                size_limit=limit,
            )
            entries = [
                Entry(
                    item["dn"],
                    {name.lower(): found or [] for name, found in item["raw_attributes"].items()},
                )
                for item in response or ()
                if item["type"] == "searchResEntry"
            ]
            return _checked_code(result), entries

    def close(self) -> None:
        """Drop the connection; a peer that is gone is no error."""
        raw, self._connection.socket = self._connection.socket, None
        self._connection.closed = True
        if raw is not None:
            raw.close()


class _translated:  # noqa: N801  reads as a word in "with"
    """Turns what ldap3 raises into LinkError, without the text, which may quote the request."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        if isinstance(error, _BROKEN):
            why = next(
                (
                    f"its certificate is not accepted ({reason})"
                    for reason in re.findall(r"certificate verify failed: ([^(]+)", str(error))
                ),
                type(error).__name__,
            )
            slow = isinstance(error, TimeoutError) or "timed out" in str(error)
            raise LinkError("it did not answer in time" if slow else why, slow=slow) from None


def _checked_code(result: Mapping[str, Any]) -> int:
    code = int(result["result"])
    if code in _SERVER_TROUBLE:
        raise LinkError(f"it answered with result {code}", slow=False)
    return code


def tls_context(ca_file: str) -> ssl.SSLContext:
    """Return a context that trusts ``ca_file`` (the system's when empty); DirectoryConfigError."""
    try:
        context = ssl.create_default_context(cafile=ca_file or None)
    except (OSError, ssl.SSLError) as error:
        raise DirectoryConfigError(
            "The directory's ca_file cannot be read as PEM certificates; mend its path or content."
        ) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context

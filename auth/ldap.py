"""The directory driver for LDAP: OpenLDAP, 389 Directory Server, Active Directory.

Holds everything that touches ldap3 and nothing that decides who may do what. Imports only
``auth.directory``, ``auth.errors`` and ldap3. Longer than other files because ldap3 is fenced in
here: settings, connections, failover and reading entries cannot move elsewhere.
"""

from __future__ import annotations

import enum
import logging
import re
import secrets
import ssl
import threading
import time
import urllib.parse
import uuid
import warnings
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar

from auth.directory import (
    Account,
    Pace,
    acceptable_name,
    acceptable_password,
    membership,
    normal_dn,
    ssh_key,
    without_domain,
)
from auth.errors import DirectoryConfigError, DirectoryUnavailableError

with warnings.catch_warnings():
    # ldap3/utils/asn1.py asks pyasn1 for names that it has renamed; they go in pyasn1 0.7.
    warnings.filterwarnings("ignore", "(tag|type)Map is deprecated", DeprecationWarning)
    import ldap3
    from ldap3.core.exceptions import LDAPException
    from ldap3.operation.search import parse_filter

log = logging.getLogger(__name__)

ANSWER_LIMIT_BYTES = 8 * 1024 * 1024
"""The most that a server may send in answer to one request."""

GROUPS_LIMIT = 4096
"""The most groups, nested ones counted, that an account may belong to."""

SSH_KEYS_LIMIT = 64
"""The most SSH keys that are read from one account."""

IDLE_LIMIT = 8
"""How many idle connections are kept for each server and purpose."""

IDLE_AGE_S = 240.0
"""How long an idle connection is kept; shorter than the idle limits of common servers."""

DOWN_S = 30.0
"""How long a server that failed is asked only after all others."""

GROUP_CACHE_S = 60.0
"""How long the groups of a group are remembered."""

_SUCCESS, _TIME_LIMIT, _SIZE_LIMIT, _REFERRAL, _NO_OBJECT = 0, 3, 4, 10, 32
_INVALID_CREDENTIALS = 49
# operationsError (Active Directory: the bind was lost), timeLimitExceeded, adminLimitExceeded,
# busy, unavailable, other: this server cannot answer now, another may.
_SERVER_TROUBLE = frozenset({1, _TIME_LIMIT, 11, 51, 52, 80})

# What ldap3 lets out when a peer is gone, refuses TLS, or sends something that is not LDAP.
_BROKEN = (LDAPException, OSError, ValueError, LookupError, TypeError)

T = TypeVar("T")
Scope = Literal["BASE", "SUBTREE"]


class GroupLookup(enum.StrEnum):
    """How the groups of an account are found."""

    SEARCH = "search"  # groups list their members; nested groups by searching upwards
    MEMBER_OF = "member_of"  # entries carry memberOf
    TOKEN_GROUPS = "token_groups"  # noqa: S105  Active Directory's closure, nested ones included


@dataclass(frozen=True, slots=True)
class LdapSettings:
    """How to reach and read the directory.

    ``servers`` are tried in order: ``ldaps://host[:port]``, or ``ldap://host[:port]`` together
    with ``start_tls``. ``ca_file`` empty: the system's authorities. ``bind_dn`` empty: search
    anonymously. ``user_filter`` holds ``{name}``, ``group_filter`` holds ``{dn}``; both are
    replaced by the escaped value.

    An account is disabled when ``disabled_attribute`` has one of ``disabled_values``, or any bit
    of ``disabled_bits``, or (neither given) any value at all; or when ``expiry_attribute`` lies in
    the past. OpenLDAP's password policy: ``pwdAccountLockedTime`` with the value
    ``000001010000Z`` (other values are temporary and the server enforces them itself). Active
    Directory: ``userAccountControl`` with bit 2, and ``accountExpires``.

    Worst case for one answer: for each server ``connect_timeout_s`` for each of its addresses,
    and ``receive_timeout_s`` each for the handshake, the bind and each search.
    """

    servers: tuple[str, ...]
    base_dn: str
    bind_dn: str = ""
    bind_password: str = field(default="", repr=False)
    start_tls: bool = False
    ca_file: str = ""
    domain: str = ""
    user_filter: str = "(uid={name})"
    group_base_dn: str = ""
    group_filter: str = "(member={dn})"
    group_lookup: GroupLookup = GroupLookup.SEARCH
    nested_groups: bool = True
    id_attribute: str = "entryUUID"
    name_attribute: str = "uid"
    display_attribute: str = "cn"
    ssh_key_attribute: str = "sshPublicKey"
    disabled_attribute: str = ""
    disabled_bits: int = 0
    disabled_values: tuple[str, ...] = ()
    expiry_attribute: str = ""
    connect_timeout_s: int = 3
    receive_timeout_s: int = 5


def escaped(value: str | bytes) -> str:
    """Return ``value`` fit to stand in a filter: every octet that is not a plain letter or digit
    becomes ``\\xx`` (RFC 4515 section 3), so nothing in it can end or widen the assertion.
    """  # noqa: D205, D301
    data = value.encode("utf-8") if isinstance(value, str) else value
    return "".join(
        chr(octet) if octet < 128 and chr(octet).isalnum() else f"\\{octet:02x}" for octet in data
    )


@dataclass(frozen=True, slots=True)
class _Server:
    url: str
    host: str
    port: int
    tls_at_once: bool


@dataclass(frozen=True, slots=True)
class _Entry:
    dn: str
    attributes: Mapping[str, list[bytes]]

    def values(self, attribute: str) -> list[bytes]:
        return self.attributes.get(attribute.lower(), []) if attribute else []

    def texts(self, attribute: str) -> list[str]:
        return [value.decode("utf-8", "replace") for value in self.values(attribute)]

    def text(self, attribute: str) -> str:
        return next(iter(self.texts(attribute)), "")


class _LinkError(Exception):
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


class _Link:
    """One TLS connection to one server, used by one thread at a time."""

    def __init__(self, server: _Server, settings: LdapSettings, context: ssl.SSLContext) -> None:
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

    def _open(self, server: _Server, settings: LdapSettings) -> None:
        connection = self._connection
        with _translated():
            connection.open(read_server_info=False)
            if not server.tls_at_once:
                connection.socket = _TimedSocket(connection.socket, settings.receive_timeout_s)
                connection.start_tls(read_server_info=False)
        # ldap3's start_tls can decline by returning False: no credential may follow in the clear.
        encrypted = isinstance(getattr(connection.socket, "raw", None), ssl.SSLSocket)
        if not encrypted:
            raise _LinkError("the server did not start TLS", slow=False)

    def bind(self, dn: str, password: str) -> int:
        """Return the result code of a simple bind; raises _LinkError."""
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
    ) -> tuple[int, list[_Entry]]:
        """Return the result code and the entries, referrals left out; raises _LinkError."""
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
                _Entry(
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
    """Turns what ldap3 raises into _LinkError, without the text, which may quote the request."""

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
            raise _LinkError("it did not answer in time" if slow else why, slow=slow) from None


def _checked_code(result: Mapping[str, Any]) -> int:
    code = int(result["result"])
    if code in _SERVER_TROUBLE:
        raise _LinkError(f"it answered with result {code}", slow=False)
    return code


class _Links:
    """Kept connections to the servers, which are asked in their order, failing ones last."""

    def __init__(self, settings: LdapSettings, servers: tuple[_Server, ...]) -> None:
        self._settings = settings
        self._servers = servers
        self._context = _tls_context(settings.ca_file)
        self._lock = threading.Lock()
        self._idle: dict[tuple[_Server, bool], deque[_Link]] = {
            (server, bound): deque() for server in servers for bound in (True, False)
        }
        self._down_until: dict[_Server, float] = {}

    def run(self, work: Callable[[_Link], T], *, bound: bool) -> T:
        """Return what ``work`` returns on a connection of the first server that answers.

        ``bound``: the connection is bound as the service account. A kept connection that turns out
        to be dead is replaced by a fresh one, once. Raises DirectoryUnavailableError.
        """
        now = time.monotonic()
        with self._lock:
            order = sorted(self._servers, key=lambda one: self._down_until.get(one, 0.0) > now)
        for server in order:
            try:
                return self._run_on(server, work, bound=bound)
            except _LinkError as error:
                log.warning("The directory server %s failed: %s.", server.url, error)
                with self._lock:
                    self._down_until[server] = time.monotonic() + DOWN_S
        raise DirectoryUnavailableError(
            "No directory server answered properly; try again in a minute. The log says why for"
            " each server."
        )

    def _run_on(self, server: _Server, work: Callable[[_Link], T], *, bound: bool) -> T:
        link = self._kept(server, bound=bound)
        if link is not None:
            try:
                return self._use(server, link, work, bound=bound)
            except _LinkError as error:
                if error.slow:
                    raise
                self._drop_idle(server)
        link = _Link(server, self._settings, self._context)
        try:
            if bound and self._settings.bind_dn:
                self._bind_service(link)
        except BaseException:
            link.close()
            raise
        return self._use(server, link, work, bound=bound)

    def _use(self, server: _Server, link: _Link, work: Callable[[_Link], T], *, bound: bool) -> T:
        try:
            result = work(link)
        except BaseException:
            link.close()
            raise
        link.last_used = time.monotonic()
        with self._lock:
            self._down_until.pop(server, None)
            idle = self._idle[server, bound]
            idle.append(link)
            extra = idle.popleft() if len(idle) > IDLE_LIMIT else None
        if extra is not None:
            extra.close()
        return result

    def _bind_service(self, link: _Link) -> None:
        code = link.bind(self._settings.bind_dn, self._settings.bind_password)
        if code != _SUCCESS:
            raise DirectoryConfigError(
                f"The directory refused the gateway's own account (result {code}); mend bind_dn"
                " or bind_password."
            )

    def _kept(self, server: _Server, *, bound: bool) -> _Link | None:
        oldest = time.monotonic() - IDLE_AGE_S
        with self._lock:
            idle = self._idle[server, bound]
            stale = [link for link in idle if link.last_used < oldest]
            for link in stale:
                idle.remove(link)
            fresh = idle.pop() if idle else None
        for link in stale:
            link.close()
        return fresh

    def _drop_idle(self, server: _Server) -> None:
        with self._lock:
            dropped = [link for bound in (True, False) for link in self._idle[server, bound]]
            for bound in (True, False):
                self._idle[server, bound].clear()
        for link in dropped:
            link.close()

    def close(self) -> None:
        """Close every idle connection."""
        for server in self._servers:
            self._drop_idle(server)


class LdapDirectory:
    """Accounts in an LDAP directory, see ``auth.directory.Directory`` for the contract.

    A password is checked by binding as the entry that the service account found. Raises
    DirectoryConfigError when ``settings`` cannot work; servers are first asked when needed.
    """

    def __init__(
        self,
        settings: LdapSettings,
        *,
        wall_clock: Callable[[], float] = time.time,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._settings = settings
        self._wall_clock = wall_clock
        self._links = _Links(settings, _checked(settings))
        self._parents = _Remembered(self._read_parents)
        self._token_names = _Remembered(self._read_token_group)
        limit_s = float(settings.receive_timeout_s)
        self._find_pace = Pace(limit_s, pause=pause)
        self._bind_pace = Pace(limit_s, pause=pause)

    def find(self, name: str) -> Account | None:
        """Return the one account that logs in as ``name``; see the contract."""
        bare = without_domain(name, self._settings.domain)
        if not acceptable_name(bare):
            return None
        started = self._find_pace.start()
        entry = self._one(self._settings.user_filter.replace("{name}", escaped(bare)))
        if entry is None:
            self._find_pace.unknown(started)
            return None
        account = self._account(entry)
        self._find_pace.known(started)
        return account

    def verify(self, account: Account | None, password: str) -> bool:
        """Return whether a bind as the account succeeds; see the contract."""
        if not acceptable_password(password):
            return False
        entry = self._by_id(account.id if account else str(uuid.uuid4()))
        started = self._bind_pace.start()
        dn = entry.dn if entry else f"cn={secrets.token_hex(8)},{self._settings.base_dn}"
        code = self._links.run(lambda link: link.bind(dn, password), bound=False)
        if entry is None:
            self._bind_pace.unknown(started)
            return False
        if code == _INVALID_CREDENTIALS:
            self._bind_pace.known(started)
        return code == _SUCCESS and self._enabled(entry)

    def refresh(self, principal_id: str) -> Account | None:
        """Return the account as it is now, None when it is gone; see the contract."""
        entry = self._by_id(principal_id)
        return self._account(entry) if entry else None

    def close(self) -> None:
        """Close the idle connections; the directory stays usable."""
        self._links.close()

    def _by_id(self, principal_id: str) -> _Entry | None:
        try:
            wanted = _id_assertion(self._settings.id_attribute, principal_id)
        except ValueError:
            return None
        # With a star for the name, an entry that no longer is a user here counts as gone.
        anybody = self._settings.user_filter.replace("{name}", "*")
        return self._one(f"(&({self._settings.id_attribute}={wanted}){anybody})")

    def _one(self, text: str) -> _Entry | None:
        settings = self._settings
        attributes = (
            settings.id_attribute,
            settings.name_attribute,
            settings.display_attribute,
            settings.ssh_key_attribute,
            settings.disabled_attribute,
            settings.expiry_attribute,
            "memberOf" if settings.group_lookup is GroupLookup.MEMBER_OF else "",
        )
        code, entries = self._search(settings.base_dn, text, attributes, limit=2)
        if code == _SIZE_LIMIT or len(entries) > 1:
            log.warning("Several directory entries match one user; narrow user_filter.")
            return None
        return entries[0] if entries else None

    def _search(
        self,
        base: str,
        text: str,
        attributes: Iterable[str],
        *,
        scope: Scope = "SUBTREE",
        limit: int = GROUPS_LIMIT + 1,
    ) -> tuple[int, list[_Entry]]:
        code, entries = self._links.run(
            lambda link: link.search(base, text, attributes, scope=scope, limit=limit), bound=True
        )
        if code in {_SUCCESS, _SIZE_LIMIT} or (code == _NO_OBJECT and scope == "BASE"):
            return code, entries
        if code == _REFERRAL:
            raise DirectoryConfigError(
                "The directory refers a search to another server, which is never followed; name"
                " the server that holds base_dn and group_base_dn in servers."
            )
        raise DirectoryConfigError(
            f"The directory refused a search (result {code}); mend base_dn, group_base_dn or the"
            " rights of bind_dn."
        )

    def _account(self, entry: _Entry) -> Account:
        settings = self._settings
        name = entry.text(settings.name_attribute)
        if not acceptable_name(name):
            raise DirectoryConfigError(
                "An entry that user_filter found has no usable login name; mend name_attribute."
            )
        keys = [ssh_key(line) for line in entry.texts(settings.ssh_key_attribute)]
        groups = {membership("ldap", dn) for dn in self._groups(entry)}
        return Account(
            id=_id_text(settings.id_attribute, entry.values(settings.id_attribute)),
            name=name,
            display_name=entry.text(settings.display_attribute),
            memberships=frozenset(groups | {membership("user", name)}),
            enabled=self._enabled(entry),
            ssh_keys=tuple(key for key in keys[:SSH_KEYS_LIMIT] if key),
        )

    def _enabled(self, entry: _Entry) -> bool:
        settings = self._settings
        values = entry.texts(settings.disabled_attribute)
        if settings.disabled_bits:
            disabled = any(_number(value) & settings.disabled_bits for value in values)
        elif settings.disabled_values:
            disabled = not {value.lower() for value in settings.disabled_values}.isdisjoint(
                value.lower() for value in values
            )
        else:
            disabled = bool(values)
        expires = entry.text(settings.expiry_attribute)
        return not disabled and (not expires or self._wall_clock() < _moment(expires))

    def _groups(self, entry: _Entry) -> set[str]:
        lookup = self._settings.group_lookup
        if lookup is GroupLookup.TOKEN_GROUPS:
            _, found = self._search(entry.dn, "(objectClass=*)", ["tokenGroups"], scope="BASE")
            sids = found[0].values("tokenGroups") if found else []
            return {dn for sid in _bounded(sids) for dn in self._token_names(sid.hex())}
        if lookup is GroupLookup.MEMBER_OF:
            direct = frozenset(entry.texts("memberOf"))
        else:
            direct = self._read_parents(entry.dn)
        seen: dict[str, str] = {}
        waiting = deque(_bounded(direct))
        while waiting:
            dn = waiting.popleft()
            if normal_dn(dn) in seen:
                continue
            seen[normal_dn(dn)] = dn
            _bounded(seen)
            if self._settings.nested_groups:
                waiting.extend(self._parents(dn))
        return set(seen)

    def _read_parents(self, dn: str) -> frozenset[str]:
        """Return the DNs of the groups that hold ``dn`` directly."""
        settings = self._settings
        if settings.group_lookup is GroupLookup.MEMBER_OF:
            _, found = self._search(dn, "(objectClass=*)", ["memberOf"], scope="BASE")
            return frozenset(_bounded(found[0].texts("memberOf") if found else []))
        text = settings.group_filter.replace("{dn}", escaped(dn))
        _, found = self._search(settings.group_base_dn or settings.base_dn, text, [])
        return frozenset(_bounded([entry.dn for entry in found]))

    def _read_token_group(self, sid: str) -> frozenset[str]:
        """Return the DN of the group with this binary SID, which is in hex."""
        text = f"(objectSid={escaped(bytes.fromhex(sid))})"
        base = self._settings.group_base_dn or self._settings.base_dn
        _, found = self._search(base, text, [], limit=2)
        return frozenset(entry.dn for entry in found)


class _Remembered:
    """Answers of ``read``, each kept for GROUP_CACHE_S, at most GROUPS_LIMIT of them."""

    def __init__(self, read: Callable[[str], frozenset[str]]) -> None:
        self._read = read
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[float, frozenset[str]]] = OrderedDict()

    def __call__(self, key: str) -> frozenset[str]:
        now = time.monotonic()
        with self._lock:
            kept = self._kept.get(key)
        if kept is not None and now - kept[0] < GROUP_CACHE_S:
            return kept[1]
        answer = self._read(key)
        with self._lock:
            self._kept[key] = (now, answer)
            self._kept.move_to_end(key)
            while len(self._kept) > GROUPS_LIMIT:
                self._kept.popitem(last=False)
        return answer


def _bounded(groups: Iterable[T]) -> list[T]:
    """Return the groups as a list; a group left out in silence could be one that is denied."""
    listed = list(groups)
    if len(listed) > GROUPS_LIMIT:
        raise DirectoryConfigError(
            f"An account belongs to more than {GROUPS_LIMIT} groups; narrow group_base_dn or"
            " group_filter."
        )
    return listed


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        return -1  # every bit set: a value that cannot be read disables


_FILETIME_EPOCH_S = 11_644_473_600
_FILETIME_NEVER = frozenset({0, 0x7FFFFFFFFFFFFFFF})


def _moment(text: str) -> float:
    """Return the Unix time of an LDAP generalised time or a Windows file time (100 ns ticks).

    A text that is neither is the beginning of time, so that what cannot be read has expired.
    """
    try:
        if text.endswith("Z"):
            moment = datetime.strptime(text[:14], "%Y%m%d%H%M%S").replace(tzinfo=UTC)
            return moment.timestamp()
        ticks = int(text)
    except ValueError:
        return 0.0
    return float("inf") if ticks in _FILETIME_NEVER else ticks / 10_000_000 - _FILETIME_EPOCH_S


def _is_guid(attribute: str) -> bool:
    return attribute.lower() == "objectguid"


def _id_text(attribute: str, values: list[bytes]) -> str:
    if len(values) == 1 and 0 < len(values[0]) <= 128:
        if not _is_guid(attribute):
            text = values[0].decode("utf-8", "replace").lower()
            if text.isascii() and text.isprintable():
                return text
        elif len(values[0]) == 16:
            # Active Directory stores the first three fields little-endian (MS-DTYP 2.3.4).
            return str(uuid.UUID(bytes_le=values[0]))
    raise DirectoryConfigError(
        "An entry has no usable immutable id; mend id_attribute, or let bind_dn read it."
    )


def _id_assertion(attribute: str, principal_id: str) -> str:
    """Return the escaped id; raises ValueError for one this directory cannot have given."""
    if _is_guid(attribute):
        return escaped(uuid.UUID(principal_id).bytes_le)
    if attribute.lower() == "entryuuid":
        uuid.UUID(principal_id)
    return escaped(principal_id)


def _tls_context(ca_file: str) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=ca_file or None)
    except (OSError, ssl.SSLError) as error:
        raise DirectoryConfigError(
            "The directory's ca_file cannot be read as PEM certificates; mend its path or content."
        ) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _checked(settings: LdapSettings) -> tuple[_Server, ...]:
    """Return the servers; raises DirectoryConfigError naming the first setting that cannot work."""
    problems = _problems(settings)
    first = next(problems, None)
    if first is not None:
        raise DirectoryConfigError(first)
    return tuple(_server(url, start_tls=settings.start_tls) for url in settings.servers)


def _problems(settings: LdapSettings) -> Iterator[str]:
    if not settings.servers:
        yield "The directory has no servers; name at least one ldaps:// URL."
    if settings.bind_dn and not acceptable_password(settings.bind_password):
        yield "bind_password is blank or too long; a blank one would bind as nobody."
    limits = (settings.connect_timeout_s, settings.receive_timeout_s)
    if not all(type(limit) is int and 1 <= limit <= 60 for limit in limits):
        yield "connect_timeout_s and receive_timeout_s must be whole seconds from 1 to 60."
    for key in ("base_dn", "bind_dn", "group_base_dn"):
        # Active Directory also takes user@domain and DOMAIN\user as the name to bind with.
        exempt = key == "bind_dn" and re.search(r"[@\\]", settings.bind_dn)
        if (getattr(settings, key) or key == "base_dn") and not exempt:
            try:
                normal_dn(getattr(settings, key))
            except DirectoryConfigError:
                yield f"{key} is not a DN; write it like ou=people,dc=example,dc=org."
    for key in ("id_attribute", "name_attribute"):
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]*", getattr(settings, key)):
            yield f"{key} is not the name of an attribute."
    yield from _filter_problems("user_filter", settings.user_filter, "{name}")
    yield from _filter_problems("group_filter", settings.group_filter, "{dn}")


def _filter_problems(key: str, text: str, placeholder: str) -> Iterator[str]:
    # Other comparisons would not turn into a test for presence when the name becomes a star.
    if placeholder not in text or re.search(r"[:~<>]=\s*\{", text):
        yield f"{key} must compare {placeholder} with a plain =, like (uid={{name}})."
    try:
        parse_filter(  # type: ignore[no-untyped-call]  # the stub leaves it bare
            text.replace(placeholder, "x"),
            None,
            auto_escape=False,
            auto_encode=False,
            validator=None,
            check_names=False,
        )
    except LDAPException:
        yield f"{key} is not an LDAP filter (RFC 4515); check its parentheses."


def _server(url: str, *, start_tls: bool) -> _Server:
    try:
        parts = urllib.parse.urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        parts, host, port = urllib.parse.urlsplit(""), None, None
    if parts.scheme not in {"ldap", "ldaps"} or not host or parts.path.strip("/") or "@" in url:
        raise DirectoryConfigError(
            "An entry of servers is not an address; write it like ldaps://ldap.example.org:636."
        )
    tls_at_once = parts.scheme == "ldaps"
    if not tls_at_once and not start_tls:
        raise DirectoryConfigError(
            "An entry of servers is ldap:// without start_tls, which would send passwords in the"
            " clear; use ldaps:// or set start_tls."
        )
    return _Server(url, host, port or (636 if tls_at_once else 389), tls_at_once)

"""The nouns that every layer shares: principals, sessions, nodes, actions, and the clock.

Plain frozen records and enumerations; no behaviour beyond what their fields say, no I/O.
Imports only ``gateway.paths``.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Callable, Hashable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple
from typing import Protocol as TypingProtocol

from gateway.paths import VirtualPath

Clock = Callable[[], int]
"""Returns the current time as microseconds since 1970-01-01 UTC."""

SECOND_US = 1_000_000

CERT_AUTHORITY = "cert-authority "
"""What stands before a key's line when not the key is meant but whom it has certified."""


def system_clock() -> int:
    """Return the machine's time in microseconds since 1970-01-01 UTC."""
    return time.time_ns() // 1000


class Transaction(TypingProtocol):
    """A catalog transaction in progress.

    Opaque above ``backends.catalog``: the layers between only hand it on, so that an operation
    and its audit record are committed together or not at all.
    """

    @property
    def writable(self) -> bool:
        """Whether this transaction may change rows (it then holds the write lock)."""

    @property
    def seen(self) -> dict[Hashable, Any]:
        """What was read in it already; forgotten whenever it changes anything."""


class UnitOfWork(TypingProtocol):
    """Opens catalog transactions; implemented by ``backends.catalog.engine.Catalog``."""

    def begin(self) -> AbstractContextManager[Transaction]:
        """Return a durable write transaction: commits on a clean exit, else rolls back."""

    def snapshot(self) -> AbstractContextManager[Transaction]:
        """Return a read-only view of one moment; never blocks writers."""


class Action(enum.StrEnum):
    """What policy decides on (and what an audit record names)."""

    LIST = "list"
    READ = "read"
    CREATE = "create"
    WRITE = "write"
    DELETE = "delete"
    MOVE = "move"
    LOCK = "lock"
    RESTORE = "restore"
    PURGE = "purge"


class Wire(enum.StrEnum):
    """The protocol by which a principal came in."""

    WEBDAV = "webdav"
    SFTP = "sftp"
    ADMIN = "admin"


class Factor(enum.StrEnum):
    """What proved an identity."""

    PASSWORD = "password"  # noqa: S105  a factor's name, not a secret
    SSH_KEY = "ssh_key"
    DEVICE_PASSWORD = "device_password"  # noqa: S105  a factor's name, not a secret
    TOTP = "totp"
    LEASE = "lease"


class Outcome(enum.StrEnum):
    """How an audited operation ended."""

    OK = "ok"
    DENIED = "denied"
    FAILED = "failed"
    ABORTED = "aborted"
    EXPIRED = "expired"


class Kind(enum.StrEnum):
    """What a node is."""

    FILE = "file"
    FOLDER = "folder"


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated identity.

    ``id`` is the directory's immutable id. ``memberships`` are the directory's groups as
    normalised by ``auth.directory.membership``; policy maps them to its own groups, so that a
    reload of the policy takes effect on living sessions.
    """

    id: str
    name: str
    display_name: str = ""
    memberships: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Client:
    """The other end of a connection: numeric IP address and the software's own name for itself."""

    address: str
    software: str = ""


@dataclass(frozen=True, slots=True)
class Certificate:
    """What an SSH certificate says; whether it is worth anything is policy's part.

    ``authority`` is the signing key as an OpenSSH line. The span is in seconds since 1970 and does
    not include its end. ``critical_options`` are names with their values as text.
    """

    authority: str
    key_id: str
    serial: int
    principals: tuple[str, ...]
    valid_from_s: int
    valid_until_s: int
    is_users: bool
    critical_options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try to come in; what it holds depends on how the client asked.

    HTTP Basic and SSH's password method send ``secret``: the password followed directly by the
    six digits. Keyboard-interactive sends ``password`` and ``code``. ``ssh_key`` is an OpenSSH
    public key line ("type base64") whose signature has been verified; with a ``certificate``, whose
    authority's signature was verified too, it is the key that was certified. ``user_verified``: a security key asked for its PIN before it signed.
    """

    name: str
    wire: Wire
    client: Client
    secret: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    code: str = field(default="", repr=False)
    ssh_key: str = ""
    certificate: Certificate | None = None
    user_verified: bool = False


@dataclass(frozen=True, slots=True)
class Session:
    """One authenticated conversation. Times are microseconds since 1970 UTC.

    ``last_active_us`` is what was stored when this record was read; the store holds the truth.
    """

    id: str
    principal: Principal
    wire: Wire
    client: Client
    factors: frozenset[Factor]
    opened_us: int
    last_active_us: int
    idle_timeout_s: int
    ends_us: int

    @property
    def idle_deadline_us(self) -> int:
        """When the session idles out unless activity comes first."""
        return self.last_active_us + self.idle_timeout_s * SECOND_US

    def over(self, now_us: int) -> str:
        """Return ``""`` while the session lives, else why it is over: ``idle`` or ``absolute``."""
        if now_us >= self.ends_us:
            return "absolute"
        return "idle" if now_us >= self.idle_deadline_us else ""


@dataclass(frozen=True, slots=True)
class Lease:
    """The proof that a principal gave a fresh code from a client address. Times are µs since 1970.

    It is idle while no session that was opened with that code, or by this lease, does anything:
    ``last_active_us`` is the last activity of them all when this record was read.
    """

    id: str
    principal_id: str
    principal_name: str
    client_address: str
    opened_us: int
    last_active_us: int
    idle_timeout_s: int
    ends_us: int

    @property
    def idle_deadline_us(self) -> int:
        """When it idles out unless activity comes first."""
        return self.last_active_us + self.idle_timeout_s * SECOND_US

    def over(self, now_us: int) -> bool:
        """Return whether its time is over."""
        return now_us >= min(self.idle_deadline_us, self.ends_us)


@dataclass(frozen=True, slots=True)
class PropertyName:
    """A WebDAV property's expanded name."""

    namespace: str
    local: str


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """What the door tells about a node.

    ``node_id`` and ``version_id`` are lower-case hex; the root ``/`` and folders have no version.
    ``size_bytes`` is plaintext. ``properties`` holds dead properties (name → the property element
    as serialised XML) and is empty unless they were asked for. ``sha256`` is the hex digest of a
    file's plaintext; empty unless asked for, or while not known (a file that was changed in place).
    """

    path: VirtualPath
    kind: Kind
    node_id: str = ""
    version_id: str = ""
    size_bytes: int = 0
    created_us: int = 0
    modified_us: int = 0
    properties: dict[PropertyName, str] = field(default_factory=dict)
    sha256: str = ""

    @property
    def is_folder(self) -> bool:
        """Whether the node is a folder."""
        return self.kind is Kind.FOLDER

    @property
    def name(self) -> str:
        """The node's name; empty for the root."""
        return self.path.name


_NO_PROPERTIES: Mapping[PropertyName, str] = MappingProxyType({})


class Entry(NamedTuple):
    """One entry of a listing: what ``NodeInfo`` tells, less the path of the folder.

    A tuple, because a folder may have 100,000 of them.
    """

    name: str
    is_folder: bool
    node_id: str
    version_id: str
    size_bytes: int
    created_us: int
    modified_us: int
    properties: Mapping[PropertyName, str] = _NO_PROPERTIES

    @classmethod
    def of(cls, info: NodeInfo) -> Entry:
        """Return the entry that shows ``info``."""
        return cls(
            info.name,
            info.is_folder,
            info.node_id,
            info.version_id,
            info.size_bytes,
            info.created_us,
            info.modified_us,
            info.properties,
        )

    def info(self, folder: VirtualPath) -> NodeInfo:
        """Return what the entry tells of a node in ``folder``."""
        return NodeInfo(
            path=VirtualPath((*folder.parts, self.name)),
            kind=Kind.FOLDER if self.is_folder else Kind.FILE,
            node_id=self.node_id,
            version_id=self.version_id,
            size_bytes=self.size_bytes,
            created_us=self.created_us,
            modified_us=self.modified_us,
            properties=dict(self.properties),
        )


@dataclass(frozen=True, slots=True)
class Seen:
    """What a condition looks at: a node, and the tokens of the asker's own locks that cover it.

    ``info`` is None where nothing is, or nothing that the asker may know of.
    """

    info: NodeInfo | None
    tokens: frozenset[str] = frozenset()


Look = Callable[[VirtualPath], Seen]
"""Returns what is at a path now."""

Condition = Callable[[Look], None]
"""Raises ConflictError unless what it looks at is as the client requires."""


@dataclass(frozen=True, slots=True)
class Usage:
    """A share's space. ``quota_bytes`` None: bounded only by the disk, ``available_bytes``."""

    used_bytes: int
    available_bytes: int
    quota_bytes: int | None
    node_count: int


@dataclass(frozen=True, slots=True)
class VersionInfo:
    """One version of a file. ``author`` is a principal's id; ``sha256`` (hex) is of the plaintext.

    ``created_us`` is when it became the file's content; ``sha256`` is empty while not known.
    ``damaged``: the version does not verify, and nothing else said of it is certain.
    """

    version_id: str
    size_bytes: int
    created_us: int
    modified_us: int
    author: str
    sha256: str
    current: bool
    damaged: bool = False


@dataclass(frozen=True, slots=True)
class TrashedNode:
    """A deleted file or folder that can still be brought back.

    ``parts`` is where it lay; ``folder_lives`` tells whether that folder is still there.
    """

    node_id: str
    kind: Kind
    parts: tuple[str, ...]
    folder_lives: bool
    size_bytes: int
    deleted_us: int
    deleted_by: str

    @property
    def path(self) -> VirtualPath:
        """Where it lay."""
        return VirtualPath(self.parts)


@dataclass(frozen=True, slots=True)
class LockInfo:
    """A WebDAV lock (RFC 4918 section 6).

    ``token`` is a ``urn:uuid:``; it is empty when the asker does not own the lock. ``owner`` is
    the client's own owner element as serialised XML.
    """

    token: str
    path: VirtualPath
    principal_id: str
    principal_name: str
    exclusive: bool
    depth_infinity: bool
    owner: str
    timeout_s: int
    expires_us: int

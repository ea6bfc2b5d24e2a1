"""A real gateway in one process for tests of the door: catalog, vault, policy, journal, sessions.

Only time and the disk's capacity are played: the clock stands still, blobs lie in memory, and the
directory is a dictionary. Faults are put into the SQLite file itself.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from auth.authenticator import Authenticator, principal_of
from auth.directory import Account, fold, membership
from auth.errors import DirectoryUnavailableError
from auth.lease import Leases
from auth.policy import Grant, Group, PathRule, Policy
from auth.session import Sessions
from auth.throttle import Throttle, ThrottleSettings, ThrottleState
from auth.totp import Seed, Totp, current_code
from backends.blobs.memory import MemoryBlobStore
from backends.catalog.engine import Catalog
from backends.catalog.factors import SqlSeedStore, SqlThrottleStore
from backends.catalog.leases import SqlLeaseStore
from backends.catalog.sessions import SqlSessionStore
from backends.catalog.sqlite import open_catalog
from backends.errors import ConflictError
from backends.keyring import Mac, MasterKey, RecordCipher, derive_key
from backends.share import Shares, ShareSettings, system_key
from backends.vault import Vault
from gateway.app import PolicyInForce
from gateway.audit import trail
from gateway.audit.journal import Journal
from gateway.audit.trail import Line
from gateway.handles import WriteHandle
from gateway.login import Login
from gateway.model import Action, Client, Condition, Factor, Look, NodeInfo, Session, Wire
from gateway.monitor import Door, Monitor
from gateway.passage import Surroundings
from gateway.paths import VirtualPath
from tests.auth.memory import FixedClock

IDLE_TIMEOUT_S = 600
SESSION_TIMEOUT_S = 3600
QUOTA_BYTES = 1000
MASTER = MasterKey(bytes(range(32)))
OFFICE = "10.0.0.5"
FILE = "/radiology/file"
SCANNER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"

SHARES = {
    "radiology": ShareSettings("radiology"),
    "archive": ShareSettings("archive", trash_s=3600),
    "inbox": ShareSettings("inbox"),
    "small": ShareSettings("small", quota_bytes=QUOTA_BYTES),
}

ALL = frozenset(Action)
DOORS = frozenset({Wire.WEBDAV, Wire.SFTP})

# What no operation that was refused may have changed.
CONTENT_TABLES = (
    "shares",
    "epochs",
    "nodes",
    "versions",
    "extents",
    "segments",
    "properties",
    "locks",
)


def at(text: str) -> VirtualPath:
    return VirtualPath.parse(text)


def group(name: str, *grants: Grant, **limits: Any) -> Group:
    """Return the group whose members are the file group of the same name."""
    limits = {"idle_timeout_s": IDLE_TIMEOUT_S, "session_timeout_s": SESSION_TIMEOUT_S} | limits
    return Group(name, frozenset({membership("file", name)}), grants, **limits)


def grant(share: str, *allow: Action, paths: tuple[PathRule, ...] = ()) -> Grant:
    return Grant(share, frozenset(allow), paths)


def staff(*paths: PathRule, without: frozenset[Action] = frozenset()) -> Policy:
    """Return the policy by which staff may do everything, less ``without`` and path rules."""
    return Policy((group("staff", Grant("radiology", ALL - without, paths)), *OTHERS))


OTHERS = (
    group("readers", grant("radiology", Action.LIST, Action.READ)),
    group("droppers", grant("inbox", Action.CREATE)),
    group("barred", Grant("radiology", ALL, deny=ALL)),
    group(
        "service",
        grant("inbox", Action.CREATE),
        second_factor=False,
        networks=(ip_network("10.0.0.0/8"),),
    ),
)
POLICY = Policy(
    (
        # "ghost" is granted but no configured share: every operation on it fails below policy.
        group("staff", *(grant(share, *ALL) for share in (*SHARES, "ghost"))),
        *OTHERS,
    )
)
USERS = {
    "alice": "staff",
    "bob": "staff",
    "rita": "readers",
    "dora": "droppers",
    "dirk": "droppers",
    "eve": "barred",
    "scanner": "service",
    "carl": "staff",
}


@dataclass(slots=True)
class MemoryDirectory:
    """Implements ``auth.directory.Directory``; ``down`` and ``delay_s`` make it a bad one."""

    clock: FixedClock
    accounts: dict[str, Account] = field(default_factory=dict)
    down: bool = False
    delay_s: float = 0.0

    def find(self, name: str) -> Account | None:
        if self.down:
            raise DirectoryUnavailableError("No directory server answers.")
        return self.accounts.get(fold(name))

    def verify(self, account: Account | None, password: str) -> bool:
        self.clock.forward(self.delay_s)
        if account is None or not account.enabled:
            return False
        return password == password_of(account.name)

    def refresh(self, principal_id: str) -> Account | None:
        found = [one for one in self.accounts.values() if one.id == principal_id]
        return found[0] if found else None


def password_of(name: str) -> str:
    return f"{name}'s password 1"


def people() -> dict[str, Account]:
    return {
        name: Account(
            id=f"id-{name}",
            name=name,
            display_name=name.title(),
            memberships=frozenset({membership("file", listed), membership("user", name)}),
            enabled=name != "carl",
            ssh_keys=(SCANNER_KEY,) if name in {"scanner", "carl"} else (),
        )
        for name, listed in USERS.items()
    }


@dataclass(slots=True)
class Gate:
    """The gateway under test and what tests ask of it."""

    folder: Path
    clock: FixedClock
    catalog: Catalog
    blobs: MemoryBlobStore
    cipher: RecordCipher
    journal: Journal
    sessions: Sessions
    directory: MemoryDirectory
    totp: Totp
    throttle: Throttle
    login: Login
    policy: PolicyInForce
    monitor: Monitor
    secrets: dict[str, str]
    pauses_s: list[float]
    seen: set[tuple[str, int]] = field(default_factory=set)

    # Coming in

    def session(self, name: str, *, wire: Wire = Wire.WEBDAV, address: str = OFFICE) -> Session:
        """Return a new session of ``name`` that leaves no record."""
        with self.catalog.begin() as tx:
            return self.sessions.open(
                tx,
                session_id=secrets.token_hex(16),
                principal=principal_of(self.directory.accounts[name]),
                wire=wire,
                client=Client(address, "test"),
                factors=frozenset({Factor.PASSWORD, Factor.TOTP}),
                now_us=self.clock(),
                idle_timeout_s=IDLE_TIMEOUT_S,
                session_timeout_s=SESSION_TIMEOUT_S,
                binding=None,
            )

    def door(self, name: str, *, wire: Wire = Wire.WEBDAV) -> Door:
        return self.monitor.bind(self.session(name, wire=wire))

    def code(self, name: str) -> str:
        """Return the code that ``name``'s device shows now."""
        return current_code(self.secrets[name], self.clock())

    def alive(self, session: Session) -> bool:
        return self.monitor.deadline_us(session) is not None

    # Records

    def records(self) -> list[Line]:
        """Return every record in order, look-ups that were held back included."""
        self.journal.flush()
        with self.catalog.snapshot() as tx:
            return list(trail.lines(tx, self.cipher))

    def new_records(self) -> list[Line]:
        """Return the records added since the last call."""
        found = {(line["journal"], line["seq"]): line for line in self.records()}
        fresh = [line for place, line in found.items() if place not in self.seen]
        self.seen |= found.keys()
        return fresh

    # The tree

    def content(self) -> dict[str, list[tuple[Any, ...]]]:
        """Return all that operations can change: catalog rows, and the ids of blobs."""
        rows = {table: self.sql(f"SELECT * FROM {table} ORDER BY 1, 2") for table in CONTENT_TABLES}
        return rows | {"blobs": [(blob_id,) for blob_id in sorted(self.blobs._blobs)]}

    def sql(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Run a statement on the catalog's file or database, past the gateway."""
        if self.catalog.dialect == "postgresql":
            with self.catalog._driver.connection() as connection:
                cursor = connection.execute(statement.replace("?", "%s"), values)
                return list(cursor) if cursor.description else []
        with contextlib.closing(sqlite3.connect(self.folder / "catalog.sqlite")) as connection:
            found = connection.execute(statement, values).fetchall()
            connection.commit()
        return found

    def refuse_records(self) -> None:
        """Make every insertion into the audit table fail, as a full disk would."""
        self.sql(
            "CREATE TRIGGER no_records BEFORE INSERT ON audit "
            "BEGIN SELECT RAISE(ABORT, 'no records today'); END"
        )

    def accept_records(self) -> None:
        self.sql("DROP TRIGGER no_records")

    def break_storage(self) -> None:
        """Make everything that looks for a share fail."""
        self.sql("ALTER TABLE shares RENAME TO shares_away")

    def mend_storage(self) -> None:
        self.sql("ALTER TABLE shares_away RENAME TO shares")

    def close(self) -> None:
        self.journal.close()
        self.catalog.close()


def prepare_catalog(folder: Path, catalog: Catalog | None = None) -> None:
    """Make a catalog with the shares and everyone's seed, for ``open_gate`` to copy."""
    clock = FixedClock()
    catalog = catalog or open_catalog(folder)
    catalog.migrate()
    with catalog.begin() as tx:
        system = system_key(tx, MASTER)
        Shares(MASTER, SHARES, secrets.token_bytes).create_missing(tx, clock)
        seeds = SqlSeedStore(RecordCipher(system, "totp"), Seed)
        for number, name in enumerate(USERS):
            seeds.put(tx, f"id-{name}", seed_of(number), clock())
    catalog.close()


def seed_of(number: int) -> str:
    return "ABCDEFGH"[number] * 32


@contextlib.contextmanager
def open_gate(
    folder: Path, *, join_window_s: int = 60, catalog: Catalog | None = None
) -> Iterator[Gate]:
    """Give a gateway over the catalog in ``folder``, wired as ``gateway.app`` wires it."""
    clock = FixedClock()
    pauses_s: list[float] = []

    def pause(seconds: float) -> None:
        pauses_s.append(seconds)
        clock.forward(seconds)

    catalog = catalog or open_catalog(folder)
    with catalog.snapshot() as tx:
        system = system_key(tx, MASTER)
    cipher = RecordCipher(system, "audit")
    journal = Journal(catalog, cipher, node="test", clock=clock)
    blobs = MemoryBlobStore()
    vault = Vault(Shares(MASTER, SHARES, os.urandom), blobs, clock=clock, random_bytes=os.urandom)
    totp = Totp(SqlSeedStore(RecordCipher(system, "totp"), Seed), clock)
    throttle = Throttle(
        SqlThrottleStore(ThrottleState), clock, ThrottleSettings(), derive_key(system, "throttle")
    )
    sessions = Sessions(SqlSessionStore(Mac(system, "session")))
    leases = Leases(SqlLeaseStore(Mac(system, "lease")))
    policy = PolicyInForce(POLICY)
    directory = MemoryDirectory(clock, people())
    authenticator = Authenticator(
        directory,
        totp,
        sessions,
        policy,
        leases=leases,
        binding_key=derive_key(system, "binding"),
        join_window_s=join_window_s,
        clock=clock,
    )
    login = Login(
        authenticator, sessions, throttle, journal, catalog, leases=leases, clock=clock, pause=pause
    )
    monitor = Monitor(
        Surroundings(
            vault=vault,
            catalog=catalog,
            journal=journal,
            sessions=sessions,
            login=login,
            policy=policy,
            clock=clock,
        )
    )
    gate = Gate(
        folder=folder,
        clock=clock,
        catalog=catalog,
        blobs=blobs,
        cipher=cipher,
        journal=journal,
        sessions=sessions,
        directory=directory,
        totp=totp,
        throttle=throttle,
        login=login,
        policy=policy,
        monitor=monitor,
        secrets={name: seed_of(number) for number, name in enumerate(USERS)},
        pauses_s=pauses_s,
    )
    try:
        yield gate
    finally:
        gate.close()
        vault.close()


# What tests do all the time


def put(door: Door, path: str, content: bytes = b"content") -> NodeInfo:
    """Write a whole file."""
    handle = door.open_write(at(path))
    handle.write_at(0, content)
    return handle.commit()


def only_if(path: str, version_id: str) -> Condition:
    """Return the condition that ``path`` holds that version; ``""``: nothing."""

    def condition(look: Look) -> None:
        info = look(at(path)).info
        if ("" if info is None else info.version_id) != version_id:
            raise ConflictError("It holds another.")

    return condition


def conditional(door: Door, path: str, version_id: str) -> Door:
    """Return a door through which changes are made only while ``path`` holds that version."""
    return door.with_tokens(frozenset(), only_if(path, version_id))


def opened(door: Door, path: str = FILE, content: bytes = b"new") -> WriteHandle:
    """Return a handle that has received ``content`` and is not committed."""
    handle = door.open_write(at(path))
    handle.write_at(0, content)
    return handle


def versions(gate: Gate) -> int:
    """Return how many versions are kept in all."""
    return int(gate.sql("SELECT count(*) FROM versions")[0][0])


def get(door: Door, path: str) -> bytes:
    """Read a whole file."""
    handle = door.open_read(at(path))
    content = handle.read_at(0, handle.size_bytes)
    handle.close()
    return content


def names(door: Door, path: str) -> list[str]:
    """Return what a listing shows."""
    return [child.name for child in door.scandir(at(path)).children]


def outline(records: list[Line]) -> list[tuple[str, str]]:
    """Return action and outcome of each record."""
    return [(record["action"], record["outcome"]) for record in records]

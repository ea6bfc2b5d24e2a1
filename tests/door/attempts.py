"""Tries to come in, as tests of logging in make them."""

from __future__ import annotations

from gateway.model import Attempt, Client, Session, Wire
from tests.door.support import OFFICE, SCANNER_KEY, Gate, password_of

CLIENT = Client(OFFICE, "a client")
STEP_S = 30


def basic(gate: Gate, name: str = "alice", *, wire: Wire = Wire.WEBDAV) -> Attempt:
    """Return password and code as HTTP Basic sends them."""
    return Attempt(name, wire, CLIENT, secret=password_of(name) + gate.code(name))


def prompted(gate: Gate, name: str = "alice") -> Attempt:
    """Return password and code as keyboard-interactive asks for them."""
    return Attempt(name, Wire.SFTP, CLIENT, password=password_of(name), code=gate.code(name))


def by_key(name: str = "scanner", key: str = SCANNER_KEY, address: str = OFFICE) -> Attempt:
    return Attempt(name, Wire.SFTP, Client(address, "a client"), ssh_key=key)


def live_sessions(gate: Gate) -> list[Session]:
    with gate.catalog.snapshot() as tx:
        return gate.sessions.live(tx)

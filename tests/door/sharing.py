"""What the tests of shared open files do all the time."""

from __future__ import annotations

from backends.share import ShareSettings
from backends.vault import Vault
from gateway.handles import WriteHandle
from gateway.monitor import Door
from tests.door.support import FILE, SHARES, Gate, at, get, open_gate


def again(door: Door, path: str = FILE) -> WriteHandle:
    """Open a file that is there for its session, to change it in place."""
    return door.open_write(at(path), create=False, keep=True)


def content_after_a_crash(gate: Gate, path: str = FILE) -> bytes:
    """Return what another process finds."""
    with open_gate(gate.folder) as other:
        other.blobs._blobs.update(gate.blobs._blobs)
        return get(other.door("bob"), path)


def configure(gate: Gate, share: str, **settings: int) -> None:
    """Give a share other settings."""
    vault_of(gate).configure(SHARES | {share: ShareSettings(share, **settings)})


def vault_of(gate: Gate) -> Vault:
    return gate.monitor._surroundings.vault

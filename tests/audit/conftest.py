"""The door's fixtures, for tests of the trail that the door leaves."""

from __future__ import annotations

from tests.door.conftest import alice, gate, gate_folder, prepared

__all__ = ["alice", "gate", "gate_folder", "prepared"]

"""Storing a small file whole: what opening, writing and committing it does, in one transaction."""

from __future__ import annotations

import hashlib

import pytest

from backends.errors import (
    ConflictError,
    IsAFolderError,
    NotAFolderError,
    ParentMissingError,
    QuotaExceededError,
)
from gateway.errors import AuditUnavailableError, DeniedError, LockedError
from gateway.model import Look
from gateway.operations.whole import WHOLE_LIMIT_BYTES
from tests.door.support import FILE, QUOTA_BYTES, Gate, at, get, put, versions

NEW = "/radiology/new"


def test_a_new_file_and_a_new_version(gate: Gate) -> None:
    """One record each, of what it was; the digest is known; the older version stays."""
    alice = gate.door("alice")
    gate.new_records()
    info, created = alice.store(at(NEW), b"one", modified_us=7)
    assert (created, info.size_bytes, info.modified_us) == (True, 3, 7)
    again, created = alice.store(at(NEW), b"two")
    assert not created
    assert again.node_id == info.node_id
    assert again.version_id != info.version_id
    assert get(alice, NEW) == b"two"
    assert alice.stat(at(NEW), digest=True).sha256 == hashlib.sha256(b"two").hexdigest()
    assert versions(gate) == 2
    stored = [line for line in gate.new_records() if line["action"] in {"create", "write"}]
    assert [(line["action"], line["bytes"], line["path"]) for line in stored] == [
        ("create", 3, NEW),
        ("write", 3, NEW),
    ]
    assert [line["version_id"] for line in stored] == [info.version_id, again.version_id]


@pytest.mark.parametrize("size", [0, 1, WHOLE_LIMIT_BYTES])
def test_every_size_up_to_the_limit_lies_in_the_catalog(gate: Gate, size: int) -> None:
    """No segment is written while the catalog's write lock is held."""
    alice = gate.door("alice")
    alice.store(at(NEW), b"x" * size)
    assert get(alice, NEW) == b"x" * size
    assert not gate.blobs._blobs


def test_more_is_not_taken(gate: Gate) -> None:
    """The front end's own mistake."""
    with pytest.raises(AssertionError):
        gate.door("alice").store(at(NEW), b"x" * (WHOLE_LIMIT_BYTES + 1))


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/radiology", ParentMissingError),
        ("/radiology/none/new", ParentMissingError),
        ("/radiology/file/new", NotAFolderError),
        ("/radiology/folder", IsAFolderError),
    ],
)
def test_where_no_file_can_be_nothing_is_stored(
    gate: Gate, path: str, error: type[Exception]
) -> None:
    """As with any write; one failed record."""
    alice = gate.door("alice")
    put(alice, FILE)
    alice.mkdir(at("/radiology/folder"))
    before = gate.content()
    gate.new_records()
    with pytest.raises((error, IsAFolderError)):
        alice.store(at(path), b"x")
    assert gate.content() == before
    assert [line["outcome"] for line in gate.new_records()] == ["failed"]


def test_rights_locks_conditions_and_quota_bind_it(gate: Gate) -> None:
    """Each refusal leaves nothing but its record."""
    alice, bob = gate.door("alice"), gate.door("bob")
    put(alice, FILE)

    def never(_: Look) -> None:
        raise ConflictError("The condition does not hold.")

    with pytest.raises(DeniedError):
        gate.door("rita").store(at(FILE), b"x")
    with pytest.raises(ConflictError):
        alice.with_tokens(frozenset(), never).store(at(FILE), b"x")
    alice.lock(at(FILE), exclusive=True, depth_infinity=False, owner="<o/>", timeout_s=60)
    with pytest.raises(LockedError):
        bob.store(at(FILE), b"x")
    with pytest.raises(QuotaExceededError):
        alice.store(at("/small/new"), b"x" * (QUOTA_BYTES + 1))
    assert get(alice, FILE) == b"content"
    assert versions(gate) == 1


def test_without_its_record_nothing_is_stored(gate: Gate) -> None:
    """Fail closed."""
    alice = gate.door("alice")
    gate.refuse_records()
    with pytest.raises(AuditUnavailableError):
        alice.store(at(NEW), b"x")
    gate.accept_records()
    assert versions(gate) == 0


def test_what_is_dropped_into_a_box_is_its_own_file(gate: Gate) -> None:
    """Create alone is enough for a new name, and not for one that is taken."""
    dora, dirk = gate.door("dora"), gate.door("dirk")
    dora.store(at("/inbox/mine"), b"x")
    with pytest.raises(DeniedError):
        dirk.store(at("/inbox/mine"), b"y")

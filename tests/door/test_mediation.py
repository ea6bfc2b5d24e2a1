"""Every operation of the door, whatever becomes of it, leaves exactly its records."""

from __future__ import annotations

import contextlib
import inspect
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from backends.errors import NotFoundError, StorageError, StorageUnavailableError
from gateway.errors import (
    AuditUnavailableError,
    DeniedError,
    SealgateError,
    SessionEndedError,
)
from gateway.model import Action, PropertyName
from gateway.monitor import Door
from gateway.passage import Mode
from gateway.paths import ROOT, VirtualPath
from tests.door.support import IDLE_TIMEOUT_S, POLICY, SHARES, Gate, at, open_gate, outline, put

SHARE = at("/radiology")
FILE = at("/radiology/file")
FOLDER = at("/radiology/folder")
LOCKED = at("/radiology/locked")
NEW = at("/radiology/new")
MISSING = at("/radiology/missing")
PROPERTY = PropertyName("urn:example", "colour")
ALLOWED_BY = "groups.staff.shares.radiology.allow"
DENIED_BY = "groups.barred.shares.radiology.deny"


@dataclass(frozen=True, slots=True)
class Case:
    """One operation: how it is called on a path, on which path, what its record is named."""

    call: Callable[[Door, VirtualPath, str], object]
    path: VirtualPath
    action: str
    closing: str = ""
    look_up: bool = False
    missing: VirtualPath | None = MISSING


def _read(door: Door, path: VirtualPath, _token: str) -> None:
    handle = door.open_read(path)
    assert handle.read_at(0, 100)
    handle.close()
    handle.close()


def _write(door: Door, path: VirtualPath, _token: str) -> None:
    handle = door.open_write(path, create=False)
    handle.write_at(0, b"x" * 100_000)
    handle.commit()


def _lock(door: Door, path: VirtualPath, _token: str) -> None:
    door.lock(path, exclusive=True, depth_infinity=False, owner="<o/>", timeout_s=60)


def _restore(door: Door, path: VirtualPath, _token: str) -> None:
    version_id = "0" * 32
    around = door._passage.surroundings
    with contextlib.suppress(SealgateError), around.catalog.snapshot() as tx:
        node = around.vault.find(tx, path)
        if node is not None:
            version_id = node.row.version_id.hex()
    door.restore(path, version_id)


CASES = {
    "stat": Case(lambda door, path, _: door.stat(path), FILE, "stat", look_up=True),
    "look": Case(lambda door, path, _: door.look(path), FILE, "stat", look_up=True),
    "scandir": Case(lambda door, path, _: door.scandir(path), FOLDER, "list"),
    "open_read": Case(_read, FILE, "read", closing="read_end"),
    "open_write": Case(_write, FILE, "write"),
    "store": Case(
        lambda door, path, _: door.store(path, b"content"),
        FILE,
        "write",
        missing=at("/radiology/missing/x"),
    ),
    "mkdir": Case(
        lambda door, path, _: door.mkdir(path), NEW, "create", missing=at("/radiology/missing/x")
    ),
    "delete": Case(lambda door, path, _: door.delete(path), FILE, "delete"),
    "move": Case(lambda door, path, _: door.move(path, NEW), FILE, "move"),
    "copy": Case(lambda door, path, _: door.copy(path, NEW), FILE, "copy"),
    "set_times": Case(lambda door, path, _: door.set_times(path, modified_us=7), FILE, "set_times"),
    "set_properties": Case(
        lambda door, path, _: door.set_properties(path, put={PROPERTY: "<c/>"}, remove=frozenset()),
        FILE,
        "set_properties",
    ),
    "versions": Case(lambda door, path, _: door.versions(path), FILE, "versions"),
    "restore": Case(_restore, FILE, "restore"),
    "lock": Case(_lock, FILE, "lock", missing=at("/radiology/missing/x")),
    "refresh_lock": Case(
        lambda door, path, token: door.refresh_lock(path, token, timeout_s=9),
        LOCKED,
        "refresh_lock",
    ),
    "unlock": Case(lambda door, path, token: door.unlock(path, token), LOCKED, "unlock"),
    "locks": Case(
        lambda door, path, _: door.locks(path), LOCKED, "stat", look_up=True, missing=None
    ),
    "usage": Case(
        lambda door, path, _: door.usage(path), FILE, "stat", look_up=True, missing=at("/ghost")
    ),
}
every_operation = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@pytest.fixture(scope="module")
def seeded(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A catalog with two files, a folder, and alice's lock on LOCKED, whose token comes along."""
    folder = tmp_path_factory.mktemp("seeded") / "data"
    shutil.copytree(prepared, folder)
    with open_gate(folder) as gate:
        alice = gate.door("alice")
        put(alice, str(FILE))
        put(alice, str(LOCKED))
        alice.mkdir(FOLDER)
        info, _ = alice.lock(
            LOCKED, exclusive=True, depth_infinity=False, owner="<owner/>", timeout_s=3600
        )
    return folder, info.token


@pytest.fixture
def gate_folder(seeded: tuple[Path, str], tmp_path: Path) -> Path:
    """Every test has its own copy of the seeded catalog."""
    return Path(shutil.copytree(seeded[0], tmp_path / "data"))


@pytest.fixture
def token(gate: Gate, seeded: tuple[Path, str]) -> str:
    """The token of the lock; all records that came before are seen."""
    gate.new_records()
    return seeded[1]


def test_every_method_of_the_door_has_a_case() -> None:
    """A method that is added to the door must be added here.

    What takes an open file is not one operation on a path: tests/door/test_duplicate.py.
    """
    methods = {
        name for name, _ in inspect.getmembers(Door, inspect.isroutine) if not name.startswith("_")
    }
    assert methods - {"with_tokens", "duplicate"} == CASES.keys()


@every_operation
def test_allowed_operation_leaves_its_record(
    gate: Gate, alice: Door, token: str, case: Case
) -> None:
    """One record with who, where, which rule; a read has a closing one too."""
    case.call(alice.with_tokens(frozenset({token})), case.path, token)
    records = gate.new_records()
    expected = [(case.action, "ok")] + [(case.closing, "ok")] * bool(case.closing)
    assert outline(records) == expected
    for record in records:
        assert record["principal_id"] == "id-alice"
        assert record["session"] == alice.session.id
        assert record["share"] == "radiology"
        assert record["path"] == str(case.path)
        assert record["rule"] == ALLOWED_BY
        assert record["error"] == ""


@every_operation
def test_denied_operation_leaves_one_record_and_no_effect(
    gate: Gate, token: str, case: Case
) -> None:
    """A refusal by policy names the line that refused."""
    before = gate.content()
    door = gate.door("eve")
    with pytest.raises(DeniedError) as caught:
        case.call(door, case.path, token)
    assert caught.value.rule == DENIED_BY
    records = gate.new_records()
    assert outline(records) == [(case.action, "denied")]
    assert records[0]["rule"] == DENIED_BY
    assert records[0]["error"] == "DeniedError"
    assert records[0]["path"] == str(case.path)
    assert records[0]["principal_name"] == "eve"
    assert gate.content() == before


@every_operation
def test_operation_on_what_is_not_there_leaves_one_record(
    gate: Gate, alice: Door, token: str, case: Case
) -> None:
    """A missing node, folder or share is one failed record and no effect."""
    if case.missing is None:
        assert case.call(alice, MISSING, token) == []
        return
    before = gate.content()
    with pytest.raises(NotFoundError) as caught:
        case.call(alice, case.missing, token)
    records = gate.new_records()
    assert [record["outcome"] for record in records] == ["failed"]
    assert records[0]["error"] == type(caught.value).__name__
    assert records[0]["path"] == str(case.missing)
    assert gate.content() == before


@every_operation
def test_operation_that_storage_fails_leaves_one_record(
    gate: Gate, alice: Door, token: str, case: Case
) -> None:
    """A catalog that answers with an error is one failed record and no effect."""
    before = gate.content()
    gate.break_storage()
    with pytest.raises(StorageError):
        case.call(alice, case.path, token)
    gate.mend_storage()
    records = gate.new_records()
    assert outline(records) == [(case.action, "failed")]
    assert records[0]["error"] == "StorageUnavailableError"
    assert gate.content() == before


@every_operation
def test_operation_after_the_session_leaves_one_record(
    gate: Gate, alice: Door, token: str, case: Case
) -> None:
    """The session's end is recorded once, and what was asked too late as expired."""
    before = gate.content()
    gate.clock.forward(IDLE_TIMEOUT_S)
    for end in ([("logoff", "expired")], []):
        with pytest.raises(SessionEndedError):
            case.call(alice, case.path, token)
        records = gate.new_records()
        assert outline(records) == [*end, (case.action, "expired")]
        assert records[-1]["error"] == "SessionEndedError"
        assert records[-1]["path"] == str(case.path)
    assert gate.content() == before


@every_operation
def test_operation_whose_record_fails_does_not_happen(
    gate: Gate, alice: Door, token: str, case: Case
) -> None:
    """Without its record nothing is changed and nothing is told."""
    door = alice.with_tokens(frozenset({token}))
    before = gate.content()
    del before["blobs"]
    gate.refuse_records()
    if case.look_up:
        # Look-ups are written within a second; from then on they are refused.
        case.call(door, case.path, token)
        gate.journal.flush()
    with pytest.raises(AuditUnavailableError):
        case.call(door, case.path, token)
    # A segment that nothing refers to may stay for gc, as after a commit of unknown fate.
    assert {name: rows for name, rows in gate.content().items() if name != "blobs"} == before
    gate.accept_records()
    kept = [(case.action, "ok")] * case.look_up
    assert outline(gate.new_records()) == kept
    case.call(door, case.path, token)


@every_operation
def test_denial_whose_record_fails_is_still_no_success(gate: Gate, token: str, case: Case) -> None:
    """A refusal that cannot be recorded is an error too."""
    before = gate.content()
    gate.refuse_records()
    with pytest.raises(AuditUnavailableError):
        case.call(gate.door("eve"), case.path, token)
    assert gate.content() == before


@pytest.mark.parametrize("mode", Mode)
def test_body_that_never_asks_policy_keeps_nothing(
    gate: Gate, alice: Door, token: str, mode: Mode
) -> None:
    """What such a body did is rolled back, and recorded as our failure."""

    def operate() -> None:
        with alice._operation("create", NEW, mode) as op:
            if mode is Mode.CHANGE:
                op.vault.add_folder(op.tx, op.require(SHARE), "new", author="id-alice")

    before = gate.content()
    with pytest.raises(AssertionError, match="did not ask policy"):
        operate()
    assert outline(gate.new_records()) == [("create", "failed")]
    assert gate.content() == before


def test_unforeseen_error_is_recorded_and_rolled_back(gate: Gate, alice: Door, token: str) -> None:
    """A bug in a body is a failed record too, and what it did is gone."""

    def operate() -> None:
        with alice._operation("create", NEW, Mode.CHANGE) as op:
            op.allow(Action.CREATE, NEW)
            op.vault.add_folder(op.tx, op.require(SHARE), "new", author="id-alice")
            raise ZeroDivisionError

    before = gate.content()
    with pytest.raises(ZeroDivisionError):
        operate()
    records = gate.new_records()
    assert outline(records) == [("create", "failed")]
    assert records[0]["error"] == "ZeroDivisionError"
    assert gate.content() == before


ROOT_CALLS: dict[str, Callable[[Door], object]] = {
    "open_read": lambda door: door.open_read(ROOT),
    "open_write": lambda door: door.open_write(ROOT),
    "mkdir": lambda door: door.mkdir(ROOT),
    "delete": lambda door: door.delete(ROOT),
    "move from": lambda door: door.move(ROOT, NEW),
    "move to": lambda door: door.move(FILE, ROOT, replace=True),
    "copy from": lambda door: door.copy(ROOT, NEW),
    "copy to": lambda door: door.copy(FILE, ROOT, replace=True),
    "set_times": lambda door: door.set_times(ROOT, modified_us=7),
    "set_properties": lambda door: door.set_properties(ROOT, put={}, remove=frozenset()),
    "lock": lambda door: _lock(door, ROOT, ""),
}


@pytest.mark.parametrize("call", ROOT_CALLS.values(), ids=ROOT_CALLS)
def test_the_virtual_root_refuses_every_change(
    gate: Gate, alice: Door, token: str, call: Callable[[Door], object]
) -> None:
    """``/`` can be looked at and nothing else, for whatever rights."""
    before = gate.content()
    with pytest.raises(DeniedError):
        call(alice)
    assert [record["outcome"] for record in gate.new_records()] == ["denied"]
    assert gate.content() == before


@pytest.mark.parametrize("method", ["stat", "look", "scandir", "locks", "usage"])
def test_the_virtual_root_tells_only_living_sessions(
    gate: Gate, alice: Door, token: str, method: str
) -> None:
    """Even what is the same for everybody needs a session and leaves a record."""
    getattr(alice, method)(ROOT)
    assert [record["outcome"] for record in gate.new_records()] == ["ok"]
    gate.clock.forward(IDLE_TIMEOUT_S)
    with pytest.raises(SessionEndedError):
        getattr(alice, method)(ROOT)


def test_commit_that_storage_fails_is_one_failed_record(
    gate: Gate, alice: Door, token: str
) -> None:
    """The upload was allowed; what fails is recorded when it fails."""
    handle = alice.open_write(NEW)
    handle.write_at(0, b"x")
    assert gate.new_records() == []
    gate.break_storage()
    with pytest.raises(StorageUnavailableError):
        handle.commit()
    gate.mend_storage()
    assert outline(gate.new_records()) == [("create", "failed")]
    with pytest.raises(NotFoundError):
        alice.stat(NEW)


def test_refused_new_file_is_recorded_as_a_creation(gate: Gate, token: str) -> None:
    """The record names the action that policy was asked for."""
    with pytest.raises(DeniedError):
        gate.door("rita").open_write(NEW)
    assert outline(gate.new_records()) == [("create", "denied")]


def test_refusals_before_any_operation_are_recorded(gate: Gate, alice: Door, token: str) -> None:
    """What a protocol refuses by itself is a record with or without a session."""
    session = alice.session
    gate.monitor.refused(session.client, session.wire, "shell", session)
    gate.monitor.refused(session.client, session.wire, "forwarding")
    with_session, without = gate.new_records()
    assert (with_session["action"], with_session["outcome"]) == ("refused", "denied")
    assert (with_session["rule"], with_session["principal_name"]) == ("shell", "alice")
    assert (without["rule"], without["principal_name"]) == ("forwarding", "")
    assert without["client_address"] == session.client.address


def test_the_policy_of_these_tests_names_a_share_that_is_not_configured() -> None:
    """Otherwise the missing-share cases would test a denial."""
    granted = {grant.share for group in POLICY.groups for grant in group.grants}
    assert granted - SHARES.keys() == {"ghost"}

"""A large folder is copied in turns with what others do, and put in its place at the end."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest

from auth.policy import PathRule
from backends.copies import Copies
from backends.errors import (
    AlreadyExistsError,
    ConflictError,
    NotFoundError,
    QuotaExceededError,
    StorageUnavailableError,
)
from gateway import staging
from gateway.errors import DeniedError, LockedError, SessionEndedError
from gateway.model import Action
from gateway.monitor import Door
from tests.door.locked import lock
from tests.door.support import IDLE_TIMEOUT_S, Gate, at, get, names, outline, put, staff

EVERY_CATALOG = True

SOURCE, TARGET = at("/radiology/a"), at("/radiology/copy")

Between = Callable[[Callable[[int], None]], None]


@pytest.fixture(autouse=True)
def few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("backends.copies", "backends.gc", "backends.vault", "gateway.staging"):
        monkeypatch.setattr(f"{module}.SUBTREE_LIMIT", 2)


@pytest.fixture
def tree(alice: Door) -> Door:
    """``/radiology/a`` with folders ``b``, ``c`` and ``d`` of three files each."""
    alice.mkdir(SOURCE)
    for folder in "bcd":
        alice.mkdir(SOURCE.child(folder))
        for name in "xyz":
            put(alice, f"/radiology/a/{folder}/{name}", f"{folder}{name}".encode())
    return alice


@pytest.fixture
def between(monkeypatch: pytest.MonkeyPatch) -> Between:
    """Call something before each turn of a copy, with the number of turns so far."""

    def install(do: Callable[[int], None]) -> None:
        turn, turns = staging._Staging._turn, 0

        def watched(*arguments: object) -> list[bytes]:
            nonlocal turns
            do(turns)
            turns += 1
            return turn(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(staging._Staging, "_turn", watched)

    return install


def left_over(gate: Gate) -> int:
    """Return how many nodes are set aside or of copies under way."""
    return int(gate.sql("SELECT count(*) FROM nodes WHERE deleted_us IN (0, 1)")[0][0])


def test_a_large_folder_is_copied_whole_with_one_record(gate: Gate, tree: Door) -> None:
    """What came of it cannot be told from another copy."""
    gate.new_records()
    assert tree.copy(SOURCE, TARGET)
    assert outline(gate.new_records()) == [("copy", "ok")]
    assert names(tree, "/radiology/copy") == ["b", "c", "d"]
    for folder in "bcd":
        assert names(tree, f"/radiology/copy/{folder}") == ["x", "y", "z"]
        assert get(tree, f"/radiology/copy/{folder}/y") == f"{folder}y".encode()
    assert left_over(gate) == 0


def test_others_go_on_meanwhile_and_see_nothing_of_it(
    gate: Gate, tree: Door, bob: Door, between: Between
) -> None:
    """They write between any two turns; the copy has what was there when it came by."""
    turns: list[int] = []

    def do(turn: int) -> None:
        turns.append(turn)
        put(bob, f"/radiology/note {turn}", b"x")
        assert "copy" not in names(bob, "/radiology")

    between(do)
    tree.copy(SOURCE, TARGET)
    assert len(turns) >= 12 / 2
    assert "copy" in names(bob, "/radiology")


def test_what_is_moved_behind_the_copying_is_not_missed(
    tree: Door, bob: Door, between: Between
) -> None:
    """From a folder still to come into one that is done."""

    def do(turn: int) -> None:
        if turn == 0:
            bob.mkdir(at("/radiology/a/e"))
        if turn == 4:
            for folder in "bcd":
                bob.move(at(f"/radiology/a/{folder}/x"), at(f"/radiology/a/e/{folder}"))

    between(do)
    tree.copy(SOURCE, TARGET)
    copied = [
        get(tree, f"/radiology/copy/{folder}/{name}")
        for folder in names(tree, "/radiology/copy")
        for name in names(tree, f"/radiology/copy/{folder}")
    ]
    assert sorted(copied) == sorted(
        f"{folder}{name}".encode() for folder in "bcd" for name in "xyz"
    )


def test_it_may_replace_a_large_folder(gate: Gate, tree: Door) -> None:
    """Which goes to where this share's deleted folders go."""
    tree.copy(SOURCE, TARGET)
    put(tree, "/radiology/copy/b/more", b"m")
    assert not tree.copy(SOURCE, TARGET, replace=True)
    assert names(tree, "/radiology/copy/b") == ["x", "y", "z"]


def test_what_the_quota_does_not_hold_leaves_nothing(gate: Gate, alice: Door) -> None:
    """The failure is one record, and the space is free again."""
    alice.mkdir(at("/small/a"))
    for name in "uvwxyz":
        put(alice, f"/small/a/{name}", b"x" * 100)
    used = alice.usage(at("/small")).used_bytes
    gate.new_records()
    with pytest.raises(QuotaExceededError):
        alice.copy(at("/small/a"), at("/small/copy"))
    assert outline(gate.new_records()) == [("copy", "failed")]
    assert left_over(gate) == 0
    assert alice.usage(at("/small")).used_bytes == used


def test_a_session_that_ends_ends_it(gate: Gate, tree: Door, between: Between) -> None:
    """Within a second, and nothing is left."""

    def do(turn: int) -> None:
        if turn == 3:
            gate.clock.forward(IDLE_TIMEOUT_S + 1)

    between(do)
    gate.new_records()
    with pytest.raises(SessionEndedError):
        tree.copy(SOURCE, TARGET)
    assert ("copy", "expired") in outline(gate.new_records())
    assert left_over(gate) == 0


def test_a_long_copy_is_activity(gate: Gate, tree: Door, between: Between) -> None:
    """However long it takes, the session does not become idle."""
    between(lambda _: gate.clock.forward(IDLE_TIMEOUT_S / 2))
    tree.copy(SOURCE, TARGET)
    assert names(tree, "/radiology/copy") == ["b", "c", "d"]


def test_what_may_not_be_read_is_not_copied_though_it_came_and_went(
    gate: Gate, tree: Door, bob: Door, between: Between
) -> None:
    """Policy is asked for what was copied, not only for what is there at the end."""
    put(bob, "/radiology/hidden", b"h")
    gate.policy.replace(staff(PathRule("/a/b/hidden", deny=frozenset({Action.READ}))))

    def do(turn: int) -> None:
        if turn == 0:
            with gate.catalog.begin() as tx:
                vault = gate.monitor._surroundings.vault
                node = vault.find(tx, at("/radiology/hidden"))
                folder = vault.find(tx, at("/radiology/a/b"))
                assert node is not None
                assert folder is not None
                vault.move(tx, node, folder, "hidden", author="p")

    between(do)
    gate.new_records()
    with pytest.raises(DeniedError):
        tree.copy(SOURCE, TARGET)
    assert outline(gate.new_records()) == [("copy", "denied")]
    assert left_over(gate) == 0


@pytest.mark.parametrize("change", ["denied", "locked", "taken", "gone"])
def test_what_changed_while_it_was_made_counts_at_the_end(
    gate: Gate, tree: Door, bob: Door, between: Between, change: str
) -> None:
    """Rights, locks, the target and the source, as if it were copied in that moment."""

    def do(turn: int) -> None:
        if turn != 2:
            return
        if change == "denied":
            gate.policy.replace(staff(without=frozenset({Action.CREATE})))
        elif change == "locked":
            lock(bob, "/radiology")
        elif change == "taken":
            bob.mkdir(TARGET)
        else:
            bob.move(SOURCE, at("/radiology/gone"))

    between(do)
    gate.new_records()
    errors = {
        "denied": DeniedError,
        "locked": LockedError,
        "taken": AlreadyExistsError,
        "gone": NotFoundError,
    }
    with pytest.raises(errors[change]):
        tree.copy(SOURCE, TARGET)
    ended = [each for each in outline(gate.new_records()) if each[0] == "copy"]
    assert ended == [("copy", "denied" if change in {"denied", "locked"} else "failed")]
    assert left_over(gate) == 0


def test_another_folder_under_the_name_of_the_source_is_a_conflict(
    gate: Gate, tree: Door, bob: Door, between: Between
) -> None:
    """Its copy would have the content of the former."""

    def do(turn: int) -> None:
        if turn == 1:
            bob.move(SOURCE, at("/radiology/former"))
            bob.mkdir(SOURCE)

    between(do)
    with pytest.raises(ConflictError):
        tree.copy(SOURCE, TARGET)
    assert left_over(gate) == 0


def test_what_cannot_be_removed_now_is_left_to_the_housekeeping(
    gate: Gate, tree: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client is told what went wrong first."""

    def refuse(*_: object, **__: object) -> None:
        raise StorageUnavailableError("The catalog failed.")

    vault = gate.monitor._surroundings.vault
    monkeypatch.setattr(Copies, "discard_some", refuse)
    monkeypatch.setattr(Copies, "attach", refuse)
    with pytest.raises(StorageUnavailableError):
        tree.copy(SOURCE, TARGET)
    assert left_over(gate) == 1
    gate.clock.forward(25 * 3600)
    with gate.catalog.begin() as tx:
        assert vault.purge_next(tx, "radiology") > 0


def test_each_turn_is_short(gate: Gate, tree: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """No transaction of it adds more nodes than the limit, whatever the tree is like."""
    begun, added = gate.catalog.begin, []

    def counted() -> object:
        added.append(gate.sql("SELECT count(*) FROM nodes")[0][0])
        return begun()

    monkeypatch.setattr(gate.catalog, "begin", counted)
    tree.copy(SOURCE, TARGET)
    monkeypatch.undo()
    added.append(gate.sql("SELECT count(*) FROM nodes")[0][0])
    assert max(after - before for before, after in pairwise(added)) <= 2

"""A large folder is copied in turns with what others do, and put in its place at the end."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise, permutations
from typing import Any

import pytest

from auth.directory import membership
from auth.policy import PathRule, Policy
from backends import gc
from backends.copies import Copies, StagedCopy
from backends.errors import (
    AlreadyExistsError,
    ConflictError,
    NotFoundError,
    ParentMissingError,
    QuotaExceededError,
    StorageUnavailableError,
)
from gateway import staging
from gateway.errors import DeniedError, LockedError, SessionEndedError
from gateway.model import SECOND_US, Action
from gateway.monitor import Door
from gateway.operations import copying
from gateway.paths import VirtualPath
from tests.door.locked import lock
from tests.door.support import (
    IDLE_TIMEOUT_S,
    Gate,
    at,
    get,
    grant,
    group,
    names,
    outline,
    put,
    staff,
)

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

        def watched(*arguments: Any) -> None:
            nonlocal turns
            do(turns)
            turns += 1
            turn(*arguments)

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


def test_what_the_quota_does_not_hold_is_not_begun(gate: Gate, alice: Door) -> None:
    """Others would have no room meanwhile."""
    alice.mkdir(at("/small/a"))
    for name in "uvwxyz":
        put(alice, f"/small/a/{name}", b"x" * 100)
    gate.new_records()
    nodes = gate.sql("SELECT count(*) FROM nodes")
    with pytest.raises(QuotaExceededError):
        alice.copy(at("/small/a"), at("/small/copy"))
    assert outline(gate.new_records()) == [("copy", "failed")]
    assert gate.sql("SELECT count(*) FROM nodes") == nodes


def test_what_the_quota_holds_no_more_leaves_nothing(
    gate: Gate, alice: Door, bob: Door, between: Between
) -> None:
    """The failure is one record that names the folder, and the space is free again."""
    alice.mkdir(at("/small/a"))
    for name in "uvwxyz":
        put(alice, f"/small/a/{name}", b"x" * 80)
    source = alice.stat(at("/small/a")).node_id

    def do(turn: int) -> None:
        if turn == 2:
            put(bob, "/small/other", b"x" * 100)

    between(do)
    gate.new_records()
    with pytest.raises(QuotaExceededError):
        alice.copy(at("/small/a"), at("/small/copy"))
    (record,) = [each for each in gate.new_records() if each["action"] == "copy"]
    assert (record["outcome"], record["node_id"]) == ("failed", source)
    assert left_over(gate) == 0
    assert alice.usage(at("/small")).used_bytes == 6 * 80 + 100


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


def move(gate: Gate, source: str, target: str) -> None:
    """Move a node as somebody would who may do everything."""
    vault, to = gate.monitor._surroundings.vault, at(target)
    with gate.catalog.begin() as tx:
        node, folder = vault.find(tx, at(source)), vault.find(tx, to.parent)
        assert node is not None
        assert folder is not None
        vault.move(tx, node, folder, to.name, author="p")


def test_what_may_not_be_read_is_not_copied_though_that_came_late(
    gate: Gate, tree: Door, between: Between
) -> None:
    """Policy is asked for what is copied when it is, not only for what was there at the start."""
    gate.policy.replace(staff(PathRule("/a/*/hidden", deny=frozenset({Action.READ}))))

    def do(turn: int) -> None:
        if turn == 1:
            for folder in "bcd":
                move(gate, f"/radiology/a/{folder}/x", f"/radiology/a/{folder}/hidden")

    between(do)
    gate.new_records()
    with pytest.raises(DeniedError):
        tree.copy(SOURCE, TARGET)
    assert outline(gate.new_records()) == [("copy", "denied")]
    assert left_over(gate) == 0


def test_groups_that_change_meanwhile_are_a_conflict(
    gate: Gate, tree: Door, between: Between
) -> None:
    """What the directory says of the asker now may forbid what was allowed at the start."""
    rule = PathRule("/a/*/y", deny=frozenset({Action.READ}))
    extra = group("extra", grant("radiology", paths=(rule,)))
    gate.policy.replace(Policy((*staff().groups, extra)))
    session = tree.session

    def do(turn: int) -> None:
        if turn == 0:
            memberships = session.principal.memberships | {membership("file", "extra")}
            principal = replace(session.principal, memberships=memberships)
            with gate.catalog.begin() as tx:
                gate.sessions.set_principal(tx, replace(session, principal=principal))

    between(do)
    with pytest.raises(ConflictError):
        tree.copy(SOURCE, TARGET)
    assert left_over(gate) == 0


def test_what_was_moved_to_a_name_that_was_freed_is_not_left_out(
    tree: Door, between: Between, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its copy would have the name of what was copied before: a conflict."""
    copies: list[StagedCopy] = []
    moved: list[VirtualPath] = []
    begin = copying.begin

    def watched(*arguments: Any) -> StagedCopy:
        copies.append(begin(*arguments))
        return copies[-1]

    def is_done(path: VirtualPath) -> bool:
        return bytes.fromhex(tree.stat(path).node_id) in copies[0].done

    def do(_turn: int) -> None:
        for done, other in permutations("bcd", 2):
            x, y = SOURCE.child(done).child("x"), SOURCE.child(other).child("y")
            if not moved and is_done(x) and not is_done(y):
                tree.move(x, x.parent.child("old"))
                tree.move(y, x)
                moved.append(x)

    monkeypatch.setattr(copying, "begin", watched)
    between(do)
    with pytest.raises(ConflictError):
        tree.copy(SOURCE, TARGET)
    assert moved


def test_what_always_moves_on_before_its_turn_is_a_conflict(
    gate: Gate, tree: Door, between: Between
) -> None:
    """No success for a copy without it."""
    place = ["b"]

    def do(_turn: int) -> None:
        other = "c" if place[0] == "b" else "b"
        move(gate, f"/radiology/a/{place[0]}/x", f"/radiology/a/{other}/wanders")
        move(gate, f"/radiology/a/{other}/wanders", f"/radiology/a/{other}/x")
        place[0] = other

    tree.delete(at("/radiology/a/c/x"))
    between(do)
    try:
        tree.copy(SOURCE, TARGET)
    except ConflictError:
        assert left_over(gate) == 0
    else:
        copied = [name for each in "bc" for name in names(tree, f"/radiology/copy/{each}")]
        assert "x" in copied


@pytest.mark.parametrize("turn", [1, 2, 3, 5])
def test_a_folder_that_moved_out_of_sight_is_not_read_any_more(
    gate: Gate, tree: Door, between: Between, turn: int
) -> None:
    """Though it was found while it lay where the asker may read."""
    tree.mkdir(at("/radiology/secret"))
    rule = PathRule("/secret/**", deny=frozenset({Action.READ, Action.LIST}))
    gate.policy.replace(staff(rule))

    def do(now: int) -> None:
        if now == turn:
            for folder in "bcd":
                move(gate, f"/radiology/a/{folder}", f"/radiology/secret/{folder}")

    between(do)
    with pytest.raises(ConflictError):
        tree.copy(SOURCE, TARGET)
    assert left_over(gate) == 0


def test_a_folder_that_is_deleted_is_copied_as_far_as_it_was(
    tree: Door, bob: Door, between: Between
) -> None:
    """As if the copy had come by before, or after."""

    def do(turn: int) -> None:
        if turn == 3:
            for folder in "bcd":
                bob.delete(at(f"/radiology/a/{folder}"))

    between(do)
    tree.copy(SOURCE, TARGET)
    assert names(tree, "/radiology/copy") == ["b", "c", "d"]


@pytest.mark.parametrize(
    ("turn", "again"), [(turn, again) for turn in (1, 2, 4, 6) for again in (True, False)]
)
def test_the_target_folder_may_go_and_come_meanwhile(
    gate: Gate, tree: Door, between: Between, turn: int, again: bool
) -> None:
    """Nothing of what is being copied goes with it: it is complete, or it fails without a trace."""
    bob = gate.door("bob")
    bob.mkdir(at("/radiology/t"))
    before = gate.sql("SELECT used_bytes, node_count FROM shares WHERE name = 'radiology'")

    def do(now: int) -> None:
        if now == turn:
            bob.delete(at("/radiology/t"))
            if again:
                bob.mkdir(at("/radiology/t"))

    between(do)
    if again:
        tree.copy(SOURCE, at("/radiology/t/copy"))
        for folder in "bcd":
            assert names(tree, f"/radiology/t/copy/{folder}") == ["x", "y", "z"]
    else:
        with pytest.raises(ParentMissingError):
            tree.copy(SOURCE, at("/radiology/t/copy"))
        after = gate.sql("SELECT used_bytes, node_count FROM shares WHERE name = 'radiology'")
        assert after == [(before[0][0], before[0][1] - 1)]


def test_a_copy_that_housekeeping_took_for_abandoned_fails_and_leaves_nothing(
    gate: Gate, tree: Door, between: Between
) -> None:
    """After a day; what is added then would lie below nothing."""
    before = gate.sql("SELECT used_bytes, node_count FROM shares WHERE name = 'radiology'")

    def do(turn: int) -> None:
        if turn == 3:
            with gate.catalog.begin() as tx:
                share = gate.monitor._surroundings.vault.share(tx, "radiology")
                while gc.purge_next(tx, share, gate.clock() + 25 * 3600 * SECOND_US):
                    pass

    between(do)
    with pytest.raises(ConflictError):
        tree.copy(SOURCE, TARGET)
    assert gate.sql("SELECT used_bytes, node_count FROM shares WHERE name = 'radiology'") == before


def test_a_configuration_that_is_reloaded_meanwhile_is_a_conflict(
    gate: Gate, tree: Door, between: Between
) -> None:
    """Part of it was judged by the former; one that says the same is none."""
    turns = 0

    def do(turn: int) -> None:
        nonlocal turns
        turns = turn
        gate.policy.replace(staff() if turn < 3 else staff(PathRule("/z", deny=frozenset())))

    gate.policy.replace(staff())
    between(do)
    with pytest.raises(ConflictError):
        tree.copy(SOURCE, TARGET)
    assert turns == 3


def test_what_became_large_after_it_was_looked_at_is_a_conflict(
    gate: Gate, tree: Door, bob: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would be copied in one transaction after all."""
    tree.mkdir(at("/radiology/few"))
    plan = copying.plan

    def looked_at(*arguments: Any) -> Any:
        made = plan(*arguments)
        assert made is None
        return made

    @contextlib.contextmanager
    def exchanged(*_: object) -> Iterator[None]:
        bob.delete(at("/radiology/few"))
        bob.move(SOURCE, at("/radiology/few"))
        yield None

    monkeypatch.setattr(copying, "plan", looked_at)
    monkeypatch.setattr("gateway.monitor.staging", exchanged)
    with pytest.raises(ConflictError):
        tree.copy(at("/radiology/few"), TARGET)


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

"""Names at the door: what policy decides for descendants, what shows, and what is refused."""

from __future__ import annotations

import pytest

from auth.policy import PathRule, Policy
from backends.errors import (
    AlreadyExistsError,
    CrossShareError,
    IntoItselfError,
    IsAFolderError,
    LimitError,
    NotAFolderError,
    NotEmptyError,
    NotFoundError,
    StorageError,
)
from gateway.errors import DeniedError
from gateway.model import Action, Kind, PropertyName, Wire
from gateway.monitor import Door
from gateway.operations.listing import Listing
from gateway.paths import DEPTH_LIMIT
from tests.door.support import ALL, Gate, at, get, grant, group, names, outline, put, staff

EVERY_CATALOG = True

PROPERTY = PropertyName("urn:example", "colour")


def only(*allow: Action) -> Policy:
    """Return the policy by which staff may do this on radiology and nothing else."""
    return staff(without=ALL - set(allow))


@pytest.fixture
def tree(alice: Door) -> Door:
    """``/radiology/a/b/c`` and ``/radiology/a/secret/d`` with a file each."""
    for folder in ("a", "a/b", "a/secret"):
        alice.mkdir(at(f"/radiology/{folder}"))
    put(alice, "/radiology/a/b/c", b"c")
    put(alice, "/radiology/a/secret/d", b"d")
    return alice


# Path rules below a folder


@pytest.mark.parametrize(
    ("denied", "operation"),
    [
        (Action.DELETE, "delete"),
        (Action.MOVE, "move"),
        (Action.READ, "copy"),
        (Action.LIST, "copy"),
    ],
)
def test_a_rule_on_a_descendant_decides_for_the_folder(
    gate: Gate, tree: Door, denied: Action, operation: str
) -> None:
    """What may not be done to one node below may not be done to the folder; nothing is changed."""
    rule = PathRule("/a/secret/**", deny=frozenset({denied}))
    gate.policy.replace(staff(rule))
    before = gate.content()
    gate.new_records()
    targets = (at("/radiology/new"),) if operation != "delete" else ()
    with pytest.raises(DeniedError) as caught:
        getattr(tree, operation)(at("/radiology/a"), *targets)
    assert caught.value.rule == "groups.staff.shares.radiology.paths./a/secret/**.deny"
    assert outline(gate.new_records()) == [(operation, "denied")]
    assert gate.content() == before
    getattr(tree, operation)(at("/radiology/a/b"), *targets)


@pytest.mark.parametrize("operation", ["move", "copy"])
def test_a_rule_below_the_target_decides_too(gate: Gate, tree: Door, operation: str) -> None:
    """A folder may not bring a node where none may be created."""
    gate.policy.replace(staff(PathRule("/**/secret/**", deny=frozenset({Action.CREATE}))))
    before = gate.content()
    with pytest.raises(DeniedError):
        getattr(tree, operation)(at("/radiology/a"), at("/radiology/new"))
    assert gate.content() == before


@pytest.mark.parametrize("operation", ["move", "copy"])
def test_a_rule_below_a_replaced_folder_decides_too(gate: Gate, tree: Door, operation: str) -> None:
    """What lies in a folder that is to be replaced would be deleted."""
    tree.mkdir(at("/radiology/new"))
    gate.policy.replace(staff(PathRule("/a/secret/*", deny=frozenset({Action.DELETE}))))
    before = gate.content()
    with pytest.raises(DeniedError):
        getattr(tree, operation)(at("/radiology/new"), at("/radiology/a"), replace=True)
    assert gate.content() == before


# What an operation needs beside its own action


@pytest.mark.parametrize("operation", ["move", "copy"])
def test_a_folder_over_a_file_needs_the_right_to_delete(
    gate: Gate, tree: Door, operation: str
) -> None:
    """The file goes with all its history, which writing alone never does."""
    put(tree, "/radiology/file")
    gate.policy.replace(staff(without=frozenset({Action.DELETE})))
    before = gate.content()
    with pytest.raises(DeniedError):
        getattr(tree, operation)(at("/radiology/a/b"), at("/radiology/file"), replace=True)
    assert gate.content() == before


@pytest.mark.parametrize("operation", ["move", "copy"])
def test_replacing_a_folder_needs_the_right_to_create(
    gate: Gate, tree: Door, operation: str
) -> None:
    """A new node comes where the folder was."""
    put(tree, "/radiology/file")
    gate.policy.replace(staff(without=frozenset({Action.CREATE, Action.WRITE})))
    before = gate.content()
    with pytest.raises(DeniedError):
        getattr(tree, operation)(at("/radiology/file"), at("/radiology/a/b"), replace=True)
    assert gate.content() == before


def test_copying_a_folder_needs_the_right_to_list_it(gate: Gate, tree: Door) -> None:
    """A copy in a place that may be listed would tell the names."""
    gate.policy.replace(only(Action.READ, Action.CREATE))
    before = gate.content()
    with pytest.raises(DeniedError):
        tree.copy(at("/radiology/a"), at("/radiology/new"))
    assert gate.content() == before


# What shows


def test_a_listing_hides_children_that_may_not_be_known(gate: Gate, tree: Door) -> None:
    """A rule that takes list, read and write from a child takes it out of the listing."""
    hidden = frozenset({Action.LIST, Action.READ, Action.WRITE, Action.CREATE})
    gate.policy.replace(staff(PathRule("/a/secret/**", deny=hidden)))
    assert names(tree, "/radiology/a") == ["b"]
    with pytest.raises(DeniedError):
        tree.stat(at("/radiology/a/secret"))
    with pytest.raises(DeniedError):
        tree.scandir(at("/radiology/a/secret"))


def test_locks_tell_nothing_of_children_that_may_not_be_known(gate: Gate, tree: Door) -> None:
    """The locks of a folder's children show only for children that its listing shows."""
    for path in ("/radiology/a/secret", "/radiology/a/b"):
        tree.lock(at(path), exclusive=False, depth_infinity=False, owner="", timeout_s=60)
    hidden = frozenset({Action.LIST, Action.READ, Action.WRITE, Action.CREATE})
    gate.policy.replace(staff(PathRule("/a/secret/**", deny=hidden)))
    found = tree.locks(at("/radiology/a"), below=True)
    assert [str(lock.path) for lock in found] == ["/radiology/a/b"]


def test_the_root_shows_the_shares_that_may_be_listed(gate: Gate, alice: Door) -> None:
    """A share without the right to list its root stays out of the list."""
    assert names(alice, "/") == ["archive", "inbox", "radiology", "small"]
    assert names(gate.door("rita"), "/") == ["radiology"]
    assert names(gate.door("dora"), "/") == []


def test_a_drop_box_takes_files_and_tells_of_none(gate: Gate, alice: Door) -> None:
    """Create alone: upload and look at one's own file; others' files are not even there."""
    put(alice, "/inbox/other", b"theirs")
    dora = gate.door("dora")
    assert put(dora, "/inbox/mine", b"mine").size_bytes == 4
    assert dora.stat(at("/inbox/mine")).size_bytes == 4
    assert dora.stat(at("/inbox")).is_folder
    dora.set_times(at("/inbox/mine"), modified_us=7)
    for path in ("/inbox/other", "/inbox/none"):
        with pytest.raises(NotFoundError):
            dora.stat(at(path))
    gate.new_records()
    for refused in (
        lambda: dora.scandir(at("/inbox")),
        lambda: dora.open_read(at("/inbox/mine")),
        lambda: dora.open_write(at("/inbox/mine")),
        lambda: dora.open_write(at("/inbox/other")),
        lambda: dora.delete(at("/inbox/mine")),
        lambda: dora.move(at("/inbox/mine"), at("/inbox/renamed")),
        lambda: dora.copy(at("/inbox/mine"), at("/inbox/copy")),
        lambda: dora.set_times(at("/inbox/other"), modified_us=7),
        lambda: dora.lock(
            at("/inbox/other"), exclusive=True, depth_infinity=False, owner="", timeout_s=60
        ),
    ):
        with pytest.raises(DeniedError):
            refused()
    assert [record["outcome"] for record in gate.new_records()] == ["denied"] * 9
    assert get(alice, "/inbox/other") == b"theirs"


def test_a_drop_box_shows_ones_own_unfinished_upload(gate: Gate) -> None:
    """Uploading programs look at what they have sent."""
    dora, dirk = (gate.door(name, wire=Wire.SFTP) for name in ("dora", "dirk"))
    handle = dora.open_write(at("/inbox/mine"))
    handle.write_at(0, b"part")
    assert dora.stat(at("/inbox/mine")).size_bytes == 4
    assert get(dora, "/inbox/mine") == b"part"
    with pytest.raises(NotFoundError):
        dirk.stat(at("/inbox/mine"))


# Deleting


def test_delete_demands_kind_and_emptiness_that_were_asked(gate: Gate, tree: Door) -> None:
    """The wrong kind for rmdir or rm and a full folder for rmdir: neither changes anything."""
    before = gate.content()
    with pytest.raises(NotAFolderError):
        tree.delete(at("/radiology/a/b/c"), kind=Kind.FOLDER)
    with pytest.raises(IsAFolderError):
        tree.delete(at("/radiology/a/b"), kind=Kind.FILE)
    with pytest.raises(NotEmptyError):
        tree.delete(at("/radiology/a/b"), kind=Kind.FOLDER, only_empty=True)
    assert gate.content() == before
    tree.delete(at("/radiology/a/b/c"), kind=Kind.FILE)
    tree.delete(at("/radiology/a/b"), kind=Kind.FOLDER, only_empty=True)
    assert names(tree, "/radiology/a") == ["secret"]


def test_a_folder_with_ones_own_unfinished_file_is_not_empty(gate: Gate) -> None:
    """Its session sees the file there, so rmdir must not take it."""
    alice = gate.door("alice", wire=Wire.SFTP)
    alice.mkdir(at("/radiology/a"))
    alice.open_write(at("/radiology/a/new")).write_at(0, b"x")
    with pytest.raises(NotEmptyError):
        alice.delete(at("/radiology/a"), only_empty=True)


# Moving and copying


@pytest.mark.parametrize("share", ["radiology", "archive"])
@pytest.mark.parametrize("operation", ["move", "copy"])
@pytest.mark.parametrize(
    ("source", "target"),
    [
        pytest.param("a", "a/b", id="over a child"),
        pytest.param("a", "a/new", id="into itself"),
        pytest.param("a", "a/b/new", id="deeper into itself"),
        pytest.param("a/b", "a", id="child over its folder"),
        pytest.param("a/b/c", "a", id="file over a folder above it"),
    ],
)
def test_nothing_goes_into_itself_or_over_what_holds_it(
    gate: Gate, alice: Door, share: str, operation: str, *, source: str, target: str
) -> None:
    """With and without a trash: refused, and nothing is lost."""
    alice.mkdir(at(f"/{share}/a"))
    alice.mkdir(at(f"/{share}/a/b"))
    put(alice, f"/{share}/a/b/c", b"c")
    before = gate.content()
    gate.new_records()
    with pytest.raises(IntoItselfError):
        getattr(alice, operation)(at(f"/{share}/{source}"), at(f"/{share}/{target}"), replace=True)
    assert outline(gate.new_records()) == [(operation, "failed")]
    assert gate.content() == before
    assert get(alice, f"/{share}/a/b/c") == b"c"


def test_copy_onto_itself_is_refused_and_move_onto_itself_is_nothing(
    gate: Gate, tree: Door
) -> None:
    """Neither loses what is there."""
    path = at("/radiology/a/b/c")
    before = gate.content()
    with pytest.raises(IntoItselfError):
        tree.copy(path, path, replace=True)
    assert not tree.move(path, path, replace=True)
    assert gate.content() == before


@pytest.mark.parametrize("operation", ["move", "copy"])
@pytest.mark.parametrize("source", ["a", "a/b/c"])
def test_nothing_crosses_shares_in_one_step(
    gate: Gate, tree: Door, operation: str, source: str
) -> None:
    """Each share has keys of its own; the refusal is an error of its own too."""
    before = gate.content()
    with pytest.raises(CrossShareError):
        getattr(tree, operation)(at(f"/radiology/{source}"), at("/archive/new"))
    assert gate.content() == before


def test_an_unfinished_file_cannot_change_its_share(gate: Gate) -> None:
    """It is sealed under its own share's key already."""
    tree = gate.door("alice", wire=Wire.SFTP)
    handle = tree.open_write(at("/radiology/new"))
    handle.write_at(0, b"new")
    with pytest.raises(CrossShareError):
        tree.move(at("/radiology/new"), at("/archive/new"))
    handle.commit()
    assert get(tree, "/radiology/new") == b"new"


@pytest.mark.parametrize("operation", ["move", "copy"])
def test_an_existing_target_stays_unless_it_is_to_be_replaced(
    gate: Gate, tree: Door, operation: str
) -> None:
    """Without replace the target keeps its content."""
    put(tree, "/radiology/file", b"kept")
    before = gate.content()
    with pytest.raises(AlreadyExistsError):
        getattr(tree, operation)(at("/radiology/a/b/c"), at("/radiology/file"))
    assert gate.content() == before
    assert not getattr(tree, operation)(at("/radiology/a/b/c"), at("/radiology/file"), replace=True)
    assert get(tree, "/radiology/file") == b"c"


def test_copy_shares_segments_and_takes_properties_along(gate: Gate, alice: Door) -> None:
    """A copy of a large file adds no blob, and is a node of its own."""
    first = put(alice, "/radiology/file", b"x" * 300_000)
    alice.set_properties(at("/radiology/file"), put={PROPERTY: "<c>red</c>"}, remove=frozenset())
    blobs = gate.content()["blobs"]
    assert alice.copy(at("/radiology/file"), at("/radiology/copy"))
    assert gate.content()["blobs"] == blobs
    second = alice.stat(at("/radiology/copy"), properties=True)
    assert second.node_id != first.node_id
    assert second.properties == {PROPERTY: "<c>red</c>"}
    put(alice, "/radiology/file", b"changed")
    assert get(alice, "/radiology/copy") == b"x" * 300_000


def test_copy_that_is_not_recursive_takes_the_folder_alone(tree: Door) -> None:
    """WebDAV's Depth: 0."""
    assert tree.copy(at("/radiology/a"), at("/radiology/new"), recursive=False)
    assert names(tree, "/radiology/new") == []


def test_properties_change_together_or_not_at_all(gate: Gate, tree: Door) -> None:
    """One that is too large takes the others with it."""
    path, other = at("/radiology/a/b/c"), PropertyName("urn:example", "size")
    tree.set_properties(path, put={PROPERTY: "<c/>", other: "<s/>"}, remove=frozenset())
    before = gate.content()
    with pytest.raises(StorageError):
        tree.set_properties(path, put={PROPERTY: "x" * 70_000}, remove=frozenset({other}))
    assert gate.content() == before
    tree.set_properties(path, put={}, remove=frozenset({PROPERTY}), modified_us=7)
    info = tree.stat(path, properties=True)
    assert (info.properties, info.modified_us) == ({other: "<s/>"}, 7)


def test_a_file_on_the_way_is_no_folder(tree: Door) -> None:
    """A path through a file leads nowhere, for every operation with its own error."""
    path = at("/radiology/a/b/c/below")
    for look in (tree.stat, tree.scandir, tree.open_read, tree.delete):
        with pytest.raises(NotFoundError):
            look(path)
    for make in (tree.mkdir, tree.open_write):
        with pytest.raises(NotAFolderError):
            make(path)


def test_a_policy_of_other_groups_binds_by_the_principal(gate: Gate, alice: Door) -> None:
    """A group that nobody here belongs to neither gives nor takes."""
    gate.policy.replace(Policy((group("others", grant("radiology", *ALL)),)))
    with pytest.raises(DeniedError) as caught:
        alice.mkdir(at("/radiology/a"))
    assert caught.value.rule == "default-deny"


def test_nothing_is_moved_or_copied_beyond_where_paths_lead(alice: Door) -> None:
    """What lies too deep could neither be read nor moved back."""
    deep = at("/radiology")
    for _ in range(DEPTH_LIMIT - 2):
        deep = deep.child("d")
        alice.mkdir(deep)
    alice.mkdir(at("/radiology/f"))
    put(alice, "/radiology/f/file")
    for change in (alice.move, alice.copy):
        with pytest.raises(LimitError):
            change(at("/radiology/f"), deep.child("f"))
    alice.move(at("/radiology/f"), deep.parent.child("f"))
    assert get(alice, f"{deep.parent}/f/file") == b"content"


# One question for what it is and what lies in it


def test_a_look_at_a_folder_is_its_listing(gate: Gate, tree: Door) -> None:
    """With the record of one."""
    gate.new_records()
    found = tree.look(at("/radiology/a"))
    assert isinstance(found, Listing)
    assert [child.name for child in found.children] == ["b", "secret"]
    assert outline(gate.new_records()) == [("list", "ok")]


def test_a_look_at_a_file_is_a_stat(gate: Gate, tree: Door) -> None:
    """Whoever may know of it may look, and repeated looks become one record."""
    gate.new_records()
    gate.policy.replace(only(Action.READ))
    for _ in range(3):
        assert tree.look(at("/radiology/a/b/c")) == tree.stat(at("/radiology/a/b/c"))
    (record,) = gate.new_records()
    assert (record["action"], record["outcome"], record["count"]) == ("stat", "ok", 6)


def test_a_look_at_nothing_is_counted_too(gate: Gate, tree: Door) -> None:
    """Uploading programs look first, for each file."""
    gate.new_records()
    for _ in range(3):
        with pytest.raises(NotFoundError):
            tree.look(at("/radiology/a/none"))
    (record,) = gate.new_records()
    assert (record["action"], record["outcome"], record["count"]) == ("stat", "failed", 3)


def test_a_look_at_what_is_hidden_is_denied(gate: Gate, tree: Door) -> None:
    """Each time with a record of its own, as any refusal."""
    gate.policy.replace(staff(PathRule("/a/b/c", deny=ALL)))
    gate.new_records()
    for _ in range(2):
        with pytest.raises(DeniedError):
            tree.look(at("/radiology/a/b/c"))
    assert outline(gate.new_records()) == [("stat", "denied")] * 2


def test_a_look_tells_a_drop_box_no_more_than_a_stat(alice: Door, gate: Gate) -> None:
    """Not which folders others have made there."""
    alice.mkdir(at("/inbox/theirs"))
    put(alice, "/inbox/file", b"x")
    dora = gate.door("dora")
    for name in ("theirs", "file", "nothing"):
        for look in (dora.stat, dora.look):
            with pytest.raises(NotFoundError):
                look(at(f"/inbox/{name}"))

"""What vouches for the rows of a share: as frozen in the vectors, and as a ledger keeps it."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag

from backends import errors, tunnel, unfinished
from backends.catalog.keys import ShareRow
from backends.catalog.nodes import NodeRow
from backends.catalog.statement import Tx
from backends.catalog.uploads import UnfinishedRow
from backends.catalog.vacated import VacatedRow
from backends.ledger import RowSeal, State, node_text
from backends.rotation import rotate_share
from backends.share import system_key
from backends.vault import Node
from gateway.model import SECOND_US, PropertyName
from tests.backends.digest import require_rows
from tests.backends.edited import UndoneError
from tests.backends.world import World
from tests.support import sealed_reader
from tests.support.vectors import Case, each, loaded, raw

ROWS = loaded("rows.json")
BINARY = {
    "id",
    "share_id",
    "parent_id",
    "name_sealed",
    "version_id",
    "folder_id",
    "node_id",
    "mac",
    "root_id",
    "base_id",
    "state_sealed",
}
SEAL_SHARE, SEAL_KEY = raw(ROWS, "share_id"), raw(ROWS, "name_key")


def sealing() -> RowSeal:
    return RowSeal(SEAL_SHARE, SEAL_KEY)


def columns(row: Case) -> Case:
    """Return a vector's row with ids and sealed columns as bytes."""
    return {name: bytes.fromhex(it) if name in BINARY else it for name, it in row.items()}


@each(ROWS["nodes"])
def test_a_node_is_vouched_for_as_frozen(case: Case) -> None:
    """The bytes under the MAC, the MAC, and what it adds to the digest."""
    fields, mac = columns(case["row"]), raw(case, "mac")
    row = NodeRow(**fields)
    assert node_text(row).hex() == sealed_reader.node_text(fields).hex() == case["text"]
    assert sealing().signed(row).mac == mac
    assert sealing().checked(row._replace(mac=mac)).mac == mac
    sealed_reader.require_mac(SEAL_KEY, "node", sealed_reader.node_text(fields), mac)
    expected = int(case["element"], 16)
    assert sealing().element(mac) == sealed_reader.element(SEAL_KEY, mac) == expected


@each(ROWS["rejections"])
def test_an_edited_node_is_refused_as_frozen(case: Case) -> None:
    """Every column, and the MAC itself; the error names share and node."""
    base = next(each for each in ROWS["nodes"] if each["name"] == case["of"])
    fields = columns(base["row"] | {"mac": base["mac"]} | case["change"])
    with pytest.raises(getattr(errors, case["error"])) as refused:
        sealing().checked(NodeRow(**fields))
    assert fields["id"].hex() in str(refused.value)
    assert SEAL_SHARE.hex() in str(refused.value)
    with pytest.raises((ValueError, struct.error)):
        sealed_reader.require_mac(SEAL_KEY, "node", sealed_reader.node_text(fields), fields["mac"])


@each(ROWS["tags"])
def test_other_rows_are_vouched_for_as_frozen(case: Case) -> None:
    """Unfinished uploads and vacated names: their fields in order, each after its length."""
    fields, purpose, mac = columns(case["row"]), case["purpose"].encode("ascii"), raw(case, "mac")
    if case["purpose"] == "unfinished":
        parts = unfinished._fields(UnfinishedRow(**fields))
    else:
        parts = tunnel._fields(VacatedRow(**fields))
    text = sealed_reader.tagged_text(case["purpose"], fields)
    assert text.hex() == case["text"]
    assert sealing().tag(purpose, *parts) == mac == sealed_reader.mac(SEAL_KEY, "row", text)
    for place in range(len(parts)):
        other = (*parts[:place], parts[place] + b"x", *parts[place + 1 :])
        with pytest.raises(errors.IntegrityError, match=SEAL_SHARE.hex()):
            sealing().require_tag(mac, purpose, *other)
    with pytest.raises(errors.IntegrityError):
        sealing().require_tag(mac, b"another", *parts)


def test_what_versions_and_properties_add_to_the_digest_is_as_frozen() -> None:
    """A version its MAC; a property record its place and its sealed bytes."""
    version, record = ROWS["elements"]
    assert sealing().element(raw(version, "mac")) == int(version["element"], 16)
    sealed = raw(record, "properties_sealed")
    found = sealing().property_element(raw(record, "node_id"), sealed)
    text = sealed_reader.framed(b"properties", raw(record, "node_id"), sealed)
    assert text.hex() == record["text"]
    assert found == sealed_reader.element(SEAL_KEY, text) == int(record["element"], 16)


def share_row(**change: Any) -> ShareRow:
    state = ROWS["state"]
    row = ShareRow(
        id=SEAL_SHARE,
        name=state["name"],
        root_id=raw(state, "root_id"),
        name_key_wrapped=b"",
        epoch=state["epoch"],
        used_bytes=state["used_bytes"],
        node_count=state["node_count"],
        created_us=0,
        state_sealed=raw(state, "sealed"),
    )
    return row._replace(**change)


def test_the_state_of_a_share_is_sealed_as_frozen() -> None:
    """The sum of the elements, the counters and the epoch, bound to name and root."""
    case = ROWS["state"]
    digest = int(case["digest"], 16)
    parts = [*ROWS["nodes"][:3], *ROWS["elements"]]
    assert sum(int(part["element"], 16) for part in parts) % 2**256 == digest
    state = State(digest, case["used_bytes"], case["node_count"], case["epoch"])
    assert sealing().stated(share_row(), state) == share_row()
    assert sealing().state_of(share_row()) == state
    assert sealed_reader.open_state(SEAL_KEY, share_row()._asdict()) == state
    # A sum beyond the modulus is the same state.
    beyond = state._replace(digest=digest + 2**256)
    assert sealing().stated(share_row(), beyond) == share_row()


@each(ROWS["state_rejections"])
def test_an_edited_state_is_refused_as_frozen(case: Case) -> None:
    """A counter or the epoch edited, or another state; the error names the share."""
    row = share_row(**columns(case["change"]))
    with pytest.raises(getattr(errors, case["error"]), match=SEAL_SHARE.hex()):
        sealing().state_of(row)
    with pytest.raises((ValueError, InvalidTag)):
        sealed_reader.open_state(SEAL_KEY, row._asdict())


# What a ledger keeps


def test_the_digest_holds_whatever_is_done(world: World) -> None:
    """Every kind of change to a share, one after the other; the small reader agrees."""
    vault, clock = world.vault, world.clock
    key_file = world.catalog_file.parent / "key"
    world.master.write(key_file)
    with world.catalog.begin() as made_tx:
        system_key(made_tx, world.master)

    def in_change(change: Callable[[Tx], object]) -> None:
        with world.catalog.begin() as tx:
            change(tx)

    def node(tx: Tx, path: str) -> Node:
        return world.node(tx, path)

    def keep_upload(tx: Tx) -> None:
        root = node(tx, "/kept")
        draft = vault.draft(root.share, None)
        draft.write_at(0, b"x" * 20_000)
        vault.unfinished.keep(
            tx,
            root.share,
            root.id,
            "u",
            draft.seal(),
            principal_id="p2",
            base_id=b"",
            modified_us=1,
        )

    def rotate(tx: Tx) -> None:
        row = vault.share(tx, "kept").row
        rotate_share(tx, world.master, row, clock(), world.random_bytes)

    def purge(tx: Tx) -> None:
        for trashed in list(vault.past.trash(tx, vault.share(tx, "kept"))):
            vault.past.purge(tx, trashed)

    colours = {PropertyName("urn:x", "colour"): "red"}
    steps: list[Callable[[], object]] = [
        lambda: world.mkdir("/kept/f"),
        lambda: world.write("/kept/f/a", b"one"),
        lambda: world.write("/kept/f/a", b"two"),
        lambda: world.write("/kept/b", b"b" * 20_000),
        lambda: in_change(lambda tx: vault.put_properties(tx, node(tx, "/kept/b"), colours)),
        lambda: in_change(lambda tx: vault.put_properties(tx, node(tx, "/kept/b"), {})),
        lambda: in_change(lambda tx: vault.put_properties(tx, node(tx, "/kept/f"), colours)),
        lambda: in_change(
            lambda tx: vault.copy(
                tx, node(tx, "/kept/f"), node(tx, "/kept"), "g", author="p1", deep=True
            )
        ),
        lambda: in_change(
            lambda tx: vault.move(tx, node(tx, "/kept/b"), node(tx, "/kept/g"), "c", author="p1")
        ),
        lambda: in_change(lambda tx: vault.set_modified(tx, node(tx, "/kept/g/c"), 7)),
        lambda: world.write("/kept/b", b"tunnelled"),
        lambda: in_change(lambda tx: vault.delete(tx, node(tx, "/kept/b"), author="p1")),
        lambda: world.write("/kept/b", b"tunnelled again"),
        lambda: in_change(keep_upload),
        lambda: in_change(rotate),
        lambda: world.write("/kept/later", b"under the next epoch"),
        lambda: in_change(lambda tx: vault.delete(tx, node(tx, "/kept/g"), author="p1")),
        lambda: in_change(purge),
        lambda: in_change(
            lambda tx: vault.take_over(
                tx, node(tx, "/kept/later"), node(tx, "/kept/b"), author="p1"
            )
        ),
    ]
    for number, step in enumerate(steps):
        clock.now_us += SECOND_US
        step()
        require_rows(world, "kept")
        share = sealed_reader.open_share(
            key_file,
            world.catalog_file,
            lambda blob_id: world.store.read(blob_id, 0, 1 << 30),
            "kept",
        )
        try:
            share.verify_rows()
        except ValueError as error:
            raise AssertionError(f"after step {number}") from error
        finally:
            share.catalog.close()


def test_a_change_that_is_rolled_back_leaves_the_digest(world: World) -> None:
    """Rows and state are of one transaction."""
    world.write("/kept/a", b"one")
    with contextlib.suppress(UndoneError), world.catalog.begin() as tx:
        world.vault.delete(tx, world.node(tx, "/kept/a"), author="p1")
        raise UndoneError
    require_rows(world, "kept")
    assert world.read("/kept/a") == b"one"

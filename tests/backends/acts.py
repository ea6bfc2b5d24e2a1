"""What tests do to a world under several principals, and what must hold of a share afterwards."""

from __future__ import annotations

from backends.catalog import nodes, versions
from backends.ledger import DIGEST_MODULUS
from backends.past import Trashed
from backends.vault import Node
from gateway.model import TrashedNode
from gateway.paths import VirtualPath
from tests.backends.world import World

ALL_ROWS = 1 << 30


def save(world: World, path: str, content: bytes, author: str = "p1") -> Node:
    """Write a whole file, new or as the next version."""
    target = VirtualPath.parse(path)
    with world.catalog.begin() as tx:
        folder = world.node(tx, str(target.parent))
        file = world.vault.find(tx, target)
        draft = world.vault.draft(folder.share, None)
        draft.write_at(0, content)
        sealed, now_us = draft.seal(), world.clock()
        if file is None:
            return world.vault.add_file(
                tx, folder, target.name, sealed, modified_us=now_us, author=author
            )
        return world.vault.add_version(tx, file, sealed, modified_us=now_us, author=author)


def rename(world: World, path: str, new_path: str, author: str = "p1") -> Node:
    """Move a node to a free name."""
    target = VirtualPath.parse(new_path)
    with world.catalog.begin() as tx:
        folder = world.node(tx, str(target.parent))
        return world.vault.move(tx, world.node(tx, path), folder, target.name, author=author)


def delete(world: World, path: str, author: str = "p1") -> bytes:
    """Delete a node; return its id."""
    with world.catalog.begin() as tx:
        node = world.node(tx, path)
        world.vault.delete(tx, node, author=author)
    return node.id


def history(world: World, path: str) -> list[bytes]:
    """Return every content that the file has or had, newest first."""
    found = []
    with world.catalog.snapshot() as tx:
        row = world.node(tx, path).row
        told = world.vault.past.versions(tx, row)
        for one in told:
            _, content = world.vault.past.open(tx, row, bytes.fromhex(one.version_id))
            found.append(content.read_at(0, content.size_bytes))
    assert [one.current for one in told] == [True] + [False] * (len(told) - 1)
    made_us = [one.created_us for one in told]
    assert made_us == sorted(made_us, reverse=True)
    assert found[0] == world.read(path)
    return found


def trash(world: World, share: str = "kept") -> list[TrashedNode]:
    """Return what the trash lists."""
    with world.catalog.snapshot() as tx:
        return [one.info for one in world.vault.past.trash(tx, world.vault.share(tx, share))]


def trashed(world: World, node_id: bytes, share: str = "kept") -> Trashed:
    with world.catalog.snapshot() as tx:
        return world.vault.past.in_trash(tx, world.vault.share(tx, share), node_id)


def bring_back(world: World, node_id: bytes, path: str) -> None:
    """Restore a node from the trash to ``path``, which must be free."""
    target = VirtualPath.parse(path)
    with world.catalog.begin() as tx:
        folder = world.node(tx, str(target.parent))
        found = world.vault.past.in_trash(tx, folder.share, node_id)
        world.vault.past.bring_back(tx, found, folder.row, target.name)


def require_sound(world: World, name: str) -> None:
    """Compare every row of the share with what its sealed state says of them all."""
    with world.catalog.snapshot() as tx:
        share = world.vault.share(tx, name)
        seal = share.seal
        digest = used_bytes = 0
        node_rows = nodes.of_share(tx, share.id, b"", ALL_ROWS)
        for row in node_rows:
            digest += seal.element(seal.checked(row).mac)
            sealed = nodes.properties_of(tx, row.id)
            if sealed is not None:
                digest += seal.property_element(row.id, sealed)
        for version in versions.of_share(tx, share.id, b"", ALL_ROWS):
            digest += seal.element(version.mac)
            used_bytes += version.size_bytes
        state = seal.state_of(share.row)
        loose = tx.connection.execute(
            "SELECT count(*) FROM versions WHERE node_id NOT IN"
            " (SELECT id FROM nodes UNION SELECT id FROM unfinished)"
        ).fetchone()
    assert state.digest == digest % DIGEST_MODULUS
    assert (state.used_bytes, state.node_count) == (used_bytes, len(node_rows) - 1)
    assert loose == (0,)

"""What tests of epochs share: new epochs, every kind of content, and whether a share is sound."""

from __future__ import annotations

import sqlalchemy as sa

from backends.catalog import keys, nodes, versions
from backends.catalog.statement import Command, Query
from backends.history import History
from backends.ledger import DIGEST_MODULUS
from backends.rotation import rotate_share
from backends.segment import CHUNK_SIZE_BYTES
from backends.share import Shares
from gateway.model import Transaction
from tests.backends.world import SETTINGS, World, sample

BIG = sample(3 * CHUNK_SIZE_BYTES + 5)


def share_row(tx: Transaction, name: str) -> keys.ShareRow:
    row = keys.share_by_name(tx, name)
    assert row is not None
    return row


def rotate(world: World, name: str = "docs") -> int:
    """Begin a new epoch of a share."""
    with world.catalog.begin() as tx:
        return rotate_share(tx, world.master, share_row(tx, name), world.clock())


def ignore(_: int) -> None:
    """Take no notice of progress."""


def upload(world: World, path: str, content: bytes) -> None:
    """Leave an unfinished upload of ``p1``."""
    folder, _, name = path.rpartition("/")
    with world.catalog.begin() as tx:
        node = world.node(tx, folder)
        draft = world.vault.draft(node.share, None)
        draft.write_at(0, content)
        sealed = draft.seal()
        world.vault.unfinished.keep(
            tx, node.share, node.id, name, sealed, principal_id="p1", base_id=b"", modified_us=0
        )


def unfinished(world: World, path: str) -> bytes:
    folder, _, name = path.rpartition("/")
    with world.catalog.snapshot() as tx:
        node = world.node(tx, folder)
        found = world.vault.unfinished.find(tx, node.share, node.id, name, principal_id="p1")
        assert found is not None
        content = world.vault.unfinished.open(tx, found)
    return content.read_at(0, content.size_bytes)


def every_content(world: World, name: str) -> dict[bytes, bytes]:
    """Return the content of every version of a share, by version id."""
    history = History(
        Shares(world.master, SETTINGS, world.random_bytes),
        world.store,
        clock=world.clock,
        random_bytes=world.random_bytes,
    )
    found = {}
    with world.catalog.snapshot() as tx:
        for row in versions.of_share(tx, share_row(tx, name).id, b"", 1000):
            content = history.content(tx, history.verified(tx, row))
            found[row.id] = content.read_at(0, content.size_bytes)
    return found


def require_sound(world: World, name: str = "docs") -> None:
    """The share's sealed digest and counters are those of its rows."""
    with world.catalog.snapshot() as tx:
        share = world.shares.get(tx, name)
        state = share.seal.state_of(share.row)
        digest = used_bytes = 0
        for node in nodes.of_share(tx, share.id, b"", 10_000):
            digest += share.seal.element(share.seal.checked(node).mac)
            sealed = nodes.properties_of(tx, node.id)
            if sealed is not None:
                digest += share.seal.property_element(node.id, sealed)
        for row in versions.of_share(tx, share.id, b"", 10_000):
            digest += share.seal.element(row.mac)
            used_bytes += row.size_bytes
        assert digest % DIGEST_MODULUS == state.digest
        assert used_bytes == state.used_bytes


class CutError(Exception):
    """The process ends here."""


def change(world: World, text: str, **values: object) -> None:
    """Run a statement that no part of the product would."""
    with world.catalog.begin() as tx:
        Command(_typed(text, values)).run(tx, **values)


def count(world: World, text: str, **values: object) -> int:
    """Return the number that a statement selects."""
    with world.catalog.snapshot() as tx:
        return int(Query(_typed(text, values)).value(tx, **values))


def _typed(text: str, values: dict[str, object]) -> sa.TextClause:
    types = {bytes: sa.LargeBinary, int: sa.BigInteger}
    return sa.text(text).bindparams(
        *(sa.bindparam(name, type_=types[type(value)]) for name, value in values.items())
    )

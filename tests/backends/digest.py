"""What a scrub must at least do with the rows of a share: verify each, and the digest over all."""

from __future__ import annotations

from backends import unfinished
from backends.catalog import nodes, uploads, versions
from backends.errors import IntegrityError
from backends.ledger import DIGEST_MODULUS, State
from tests.backends.world import World

ALL = 10_000


def require_rows(world: World, name: str) -> None:
    """Raise IntegrityError unless every row of the share verifies and none is missing or more."""
    with world.catalog.snapshot() as tx:
        share = world.vault.share(tx, name)
        seal, history = share.seal, world.vault._history
        digest = used_bytes = 0
        rows = nodes.of_share(tx, share.id, b"", ALL)
        for row in rows:
            digest += seal.element(seal.checked(row).mac)
            sealed = nodes.properties_of(tx, row.id)
            if sealed is not None:
                digest += seal.property_element(row.id, sealed)
        for version in versions.of_share(tx, share.id, b"", ALL):
            digest += seal.element(history.verified(tx, version).row.mac)
            used_bytes += version.size_bytes
        for upload in uploads.of_share(tx, share.id):
            unfinished.require_sound(share, upload)
        found = State(digest % DIGEST_MODULUS, used_bytes, len(rows) - 1, share.row.epoch)
        if found != seal.state_of(share.row):
            raise IntegrityError(f"Share {share.id.hex()}: rows were dropped, added or put back.")

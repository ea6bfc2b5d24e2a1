"""What vouches for the rows of a share: a MAC for each node, and one sealed digest for them all.

A row's MAC shows that the row was edited or swapped; the digest, a keyed set hash over every
node, version and property record of the share, shows that one was dropped, added or put back.
Whatever changes such a row does so through a ``Ledger``, which keeps the digest and the share's
counters. FORMAT.md section 8 is the specification. Imports the catalog and the keyring.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from backends.catalog import keys, nodes, versions
from backends.catalog.keys import ShareRow
from backends.catalog.nodes import NodeRow
from backends.catalog.versions import Dated, VersionRow
from backends.errors import IntegrityError, LimitError
from backends.extents import Extent
from backends.keyring import Mac, StateCipher
from backends.memo import Memo
from gateway.model import Transaction

DIGEST_MODULUS = 1 << 256

CHECKED_ROWS_LIMIT = 4096
"""How many verified rows of a share are remembered: some 3 MiB of a process's memory."""

SUBTREE_LIMIT = 100
"""The most nodes copied or removed in one transaction: others wait 0.1 to 0.2 s."""

_STATE = struct.Struct(">32sQQI")
_NODE = struct.Struct(">16s16s16sB16sQqqqHHH")
_LIVES = -1


class State(NamedTuple):
    """What is sealed of a share: the set hash over its rows, its counters and its epoch."""

    digest: int
    used_bytes: int
    node_count: int
    epoch: int


class RowSeal:
    """Makes and checks what vouches for the rows of one share. Thread-safe."""

    __slots__ = ("_checked", "_element", "_node", "_other", "_share_id", "_state", "_stated")

    def __init__(self, share_id: bytes, name_key: bytes) -> None:
        self._share_id = share_id
        self._checked: Memo[bytes, NodeRow] = Memo(CHECKED_ROWS_LIMIT)
        self._stated: tuple[ShareRow, State] | None = None
        self._node = Mac(name_key, "node")
        self._other = Mac(name_key, "row")
        self._element = Mac(name_key, "element")
        self._state = StateCipher(name_key, "share")

    def signed(self, row: NodeRow) -> NodeRow:
        """Return the row with its MAC; LimitError for a number that no row can hold."""
        try:
            return row._replace(mac=self._node.tag(node_text(row)))
        except struct.error as error:
            raise LimitError("A time or a size lies beyond what can be stored.") from error

    def checked(self, row: NodeRow) -> NodeRow:
        """Return the row if its MAC is right; IntegrityError."""
        if row == self._checked.get(row.mac):
            return row
        try:
            right = self._node.verify(node_text(row), row.mac)
        except (struct.error, TypeError, AttributeError, ValueError):
            right = False
        if not right:
            raise IntegrityError(
                f"Node {_hex(row.id)} of share {self._share_id.hex()} does not verify: its row in "
                "the catalog was edited."
            )
        self._checked.put(row.mac, row)
        return row

    def tag(self, purpose: bytes, *parts: bytes) -> bytes:
        """Return the MAC of another kind of row: ``parts`` are its fields, in order."""
        return self._other.tag(_framed(purpose, parts))

    def require_tag(self, tag: bytes, purpose: bytes, *parts: bytes) -> None:
        """Raise IntegrityError unless ``tag`` is that row's MAC."""
        try:
            right = self._other.verify(_framed(purpose, parts), tag)
        except TypeError:
            right = False
        if not right:
            raise IntegrityError(
                f"A row of share {self._share_id.hex()} ({purpose.decode('ascii')}) does not "
                "verify: it was edited in the catalog."
            )

    def element(self, mac: bytes) -> int:
        """Return what the row with this MAC adds to the digest.

        Not the MAC itself: whoever reads the catalog knows all MACs, old ones too, and could look
        for a set of them with an equal sum.
        """
        return int.from_bytes(self._element.tag(mac), "big")

    def property_element(self, node_id: bytes, sealed: bytes) -> int:
        """Return what a node's property record adds to the digest."""
        return self.element(_framed(b"properties", (node_id, sealed)))

    def state_of(self, row: ShareRow) -> State:
        """Return the sealed state of the share; IntegrityError when the row does not match it."""
        if self._stated is not None and self._stated[0] == row:
            return self._stated[1]
        try:
            plain = self._state.unseal(row.state_sealed, self._place(row))
            digest, used_bytes, node_count, epoch = _STATE.unpack(plain)
        except (IntegrityError, struct.error, TypeError, AttributeError) as error:
            raise self._edited() from error
        if (used_bytes, node_count, epoch) != (row.used_bytes, row.node_count, row.epoch):
            raise self._edited()
        state = State(int.from_bytes(digest, "big"), used_bytes, node_count, epoch)
        self._stated = (row, state)
        return state

    def stated(self, row: ShareRow, state: State) -> ShareRow:
        """Return the share's row in ``state``, sealed."""
        digest = (state.digest % DIGEST_MODULUS).to_bytes(32, "big")
        plain = _STATE.pack(digest, state.used_bytes, state.node_count, state.epoch)
        return row._replace(
            used_bytes=state.used_bytes,
            node_count=state.node_count,
            epoch=state.epoch,
            state_sealed=self._state.seal(plain, self._place(row)),
        )

    def _place(self, row: ShareRow) -> bytes:
        """Return what the state is bound to: shares that exchanged names or roots do not open.

        Rights belong to names and paths: under another share's name, or below another folder, its
        files would be read by others.
        """
        return _framed(b"share", (self._share_id, row.root_id, row.name.encode("utf-8")))

    def _edited(self) -> IntegrityError:
        return IntegrityError(
            f"The row of share {self._share_id.hex()} does not verify: it was edited in the "
            "catalog. 'sealgate scrub' tells what is wrong."
        )


@dataclass(slots=True)
class _Level:
    """A folder on the way down, and what in it is still to be looked at.

    ``whole``: nothing else lies in it. ``keeps``: something in it has to stay.
    """

    folder: NodeRow | None
    waiting: list[NodeRow]
    whole: bool = True
    keeps: bool = False


class Ledger:
    """The changes that one transaction makes to the rows of one share.

    They reach the tables at once, the digest and the counters when the ledger is closed.
    """

    def __init__(self, tx: Transaction, share_id: bytes, seal: RowSeal) -> None:
        self._tx = tx
        self._share_id = share_id
        self._seal = seal
        self._more_digest = 0
        self._more_bytes = 0
        self._more_nodes = 0
        self._changed = False

    @property
    def more_bytes(self) -> int:
        """By how much the share has grown so far, of which its row tells only at the close."""
        return self._more_bytes

    def node(self, node_id: bytes) -> NodeRow:
        """Return a node's row as it is now, live or in the trash; IntegrityError."""
        row = nodes.any_by_id(self._tx, node_id)
        if row is None:
            raise IntegrityError(f"Node {node_id.hex()} is not in the catalog any more.")
        return self._seal.checked(row)

    def add_nodes(self, rows: Iterable[NodeRow]) -> list[NodeRow]:
        """Add nodes; return their rows as stored."""
        signed = [self._seal.signed(row) for row in rows]
        nodes.add(self._tx, signed)
        self._count(added=[row.mac for row in signed], more_nodes=len(signed))
        return signed

    def put_node(self, node_id: bytes, **values: object) -> NodeRow:
        """Set columns of a node; return its row as stored."""
        old = self.node(node_id)
        new = self._seal.signed(old._replace(**values))  # type: ignore[arg-type]
        nodes.put(self._tx, new, frozenset({*values, "mac"}))
        self._count(added=[new.mac], removed=[old.mac])
        return new

    def put_properties(self, node_id: bytes, sealed: bytes | None) -> None:
        """Replace the sealed properties of a node; None removes them."""
        old = nodes.properties_of(self._tx, node_id)
        nodes.put_properties(self._tx, node_id, sealed)
        if old is not None:
            self._more_digest -= self._seal.property_element(node_id, old)
        if sealed is not None:
            self._more_digest += self._seal.property_element(node_id, sealed)
        self._changed = True

    def remove_some(self, node_id: bytes, limit: int) -> int:
        """Remove a node and all below it, trashed or not, with versions and properties.

        At most ``limit`` nodes at once, for others wait, and what lies deepest first. A node of
        which something is left is set aside, where nobody finds it, for further calls to remove.
        Returns how many nodes went.
        """
        top = nodes.any_by_id(self._tx, node_id)
        if top is None:
            return 0
        doomed, begun = self._deepest(top, limit)
        for each in begun:
            # Those below the first that live are out of reach with it; the trash shows the others.
            if each is top or each.deleted_us is not None:
                self._set_aside(each)
        for each in doomed:
            sealed = nodes.properties_of(self._tx, each.id)
            if sealed is not None:
                self._more_digest -= self._seal.property_element(each.id, sealed)
            if not each.is_folder:
                self.remove_versions(versions.dated(self._tx, each.id))
        nodes.remove(self._tx, [each.id for each in doomed])
        self._count(removed=[each.mac for each in doomed], more_nodes=-len(doomed))
        return len(doomed)

    def _set_aside(self, row: NodeRow) -> None:
        if row.deleted_us != nodes.ASIDE_US:
            self.put_node(row.id, deleted_us=nodes.ASIDE_US)

    def _deepest(self, top: NodeRow, limit: int) -> tuple[list[NodeRow], list[NodeRow]]:
        """Return up to ``limit`` nodes of a subtree, each behind all that lies below it.

        And the folders of which something is left, the top of the subtree first.

        An edited row must not be had away with by letting it be removed: IntegrityError, before
        anything has gone. Where something has, rows that were edited stay for scrub to report, with
        the folders above them, and the rest goes.
        """
        found: list[NodeRow] = []
        kept: list[NodeRow] = []
        above: list[_Level] = []
        level = _Level(None, [top])
        while len(found) < limit:
            if level.waiting:
                row = level.waiting.pop()
                if not self._removable(row, above, top):
                    level.keeps = True
                elif row.is_folder:
                    above.append(level)
                    room = limit - len(found)
                    level = _Level(row, nodes.any_children(self._tx, row.id, room))
                    level.whole = len(level.waiting) < room
                else:
                    found.append(row)
            elif level.folder is None or not level.whole:
                break
            else:
                folder, keeps, level = level.folder, level.keeps, above.pop()
                if keeps:
                    level.keeps = True
                    kept.append(folder)
                else:
                    found.append(folder)
        begun = [each.folder for each in (*above, level) if each.folder is not None]
        return found, [*begun, *kept]

    def _removable(self, row: NodeRow, above: list[_Level], top: NodeRow) -> bool:
        # An older row, put back, may lie below itself.
        if any(level.folder is not None and level.folder.id == row.id for level in above):
            return False
        try:
            self._seal.checked(row)
        except IntegrityError:
            if top.deleted_us != nodes.ASIDE_US:
                raise
            return False
        return True

    def add_version(self, row: VersionRow, extents: Sequence[Extent]) -> None:
        """Add a version, already signed."""
        versions.add(self._tx, row, extents)
        self._count(added=[row.mac], more_bytes=row.size_bytes)

    def put_version(
        self, old: VersionRow, new: VersionRow, extents: Sequence[Extent] | None
    ) -> None:
        """Replace a version's row and unless None its extents; the size must be the same."""
        assert (old.id, old.size_bytes) == (new.id, new.size_bytes)
        versions.put(self._tx, new, extents)
        self._count(added=[new.mac], removed=[old.mac])

    def remove_versions(self, doomed: Sequence[Dated]) -> None:
        """Remove versions with their extents."""
        versions.remove(self._tx, [each.id for each in doomed])
        self._count(
            removed=[each.mac for each in doomed],
            more_bytes=-sum(each.size_bytes for each in doomed),
        )

    def close(self) -> None:
        """Seal the share's new state."""
        if not self._changed:
            return
        row = keys.share_by_id(self._tx, self._share_id)
        if row is None:
            raise IntegrityError(f"Share {self._share_id.hex()} is not in the catalog any more.")
        state = self._seal.state_of(row)
        changed = State(
            state.digest + self._more_digest,
            state.used_bytes + self._more_bytes,
            state.node_count + self._more_nodes,
            state.epoch,
        )
        keys.put_state(self._tx, self._seal.stated(row, changed))

    def _count(
        self,
        *,
        added: Iterable[bytes] = (),
        removed: Iterable[bytes] = (),
        more_bytes: int = 0,
        more_nodes: int = 0,
    ) -> None:
        element = self._seal.element
        self._more_digest += sum(map(element, added)) - sum(map(element, removed))
        self._more_bytes += more_bytes
        self._more_nodes += more_nodes
        self._changed = True


@contextlib.contextmanager
def changes(tx: Transaction, share_id: bytes, seal: RowSeal) -> Iterator[Ledger]:
    """Give a ledger and close it when the block ends well."""
    ledger = Ledger(tx, share_id, seal)
    yield ledger
    ledger.close()


def set_epoch(tx: Transaction, row: ShareRow, seal: RowSeal, epoch: int) -> None:
    """Make ``epoch`` the one that the share writes under."""
    state = seal.state_of(row)
    keys.put_state(tx, seal.stated(row, state._replace(epoch=epoch)))


def node_text(row: NodeRow) -> bytes:
    """Return the bytes that a node's MAC covers (FORMAT.md section 8); ValueError, struct.error.

    ``struct`` cuts what is longer than its field, so that a longer id would have the same MAC.
    """
    if {len(row.id), len(row.share_id), len(row.parent_id), len(row.version_id or row.id)} != {16}:
        raise ValueError("an id of another length")
    if row.deleted_us is not None and row.deleted_us < 0:
        # It would have the MAC of a live node, and lie in no trash.
        raise ValueError("a time before all times")
    created_by = row.created_by.encode("utf-8")
    deleted_by = b"" if row.deleted_by is None else row.deleted_by.encode("utf-8")
    head = _NODE.pack(
        row.id,
        row.share_id,
        row.parent_id,
        row.is_folder,
        row.version_id,
        row.size_bytes,
        row.created_us,
        row.modified_us,
        _LIVES if row.deleted_us is None else row.deleted_us,
        len(row.name_sealed),
        len(created_by),
        len(deleted_by),
    )
    return b"".join((head, row.name_sealed, created_by, deleted_by))


def _framed(purpose: bytes, parts: Sequence[bytes]) -> bytes:
    return b"".join(len(part).to_bytes(8, "big") + part for part in (purpose, *parts))


def _hex(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else repr(value)

"""Tunnelling: a name that is vacated and soon filled again keeps the history of its file.

Editors save by writing a temporary file and renaming or deleting the old one. When the same
principal fills a name in the same folder within TUNNEL_US, the versions of the file that had the
name are handed over to the one that has it now (the word is that of NTFS, which does so with
creation times). Imports the catalog, the history and the ledger.
"""

from __future__ import annotations

from backends.catalog import nodes, vacated
from backends.catalog.nodes import NodeRow
from backends.catalog.vacated import VacatedRow
from backends.errors import IntegrityError, KeyUnavailableError
from backends.history import History, Verified
from backends.ledger import Ledger
from backends.share import EpochKey, Share
from gateway.model import SECOND_US, Clock, Transaction

TUNNEL_US = 15 * SECOND_US
"""How long after a name was vacated its history waits to be continued."""

_PURPOSE = b"vacated"


class Tunnel:
    """Thread-safe: all its state is in the transaction."""

    def __init__(self, history: History, clock: Clock) -> None:
        self._history = history
        self._clock = clock

    def vacate(self, tx: Transaction, share: Share, row: NodeRow, *, author: str) -> None:
        """Note that ``author`` takes the file ``row`` away from its name."""
        if row.is_folder:
            return
        note = VacatedRow(row.parent_id, row.name_sealed, row.id, author, self._clock())
        vacated.put(tx, note._replace(mac=share.seal.tag(_PURPOSE, *_fields(note))))

    def fill(
        self, tx: Transaction, ledger: Ledger, share: Share, row: NodeRow, *, author: str
    ) -> NodeRow:
        """Continue the history of the name that the file ``row`` has now; return its row then.

        What cannot be read any more is left where it is: it must not keep a file from being saved.
        """
        note = vacated.by_name(tx, row.parent_id, row.name_sealed)
        if note is None or row.is_folder:
            return row
        vacated.remove(tx, row.parent_id, row.name_sealed)
        age_us = self._clock() - note.vacated_us
        if note.principal_id != author or note.node_id == row.id or not 0 <= age_us <= TUNNEL_US:
            return row
        share.seal.require_tag(note.mac, _PURPOSE, *_fields(note))
        former = nodes.any_by_id(tx, note.node_id)
        # A file that went to another folder keeps its past: others may read it here.
        if former is None or former.parent_id != row.parent_id:
            return row
        try:
            share.seal.checked(former)
            past = self._history.all_of(tx, former.id)
            own = self._history.current(tx, row)
        except (IntegrityError, KeyUnavailableError):
            return row
        self._hand_over(tx, ledger, past, former, row.id, key=share.key)
        newest_us = max(version.row.created_us for version in past)
        if own.row.created_us <= newest_us:
            again = self._history.dated_again(own, max(self._clock(), newest_us + 1))
            ledger.put_version(own.row, again, None)
        return ledger.put_node(row.id, created_us=former.created_us)

    def _hand_over(
        self,
        tx: Transaction,
        ledger: Ledger,
        past: list[Verified],
        former: NodeRow,
        node_id: bytes,
        *,
        key: EpochKey,
    ) -> None:
        """Give the versions of ``former`` to the node ``node_id``; a live one keeps its content."""
        for version in past:
            if former.deleted_us is None and version.row.id == former.version_id:
                self._history.record(
                    tx,
                    ledger,
                    node_id,
                    self._history.shared(tx, version, key),
                    modified_us=version.row.modified_us,
                    author=version.row.author,
                    created_us=version.row.created_us,
                )
            else:
                handed = self._history.handed_over(version, node_id)
                ledger.put_version(version.row, handed, None)
        if former.deleted_us is not None:
            ledger.remove_subtree(former.id)


def _fields(note: VacatedRow) -> tuple[bytes, ...]:
    return (
        note.folder_id,
        note.name_sealed,
        note.node_id,
        note.principal_id.encode("utf-8"),
        note.vacated_us.to_bytes(8, "big"),
    )

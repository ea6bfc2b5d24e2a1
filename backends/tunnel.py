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
from backends.draft import SealedContent
from backends.errors import IntegrityError, KeyUnavailableError, QuotaExceededError
from backends.history import History, Verified
from backends.ledger import Ledger
from backends.room import Room
from backends.share import Share
from gateway.model import SECOND_US, Clock, Transaction

TUNNEL_US = 15 * SECOND_US
"""How long after a name was vacated its history waits to be continued."""

_PURPOSE = b"vacated"


class Tunnel:
    """Thread-safe: all its state is in the transaction."""

    def __init__(self, history: History, room: Room, clock: Clock) -> None:
        self._history = history
        self._room = room
        self._clock = clock

    def vacate(self, tx: Transaction, share: Share, row: NodeRow, *, author: str) -> None:
        """Note that ``author`` takes the file ``row`` away from its name."""
        if row.is_folder:
            # Below it names keep their notes but get other paths, where others may read.
            vacated.forget_all(tx)
            return
        note = VacatedRow(
            folder_id=row.parent_id,
            name_sealed=row.name_sealed,
            node_id=row.id,
            version_id=row.version_id,
            principal_id=author,
            vacated_us=self._clock(),
        )
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
        if not self._is_timely(note):
            return row
        if note.node_id == row.id:
            # It has a name of its own again, and keeps its history to itself.
            vacated.forget_node(tx, row.id)
            return row
        former = self._former(tx, share, row, note, author)
        if former is None:
            return row
        try:
            own = self._history.all_of(tx, row.id)
            past = _lacking(own, _until(self._history.all_of(tx, former.id), note.version_id))
            # What could fail is done first: from here on nothing may be left half done.
            copied = self._copy_of_current(tx, ledger, share, former, past)
        except (IntegrityError, KeyUnavailableError, QuotaExceededError):
            return row
        for version in past:
            if version.row.id == former.version_id and copied is not None:
                self._history.record(
                    tx,
                    ledger,
                    row.id,
                    copied,
                    modified_us=version.row.modified_us,
                    author=version.row.author,
                    created_us=version.row.created_us,
                )
            else:
                handed = self._history.handed_over(version, row.id)
                ledger.put_version(version.row, handed, None)
        if former.deleted_us is not None and former.version_id == note.version_id:
            # All that is left of it is copies of what ``row`` has.
            ledger.remove_some(former.id, 1)
        self._date_newest(ledger, row, own, past)
        return ledger.put_node(row.id, created_us=former.created_us)

    def _is_timely(self, note: VacatedRow) -> bool:
        try:
            return 0 <= self._clock() - note.vacated_us <= TUNNEL_US
        except TypeError:
            # It was edited, and vouches for nothing.
            return False

    def _former(
        self, tx: Transaction, share: Share, row: NodeRow, note: VacatedRow, author: str
    ) -> NodeRow | None:
        """Return the file that had the name of ``row``, if its history may be continued there."""
        try:
            share.seal.require_tag(note.mac, _PURPOSE, *_fields(note))
            former = nodes.any_by_id(tx, note.node_id)
            if former is not None:
                share.seal.checked(former)
        except IntegrityError:
            return None
        if note.principal_id != author or not share.settings.versions_keep:
            return None
        # A file that went to another folder keeps its past: others may read it here.
        return former if former is not None and former.parent_id == row.parent_id else None

    def _copy_of_current(
        self,
        tx: Transaction,
        ledger: Ledger,
        share: Share,
        former: NodeRow,
        past: list[Verified],
    ) -> SealedContent | None:
        """Return what a file that lives on under another name keeps, to be recorded again.

        Raises QuotaExceededError when the share has no room for the copy.
        """
        current = [version for version in past if version.row.id == former.version_id]
        if former.deleted_us is not None or not current:
            return None
        self._room.require_quota(tx, share, ledger.more_bytes + current[0].row.size_bytes)
        return self._history.shared(tx, current[0], share.key)

    def _date_newest(
        self, ledger: Ledger, row: NodeRow, own: list[Verified], past: list[Verified]
    ) -> None:
        """Have the current version of ``row`` be the newest of all, as its history is ordered."""
        current = next(version for version in own if version.row.id == row.version_id)
        newest_us = max((version.row.created_us for version in past), default=-1)
        if current.row.created_us <= newest_us:
            again = self._history.dated_again(current, max(self._clock(), newest_us + 1))
            ledger.put_version(current.row, again, None)


def _until(history: list[Verified], version_id: bytes) -> list[Verified]:
    """Return the version of that id and what came before it.

    What was written after the name was vacated belongs to where it was written.
    """
    ids = [version.row.id for version in history]
    return history[ids.index(version_id) :] if version_id in ids else []


def _lacking(own: list[Verified], past: list[Verified]) -> list[Verified]:
    """Return those of ``past`` that are no copies of what a file has in its own history.

    An editor that saves twice under one backup name would otherwise double the history each time.
    """
    present = {_likeness(version) for version in own}
    return [version for version in past if _likeness(version) not in present]


def _likeness(version: Verified) -> tuple[object, ...]:
    row = version.row
    return row.created_us, row.author, row.size_bytes, version.sha256, version.extents


def _fields(note: VacatedRow) -> tuple[bytes, ...]:
    try:
        return (
            note.folder_id,
            note.name_sealed,
            note.node_id,
            note.version_id,
            note.principal_id.encode("utf-8"),
            note.vacated_us.to_bytes(8, "big"),
        )
    except (AttributeError, OverflowError) as error:
        raise IntegrityError(
            f"A vacated name of folder {note.folder_id.hex()} was edited in the catalog."
        ) from error

"""A share as dictionaries: what the vault should hold, for the stateful test to compare with.

Knows the rules (histories, retention, tunnelling, trash, quotas) and nothing of how the vault
keeps them: no seals, no segments, no tables.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from typing import NamedTuple

from backends.share import ShareSettings
from backends.tunnel import TUNNEL_US
from backends.unfinished import KEEP_US
from gateway.model import SECOND_US, PropertyName

_numbers = count()


@dataclass(frozen=True, slots=True)
class Version:
    """One content that a file has or had. Copies are equal and differ in their ``number``."""

    created_us: int
    author: str
    content: bytes
    number: int = field(default_factory=lambda: next(_numbers), compare=False)


@dataclass(slots=True)
class Entry:
    """A node, live or in the trash; the newest of ``versions`` comes first and is current."""

    id: bytes
    parent: bytes
    name: str
    folder: bool
    created_us: int
    versions: list[Version] = field(default_factory=list)
    deleted_us: int | None = None
    properties: dict[PropertyName, str] = field(default_factory=dict)

    @property
    def content(self) -> bytes:
        return self.versions[0].content


class Note(NamedTuple):
    """Which file was taken from a name, at which version, by whom and when."""

    node: bytes
    version: int
    author: str
    vacated_us: int


class Partial(NamedTuple):
    """What arrived of an upload, and the version that its name held when it began."""

    content: bytes
    base_id: bytes
    expires_us: int


class PartialKey(NamedTuple):
    """Where an unfinished upload belongs, and to whom."""

    folder: bytes
    name: str
    principal: str


@dataclass(slots=True)
class ShareModel:
    """Everything that one share holds."""

    settings: ShareSettings
    root: bytes
    notes: dict[tuple[bytes, str], Note]
    """Of all shares: a folder that is renamed has every one forgotten."""
    nodes: dict[bytes, Entry] = field(default_factory=dict)
    unfinished: dict[PartialKey, Partial] = field(default_factory=dict)
    reserved: dict[bytes, tuple[int, int]] = field(default_factory=dict)

    # Looking

    def lives(self, node_id: bytes) -> bool:
        """Return whether the node and every folder above it is there."""
        while node_id != self.root:
            entry = self.nodes.get(node_id)
            if entry is None or entry.deleted_us is not None:
                return False
            node_id = entry.parent
        return True

    def files(self) -> list[Entry]:
        return [one for one in self.nodes.values() if not one.folder and self.lives(one.id)]

    def folders(self) -> list[bytes]:
        """Return the live folders, the root first."""
        return [self.root, *(one.id for one in self.nodes.values() if one.folder and self._at(one))]

    def trash(self) -> list[Entry]:
        """Return what was deleted by itself, in the order of its deletion."""
        found = [one for one in self.nodes.values() if one.deleted_us is not None]
        return sorted(found, key=lambda one: (one.deleted_us, one.id))

    def at(self, folder: bytes, name: str) -> Entry | None:
        """Return the node of that name that was not deleted by itself."""
        for one in self.nodes.values():
            if (one.parent, one.name, one.deleted_us) == (folder, name, None):
                return one
        return None

    def below(self, node_id: bytes, *, live: bool) -> Iterator[Entry]:
        """Yield what lies below a node, each folder before what it holds."""
        for one in list(self.nodes.values()):
            if one.parent == node_id and not (live and one.deleted_us is not None):
                yield one
                yield from self.below(one.id, live=live)

    def within(self, node_id: bytes, folder: bytes) -> bool:
        """Return whether the node is the folder or lies somewhere in it."""
        while node_id not in {folder, self.root}:
            node_id = self.nodes[node_id].parent
        return node_id == folder

    def path(self, node_id: bytes) -> tuple[str, ...]:
        """Return the names from below the root to the node."""
        parts: list[str] = []
        while node_id != self.root:
            parts.append(self.nodes[node_id].name)
            node_id = self.nodes[node_id].parent
        return tuple(reversed(parts))

    @property
    def used_bytes(self) -> int:
        kept = sum(len(each.content) for one in self.nodes.values() for each in one.versions)
        return kept + sum(len(each.content) for each in self.unfinished.values())

    def fits(self, more_bytes: int, now_us: int, upload: bytes = b"") -> bool:
        """Return whether the quota holds so much more."""
        if self.settings.quota_bytes is None:
            return True
        reserved = sum(
            size
            for key, (size, expires_us) in self.reserved.items()
            if key != upload and expires_us > now_us
        )
        return self.used_bytes + reserved + more_bytes <= self.settings.quota_bytes

    def _at(self, entry: Entry) -> bool:
        return self.lives(entry.id)

    # Changing

    def add_folder(self, node_id: bytes, folder: bytes, name: str, now_us: int) -> None:
        self.nodes[node_id] = Entry(node_id, folder, name, folder=True, created_us=now_us)

    def add_file(
        self, node_id: bytes, folder: bytes, name: str, content: bytes, *, author: str, now_us: int
    ) -> None:
        entry = Entry(node_id, folder, name, folder=False, created_us=now_us)
        entry.versions.append(Version(now_us, author, content))
        self.nodes[node_id] = entry
        self._fill(entry, author, now_us)

    def put_version(self, entry: Entry, content: bytes, author: str, now_us: int) -> None:
        created_us = max(now_us, entry.versions[0].created_us + 1)
        entry.versions.insert(0, Version(created_us, author, content))
        self.prune(entry, now_us)

    def copy_over(self, entry: Entry, source: Entry, author: str, now_us: int) -> None:
        self.put_version(entry, source.content, author, now_us)
        entry.properties = dict(source.properties)

    def take_over(self, entry: Entry, source: Entry, author: str, now_us: int) -> None:
        self.copy_over(entry, source, author, now_us)
        if len(source.versions) > 1:
            self.delete(source, author, now_us)
        else:
            self.remove(source.id)

    def delete(self, entry: Entry, author: str, now_us: int) -> None:
        if not self.settings.trash_s:
            self.remove(entry.id)
            return
        self._vacate(entry, author, now_us)
        entry.deleted_us = now_us

    def move(self, entry: Entry, folder: bytes, name: str, author: str, now_us: int) -> None:
        self._vacate(entry, author, now_us)
        entry.parent, entry.name = folder, name
        self._fill(entry, author, now_us)

    def copied(
        self, node_id: bytes, source: Entry, folder: bytes, name: str, *, author: str, now_us: int
    ) -> None:
        """Add one node as a copy of another, as yet without what it holds."""
        entry = Entry(node_id, folder, name, source.folder, now_us)
        entry.properties = dict(source.properties)
        if not source.folder:
            entry.versions.append(Version(now_us, author, source.content))
        self.nodes[node_id] = entry

    def filled_by_copy(self, entry: Entry, author: str, now_us: int) -> None:
        self._fill(entry, author, now_us)

    def bring_back(self, entry: Entry, folder: bytes, name: str) -> None:
        note = self.notes.get((entry.parent, entry.name))
        if note is not None and note.node == entry.id:
            del self.notes[entry.parent, entry.name]
        entry.parent, entry.name, entry.deleted_us = folder, name, None

    def remove(self, node_id: bytes) -> int:
        """Remove a node for good with all below it; return how many went."""
        doomed = [node_id, *(one.id for one in self.below(node_id, live=False))]
        for each in doomed:
            del self.nodes[each]
        return len(doomed)

    def keep_unfinished(self, key: PartialKey, content: bytes, base_id: bytes, now_us: int) -> None:
        self.unfinished[key] = Partial(content, base_id, now_us + KEEP_US)

    # Time going by

    def prune(self, entry: Entry, now_us: int) -> None:
        entry.versions = self._kept(entry.versions, now_us)

    def grown_by(self, entry: Entry, content: bytes, now_us: int) -> int:
        """Return by how much a new version would have the file grow, less what it would prune."""
        newest = Version(max(now_us, entry.versions[0].created_us + 1), "", content)
        kept = self._kept([newest, *entry.versions], now_us)
        return sum(len(each.content) for each in kept) - sum(
            len(each.content) for each in entry.versions
        )

    def _kept(self, history: list[Version], now_us: int) -> list[Version]:
        settings = self.settings
        oldest_us = now_us - settings.versions_for_s * SECOND_US
        return [
            version
            for index, version in enumerate(history)
            if index == 0
            or (index <= settings.versions_keep and history[index - 1].created_us >= oldest_us)
        ]

    def prune_all(self, now_us: int) -> None:
        """Prune the files that have a version older than the share keeps any."""
        oldest_us = now_us - self.settings.versions_for_s * SECOND_US
        for entry in self.nodes.values():
            old = [one for one in entry.versions[1:] if one.created_us < oldest_us]
            if entry.deleted_us is None and old:
                self.prune(entry, now_us)

    def purge_all(self, now_us: int) -> None:
        """Remove what has lain in the trash for too long."""
        for entry in self.trash():
            gone_us = now_us - self.settings.trash_s * SECOND_US
            assert entry.deleted_us is not None
            if entry.deleted_us < gone_us and entry.id in self.nodes:
                self.remove(entry.id)

    def expire(self, now_us: int) -> None:
        kept = {key: one for key, one in self.unfinished.items() if one.expires_us >= now_us}
        self.unfinished = kept

    # Tunnelling

    def _vacate(self, entry: Entry, author: str, now_us: int) -> None:
        if entry.folder:
            self.notes.clear()
        else:
            version = entry.versions[0].number
            self.notes[entry.parent, entry.name] = Note(entry.id, version, author, now_us)

    def _fill(self, entry: Entry, author: str, now_us: int) -> None:
        note = None if entry.folder else self.notes.pop((entry.parent, entry.name), None)
        if note is None or now_us - note.vacated_us > TUNNEL_US:
            return
        if note.node == entry.id:
            for place in [place for place, one in self.notes.items() if one.node == entry.id]:
                del self.notes[place]
            return
        former = self._former(entry, note, author)
        if former is None:
            return
        numbers = [version.number for version in former.versions]
        since = numbers.index(note.version) if note.version in numbers else len(numbers)
        past = [version for version in former.versions[since:] if version not in entry.versions]
        taken = {version.number for version in past}
        current = former.versions[0]
        if former.deleted_us is None and current.number in taken:
            if not self.fits(len(current.content), now_us):
                return
            # The copy is another version than the one that stays.
            copy = Version(current.created_us, current.author, current.content)
            past = [copy if version is current else version for version in past]
            taken.remove(current.number)
        former.versions = [version for version in former.versions if version.number not in taken]
        if former.deleted_us is not None and since == 0:
            self.remove(former.id)
        self._take(entry, past, now_us)
        entry.created_us = former.created_us
        self.prune(entry, now_us)

    def _former(self, entry: Entry, note: Note, author: str) -> Entry | None:
        """Return the file whose history may be continued by ``entry``."""
        former = self.nodes.get(note.node)
        if note.author != author or not self.settings.versions_keep:
            return None
        return former if former is not None and former.parent == entry.parent else None

    @staticmethod
    def _take(entry: Entry, past: list[Version], now_us: int) -> None:
        """Add ``past`` to the history; what is current comes first, whenever it was made."""
        current, *older = entry.versions
        newest_us = max((version.created_us for version in past), default=-1)
        if current.created_us <= newest_us:
            current = replace(current, created_us=max(now_us, newest_us + 1))
        older = sorted([*older, *past], key=lambda version: version.created_us, reverse=True)
        entry.versions = [current, *older]

"""What RFC 4918 says of write locks, over a plain dictionary of paths: the door's is held to it.

Knows whether a change is permitted and what locks are left after it, and nothing of how.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from enum import Enum

from gateway.model import SECOND_US
from gateway.paths import VirtualPath


class What(Enum):
    """What lies at a path."""

    FILE = "file"
    FOLDER = "folder"


@dataclass(frozen=True, slots=True)
class Lock:
    """One lock, on ``root``, whoever holds its token."""

    token: str
    root: VirtualPath
    who: str
    exclusive: bool
    deep: bool
    ends_us: int

    def covers(self, path: VirtualPath) -> bool:
        return self.root == path or (self.deep and path.is_within(self.root))

    def reaches_into(self, folder: VirtualPath) -> bool:
        """Whether it covers whatever lies in ``folder``."""
        return self.deep and folder.is_within(self.root)


@dataclass(slots=True)
class LockModel:
    """A tree and its locks. ``now_us`` is moved by the test."""

    now_us: int
    nodes: dict[VirtualPath, What] = field(default_factory=dict)
    locks: list[Lock] = field(default_factory=list)

    def pass_time(self, seconds: int) -> None:
        self.now_us += seconds * SECOND_US
        self.locks = [lock for lock in self.locks if lock.ends_us > self.now_us]

    def covering(self, path: VirtualPath) -> list[Lock]:
        return [lock for lock in self.locks if lock.covers(path)]

    def below(self, path: VirtualPath) -> Iterator[VirtualPath]:
        """Yield ``path`` and all that lies in it."""
        return (each for each in self.nodes if each.is_within(path))

    # What is permitted (section 7)

    def may_store(self, who: str, tokens: frozenset[str], path: VirtualPath) -> bool:
        """PUT, and LOCK of a free name: the file changes, or the folder that gets a member."""
        changed = path if path in self.nodes else path.parent
        return self._held(who, tokens, self.covering(changed))

    def may_make(self, who: str, tokens: frozenset[str], path: VirtualPath) -> bool:
        return self._held(who, tokens, self.covering(path.parent))

    def may_remove(self, who: str, tokens: frozenset[str], path: VirtualPath) -> bool:
        """DELETE, and MOVE away: the folder loses a member, and all that lies below is changed.

        What will lie in a folder counts as if it were there.
        """
        changed = [self.covering(path.parent)]
        for each in self.below(path):
            changed.append(self.covering(each))
            if self.nodes[each] is What.FOLDER:
                changed.append([lock for lock in self.locks if lock.reaches_into(each)])
        return all(self._held(who, tokens, locks) for locks in changed)

    def may_arrive(
        self, who: str, tokens: frozenset[str], source: VirtualPath, target: VirtualPath
    ) -> bool:
        """MOVE and COPY at their target: as PUT for a file over a file, else DELETE comes first."""
        if target not in self.nodes or self._merges(source, target):
            return self.may_store(who, tokens, target)
        return self.may_remove(who, tokens, target)

    def may_lock(self, path: VirtualPath, *, exclusive: bool, deep: bool) -> bool:
        near = [
            lock for lock in self.locks if lock.covers(path) or (deep and lock.root.is_within(path))
        ]
        return not any(exclusive or lock.exclusive for lock in near)

    @staticmethod
    def _held(who: str, tokens: frozenset[str], locks: Iterable[Lock]) -> bool:
        """Whether one resource may be changed that ``locks`` cover: all exclusive, or one shared."""
        locks = list(locks)
        held = [lock.who == who and lock.token in tokens for lock in locks]
        if any(lock.exclusive and not mine for lock, mine in zip(locks, held, strict=True)):
            return False
        return not locks or any(held)

    # What is left

    def remove(self, path: VirtualPath) -> None:
        """A deleted node is gone with all below it, and so are the locks on them."""
        for each in list(self.below(path)):
            del self.nodes[each]
        self.locks = [lock for lock in self.locks if not lock.root.is_within(path)]

    def copy(self, source: VirtualPath, target: VirtualPath) -> None:
        """Locks are neither copied nor moved; the lock on a file that is replaced stays."""
        copied = {each.rebased(source, target): self.nodes[each] for each in self.below(source)}
        if target in self.nodes and not self._merges(source, target):
            self.remove(target)
        self.nodes |= copied

    def move(self, source: VirtualPath, target: VirtualPath) -> None:
        self.copy(source, target)
        self.remove(source)

    def refresh(self, lock: Lock, timeout_s: int) -> None:
        ends_us = self.now_us + timeout_s * SECOND_US
        self.locks[self.locks.index(lock)] = replace(lock, ends_us=ends_us)

    def _merges(self, source: VirtualPath, target: VirtualPath) -> bool:
        return self.nodes[source] is What.FILE and self.nodes.get(target) is What.FILE

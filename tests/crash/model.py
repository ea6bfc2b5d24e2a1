"""What a tree must look like after each operation: the specification that crashes are held to.

Pure: operations and trees are values. Paths are strings as audit records write them. Knows the
door's semantics (what keeps a history, what drops a lock), nothing of how they are implemented.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from tests.crash.content import Piece, Recipe

KEEP_COUNT = 3
"""How many old versions the share keeps: ``versions: {keep: ...}`` of the configuration."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file (``history``: its contents, newest first) or a folder (no history)."""

    history: tuple[Recipe, ...] = ()
    properties: frozenset[tuple[str, str]] = frozenset()
    locked: bool = False

    @property
    def is_folder(self) -> bool:
        """Whether this is a folder."""
        return not self.history

    def with_version(self, content: Recipe) -> Entry:
        """Return the file with ``content`` on top of what it held."""
        return replace(self, history=(content, *self.history)[: KEEP_COUNT + 1])


Tree = Mapping[str, Entry]
"""Everything below one thread's folder, by path."""


@dataclass(frozen=True, slots=True)
class MakeFolder:
    """MKCOL."""

    path: str


@dataclass(frozen=True, slots=True)
class Put:
    """A whole file, new or over another."""

    path: str
    piece: Piece


@dataclass(frozen=True, slots=True)
class Change:
    """A write into a file that keeps the rest."""

    path: str
    offset: int
    piece: Piece


@dataclass(frozen=True, slots=True)
class Truncate:
    """A file cut, or extended with zeros."""

    path: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Move:
    """A rename; over a file when ``target`` is one."""

    path: str
    target: str


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy with all below; over a file when ``target`` is one."""

    path: str
    target: str


@dataclass(frozen=True, slots=True)
class Delete:
    """A node deleted with all below."""

    path: str


@dataclass(frozen=True, slots=True)
class SetProperty:
    """A dead property put."""

    path: str
    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Lock:
    """An exclusive lock; on a free name it makes an empty file."""

    path: str


@dataclass(frozen=True, slots=True)
class Unlock:
    """A lock given back."""

    path: str


Operation = (
    MakeFolder | Put | Change | Truncate | Move | Copy | Delete | SetProperty | Lock | Unlock
)


@dataclass(frozen=True, slots=True)
class Expected:
    """The audit record of an operation that happened; its ``action`` is always a change."""

    action: str
    path: str
    target: str = ""


CHANGES = frozenset(
    {"create", "write", "move", "copy", "delete", "set_properties", "lock", "unlock"}
)
"""The actions of records that stand for a change of the tree."""


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """An operation that was answered; ``version_id`` of what was written, else empty."""

    operation: Operation
    version_id: str = ""


@dataclass(slots=True)
class Story:
    """What one thread did in one cycle, as its client saw it.

    ``open``: what may have happened after ``done``, or only the first of it: an operation without
    answer, or several if their answers came when the power was gone already.
    """

    session: str
    before: Tree
    done: list[Acknowledged] = field(default_factory=list)
    open: list[Operation] = field(default_factory=list)


def below(tree: Tree, path: str) -> list[str]:
    """Return ``path`` and every path below it."""
    return [each for each in tree if each == path or each.startswith(path + "/")]


def applied(tree: Tree, operation: Operation) -> Tree:
    """Return the tree after ``operation``, which must fit ``tree``."""
    after = dict(tree)
    match operation:
        case MakeFolder(path):
            after[path] = Entry()
        case Put(path, piece):
            content = Recipe((piece,) if piece.size_bytes else ())
            after[path] = tree.get(path, Entry()).with_version(content)
        case Change(path, offset, piece):
            after[path] = tree[path].with_version(tree[path].history[0].changed(offset, piece))
        case Truncate(path, size_bytes):
            after[path] = tree[path].with_version(tree[path].history[0].truncated(size_bytes))
        case Move(path, target):
            _move(after, path, target)
        case Copy(path, target):
            _copy(after, path, target)
        case Delete(path):
            for each in below(tree, path):
                del after[each]
        case SetProperty(path, name, value):
            others = {pair for pair in tree[path].properties if pair[0] != name}
            after[path] = replace(tree[path], properties=frozenset(others | {(name, value)}))
        case Lock(path):
            after[path] = replace(tree.get(path, Entry(history=(Recipe(),))), locked=True)
        case Unlock(path):
            after[path] = replace(tree[path], locked=False)
    return after


def _move(after: dict[str, Entry], path: str, target: str) -> None:
    if target in after:
        source = after.pop(path)
        merged = after[target].with_version(source.history[0])
        after[target] = replace(merged, properties=source.properties)
        return
    for each in below(after, path):
        # A lock binds a name's place: it does not move along (RFC 4918 section 7.5).
        after[target + each.removeprefix(path)] = replace(after.pop(each), locked=False)


def _copy(after: dict[str, Entry], path: str, target: str) -> None:
    source = after[path]
    if target in after:
        merged = after[target].with_version(source.history[0])
        after[target] = replace(merged, properties=source.properties)
        return
    for each in below(after, path):
        entry = after[each]
        copied = replace(entry, history=entry.history[:1], locked=False)
        after[target + each.removeprefix(path)] = copied


def record_of(operation: Operation, before: Tree) -> Expected:
    """Return the record that ``operation`` leaves when it happens to ``before``."""
    path, target = operation.path, ""
    match operation:
        case MakeFolder():
            action = "create"
        case Put():
            action = "write" if path in before else "create"
        case Change() | Truncate():
            action = "write"
        case Move():
            action, target = "move", operation.target
        case Copy():
            action, target = "copy", operation.target
        case Delete():
            action = "delete"
        case SetProperty():
            action = "set_properties"
        case Lock():
            action = "lock"
        case Unlock():
            action = "unlock"
    return Expected(action, path, target)

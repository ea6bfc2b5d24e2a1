"""Virtual paths: the only form in which a path passes the door.

A virtual path is absolute, NFC-normalised and free of ``.`` and ``..``; no part of it ever
reaches a real file system. Protocol escapes (percent-encoding, SFTP byte strings) are undone by
the front ends before they call ``parse`` or ``resolve``. Imports only the error tree.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from gateway.errors import InvalidPathError

NAME_LIMIT_BYTES = 255
"""The longest name, in UTF-8 bytes: what every client's own file system can also hold."""

DEPTH_LIMIT = 128
"""The most parts a path may have, the share included."""

# A slash ends a name; NUL ends strings in C clients; a backslash is a separator to Windows
# clients, which would read "a\\..\\b" as a path of its own.
_FORBIDDEN = ("/", "\0", "\\")


def check_name(name: str) -> str:
    """Return ``name`` NFC-normalised, fit to be one part of a path.

    Raises InvalidPathError when it is empty, ``.`` or ``..``, holds a forbidden character, is not
    valid Unicode, or is longer than NAME_LIMIT_BYTES.
    """
    if name in {"", ".", ".."}:
        raise InvalidPathError("A name is empty or is a dot segment, which no file can have.")
    if any(character in name for character in _FORBIDDEN):
        raise InvalidPathError("A name holds a slash, a backslash or a NUL, which no file can.")
    if name.isascii():
        encoded_size = len(name)
    else:
        name = unicodedata.normalize("NFC", name)
        try:
            encoded_size = len(name.encode("utf-8"))
        except UnicodeEncodeError as error:
            raise InvalidPathError("A name is not valid UTF-8.") from error
    if encoded_size > NAME_LIMIT_BYTES:
        raise InvalidPathError(f"A name is longer than {NAME_LIMIT_BYTES} bytes; shorten it.")
    return name


@dataclass(frozen=True, slots=True)
class VirtualPath:
    """An absolute path below the virtual root: ``parts[0]`` is the share, the rest lie inside."""

    parts: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> VirtualPath:
        """Return the path that ``text`` writes, exactly: WebDAV's reading.

        One trailing slash is ignored. Raises InvalidPathError for a relative path, an empty
        part, a dot segment, or anything ``check_name`` refuses.
        """
        if not text.startswith("/"):
            raise InvalidPathError("A path does not begin with a slash.")
        inner = text[1:].removesuffix("/")
        return cls._checked(inner.split("/") if inner else [])

    @classmethod
    def resolve(cls, text: str, base: VirtualPath | None = None) -> VirtualPath:
        """Return the path that ``text`` leads to from ``base``: SFTP's reading.

        Empty parts and ``.`` vanish, ``..`` drops a part and stops at the root, as in a chroot.
        Purely lexical, which is exact because the tree has no links.
        """
        parts: list[str] = [] if text.startswith("/") or base is None else list(base.parts)
        for part in text.split("/"):
            if part in {"", "."}:
                continue
            if part == "..":
                del parts[-1:]
            else:
                parts.append(part)
        return cls._checked(parts)

    @classmethod
    def _checked(cls, parts: list[str]) -> VirtualPath:
        if len(parts) > DEPTH_LIMIT:
            raise InvalidPathError(f"A path has more than {DEPTH_LIMIT} parts.")
        return cls(tuple(check_name(part) for part in parts))

    @property
    def is_root(self) -> bool:
        """Whether this is ``/``, which holds the shares and nothing else."""
        return not self.parts

    @property
    def is_share(self) -> bool:
        """Whether this is the root folder of a share."""
        return len(self.parts) == 1

    @property
    def share(self) -> str:
        """The name of the share; empty for the root."""
        return self.parts[0] if self.parts else ""

    @property
    def name(self) -> str:
        """The last part; empty for the root."""
        return self.parts[-1] if self.parts else ""

    @property
    def inner(self) -> tuple[str, ...]:
        """The parts below the share's root."""
        return self.parts[1:]

    @property
    def parent(self) -> VirtualPath:
        """The folder that holds this; the root is its own parent."""
        return VirtualPath(self.parts[:-1])

    def child(self, name: str) -> VirtualPath:
        """Return the path of ``name`` in this folder; raises InvalidPathError for a bad name."""
        if len(self.parts) >= DEPTH_LIMIT:
            raise InvalidPathError(f"A path has more than {DEPTH_LIMIT} parts.")
        return VirtualPath((*self.parts, check_name(name)))

    def is_within(self, other: VirtualPath) -> bool:
        """Return whether this is ``other`` or lies anywhere below it."""
        return self.parts[: len(other.parts)] == other.parts

    def rebased(self, source: VirtualPath, target: VirtualPath) -> VirtualPath:
        """Return where this path lies once ``source`` (which holds it) has become ``target``."""
        assert self.is_within(source)
        return VirtualPath(target.parts + self.parts[len(source.parts) :])

    def __str__(self) -> str:
        return "/" + "/".join(self.parts)


ROOT = VirtualPath()

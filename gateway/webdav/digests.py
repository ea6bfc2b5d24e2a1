"""Digest fields (RFC 9530): telling the stored SHA-256, and checking what a client announces.

Reads as much of structured fields (RFC 9651) as these headers need, in linear time. Imports the
errors of storage and ``messages``.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from backends.errors import LengthMismatchError
from gateway.webdav.messages import HttpError

if TYPE_CHECKING:
    from hashlib import _Hash

REPR_DIGEST: Final = "Repr-Digest"
CONTENT_DIGEST: Final = "Content-Digest"
WANT_REPR_DIGEST: Final = "Want-Repr-Digest"

# Those of RFC 9530's registry that are "active": the others are no proof of anything, and a client
# that sends them is served as if it had not.
_ALGORITHMS: Final[dict[str, Callable[[], _Hash]]] = {
    "sha-256": hashlib.sha256,
    "sha-512": hashlib.sha512,
}
_KEY: Final = r"[a-z*][a-z0-9_.*-]*"
_BARE: Final = (
    r":[A-Za-z0-9+/=]*:"  # byte sequence
    r'|"(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*"'  # string
    r"|\?[01]"  # boolean
    r"|-?[0-9]+(?:\.[0-9]+)?"  # number
    r"|[A-Za-z*][A-Za-z0-9:/!#$%&'*+.^_`|~-]*"  # token
)
_MEMBER: Final = re.compile(
    rf"(?P<key>{_KEY})(?:=(?P<value>{_BARE}))?(?: *; *{_KEY}(?:=(?:{_BARE}))?)*", re.ASCII
)
_COMMA: Final = re.compile(r"[ \t]*,[ \t]*")


def repr_digest(sha256_hex: str) -> str:
    """Return the Repr-Digest value of content with that SHA-256."""
    return f"sha-256=:{base64.b64encode(bytes.fromhex(sha256_hex)).decode()}:"


def wanted(value: str | None) -> bool:
    """Return whether a SHA-256 may be told to a client that sent this Want-Repr-Digest, or none.

    The header is a hint: one that cannot be read, or asks only for what there is not, is ignored.
    """
    members = None if value is None else _parsed(value)
    return members is None or members.get("sha-256") != "0"


class DigestMismatchError(LengthMismatchError):
    """Other bytes arrived than were announced; nothing was committed."""


class Announced:
    """What a client says the body of its request hashes to; ``update`` with it, then ``check``."""

    __slots__ = ("_expected",)

    def __init__(self, headers: Mapping[str, str]) -> None:
        """Read Repr-Digest and Content-Digest, which are the same of a whole body.

        Raises HttpError 400 for a field that is malformed: it must not pass for checked.
        """
        self._expected: list[tuple[str, _Hash, bytes]] = []
        for name in (REPR_DIGEST, CONTENT_DIGEST):
            value = headers.get(name.lower())
            members = {} if value is None else _parsed(value)
            if members is None:
                raise HttpError(400, f"The {name} header is malformed.")
            for algorithm, text in members.items():
                if algorithm in _ALGORITHMS:
                    self._expected.append((name, _ALGORITHMS[algorithm](), _bytes(name, text)))

    def update(self, block: bytes | memoryview) -> None:
        """Take the next bytes of the body."""
        for _, seen, _ in self._expected:
            seen.update(block)

    def check(self) -> None:
        """Raise DigestMismatchError unless the body was what every digest says."""
        for name, seen, digest in self._expected:
            if not hmac.compare_digest(seen.digest(), digest):
                raise DigestMismatchError(
                    f"The body does not match its {name}; nothing was stored. Send it again."
                )


def _bytes(name: str, text: str) -> bytes:
    if text.startswith(":"):
        try:
            return base64.b64decode(text[1:-1], validate=True)
        except binascii.Error:
            pass
    raise HttpError(400, f"A digest in the {name} header is no byte sequence.")


def _parsed(value: str) -> dict[str, str] | None:
    """Return a dictionary's keys and values as they are written; None when it is none.

    Inner lists, which no digest field has, count as malformed; parameters are passed over.
    """
    members: dict[str, str] = {}
    position = 0
    while position < len(value):
        match = _MEMBER.match(value, position)
        if match is None:
            return None
        members[match["key"]] = match["value"] or "?1"
        position = match.end()
        if position < len(value):
            comma = _COMMA.match(value, position)
            if comma is None or comma.end() == len(value):
                return None
            position = comma.end()
    return members

"""A folder that a client has open: its listing, page by page from the door to the wire.

Of a folder with 100,000 entries only a page lies in memory. No packets are answered here. Imports
the door's types and the presentation of nodes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.errors import SealgateError
from gateway.model import Clock, Entry
from gateway.sftp.attributes import encoded_names

if TYPE_CHECKING:
    from gateway.operations.listing import Listing

REPLY_LIMIT_BYTES = 32_000
"""The most that the names of one reply take.

Every client takes packets of 34,000 bytes (draft-ietf-secsh-filexfer-02 section 3); sshfs gives up
at 128 KiB.
"""


@dataclass(frozen=True, slots=True)
class EncodedName:
    """An entry as SSH_FXP_NAME has it: the name, its line of ``ls -l``, and its attributes."""

    encoded: bytes

    def encode(self, _version: int) -> bytes:
        """Return the bytes; version 3 is the only one that is spoken."""
        return self.encoded


class OpenFolder:
    """A listing under way. One thread at a time."""

    def __init__(self, listing: Listing, user: str, clock: Clock) -> None:
        """``user`` is shown as the owner of everything."""
        self._pages = listing.pages
        self._user = user
        self._clock = clock
        folder = listing.folder
        self._waiting: deque[bytes] = deque()
        self._error: SealgateError | None = None
        self._take(Entry.of(folder)._replace(name=name) for name in (".", ".."))

    def next_names(self) -> list[EncodedName]:
        """Return as many further entries as fit a reply; none at the end.

        Raises what the door raises for a page.
        """
        names: list[EncodedName] = []
        size_bytes = 0
        while self._waiting or self._refill():
            size_bytes += len(self._waiting[0])
            if size_bytes > REPLY_LIMIT_BYTES:
                break
            names.append(EncodedName(self._waiting.popleft()))
        return names

    def _refill(self) -> bool:
        """Wait for the next page that is not empty; False at the end."""
        if self._error is not None:
            # A client that has asked ahead must not take what is missing for the end.
            raise self._error
        try:
            for page in self._pages:
                self._take(page)
                if self._waiting:
                    return True
        except SealgateError as error:
            self._error = error
            raise
        return False

    def _take(self, page: Iterable[Entry]) -> None:
        self._waiting.extend(encoded_names(page, self._user, self._clock()))

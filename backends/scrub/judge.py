"""Judging one thing after the other: what does not verify becomes a finding, and the next is judged.

Knows nothing of what is judged. Imports the findings and where nodes lie.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from backends.errors import IntegrityError, KeyUnavailableError
from backends.scrub.finding import Finding, Findings, Kind
from backends.scrub.places import WRONG_TYPE, path_of
from backends.share import Share
from gateway.model import Transaction

IMPOSSIBLE = (*WRONG_TYPE, struct.error, AssertionError)
"""What a value of a type or range that Sealgate never writes leads to."""


class Place(NamedTuple):
    """The ids of what a finding is about, empty where there is none."""

    node_id: bytes = b""
    version_id: bytes = b""
    segment_id: bytes = b""


_NOWHERE = Place()


@dataclass(slots=True)
class Verdict:
    """Whether what was judged is right; true while it is judged."""

    right: bool = True

    def __bool__(self) -> bool:
        return self.right


class Judge:
    """Collects the findings about one share within one transaction.

    ``sound`` stays true while every row that was judged verifies by itself.
    """

    def __init__(self, tx: Transaction, share: Share) -> None:
        self._tx = tx
        self._share = share
        self.found = Findings()
        self.sound = True

    @contextlib.contextmanager
    def judging(
        self, kind: Kind, remedy: str, place: Place = _NOWHERE, *, sound: bool = False
    ) -> Iterator[Verdict]:
        """Turn what does not verify into a finding.

        ``sound``: the row verified, only not what it stands for. KeyUnavailableError is raised on
        but for keys themselves.
        """
        verdict = Verdict()
        error_name = "IntegrityError"
        try:
            yield verdict
            return
        except KeyUnavailableError as error:
            if kind is not Kind.KEY:
                raise
            text, error_name = str(error), "KeyUnavailableError"
        except IntegrityError as error:
            text = str(error)
        except IMPOSSIBLE:
            text = f"A row holds a value that Sealgate never writes ({kind.value})."
        verdict.right = False
        self.sound = self.sound and sound
        self.add(kind, text, remedy, place, error=error_name)

    def add(
        self,
        kind: Kind,
        text: str,
        remedy: str,
        place: Place = _NOWHERE,
        *,
        error: str = "IntegrityError",
    ) -> None:
        """Add a finding about the share."""
        node_id, version_id, segment_id = map(_hex, place)
        self.found.add(
            Finding(
                kind=kind,
                share=self._share.name,
                text=text,
                remedy=remedy,
                node_id=node_id,
                version_id=version_id,
                segment_id=segment_id,
                path=path_of(self._tx, self._share, place.node_id) if node_id else "",
                error=error,
            )
        )


def _hex(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else ""

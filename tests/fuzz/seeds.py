"""The folders of inputs that are known: every one was worth keeping, and is tried in every test.

One folder for each parser; a file is one input, named for what it is about, or (found by a
campaign) for its hash.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

FOLDER = Path(__file__).parent / "seeds"


def known(parser: str) -> dict[str, bytes]:
    """Return every seed of a parser by its file's name."""
    return {path.name: path.read_bytes() for path in sorted((FOLDER / parser).iterdir())}


def keep(parser: str, data: bytes) -> Path:
    """Write a new seed and return where."""
    path = FOLDER / parser / f"found-{hashlib.sha256(data).hexdigest()[:16]}"
    path.write_bytes(data)
    return path

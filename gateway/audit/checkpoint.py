"""Signed checkpoints over all journals: what makes a cut tail or a rolled-back catalog show.

A checkpoint names the head of every journal and the checkpoint before it, signed with Ed25519. It
is kept in the catalog and appended to the anchor, a file that whoever can change the catalog
should not be able to change. docs/AUDIT.md is the specification.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from backends.catalog import checkpoints, keys
from backends.keyring import RecordCipher
from gateway.audit.record import canonical, iso_time
from gateway.errors import SealgateError
from gateway.model import SECOND_US, Transaction

_SIGNING_KEY = "audit_signing_key_sealed"
_CONTEXT = b"audit signing key"
CLOCK_MARGIN_US = 24 * 3600 * SECOND_US
"""How far machines' clocks may lie apart before a journal is left out of a checkpoint."""

TAIL_BYTES = 1024 * 1024
"""How much of the anchor is read to find its last line."""

GENESIS = "0" * 64
"""What the first checkpoint names as the one before it."""


class AnchorError(SealgateError):
    """The anchor cannot be written or read."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One checkpoint: its place, the journals' heads as (seq, hash in hex), and its own line."""

    number: int
    time: str
    before: str
    heads: dict[str, tuple[int, str]]
    line: str


def signing_key(tx: Transaction, cipher: RecordCipher) -> Ed25519PrivateKey:
    """Return the key that signs this catalog's checkpoints; the first call makes it."""
    sealed = keys.setting(tx, _SIGNING_KEY)
    if sealed is None:
        key = Ed25519PrivateKey.generate()
        keys.put_setting(tx, _SIGNING_KEY, cipher.seal(key.private_bytes_raw(), _CONTEXT))
        return key
    return Ed25519PrivateKey.from_private_bytes(cipher.unseal(sealed, _CONTEXT))


def make(tx: Transaction, key: Ed25519PrivateKey, now_us: int) -> str:
    """Store a checkpoint over all that ``tx`` sees and return its line."""
    previous = checkpoints.last(tx)
    number, before, since_us = 1, GENESIS, 0
    if previous is not None:
        number, before = previous.number + 1, line_hash(previous.line)
        since_us = previous.time_us - CLOCK_MARGIN_US
    # What an earlier checkpoint vouched for need not be named again.
    heads = {
        journal: [row.seq, row.hash.hex()]
        for journal, row in checkpoints.heads(tx).items()
        if row.time_us >= since_us
    }
    body = {"number": number, "time": iso_time(now_us), "before": before, "heads": heads}
    signature = key.sign(canonical(body).encode("ascii")).hex()
    line = canonical(body | {"signature": signature})
    checkpoints.insert_checkpoint(tx, number, now_us, line)
    return line


def append_to_anchor(tx: Transaction, path: Path) -> None:
    """Append the checkpoints that the anchor file still lacks, durably; AnchorError."""
    anchored = _last_anchored(path)
    lines = checkpoints.lines_after(tx, anchored)
    newest = checkpoints.last(tx)
    if newest is not None and anchored > newest.number:
        # The anchor is ahead of the catalog, which was rolled back (or the anchor was tampered
        # with): going on shows that to whoever verifies; silence would hide it.
        lines = [newest.line]
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            if _is_torn(path):
                file.write("\n")
            file.writelines(line + "\n" for line in lines)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise AnchorError(
            f"The audit anchor {path} cannot be written ({error.strerror}). Make room or give "
            "this user the right to; until then a cut tail of the trail would not show."
        ) from error


def _is_torn(path: Path) -> bool:
    """Return whether the anchor ends in a part of a line: a full disk or a power loss cut it."""
    with path.open("rb") as file:
        if not file.seek(0, os.SEEK_END):
            return False
        file.seek(-1, os.SEEK_END)
        return file.read() != b"\n"


def _whole(lines: Iterable[str]) -> list[str]:
    """Return the lines without torn ones, each of which the next whole line begins with."""
    whole: list[str] = []
    for line in reversed(list(lines)):
        torn = whole and line and line != whole[-1] and whole[-1].startswith(line)
        if not torn:
            whole.append(line)
    return whole[::-1]


def _last_anchored(path: Path) -> int:
    """Return the number of the anchor's last whole checkpoint; 0 when there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL_BYTES))
            tail = file.read().splitlines()
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise AnchorError(f"The audit anchor {path} cannot be read ({error.strerror}).") from error
    for line in reversed(tail):
        try:
            return int(json.loads(line)["number"])
        except (ValueError, KeyError, TypeError):
            continue
    return 0


def read_anchor(path: Path) -> list[str]:
    """Return the anchor's lines."""
    try:
        return path.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise AnchorError(f"The audit anchor {path} cannot be read.") from error


def public_key_hex(key: Ed25519PrivateKey) -> str:
    """Return the 64 hex digits by which checkpoints are verified."""
    return key.public_key().public_bytes_raw().hex()


def verified(lines: Iterable[str], public_key: str, problems: list[str]) -> Iterator[Checkpoint]:
    """Yield the checkpoints whose signature and place in the chain are right.

    What is wrong with the others is appended to ``problems``.
    """
    verifier = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key))
    before: Checkpoint | None = None
    for count, line in enumerate(_whole(lines), start=1):
        try:
            fields = json.loads(line)
            signature = bytes.fromhex(fields.pop("signature"))
            verifier.verify(signature, canonical(fields).encode("ascii"))
            heads = {
                journal: (int(seq), str(head)) for journal, (seq, head) in fields["heads"].items()
            }
            checkpoint = Checkpoint(
                int(fields["number"]), str(fields["time"]), str(fields["before"]), heads, line
            )
        except (ValueError, KeyError, TypeError, AttributeError, InvalidSignature):
            problems.append(f"checkpoint line {count} was edited or is none of this gateway's.")
            continue
        expected = GENESIS if before is None else line_hash(before.line)
        if (before is not None or checkpoint.number == 1) and checkpoint.before != expected:
            problems.append(f"checkpoints before number {checkpoint.number} are missing.")
        before = checkpoint
        yield checkpoint


def line_hash(line: str) -> str:
    """Return the hash by which the next checkpoint names this one."""
    return hashlib.sha256(line.encode("ascii")).hexdigest()

"""The demo's users as a test plays them: passwords, fresh codes, and waiting.

The codes are computed here from RFC 6238, so that they check the gateway's own. Imports nothing
from the project.
"""

from __future__ import annotations

import base64
import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

STEP_S = 30

T = TypeVar("T")


def until(attempt: Callable[[], T], what: str, timeout_s: float = 15) -> T:
    """Return the first true value of ``attempt()``; fails with ``what`` after ``timeout_s``."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = attempt()
        if value:
            return value
        if time.monotonic() > deadline:
            message = f"still not so after {timeout_s} s: {what}"
            raise AssertionError(message)
        time.sleep(0.05)


@dataclass(slots=True)
class User:
    """One of the demo's users. ``ssh_key`` is the private key's file, None without one."""

    name: str
    password: str
    totp_secret: str
    groups: tuple[str, ...]
    ssh_key: Path | None
    last_counter: int = -1

    def code_at(self, counter: int) -> str:
        """Return the six digits of a time step (RFC 6238, SHA-1, computed here anew)."""
        padded = self.totp_secret.upper() + "=" * (-len(self.totp_secret) % 8)
        digest = hmac.digest(base64.b32decode(padded), counter.to_bytes(8, "big"), "sha1")
        offset = digest[-1] & 15
        number = int.from_bytes(digest[offset : offset + 4], "big") & 0x7FFFFFFF
        return f"{number % 1_000_000:06d}"

    def next_code(self) -> str:
        """Return a code that was never handed out and is still acceptable; waits for one.

        The gateway takes the steps before, of and after now, each later than the one before.
        """

        def counter() -> int:
            # The step before now is worth handing out only while it has seconds left to live.
            current, age_s = divmod(time.time(), STEP_S)
            earliest = int(current) - (1 if age_s < STEP_S - 8 else 0)
            wanted = max(self.last_counter + 1, earliest)
            return wanted if wanted <= int(current) + 1 else 0

        self.last_counter = until(counter, "a fresh code", timeout_s=STEP_S + 5)
        return self.code_at(self.last_counter)


@dataclass(frozen=True, slots=True)
class Login:
    """What is typed at SSH's two prompts, and when (``time.monotonic``) it first was."""

    password: str
    code: str
    opened_s: float = 0.0

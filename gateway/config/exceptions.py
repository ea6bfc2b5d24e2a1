"""What is wrong with an exception from the SSH algorithms, or over by now.

Pure: looks at models and at the time it is given. Imports the models.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

from gateway.config.problems import Finding, Keys
from gateway.config.sftp import ExceptionConfig, LegacyConfig, SftpConfig
from gateway.model import SECOND_US

LONGEST = timedelta(days=731)
"""How far ahead an exception may end: whoever needs it longer has to think of it again."""

_SFTP: Keys = ("server", "sftp")


def openings(sftp: SftpConfig) -> Iterator[tuple[Keys, LegacyConfig | ExceptionConfig]]:
    """Yield what opens weaker algorithms, with the keys that lead to it."""
    if sftp.legacy is not None:
        yield (*_SFTP, "legacy"), sftp.legacy
    for name, each in sftp.exceptions.items():
        yield (*_SFTP, "exceptions", name), each


def too_much(sftp: SftpConfig, now_us: int) -> Iterator[Finding]:
    """Yield what is opened for too long, or to too many."""
    last = _day(now_us) + LONGEST
    for keys, opening in openings(sftp):
        if opening.until > last:
            message = f"{opening.until} is more than two years ahead."
            yield Finding((*keys, "until"), message, f"Write a day up to {last}.")
        if isinstance(opening, ExceptionConfig) and any(
            network.prefixlen == 0 for network in opening.networks
        ):
            message = "an exception cannot be open to every address."
            yield Finding((*keys, "networks"), message, "Name the addresses of its machines.")


def over(sftp: SftpConfig, now_us: int) -> Iterator[Finding]:
    """Yield what has ended by now, and so opens nothing any more."""
    for keys, opening in openings(sftp):
        if now_us >= opening.ends_us:
            message = f"ended on {opening.until}, so it opens nothing any more."
            yield Finding(keys, message, "Remove it, or agree on another day.", at_key=True)


def _day(now_us: int) -> date:
    return datetime.fromtimestamp(now_us / SECOND_US, UTC).date()

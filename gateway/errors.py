"""The root of the error tree and the errors that the door itself raises.

Storage errors live in ``backends.errors`` and login errors in ``auth.errors``; every one of them
descends from ``SealgateError``. ``gateway.status`` turns them into HTTP and SFTP answers, once.
Imports nothing from the project.
"""

from __future__ import annotations

import time


class SealgateError(Exception):
    """Anything that Sealgate refuses or fails at, with a message fit for the person who sees it.

    Messages say what failed, on which object and what to do. They never hold a secret, and since
    a message may reach an application log, never a file name.
    """


class InvalidPathError(SealgateError):
    """A path that no node can have: bad encoding, a forbidden character, too long or too deep."""


class DeniedError(SealgateError):
    """Policy refused the operation. ``rule`` names the line of policy that decided."""

    def __init__(
        self, rule: str, message: str = "Policy does not allow this operation for your groups."
    ) -> None:
        super().__init__(message)
        self.rule = rule


class SessionEndedError(SealgateError):
    """The session is over; ``reason`` is ``idle``, ``absolute`` or why it was ended early."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"Your session has ended ({reason}). Sign in again with a new code.")
        self.reason = reason


class LockedError(SealgateError):
    """A lock covers the object, and its token was not submitted by who holds it.

    ``holder`` is the name of the principal who holds it, ``renewed_us`` when they last took or
    refreshed it and ``expires_us`` when it runs out unless they do so again (0: not known).
    ``root`` is the path that it lies on, empty where that may not be told.
    """

    def __init__(
        self,
        holder: str,
        *,
        renewed_us: int = 0,
        expires_us: int = 0,
        root: str = "",
        root_is_folder: bool = False,
    ) -> None:
        # A directory's display name reaches terminals in SFTP status messages.
        self.holder = "".join(one for one in holder if one.isprintable())
        times = ""
        if expires_us:
            times = f" (renewed {_moment(renewed_us)}, runs out {_moment(expires_us)})"
        super().__init__(
            f"Locked by {self.holder}{times}. Try again when it has been closed there."
        )
        self.renewed_us = renewed_us
        self.expires_us = expires_us
        self.root = root
        self.root_is_folder = root_is_folder


class LockConflictError(LockedError):
    """A new lock is refused because this one, on the object or below it, does not go with it."""


class LockHolderError(DeniedError):
    """The lock token names a lock of another principal, which is not the asker's to give back."""

    def __init__(self) -> None:
        message = "This lock belongs to somebody else; only they can give it back."
        super().__init__("lock-holder", message)


class LockTokenError(SealgateError):
    """The lock token does not name a live lock of this principal on this object."""


class LockLimitError(SealgateError):
    """The principal holds as many locks as one may."""


class AuditUnavailableError(SealgateError):
    """The audit record cannot be written, so the operation did not happen (fail closed)."""


def _moment(time_us: int) -> str:
    """Return a time as people read it."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(time_us // 1_000_000))

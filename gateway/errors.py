"""The root of the error tree and the errors that the door itself raises.

Storage errors live in ``backends.errors`` and login errors in ``auth.errors``; every one of them
descends from ``SealgateError``. ``gateway.status`` turns them into HTTP and SFTP answers, once.
Imports nothing from the project.
"""

from __future__ import annotations


class SealgateError(Exception):
    """Anything that Sealgate refuses or fails at, with a message fit for the person who sees it.

    Messages say what failed, on which object and what to do. They never hold a secret, and since
    a message may reach an application log, never a file name.
    """


class InvalidPathError(SealgateError):
    """A path that no node can have: bad encoding, a forbidden character, too long or too deep."""


class DeniedError(SealgateError):
    """Policy refused the operation. ``rule`` names the line of policy that decided."""

    def __init__(self, rule: str) -> None:
        super().__init__("Policy does not allow this operation for your groups.")
        self.rule = rule


class SessionEndedError(SealgateError):
    """The session is over; ``reason`` is ``idle``, ``absolute`` or why it was ended early."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"Your session has ended ({reason}). Sign in again with a new code.")
        self.reason = reason


class LockedError(SealgateError):
    """Another lock covers the object. ``holder`` is the name of the principal who holds it."""

    def __init__(self, holder: str) -> None:
        super().__init__(f"Locked by {holder}. Try again when it has been closed there.")
        self.holder = holder


class LockTokenError(SealgateError):
    """The lock token does not name a live lock of this principal on this object."""


class AuditUnavailableError(SealgateError):
    """The audit record cannot be written, so the operation did not happen (fail closed)."""

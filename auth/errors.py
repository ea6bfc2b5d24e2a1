"""What identity can refuse or fail at. Imports only the root of the error tree."""

from __future__ import annotations

from gateway.errors import SealgateError

CODE_REASONS = "code-"
"""How the reasons of a ``LoginRefusedError`` begin that a right code would mend."""

SESSION_LIMIT = "session-limit"
"""The reason of a ``SessionLimitError``."""


class AuthError(SealgateError):
    """The root of all errors of identity."""


class LoginRefusedError(AuthError):
    """The login failed.

    The message is the same for every cause (an attacker must not learn whether the user exists,
    or which factor was wrong); ``reason`` is for the audit trail alone and is one of the
    ``auth.authenticator`` reasons.
    """

    def __init__(self, reason: str, principal_id: str = "") -> None:
        super().__init__("User name, password or code is not accepted.")
        self.reason = reason
        self.principal_id = principal_id


class SessionLimitError(LoginRefusedError):
    """Every factor is right, but the account has as many sessions as policy lets it have."""

    def __init__(self, limit: int, principal_id: str) -> None:
        super().__init__(SESSION_LIMIT, principal_id)
        message = (
            f"This account has {limit} sessions open, and may not have more. Close some of them, "
            "or wait until they are signed off."
        )
        self.args = (message,)


class LoginBusyError(AuthError):
    """Too many logins are under way; nothing was tried."""


class DirectoryUnavailableError(AuthError):
    """No directory server answered in time; nobody can be authenticated until one does."""


class DirectoryConfigError(AuthError):
    """The directory cannot be used as configured; the message says which setting to mend."""

"""Turns a login attempt into a session: directory, password or key, code, policy.

Two steps, because a directory may take seconds and a catalog transaction must not: ``identify``
talks to the directory without any transaction, ``admit`` burns the code and opens the session
inside one. Recording and throttling are ``gateway.login``'s. Imports the rest of ``auth``.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from auth.directory import Account, Directory
from auth.errors import LoginRefusedError
from auth.policy import Limits, Policy, Situation, limits
from auth.session import Binding, Sessions
from auth.totp import CodeVerdict, Totp, split_secret
from gateway.model import (
    SECOND_US,
    Attempt,
    Clock,
    Factor,
    Principal,
    Session,
    Transaction,
    Wire,
)

UNKNOWN_USER = "unknown-user"
WRONG_PASSWORD = "wrong-password"  # noqa: S105  a reason, not a secret
WRONG_KEY = "wrong-key"
DISABLED = "account-disabled"
FACTOR_MISSING = "factor-missing"
CODE_MISSING = "code-missing"
JOIN_LIMIT_REACHED = "join-limit"


@dataclass(frozen=True, slots=True)
class Claim:
    """An identity whose first factor is proven; ``code`` is still to be accepted."""

    attempt: Attempt
    principal: Principal
    limits: Limits
    first_factor: Factor
    code: str


def principal_of(account: Account) -> Principal:
    """Return the principal that an account stands for."""
    return Principal(account.id, account.name, account.display_name, account.memberships)


class Authenticator:
    """Decides who comes in. Thread-safe; blocking where the directory is asked."""

    def __init__(
        self,
        directory: Directory,
        totp: Totp,
        sessions: Sessions,
        policy: Callable[[], Policy],
        *,
        binding_key: bytes,
        join_window_s: int,
        clock: Clock,
    ) -> None:
        """``binding_key`` (32 secret bytes, the same for all workers) binds headers to sessions."""
        self._directory = directory
        self._totp = totp
        self._sessions = sessions
        self._policy = policy
        self._binding_key = binding_key
        self._join_window_s = join_window_s
        self._clock = clock

    def joined(self, tx: Transaction, attempt: Attempt) -> Session | None:
        """Return the living session that the attempt's own secret opened, if it may join it."""
        if not attempt.secret and not attempt.password:
            return None
        return self._sessions.joined(tx, self.tag(attempt), self._clock())

    def stale(self, tx: Transaction, attempt: Attempt) -> bool:
        """Return whether the attempt's secret opened a session that is over by now."""
        return bool(attempt.secret) and self._sessions.known(tx, self.tag(attempt))

    def identify(self, attempt: Attempt) -> Claim:
        """Return the claim that the attempt proves with its first factor.

        Raises LoginRefusedError, DirectoryUnavailableError. A user that does not exist costs the
        directory driver the same time as one that does.
        """
        account = self._directory.find(attempt.name)
        if attempt.ssh_key:
            return self._identify_by_key(attempt, account)
        password, code = attempt.password, attempt.code
        if attempt.secret:
            # Without six digits at its end the secret cannot be right: policy lets nobody in by
            # password alone. The directory is asked all the same, so that time tells nothing.
            password, code = split_secret(attempt.secret) or (attempt.secret, "")
        right = self._directory.verify(account, password)
        if account is None:
            raise LoginRefusedError(UNKNOWN_USER)
        if not account.enabled:
            raise LoginRefusedError(DISABLED, account.id)
        if not right:
            raise LoginRefusedError(WRONG_PASSWORD, account.id)
        return self._claim(attempt, account, Factor.PASSWORD, code)

    def key_listed(self, name: str, ssh_key: str) -> bool:
        """Return whether the directory lists the key for an enabled user of that name."""
        account = self._directory.find(name)
        return account is not None and account.enabled and ssh_key in account.ssh_keys

    def admit(self, tx: Transaction, claim: Claim) -> Session:
        """Burn the code and open the session, in the caller's write transaction.

        Raises LoginRefusedError when the code is wrong, used, or missing where policy wants one.
        A client that sent the same secret twice at once joins the session of the faster request.
        """
        attempt, principal = claim.attempt, claim.principal
        factors = {claim.first_factor}
        if claim.limits.second_factor:
            if not claim.code:
                raise LoginRefusedError(CODE_MISSING, principal.id)
            verdict = self._totp.accept(tx, principal.id, claim.code)
            if verdict is CodeVerdict.REPLAYED:
                session = self.joined(tx, attempt)
                if session is not None:
                    return self.connected(tx, session)
            if verdict is not CodeVerdict.OK:
                raise LoginRefusedError(f"code-{verdict.value}", principal.id)
            factors.add(Factor.TOTP)
        now_us = self._clock()
        return self._sessions.open(
            tx,
            session_id=secrets.token_hex(16),
            principal=principal,
            wire=attempt.wire,
            client=attempt.client,
            factors=frozenset(factors),
            now_us=now_us,
            idle_timeout_s=claim.limits.idle_timeout_s,
            session_timeout_s=claim.limits.session_timeout_s,
            binding=self._binding(attempt, now_us),
        )

    def connected(self, tx: Transaction, session: Session) -> Session:
        """Count a connection that joined ``session``; LoginRefusedError when there are too many."""
        if session.wire is Wire.SFTP and not self._sessions.connect(tx, session):
            raise LoginRefusedError(JOIN_LIMIT_REACHED, session.principal.id)
        return session

    def _identify_by_key(self, attempt: Attempt, account: Account | None) -> Claim:
        if account is None:
            raise LoginRefusedError(UNKNOWN_USER)
        if attempt.ssh_key not in account.ssh_keys:
            raise LoginRefusedError(WRONG_KEY, account.id)
        return self._claim(attempt, account, Factor.SSH_KEY, attempt.code)

    def _claim(self, attempt: Attempt, account: Account, factor: Factor, code: str) -> Claim:
        if not account.enabled:
            raise LoginRefusedError(DISABLED, account.id)
        principal = principal_of(account)
        situation = Situation(attempt.wire, attempt.client.address, self._clock())
        allowed = limits(self._policy(), principal, situation)
        if not isinstance(allowed, Limits):
            raise LoginRefusedError(allowed.rule, account.id)
        if allowed.key_only and factor is not Factor.SSH_KEY:
            raise LoginRefusedError(FACTOR_MISSING, account.id)
        return Claim(attempt, principal, allowed, factor, code)

    def _binding(self, attempt: Attempt, now_us: int) -> Binding | None:
        if not attempt.secret and not attempt.password:
            return None
        if attempt.wire is Wire.WEBDAV:
            return Binding(self.tag(attempt))
        return Binding(self.tag(attempt), now_us + self._join_window_s * SECOND_US)

    def tag(self, attempt: Attempt) -> bytes:
        """Return the HMAC by which what an attempt presents is known again."""
        secret = attempt.secret or attempt.password + attempt.code
        fields = (attempt.wire.value, attempt.name, secret, attempt.client.address)
        message = b"".join(
            len(data).to_bytes(4, "big") + data
            for data in (text.encode("utf-8", "surrogatepass") for text in fields)
        )
        return hmac.digest(self._binding_key, message, "sha256")

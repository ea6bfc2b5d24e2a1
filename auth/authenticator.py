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

from auth.chain import Chain
from auth.directory import Account, Directory
from auth.errors import CODE_REASONS, LoginRefusedError, SessionLimitError
from auth.lease import Leases
from auth.limits import Limits, limits, ssh_keys
from auth.policy import Policy, Situation, groups_of
from auth.session import Binding, Sessions
from auth.ssh_key import (
    USER_NOT_VERIFIED,
    authority_of,
    described,
    is_listed,
    refusal,
    verification_missing,
)
from auth.totp import CodeVerdict, Totp, split_secret
from gateway.model import (
    CERT_AUTHORITY,
    SECOND_US,
    Attempt,
    Clock,
    Factor,
    Lease,
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
CODE_MISSING = CODE_REASONS + "missing"
LEASE_MISSING = "lease-missing"
LOGIN_NOT_ACCEPTED = "login-not-accepted"
NO_COMMON_LOGIN = "no-common-login"
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
        leases: Leases,
        binding_key: bytes,
        join_window_s: int,
        clock: Clock,
    ) -> None:
        """``binding_key`` (32 secret bytes, the same for all workers) binds headers to sessions."""
        self._directory = directory
        self._totp = totp
        self._sessions = sessions
        self._policy = policy
        self._leases = leases
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
        """Return whether the key may be an enabled user's of that name; nothing is proven yet.

        With CERT_AUTHORITY before it: whether certificates of that key are worth a look.
        """
        policy = self._policy()
        if ssh_key.startswith(CERT_AUTHORITY):
            return any(ssh_key == CERT_AUTHORITY + one.key for one in policy.authorities)
        account = self._directory.find(name)
        if account is None or not account.enabled:
            return False
        return is_listed((*account.ssh_keys, *ssh_keys(policy, principal_of(account))), ssh_key)

    def certificate_note(self, attempt: Attempt) -> str:
        """Return what records of the attempt say of its certificate; empty when it has none."""
        if attempt.certificate is None:
            return ""
        authorities = self._policy().authorities
        return described(attempt.certificate, authority_of(authorities, attempt.certificate))

    def admit(self, tx: Transaction, claim: Claim) -> Session:
        """Burn the code and open the session, in the caller's write transaction.

        Raises LoginRefusedError when the code is wrong, used, or missing where policy wants one and
        no lease stands in for it; SessionLimitError when nothing is wrong but the number. A client
        that sent the same secret twice at once joins the session of the faster request.
        """
        attempt, principal, now_us = claim.attempt, claim.principal, self._clock()
        factors, lease = {claim.first_factor}, None
        if claim.limits.second_factor and claim.code:
            verdict = self._totp.accept(tx, principal.id, claim.code)
            if verdict is CodeVerdict.REPLAYED:
                session = self.joined(tx, attempt)
                if session is not None:
                    return self.connected(tx, session)
            if verdict is not CodeVerdict.OK:
                raise LoginRefusedError(CODE_REASONS + verdict.value, principal.id)
            factors.add(Factor.TOTP)
            lease = self._earned(tx, claim, now_us)
        elif claim.limits.second_factor:
            lease = self._held(tx, claim, now_us)
            factors.add(Factor.LEASE)
        # Only whoever is who they say they are may learn of it.
        if self._sessions.living(tx, principal.id, now_us) >= claim.limits.max_sessions:
            raise SessionLimitError(claim.limits.max_sessions, principal.id)
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
            lease=lease,
        )

    def _earned(self, tx: Transaction, claim: Claim, now_us: int) -> Lease | None:
        """Return the lease that the code earns; None where policy has no use for leases."""
        if Chain.KEY_LEASE not in claim.limits.logins:
            return None
        return self._leases.earn(
            tx,
            claim.principal,
            claim.attempt.client,
            now_us=now_us,
            idle_timeout_s=claim.limits.idle_timeout_s,
            session_timeout_s=claim.limits.session_timeout_s,
        )

    def _held(self, tx: Transaction, claim: Claim, now_us: int) -> Lease:
        """Return the lease that stands in for a code; LoginRefusedError when none does."""
        accepted = claim.limits.logins
        if claim.first_factor is Factor.SSH_KEY and Chain.KEY_LEASE in accepted:
            lease = self._leases.living(
                tx,
                claim.principal,
                claim.attempt.client,
                now_us=now_us,
                idle_timeout_s=claim.limits.idle_timeout_s,
                session_timeout_s=claim.limits.session_timeout_s,
            )
            if lease is not None:
                return lease
            if Chain.KEY_TOTP not in accepted:
                raise LoginRefusedError(LEASE_MISSING, claim.principal.id)
        raise LoginRefusedError(CODE_MISSING, claim.principal.id)

    def connected(self, tx: Transaction, session: Session) -> Session:
        """Count a connection that joined ``session``; LoginRefusedError when there are too many."""
        if session.wire is Wire.SFTP and not self._sessions.connect(tx, session):
            raise LoginRefusedError(JOIN_LIMIT_REACHED, session.principal.id)
        return session

    def _identify_by_key(self, attempt: Attempt, account: Account | None) -> Claim:
        if account is None:
            raise LoginRefusedError(UNKNOWN_USER)
        policy, principal = self._policy(), principal_of(account)
        if attempt.certificate is not None:
            groups = {group.name for group in groups_of(policy, principal)}
            why_not = refusal(
                attempt.certificate,
                authority_of(policy.authorities, attempt.certificate),
                attempt,
                name=account.name,
                groups=groups,
                now_us=self._clock(),
            )
        else:
            lines = (*account.ssh_keys, *ssh_keys(policy, principal, self._situation(attempt)))
            why_not = "" if is_listed(lines, attempt.ssh_key) else WRONG_KEY
            if not why_not and verification_missing(lines, attempt):
                why_not = USER_NOT_VERIFIED
        if why_not:
            raise LoginRefusedError(why_not, account.id)
        return self._claim(attempt, account, Factor.SSH_KEY, attempt.code)

    def _claim(self, attempt: Attempt, account: Account, factor: Factor, code: str) -> Claim:
        if not account.enabled:
            raise LoginRefusedError(DISABLED, account.id)
        principal = principal_of(account)
        allowed = limits(self._policy(), principal, self._situation(attempt))
        if not isinstance(allowed, Limits):
            raise LoginRefusedError(allowed.rule, account.id)
        if allowed.key_only and factor is not Factor.SSH_KEY:
            raise LoginRefusedError(FACTOR_MISSING, account.id)
        if attempt.wire is Wire.SFTP:
            _require_chain(allowed, factor, account.id, with_code=bool(code))
        return Claim(attempt, principal, allowed, factor, code)

    def _situation(self, attempt: Attempt) -> Situation:
        return Situation(attempt.wire, attempt.client.address, self._clock())

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


def _require_chain(allowed: Limits, factor: Factor, principal_id: str, *, with_code: bool) -> None:
    """Raise LoginRefusedError unless what was presented can be a way in that all groups accept."""
    if not allowed.logins:
        raise LoginRefusedError(NO_COMMON_LOGIN, principal_id)
    if factor is not Factor.SSH_KEY:
        possible = {Chain.PASSWORD_TOTP}
    elif allowed.key_only:
        possible = {Chain.KEY}
    else:
        possible = {Chain.KEY_TOTP} if with_code else {Chain.KEY_TOTP, Chain.KEY_LEASE}
    if not possible & allowed.logins:
        raise LoginRefusedError(LOGIN_NOT_ACCEPTED, principal_id)

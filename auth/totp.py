"""One-time codes: enrolling a seed and accepting each code once (RFC 6238, SHA-1, six digits).

Holds no storage: seeds lie behind ``SeedStore``, sealed by its driver. Imports only
``gateway.model`` and pyotp, which nothing else may import.
"""

from __future__ import annotations

import base64
import enum
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import pyotp

from gateway.model import SECOND_US, Clock, Transaction

CODE_DIGITS = 6
STEP_S = 30
WINDOW_STEPS = 1
"""How many steps before and after the present one a code may belong to."""

SECRET_SIZE_BYTES = 20
"""160 bits, as RFC 4226 section 4 recommends."""

# Keeps the work for a principal without a seed the same as for one with; guards nothing.
_DECOY = base64.b32encode(bytes(SECRET_SIZE_BYTES)).decode("ascii")


@dataclass(frozen=True, slots=True)
class Seed:
    """A principal's seed: ``secret`` in base32 and the counter of the last accepted code.

    ``confirmed`` is false until the first code was accepted; ``last_counter`` is then -1.
    """

    secret: str = field(repr=False)
    last_counter: int
    confirmed: bool


class SeedStore(Protocol):
    """Keeps at most one seed for each principal. Secrets are sealed at rest.

    Every method works inside the transaction that it is given and has no effect when that is
    rolled back. ``principal_id`` is the directory's immutable id.
    """

    def seed(self, tx: Transaction, principal_id: str) -> Seed | None:
        """Return the principal's seed, or None."""

    def put(self, tx: Transaction, principal_id: str, secret: str, now_us: int) -> None:
        """Keep ``secret`` as the principal's only seed, unconfirmed, with last_counter -1."""

    def advance(self, tx: Transaction, principal_id: str, counter: int) -> bool:
        """Set last_counter to ``counter`` and confirm the seed, if last_counter is lower.

        Returns whether it was. Atomic: of two callers with one counter, one gets True, whatever
        process they are in.
        """

    def remove(self, tx: Transaction, principal_id: str) -> bool:
        """Forget the principal's seed; return whether there was one."""


class CodeVerdict(enum.StrEnum):
    """What became of a code."""

    OK = "ok"
    WRONG = "wrong"
    REPLAYED = "replayed"
    NOT_ENROLLED = "not_enrolled"


class Totp:
    """Enrols principals and accepts their codes, each once.

    ``clock`` tells the time and ``random_bytes(size)`` returns that many unpredictable bytes.
    """

    def __init__(
        self,
        store: SeedStore,
        clock: Clock,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._store = store
        self._clock = clock
        self._random_bytes = random_bytes

    def accept(self, tx: Transaction, principal_id: str, code: str) -> CodeVerdict:
        """Return OK, and burn the code, when it belongs to now or one step to either side.

        REPLAYED: right, but it or a later one was accepted before. ``tx`` must be writable, and
        must be committed for the code to be burnt. A principal without a seed costs the same work.
        """
        seed = self._store.seed(tx, principal_id)
        present = self._clock() // (STEP_S * SECOND_US)
        counter = _matching_counter(seed.secret if seed else _DECOY, code, present)
        if seed is None:
            return CodeVerdict.NOT_ENROLLED
        if counter is None:
            return CodeVerdict.WRONG
        if counter <= seed.last_counter or not self._store.advance(tx, principal_id, counter):
            return CodeVerdict.REPLAYED
        return CodeVerdict.OK

    def enrolled(self, tx: Transaction, principal_id: str) -> bool:
        """Return whether the principal has a seed, confirmed by a first code or not.

        An unconfirmed one counts: otherwise a new enrolment would, until its first code, let the
        password alone in.
        """
        return self._store.seed(tx, principal_id) is not None

    def enrol(self, tx: Transaction, principal_id: str) -> str:
        """Return a new secret in base32, which replaces any seed the principal had."""
        secret = base64.b32encode(self._random_bytes(SECRET_SIZE_BYTES)).decode("ascii")
        self._store.put(tx, principal_id, secret, self._clock())
        return secret


def _matching_counter(secret: str, code: str, present: int) -> int | None:
    """Return the latest counter near ``present`` whose code is ``code``, or None.

    pyotp's own comparison normalises, so that full-width digits pass (pyotp/utils.py): only six
    ASCII digits are compared at all, and all steps are, so that time does not tell which one.
    """
    if not (len(code) == CODE_DIGITS and code.isascii() and code.isdigit()):
        return None
    generator = pyotp.TOTP(secret, digits=CODE_DIGITS, interval=STEP_S)
    found = None
    for counter in range(max(present - WINDOW_STEPS, 0), present + WINDOW_STEPS + 1):
        if hmac.compare_digest(generator.generate_otp(counter), code):
            found = counter
    return found


def current_code(secret: str, now_us: int) -> str:
    """Return the six digits that belong to ``secret`` (base32) at ``now_us``."""
    generator = pyotp.TOTP(secret, digits=CODE_DIGITS, interval=STEP_S)
    return generator.generate_otp(now_us // (STEP_S * SECOND_US))


def provisioning_uri(secret: str, name: str, issuer: str) -> str:
    """Return the ``otpauth://`` URI that an authenticator app reads from a QR code."""
    generator = pyotp.TOTP(secret, digits=CODE_DIGITS, interval=STEP_S)
    return generator.provisioning_uri(name=name, issuer_name=issuer)


def split_secret(secret: str) -> tuple[str, str] | None:
    """Return (password, code) when ``secret`` is a password followed directly by six digits.

    None when it does not end in six ASCII digits or nothing stands before them. A password that
    itself ends in digits is no trouble: exactly the last six are the code.
    """
    password, code = secret[:-CODE_DIGITS], secret[-CODE_DIGITS:]
    if not password or not code.isascii() or not code.isdigit():
        return None
    return password, code

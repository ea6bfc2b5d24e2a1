"""Slowing down guessers: how long a login must wait after failures of the same origin.

Counts by (account, client network) and by client network alone, never by account alone: whoever
guesses elsewhere must not lock the real user out. Holds no storage. Imports only
``auth.directory`` for the spelling of names and ``gateway.model``.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from dataclasses import dataclass
from typing import Protocol

from auth.directory import fold
from gateway.model import SECOND_US, Clock, Transaction

FAILURES_LIMIT = 1_000_000
"""Where counting stops; the delay is at its longest far earlier."""

_IPV4_PREFIX_BITS = 24
_IPV6_PREFIX_BITS = 64


@dataclass(frozen=True, slots=True)
class ThrottleState:
    """How many failures in a row one key has, and when the last one was."""

    failures: int = 0
    last_failure_us: int = 0


class ThrottleStore(Protocol):
    """Keeps the states. Keys are 64 lower-case hex characters and say nothing about whom.

    Every method works inside the transaction that it is given.
    """

    def load(self, tx: Transaction, key: str) -> ThrottleState:
        """Return the key's state; no failures when there is none."""

    def save(self, tx: Transaction, key: str, state: ThrottleState) -> None:
        """Keep ``state`` for the key."""

    def clear(self, tx: Transaction, key: str) -> None:
        """Forget the key; no error when it is not known."""

    def purge(self, tx: Transaction, before_us: int) -> None:
        """Forget every key whose last failure was before ``before_us``."""


@dataclass(frozen=True, slots=True)
class ThrottleSettings:
    """How many failures are free, how the delay grows after them, and when all is forgotten.

    The delay begins at ``first_delay_s`` and doubles with each failure up to ``longest_delay_s``.
    """

    free_per_account: int = 5
    free_per_network: int = 50
    first_delay_s: int = 1
    longest_delay_s: int = 60
    forget_after_s: int = 15 * 60


class Throttle:
    """Tells logins how long to wait.

    ``key`` is a secret of at least 16 bytes: names are stored only as its HMAC, since people type
    passwords into the name field. Call ``wait_us`` first and, when it is 0, ``failed`` or
    ``succeeded`` after the attempt; an attempt that was told to wait is neither.
    """

    def __init__(
        self,
        store: ThrottleStore,
        clock: Clock,
        settings: ThrottleSettings,
        key: bytes,
    ) -> None:
        if len(key) < 16:
            raise ValueError("The throttle's key is shorter than 16 bytes.")
        self._store = store
        self._clock = clock
        self._settings = settings
        self._key = key

    def wait_us(self, tx: Transaction, name: str, address: str) -> int:
        """Return how long ``name`` from ``address`` must still wait, in microseconds; 0: go on."""
        return max(self._left_us(tx, key, free) for key, free in self._keys(name, address))

    def failed(self, tx: Transaction, name: str, address: str) -> None:
        """Count a failed login of ``name`` from ``address``."""
        now_us = self._clock()
        for key, _ in self._keys(name, address):
            failures = self._present(self._store.load(tx, key), now_us).failures + 1
            self._store.save(tx, key, ThrottleState(min(failures, FAILURES_LIMIT), now_us))

    def succeeded(self, tx: Transaction, name: str, address: str) -> None:
        """Forget the failures of ``name`` from ``address``.

        Those of the network stay, or one known account would let an attacker reset them.
        """
        (key, _), _ = self._keys(name, address)
        self._store.clear(tx, key)

    def forget(self, tx: Transaction) -> None:
        """Drop states that no longer matter; for the janitor."""
        self._store.purge(tx, self._clock() - self._settings.forget_after_s * SECOND_US)

    def _keys(self, name: str, address: str) -> tuple[tuple[str, int], tuple[str, int]]:
        network = client_network(address)
        # The domain is dropped and the rest folded, or one account would have many counters.
        account = fold(name.rpartition("\\")[2])
        return (
            (self._hashed("account", account, network), self._settings.free_per_account),
            (self._hashed("network", network), self._settings.free_per_network),
        )

    def _hashed(self, *parts: str) -> str:
        data = "\0".join(part.replace("\0", "") for part in parts)
        return hmac.new(self._key, data.encode("utf-8", "replace"), hashlib.sha256).hexdigest()

    def _present(self, state: ThrottleState, now_us: int) -> ThrottleState:
        forgotten = now_us - state.last_failure_us >= self._settings.forget_after_s * SECOND_US
        return ThrottleState() if forgotten else state

    def _left_us(self, tx: Transaction, key: str, free: int) -> int:
        now_us = self._clock()
        state = self._present(self._store.load(tx, key), now_us)
        over = state.failures - free
        if over < 0:
            return 0
        # Beyond 32 doublings only the longest delay is left, and the number would grow for ever.
        grown_s = self._settings.first_delay_s << min(over, 32)
        delay_us = min(grown_s, self._settings.longest_delay_s) * SECOND_US
        # A clock set back must not turn into a longer wait.
        return min(max(state.last_failure_us + delay_us - now_us, 0), delay_us)


def client_network(address: str) -> str:
    """Return the /24 (IPv4) or /64 (IPv6) that ``address`` lies in; other text as it is.

    An IPv4 address written as IPv6 counts as IPv4, and a zone (``%eth0``) is dropped.
    """
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped:
        parsed = parsed.ipv4_mapped
    prefix_bits = _IPV4_PREFIX_BITS if parsed.version == 4 else _IPV6_PREFIX_BITS
    return str(ipaddress.ip_network((parsed, prefix_bits), strict=False))

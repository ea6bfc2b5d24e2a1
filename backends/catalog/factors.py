"""Statements over code seeds and login throttles: the SQL stores behind ``auth``.

The records of ``auth`` are not imported here (the two packages never import each other); ``app``
hands in the constructors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

import sqlalchemy as sa

from backends.catalog.schema import throttles, totp_seeds
from backends.catalog.statement import Command, Query, insert, parameter
from backends.keyring import RecordCipher
from gateway.model import Transaction

NO_COUNTER = -1

_THIS_PRINCIPAL = totp_seeds.c.principal_id == parameter("of_principal")
_SEED = Query(
    sa.select(totp_seeds.c.seed_sealed, totp_seeds.c.last_counter, totp_seeds.c.confirmed).where(
        _THIS_PRINCIPAL
    )
)
_INSERT_SEED = insert(totp_seeds)
_ADVANCE = Command(
    totp_seeds.update()
    .where(_THIS_PRINCIPAL, totp_seeds.c.last_counter < parameter("counter"))
    .values(last_counter=parameter("counter"), confirmed=True)
)
_REMOVE_SEED = Command(totp_seeds.delete().where(_THIS_PRINCIPAL))

_THIS_KEY = throttles.c.key == parameter("this_key")
_THROTTLE = Query(sa.select(throttles.c.failures, throttles.c.last_failure_us).where(_THIS_KEY))
_INSERT_THROTTLE = insert(throttles)
_REMOVE_THROTTLE = Command(throttles.delete().where(_THIS_KEY))
_PURGE_THROTTLES = Command(
    throttles.delete().where(throttles.c.last_failure_us < parameter("before_us"))
)

Seed = TypeVar("Seed")
State = TypeVar("State", bound="StateLike")


class StateLike(Protocol):
    """The shape of ``auth.throttle.ThrottleState``."""

    @property
    def failures(self) -> int:
        """Failures in a row."""

    @property
    def last_failure_us(self) -> int:
        """When the last one was."""


class SqlSeedStore(Generic[Seed]):
    """Implements ``auth.totp.SeedStore``; ``make_seed(secret, last_counter, confirmed)``."""

    def __init__(self, cipher: RecordCipher, make_seed: Callable[[str, int, bool], Seed]) -> None:
        self._cipher = cipher
        self._make_seed = make_seed

    def seed(self, tx: Transaction, principal_id: str) -> Seed | None:
        row = _SEED.first(tx, of_principal=principal_id)
        if row is None:
            return None
        sealed, last_counter, confirmed = row
        secret = self._cipher.unseal(sealed, principal_id.encode("utf-8"))
        return self._make_seed(secret.decode("ascii"), last_counter, bool(confirmed))

    def put(self, tx: Transaction, principal_id: str, secret: str, now_us: int) -> None:
        self.remove(tx, principal_id)
        sealed = self._cipher.seal(secret.encode("ascii"), principal_id.encode("utf-8"))
        _INSERT_SEED.run(
            tx,
            principal_id=principal_id,
            seed_sealed=sealed,
            last_counter=NO_COUNTER,
            confirmed=False,
            created_us=now_us,
        )

    def advance(self, tx: Transaction, principal_id: str, counter: int) -> bool:
        return bool(_ADVANCE.run(tx, of_principal=principal_id, counter=counter))

    def remove(self, tx: Transaction, principal_id: str) -> bool:
        return bool(_REMOVE_SEED.run(tx, of_principal=principal_id))


class SqlThrottleStore(Generic[State]):
    """Implements ``auth.throttle.ThrottleStore``; ``make_state(failures, last_failure_us)``."""

    def __init__(self, make_state: Callable[[int, int], State]) -> None:
        self._make_state = make_state

    def load(self, tx: Transaction, key: str) -> State:
        row = _THROTTLE.first(tx, this_key=key)
        return self._make_state(*row) if row else self._make_state(0, 0)

    def save(self, tx: Transaction, key: str, state: State) -> None:
        self.clear(tx, key)
        _INSERT_THROTTLE.run(
            tx, key=key, failures=state.failures, last_failure_us=state.last_failure_us
        )

    def clear(self, tx: Transaction, key: str) -> None:
        _REMOVE_THROTTLE.run(tx, this_key=key)

    def purge(self, tx: Transaction, before_us: int) -> None:
        _PURGE_THROTTLES.run(tx, before_us=before_us)

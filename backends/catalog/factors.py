"""Statements over code seeds and login throttles: the SQL stores behind ``auth``.

The records of ``auth`` are not imported here (the two packages never import each other); ``app``
hands in the constructors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

import sqlalchemy as sa

from backends.catalog.engine import connection_of, writer_of
from backends.catalog.schema import throttles, totp_seeds
from backends.keyring import RecordCipher
from gateway.model import Transaction

NO_COUNTER = -1

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
        row = (
            connection_of(tx)
            .execute(sa.select(totp_seeds).where(totp_seeds.c.principal_id == principal_id))
            .first()
        )
        if row is None:
            return None
        secret = self._cipher.unseal(row.seed_sealed, principal_id.encode("utf-8"))
        return self._make_seed(secret.decode("ascii"), row.last_counter, row.confirmed)

    def put(self, tx: Transaction, principal_id: str, secret: str, now_us: int) -> None:
        self.remove(tx, principal_id)
        sealed = self._cipher.seal(secret.encode("ascii"), principal_id.encode("utf-8"))
        writer_of(tx).execute(
            totp_seeds.insert(),
            {
                "principal_id": principal_id,
                "seed_sealed": sealed,
                "last_counter": NO_COUNTER,
                "confirmed": False,
                "created_us": now_us,
            },
        )

    def advance(self, tx: Transaction, principal_id: str, counter: int) -> bool:
        result = writer_of(tx).execute(
            totp_seeds.update()
            .where(totp_seeds.c.principal_id == principal_id, totp_seeds.c.last_counter < counter)
            .values(last_counter=counter, confirmed=True)
        )
        return bool(result.rowcount)

    def remove(self, tx: Transaction, principal_id: str) -> bool:
        result = writer_of(tx).execute(
            totp_seeds.delete().where(totp_seeds.c.principal_id == principal_id)
        )
        return bool(result.rowcount)


class SqlThrottleStore(Generic[State]):
    """Implements ``auth.throttle.ThrottleStore``; ``make_state(failures, last_failure_us)``."""

    def __init__(self, make_state: Callable[[int, int], State]) -> None:
        self._make_state = make_state

    def load(self, tx: Transaction, key: str) -> State:
        row = connection_of(tx).execute(sa.select(throttles).where(throttles.c.key == key)).first()
        return (
            self._make_state(row.failures, row.last_failure_us) if row else self._make_state(0, 0)
        )

    def save(self, tx: Transaction, key: str, state: State) -> None:
        self.clear(tx, key)
        writer_of(tx).execute(
            throttles.insert(),
            {
                "key": key,
                "failures": state.failures,
                "last_failure_us": state.last_failure_us,
            },
        )

    def clear(self, tx: Transaction, key: str) -> None:
        writer_of(tx).execute(throttles.delete().where(throttles.c.key == key))

    def purge(self, tx: Transaction, before_us: int) -> None:
        writer_of(tx).execute(throttles.delete().where(throttles.c.last_failure_us < before_us))

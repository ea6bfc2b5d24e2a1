"""What must happen though no client asks: log-off, account re-checks, checkpoints, and care.

Runs in a thread of the supervisor, about once a second, with work that takes a moment; care of what
is stored, which may take minutes, has a thread of its own (``gateway.care.rounds``). Imports the
wiring's ``Gateway``.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace

from auth.authenticator import principal_of
from auth.errors import AuthError, DirectoryUnavailableError
from backends.catalog import journal, leases, locks
from backends.catalog import sessions as session_rows
from gateway.app import Gateway
from gateway.audit.record import Record, session_record
from gateway.care.rounds import Rounds
from gateway.errors import SealgateError
from gateway.model import SECOND_US, Outcome, Session

ROUND_S = 1.0
"""How long the janitor rests between two rounds."""

RECHECK_US = 60 * SECOND_US
"""How often the accounts behind living sessions are looked up in the directory."""

TIDY_US = 300 * SECOND_US
"""How often rows that no longer matter are removed."""

CARE_LIMIT_S = 3.0
"""How long care may take to notice that it should stop."""

KEEP_ENDED_US = 24 * 3600 * SECOND_US
"""How long the row of an ended session stays, for ``sealgate sessions``."""

ACCOUNT_GONE = "account-removed-or-disabled"

log = logging.getLogger(__name__)


class Janitor:
    """``run`` in a thread of its own, or call ``run_due`` about once a second."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._care = Rounds(gateway)
        self._rechecked_us = gateway.clock()
        self._tidied_us = 0
        self._checkpointed_us = 0

    def run(self, stop: threading.Event) -> None:
        """Do what is due, about once a second, until ``stop`` is set."""
        care = threading.Thread(target=self._care.run, args=(stop,), name="care", daemon=True)
        care.start()
        while not stop.wait(ROUND_S):
            self.run_prompt()
        care.join(CARE_LIMIT_S)

    def run_due(self) -> None:
        """Do all that is due, care included; what fails is logged and tried again next time."""
        self.run_prompt()
        self._care.run_due()

    def run_prompt(self) -> None:
        """Do what is due and takes a moment."""
        now_us = self._gateway.clock()
        self._try("log-off", self._gateway.login.end_overdue)
        self._try("checkpoint", lambda: self._checkpoint(now_us))
        if now_us - self._rechecked_us >= RECHECK_US:
            self._rechecked_us = now_us
            self._try("account re-check", self.recheck_accounts)
        if now_us - self._tidied_us >= TIDY_US:
            self._tidied_us = now_us
            self._try("tidying", lambda: self._tidy(now_us))

    @staticmethod
    def _try(what: str, task: Callable[[], object]) -> None:
        try:
            task()
        except SealgateError as error:
            log.error("janitor: %s: %s", what, error)
        except Exception as error:  # noqa: BLE001  one task's bug must not stop the others
            log.error("janitor: %s failed with %s", what, type(error).__name__)

    def recheck_accounts(self) -> None:
        """End what accounts have that are gone or disabled, and refresh memberships.

        That is their sessions, leases and locks.
        """
        gateway = self._gateway
        with gateway.catalog.snapshot() as tx:
            sessions = gateway.sessions.live(tx)
            holders = locks.holders(tx, gateway.clock())
        leased = {lease.principal_id for lease in gateway.login.leases()}
        by_principal: dict[str, list[Session]] = {who: [] for who in {*holders, *leased}}
        for session in sessions:
            by_principal.setdefault(session.principal.id, []).append(session)
        for principal_id, living in by_principal.items():
            try:
                account = gateway.directory.refresh(principal_id)
            except DirectoryUnavailableError as error:
                # Sessions outlive a directory that is down for a while; they idle out anyway.
                log.warning("janitor: account re-check: %s", error)
                return
            except AuthError as error:
                log.error("janitor: account re-check: %s", error)
                continue
            if account is None or not account.enabled:
                for session in living:
                    gateway.login.log_off(session, ACCOUNT_GONE, Outcome.EXPIRED)
                gateway.login.end_leases(principal_id, ACCOUNT_GONE)
                if principal_id in holders:
                    self._drop_locks(principal_id, holders[principal_id])
                continue
            principal = principal_of(account)
            changed = [session for session in living if session.principal != principal]
            if changed:
                with gateway.journal.begin() as tx:
                    for session in changed:
                        fresh = replace(session, principal=principal)
                        gateway.sessions.set_principal(tx, fresh)
                        record = session_record("groups_changed", Outcome.OK, fresh)
                        gateway.journal.append(tx, record)

    def _drop_locks(self, principal_id: str, name: str) -> None:
        """Remove the locks of an account that is gone, which nobody could give back."""
        with self._gateway.journal.begin() as tx:
            count = locks.remove_of(tx, principal_id)
            if not count:
                return
            record = Record(
                action="unlock",
                outcome=Outcome.EXPIRED,
                principal_id=principal_id,
                principal_name=name,
                rule=ACCOUNT_GONE,
                count=count,
            )
            self._gateway.journal.append(tx, record)

    def checkpoint(self) -> None:
        """Make a checkpoint now."""
        self._checkpointed_us = self._gateway.clock()
        self._gateway.checkpoint()

    def _checkpoint(self, now_us: int) -> None:
        """Make a checkpoint when the last one is old, or when many records came since."""
        gateway = self._gateway
        settings = gateway.config.audit
        due = now_us - self._checkpointed_us >= settings.checkpoint_interval_s * SECOND_US
        if not due:
            with gateway.catalog.snapshot() as tx:
                newer = journal.count_since(tx, self._checkpointed_us, settings.checkpoint_records)
            due = newer >= settings.checkpoint_records
        if due:
            self.checkpoint()

    def _tidy(self, now_us: int) -> None:
        gateway = self._gateway
        with gateway.catalog.begin() as tx:
            locks.remove_expired(tx, now_us)
            gateway.throttle.forget(tx)
            leases.remove_over(tx, now_us)
            session_rows.forget_ended(tx, now_us - KEEP_ENDED_US)

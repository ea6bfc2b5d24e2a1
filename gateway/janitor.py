"""What must happen though no client asks: log-off, account re-checks, clearing away.

Runs in the supervisor, once a second; each round is a bounded piece of work. Imports the wiring's
``Gateway``.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from auth.authenticator import principal_of
from auth.errors import AuthError
from backends.catalog import journal, locks
from backends.catalog import sessions as session_rows
from backends.errors import StorageError
from gateway.app import Gateway
from gateway.audit.checkpoint import AnchorError
from gateway.audit.record import Record
from gateway.errors import AuditUnavailableError
from gateway.model import SECOND_US, Outcome, Session, Wire

RECHECK_US = 60 * SECOND_US
"""How often the accounts behind living sessions are looked up in the directory."""

TIDY_US = 300 * SECOND_US
"""How often rows that no longer matter are removed."""

KEEP_ENDED_US = 24 * 3600 * SECOND_US
"""How long the row of an ended session stays, for ``sealgate sessions``."""

ACCOUNT_GONE = "account-removed-or-disabled"

log = logging.getLogger(__name__)


class Janitor:
    """Call ``run_due`` about once a second. Not thread-safe."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._rechecked_us = gateway.clock()
        self._tidied_us = 0
        self._checkpointed_us = 0

    def run_due(self) -> None:
        """Do what is due; a failing catalog or directory is logged and tried again next time."""
        now_us = self._gateway.clock()
        try:
            self._gateway.login.end_overdue()
            self._checkpoint(now_us)
            if now_us - self._rechecked_us >= RECHECK_US:
                self._rechecked_us = now_us
                self.recheck_accounts()
            if now_us - self._tidied_us >= TIDY_US:
                self._tidied_us = now_us
                self._tidy(now_us)
        except (StorageError, AuditUnavailableError, AnchorError) as error:
            log.error("janitor: %s", error)

    def recheck_accounts(self) -> None:
        """End the sessions of accounts that are gone or disabled; refresh group memberships."""
        gateway = self._gateway
        with gateway.catalog.snapshot() as tx:
            sessions = gateway.sessions.live(tx)
        by_principal: dict[str, list[Session]] = {}
        for session in sessions:
            by_principal.setdefault(session.principal.id, []).append(session)
        for principal_id, living in by_principal.items():
            try:
                account = gateway.directory.refresh(principal_id)
            except AuthError as error:
                # Sessions outlive a directory that is down for a while; they idle out anyway.
                log.warning("janitor: account re-check: %s", error)
                return
            if account is None or not account.enabled:
                for session in living:
                    gateway.login.log_off(session, ACCOUNT_GONE, Outcome.EXPIRED)
                continue
            principal = principal_of(account)
            changed = [session for session in living if session.principal != principal]
            if changed:
                with gateway.catalog.begin() as tx:
                    for session in changed:
                        session_rows.set_principal(tx, replace(session, principal=principal))

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
            session_rows.forget_ended(tx, now_us - KEEP_ENDED_US)
        with gateway.journal.begin() as tx:
            expired = gateway.vault.expire(tx)
            if expired:
                gateway.journal.append(tx, _housekeeping("expire", expired))
        collected = gateway.vault.collect(gateway.catalog)
        if collected:
            gateway.journal.append_durably(_housekeeping("gc", collected))


def _housekeeping(action: str, count: int) -> Record:
    """Return the record of ``count`` things cleared away because the configuration says so."""
    return Record(action=action, outcome=Outcome.OK, protocol=Wire.ADMIN.value, count=count)

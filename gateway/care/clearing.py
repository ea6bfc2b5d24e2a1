"""Clearing away what a share no longer keeps and what nothing needs any more.

Every transaction is bounded and holds the record of what it removed. Imports the wiring's
``Gateway``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass

from backends import gc
from backends.catalog.engine import giving_way
from gateway.app import Gateway
from gateway.audit.record import Record
from gateway.errors import SealgateError
from gateway.model import Outcome, Transaction, Wire

log = logging.getLogger(__name__)

EXPIRE = "expire"
COLLECT = "gc"


@dataclass(slots=True)
class Cleared:
    """How much went. ``failed`` are the shares in which something could not be cleared away."""

    versions: int = 0
    trashed: int = 0
    uploads: int = 0
    segments: int = 0
    failed: tuple[str, ...] = ()

    def counts(self) -> dict[str, int]:
        """Return the numbers by name."""
        return {name: value for name, value in asdict(self).items() if isinstance(value, int)}


class Clearing:
    """Clears away; ``principal_name`` is who asked, empty for the gateway itself."""

    def __init__(
        self,
        gateway: Gateway,
        *,
        principal_name: str = "",
        going: Callable[[], bool] = lambda: True,
    ) -> None:
        """``going`` is asked between two transactions whether to go on."""
        self._gateway = gateway
        self._principal_name = principal_name
        self._going = going

    def run(self, *, strays: bool) -> Cleared:
        """Clear everything away; ``strays``: blobs that no row names too, all of the blob store."""
        gateway, cleared = self._gateway, Cleared()
        for name in gateway.config.shares:
            try:
                self._expire(name, cleared)
            except SealgateError as error:
                # A damaged share must not keep the others from being cleared away.
                log.error("clearing away in share '%s': %s", name, error)
                cleared.failed += (name,)
        with gateway.catalog.begin() as tx:
            gc.forget(tx, gateway.clock())
        if self._going():
            cleared.segments = gateway.vault.collect_unused(gateway.journal.begin, self._forgotten)
        if strays and self._going():
            count = gateway.vault.collect_strays(gateway.catalog)
            cleared.segments += count
            if count:
                gateway.journal.append_durably(self._record(COLLECT, "", count))
        return cleared

    def _forgotten(self, tx: Transaction, count: int) -> None:
        self._gateway.journal.append(tx, self._record(COLLECT, "", count))

    def _expire(self, name: str, cleared: Cleared) -> None:
        vault = self._gateway.vault
        after: bytes | None = b""
        while after is not None and self._going():
            # Found beside the users' work: only what goes is done while they wait.
            with self._gateway.catalog.snapshot() as tx:
                files, after = vault.prunable(tx, name, after)
            if files:
                with giving_way(), self._gateway.journal.begin() as tx:
                    count = vault.prune(tx, name, files)
                    self._note(tx, name, count)
                cleared.versions += count
        count = 1
        while count and self._going():
            with giving_way(), self._gateway.journal.begin() as tx:
                count = vault.purge_next(tx, name)
                self._note(tx, name, count)
            cleared.trashed += count
        count = 1
        while count and self._going():
            with giving_way(), self._gateway.journal.begin() as tx:
                count = vault.unfinished.expire_next(tx, vault.share(tx, name))
                self._note(tx, name, count)
            cleared.uploads += count

    def _note(self, tx: Transaction, name: str, count: int) -> None:
        if count:
            self._gateway.journal.append(tx, self._record(EXPIRE, name, count))

    def _record(self, action: str, name: str, count: int) -> Record:
        return Record(
            action=action,
            outcome=Outcome.OK,
            principal_name=self._principal_name,
            protocol=Wire.ADMIN.value,
            share=name,
            count=count,
        )

"""Care in a running gateway: what is due, spread over the day in bounded pieces.

In a thread of its own: clearing away and reading take as long as they take, and must not hold up
log-offs. Each piece of reading is a megabyte, after which it rests and looks whether to stop.
Imports the wiring's ``Gateway``.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from backends.catalog import keys, segments
from backends.catalog.segments import Due
from backends.scrub.finding import Finding
from backends.scrub.reading import Pace, StoppedError
from gateway.app import Gateway
from gateway.care.clearing import Clearing
from gateway.care.scrubbing import Scrubbing, configured_shares
from gateway.care.turn import Turn
from gateway.errors import SealgateError
from gateway.model import SECOND_US

ROUND_S = 5.0
"""How long the thread rests between two looks at what is due."""

BITE_US = 60 * SECOND_US
"""How often segments are read: each time as many as a minute's share of the cycle."""

CLEAR_US = 300 * SECOND_US
"""How often what is no longer kept is cleared away."""

HASH_US = 3600 * SECOND_US
"""How often contents are looked for whose SHA-256 is not known."""

DAY_US = 24 * 3600 * SECOND_US

_DAILY = "care_daily_us"
_FOREVER_US = 1 << 62

log = logging.getLogger(__name__)


class Rounds:
    """``run`` in a thread of its own, or call ``run_due`` now and then."""

    def __init__(self, gateway: Gateway) -> None:
        now_us = gateway.clock()
        self._gateway = gateway
        self._stop = threading.Event()
        self._turn = Turn(gateway.catalog, gateway.clock, gateway.journal.id)
        self._cleared_us = 0
        self._bitten_us = now_us
        self._hashed_us = now_us
        self._credit_bytes = 0.0
        self._day = self._new_day()

    def run(self, stop: threading.Event) -> None:
        """Do what is due until ``stop`` is set, which also ends what is being done."""
        self._stop = stop
        self._day = self._new_day()
        while not stop.wait(ROUND_S):
            self.run_due()
        self._try("giving up its turn", self._turn.give_up)

    def run_due(self) -> None:
        """Do what is due, unless another process cares; what fails is tried again next time."""
        now_us = self._gateway.clock()
        clear = now_us - self._cleared_us >= CLEAR_US
        bite = now_us - self._bitten_us >= BITE_US
        if not (clear or bite):
            return
        mine = False

        def take() -> None:
            nonlocal mine
            mine = self._turn.take()

        self._try("taking its turn", take)
        if not mine:
            return
        if clear:
            self._cleared_us = now_us
            self._try("clearing away", lambda: self._clear(now_us))
        if bite:
            since_us, self._bitten_us = now_us - self._bitten_us, now_us
            self._try("scrub", lambda: self._bite(now_us, since_us))
        if now_us - self._hashed_us >= HASH_US:
            self._hashed_us = now_us
            self._try("hashing", lambda: self._day.hash_contents(self._bite_limit_bytes()))

    def _clear(self, now_us: int) -> None:
        daily = self._daily_is_due(now_us)

        def going() -> bool:
            # Asking keeps the turn, which a long clearing would outlast.
            return not self._stop.is_set() and self._turn.take()

        Clearing(self._gateway, going=going).run(strays=daily)
        if daily:
            self._try("scrub of the catalog", self._daily)

    def _daily_is_due(self, now_us: int) -> bool:
        """Return whether a day has passed; of all gateways over one catalog, for one of them."""
        with self._gateway.catalog.begin() as tx:
            stored = keys.setting(tx, _DAILY)
            # Without a mark the data is new: the first day begins now.
            due = stored is not None and not 0 <= now_us - _number(stored) < DAY_US
            if due or stored is None:
                keys.put_setting(tx, _DAILY, str(now_us).encode("ascii"))
        return due

    def _daily(self) -> None:
        """Judge the catalog, record what the day brought, and begin another."""
        self._day.check_rows()
        self._day.recheck_quarantine()
        report = self._day.conclude()
        for finding in report.findings:
            log.error("scrub: %s", _without_names(finding))
        self._day = self._new_day()

    def _bite(self, now_us: int, since_us: int) -> None:
        """Read a bite of what was verified longest ago.

        Each minute's share of the cycle is saved up, for a day at most, and a segment that is read
        beyond it is saved for later. What was not read for a whole cycle, because the gateway was
        down, is made up for as fast as the rate allows.
        """
        cycle_us = self._gateway.config.care.scrub_cycle_s * SECOND_US
        with self._gateway.catalog.snapshot() as tx:
            total_bytes = segments.due_bytes(tx, Due(_FOREVER_US, now_us))
            overdue_bytes = segments.due_bytes(tx, Due(now_us - cycle_us, now_us))
        saved_bytes = self._credit_bytes + total_bytes * since_us / cycle_us
        self._credit_bytes = min(saved_bytes, total_bytes * DAY_US / cycle_us)
        budget_bytes = min(max(self._credit_bytes, overdue_bytes), self._bite_limit_bytes())
        if budget_bytes > 0:
            span = Due(now_us - min(DAY_US, cycle_us), now_us)
            self._credit_bytes -= self._day.check_segments(span, int(budget_bytes) + 1)
            self._credit_bytes = max(self._credit_bytes, -total_bytes)

    def _bite_limit_bytes(self) -> int:
        return self._gateway.config.care.scrub_rate_bytes * BITE_US // SECOND_US

    def _new_day(self) -> Scrubbing:
        gateway = self._gateway
        pace = Pace(
            gateway.config.care.scrub_rate_bytes,
            gateway.clock,
            self._stop.wait,
            self._stop.is_set,
        )
        return Scrubbing(gateway, pace, shares=configured_shares(gateway), going=self._turn.take)

    @staticmethod
    def _try(what: str, task: Callable[[], object]) -> None:
        try:
            task()
        except StoppedError:
            return
        except SealgateError as error:
            log.error("care: %s: %s", what, error)
        except Exception as error:  # noqa: BLE001  one task's bug must not stop the others
            log.error("care: %s failed with %s", what, type(error).__name__)


def _without_names(finding: Finding) -> str:
    """Return what application logs may say: no path."""
    return f"share '{finding.share}', node {finding.node_id or '-'}: {finding.text}"


def _number(stored: bytes) -> int:
    try:
        return int(stored)
    except ValueError:
        return 0

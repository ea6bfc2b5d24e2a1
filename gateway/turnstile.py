"""How many logins may be undecided at once: in all, from one address, and for one account.

A login holds a thread while the directory answers and while a refusal is paused, so that without
limits a few strangers would take every thread; and parallel guesses at one account would all be
judged before the first failure counted. In this process only. Imports the errors of ``auth``.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Iterator

from auth.errors import LoginBusyError
from gateway.addresses import client_host

TOTAL_LIMIT = 32
ADDRESS_LIMIT = 12


class Turnstile:
    """Thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._by_address: Counter[str] = Counter()
        self._busy: set[tuple[str, str]] = set()

    @contextlib.contextmanager
    def passing(self, name: str, address: str) -> Iterator[None]:
        """Let one login for ``name`` from ``address`` through at a time.

        Raises LoginBusyError at once when too many are under way; those for the same account wait
        for each other, so that the second finds the session that the first has opened.
        """
        address = client_host(address)
        account = (name, address)
        with self._changed:
            if (
                self._by_address.total() >= TOTAL_LIMIT
                or self._by_address[address] >= ADDRESS_LIMIT
            ):
                raise LoginBusyError("Too many sign-ins are under way; try again in a moment.")
            self._by_address[address] += 1
            try:
                self._changed.wait_for(lambda: account not in self._busy)
                self._busy.add(account)
            except BaseException:
                self._leave(address)
                raise
        try:
            yield
        finally:
            with self._changed:
                self._busy.discard(account)
                self._leave(address)
                self._changed.notify_all()

    def _leave(self, address: str) -> None:
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]

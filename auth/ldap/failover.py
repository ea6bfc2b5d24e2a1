"""Several LDAP servers as one: kept connections, and the next server when one fails.

Imports the connection and the settings.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from auth.errors import DirectoryConfigError, DirectoryUnavailableError
from auth.ldap.link import SUCCESS, Link, LinkError, tls_context
from auth.ldap.settings import LdapSettings, Server

log = logging.getLogger(__name__)

IDLE_LIMIT = 8
"""How many idle connections are kept for each server and purpose."""

IDLE_AGE_S = 240.0
"""How long an idle connection is kept; shorter than the idle limits of common servers."""

DOWN_S = 30.0
"""How long a server that failed is asked only after all others."""

T = TypeVar("T")


class Links:
    """Kept connections to the servers, which are asked in their order, failing ones last."""

    def __init__(self, settings: LdapSettings, servers: tuple[Server, ...]) -> None:
        self._settings = settings
        self._servers = servers
        self._context = tls_context(settings.ca_file)
        self._lock = threading.Lock()
        self._idle: dict[tuple[Server, bool], deque[Link]] = {
            (server, bound): deque() for server in servers for bound in (True, False)
        }
        self._down_until: dict[Server, float] = {}

    def run(self, work: Callable[[Link], T], *, bound: bool) -> T:
        """Return what ``work`` returns on a connection of the first server that answers.

        ``bound``: the connection is bound as the service account. A kept connection that turns out
        to be dead is replaced by a fresh one, once. Raises DirectoryUnavailableError.
        """
        now = time.monotonic()
        with self._lock:
            order = sorted(self._servers, key=lambda one: self._down_until.get(one, 0.0) > now)
        for server in order:
            try:
                return self._run_on(server, work, bound=bound)
            except LinkError as error:
                log.warning("The directory server %s failed: %s.", server.url, error)
                with self._lock:
                    self._down_until[server] = time.monotonic() + DOWN_S
        raise DirectoryUnavailableError(
            "No directory server answered properly; try again in a minute. The log says why for"
            " each server."
        )

    def _run_on(self, server: Server, work: Callable[[Link], T], *, bound: bool) -> T:
        link = self._kept(server, bound=bound)
        if link is not None:
            try:
                return self._use(server, link, work, bound=bound)
            except LinkError as error:
                if error.slow:
                    raise
                self._drop_idle(server)
        link = Link(server, self._settings, self._context)
        try:
            if bound and self._settings.bind_dn:
                self._bind_service(link)
        except BaseException:
            link.close()
            raise
        return self._use(server, link, work, bound=bound)

    def _use(self, server: Server, link: Link, work: Callable[[Link], T], *, bound: bool) -> T:
        try:
            result = work(link)
        except BaseException:
            link.close()
            raise
        link.last_used = time.monotonic()
        with self._lock:
            self._down_until.pop(server, None)
            idle = self._idle[server, bound]
            idle.append(link)
            extra = idle.popleft() if len(idle) > IDLE_LIMIT else None
        if extra is not None:
            extra.close()
        return result

    def _bind_service(self, link: Link) -> None:
        code = link.bind(self._settings.bind_dn, self._settings.bind_password)
        if code != SUCCESS:
            raise DirectoryConfigError(
                f"The directory refused the gateway's own account (result {code}); mend bind_dn"
                " or bind_password."
            )

    def _kept(self, server: Server, *, bound: bool) -> Link | None:
        oldest = time.monotonic() - IDLE_AGE_S
        with self._lock:
            idle = self._idle[server, bound]
            stale = [link for link in idle if link.last_used < oldest]
            for link in stale:
                idle.remove(link)
            fresh = idle.pop() if idle else None
        for link in stale:
            link.close()
        return fresh

    def _drop_idle(self, server: Server) -> None:
        with self._lock:
            dropped = [link for bound in (True, False) for link in self._idle[server, bound]]
            for bound in (True, False):
                self._idle[server, bound].clear()
        for link in dropped:
            link.close()

    def close(self) -> None:
        """Close every idle connection."""
        for server in self._servers:
            self._drop_idle(server)

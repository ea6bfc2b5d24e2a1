"""The configuration's ``server.sftp`` section, with the algorithms that each listener offers.

Imports pydantic, the field types and the algorithms' own records.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Literal

from pydantic import Field

from auth.directory import membership
from gateway.config.fields import (
    Banner,
    Day,
    Endpoints,
    ExceptionName,
    FilePaths,
    FromText,
    Line,
    Networks,
    ShortTime,
    Users,
    WeakerAlgorithms,
    Workers,
)
from gateway.config.scalars import LEGACY_WORD, Endpoint, one_of
from gateway.config.section import Section
from gateway.model import SECOND_US
from gateway.sftp.algorithms import LEGACY, PROFILES, LegacyException, ListenerAlgorithms


class LegacyConfig(Section):
    """A further SFTP listener that also offers what old clients need, to everyone who reaches it."""

    listen: Endpoints
    """Addresses and ports of that listener, one or a list; best reachable by those clients alone."""
    until: Day
    """The last day (UTC) on which it does, at most two years ahead; then it offers the same as all
    others."""
    reason: Line
    """Why it is needed, for whoever reads this next."""

    @property
    def ends_us(self) -> int:
        """When it is over."""
        return end_of(self.until)


class ExceptionConfig(Section):
    """Weaker algorithms for some users from some networks."""

    networks: Networks
    """The addresses that are offered these algorithms, one network or a list."""
    users: Users
    """The login names that may log in with them, one or a list."""
    algorithms: WeakerAlgorithms
    """What is offered besides: legacy (all of a legacy listener), or algorithms by name, such as
    ssh-rsa; one or a list."""
    until: Day
    """The last day (UTC) of the exception, at most two years ahead."""
    reason: Line
    """Why it is needed, for whoever reads this next."""

    @property
    def ends_us(self) -> int:
        """When it is over."""
        return end_of(self.until)

    def named(self, name: str) -> LegacyException:
        """Return the exception of that name as listeners know it."""
        opened = set(self.algorithms) - {LEGACY_WORD}
        if LEGACY_WORD in self.algorithms:
            opened |= set(LEGACY)
        return LegacyException(
            name,
            frozenset(opened),
            self.networks,
            frozenset(membership("user", user) for user in self.users),
            self.ends_us,
        )


class SftpConfig(Section):
    """The SFTP door."""

    addresses: Endpoints = Field(
        default=(Endpoint("0.0.0.0", 2022),),  # noqa: S104  a gateway serves its network
        alias="listen",
    )
    """Addresses and ports to listen on, one or a list: "0.0.0.0:2022", "[::]:2022"."""
    host_keys: FilePaths
    """SSH host keys in OpenSSH form, readable by the gateway alone, at most one of a type; best one
    Ed25519 and one ECDSA, which old clients know."""
    algorithms: Annotated[Literal["modern", "fips"], FromText(one_of(*PROFILES), "modern")] = (
        "modern"
    )
    """What is offered: "modern", or "fips" for what NIST has approved and nothing else (no
    Curve25519, no Ed25519 keys of hosts or users)."""
    legacy: LegacyConfig | None = None
    """A further listener for old clients; none when left out."""
    exceptions: dict[ExceptionName, ExceptionConfig] = Field(default_factory=dict)
    """Weaker algorithms for some users from some networks, by a name of your own."""
    workers: Workers | None = None
    """How many worker processes serve SFTP; one for each processor core when left out."""
    login_timeout_s: ShortTime = Field(default=30, alias="login_timeout")
    """How long a connection may take to log in before it is closed."""
    banner: Banner | None = None
    """Text shown to everyone before the login."""

    @property
    def listen(self) -> tuple[Endpoint, ...]:
        """Every address and port, the legacy listener's last."""
        return (*self.addresses, *(self.legacy.listen if self.legacy is not None else ()))

    def place_of(self, endpoint: Endpoint) -> str:
        """Return the key in the file under which ``endpoint`` stands."""
        named = endpoint in self.addresses
        return "server.sftp.listen" if named else "server.sftp.legacy.listen"

    def offered_at(self, endpoint: Endpoint) -> ListenerAlgorithms:
        """Return what the listener at ``endpoint`` offers."""
        legacy = self.legacy if self.legacy and endpoint in self.legacy.listen else None
        return ListenerAlgorithms(
            PROFILES[self.algorithms],
            legacy.ends_us if legacy is not None else 0,
            tuple(each.named(name) for name, each in self.exceptions.items()),
        )


def end_of(day: date) -> int:
    """Return the first moment after ``day`` in UTC, in microseconds since 1970."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
    return int(midnight.timestamp()) * SECOND_US

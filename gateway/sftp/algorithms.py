"""Which SSH algorithms a listener offers: the profiles, and the exceptions for old clients.

Pure: no I/O, no clock and no SSH library, so that a configuration is checked without one. Imports
the shared nouns only. docs/ALGORITHMS.md gives the reasons.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address

from gateway.model import Principal

LEGACY_PLACE = "server.sftp.legacy"
EXCEPTIONS_PLACE = "server.sftp.exceptions"
"""Where the configuration opens what its profile leaves out; audit records name these places."""

POST_QUANTUM = frozenset(
    {"mlkem768x25519-sha256", "mlkem768nistp256-sha256", "mlkem1024nistp384-sha384"}
)
"""Key exchanges that are offered only where the crypto library of the machine has them."""


@dataclass(frozen=True, slots=True)
class Algorithms:
    """Names of SSH algorithms by what they do, best first.

    ``signatures`` bounds host keys and users' keys alike, so that SHA-1 proves nothing.
    """

    kex: tuple[str, ...]
    ciphers: tuple[str, ...]
    macs: tuple[str, ...]
    signatures: tuple[str, ...]

    @property
    def names(self) -> frozenset[str]:
        """All of them."""
        return frozenset((*self.kex, *self.ciphers, *self.macs, *self.signatures))

    def extended(self, names: Iterable[str]) -> Algorithms:
        """Return these and the named ones of ``WEAKER``, which come last."""
        wanted = frozenset(names)

        def with_more(own: tuple[str, ...], more: tuple[str, ...]) -> tuple[str, ...]:
            return (*own, *(name for name in more if name in wanted and name not in own))

        return Algorithms(
            kex=with_more(self.kex, WEAKER.kex),
            ciphers=with_more(self.ciphers, WEAKER.ciphers),
            macs=with_more(self.macs, WEAKER.macs),
            signatures=with_more(self.signatures, WEAKER.signatures),
        )


# AES-GCM carries its own tag, so the MACs of the profiles are never used; but a key exchange
# without a common MAC name fails with clients that compare the lists all the same. None is
# encrypt-then-MAC: beside CTR and with a client that does not know strict key exchange, those are
# open to prefix truncation (Terrapin, CVE-2023-48795).
_MACS = ("hmac-sha2-256", "hmac-sha2-512")
_GCM = ("aes256-gcm@openssh.com", "aes128-gcm@openssh.com")
_ECDH = ("ecdh-sha2-nistp256", "ecdh-sha2-nistp384", "ecdh-sha2-nistp521")
_ECDSA = (
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ecdsa-sha2-nistp256@openssh.com",
)
_RSA = ("rsa-sha2-512", "rsa-sha2-256")

MODERN = Algorithms(
    kex=("mlkem768x25519-sha256", "curve25519-sha256", "curve25519-sha256@libssh.org", *_ECDH),
    ciphers=_GCM,
    macs=_MACS,
    signatures=("ssh-ed25519", "sk-ssh-ed25519@openssh.com", *_ECDSA, *_RSA),
)
"""Only AES-GCM, which is also the fastest here; no SHA-1 anywhere."""

FIPS = Algorithms(
    kex=(
        "mlkem768nistp256-sha256",
        "mlkem1024nistp384-sha384",
        *_ECDH,
        "diffie-hellman-group16-sha512",
        "diffie-hellman-group14-sha256",
    ),
    ciphers=_GCM,
    macs=_MACS,
    signatures=(*_ECDSA, *_RSA),
)
"""What NIST has approved and nothing else: no Curve25519, no Ed25519 of hosts or of users."""

PROFILES = {"modern": MODERN, "fips": FIPS}

WEAKER = Algorithms(
    kex=(
        "diffie-hellman-group16-sha512",
        "diffie-hellman-group14-sha256",
        "diffie-hellman-group14-sha1",
    ),
    ciphers=("aes256-ctr", "aes192-ctr", "aes128-ctr"),
    macs=(*_MACS, "hmac-sha1"),
    signatures=("ssh-rsa",),
)
"""All that can be opened beside a profile, on a legacy listener or by an exception."""

LEGACY = ("diffie-hellman-group14-sha256", "aes256-ctr", "aes192-ctr", "aes128-ctr", *_MACS)
"""What ``legacy`` adds to a profile, for scanners with JSch 0.1.55 and the like."""

NEVER = {
    "-cbc": "CBC lets whoever is on the line read parts of the traffic",
    "arcfour": "RC4 is broken",
    "chacha20": "it costs twice what AES-GCM does, and every client that has it has AES-GCM",
    "md5": "MD5 is broken",
    "-96": "its tag is too short",
    "umac-": "every client that has it has a SHA-2 MAC too",
    "-etm@": "beside CTR it is open to prefix truncation (Terrapin)",
    "ssh-dss": "DSA keys of 1024 bits can be broken",
    "group1-": "its group of 1024 bits can be broken",
    "group-exchange": "whoever is on the line can talk it down to a small group",
}
"""Parts of names that no exception opens, and why."""


@dataclass(frozen=True, slots=True)
class LegacyException:
    """What some users may use besides the profile, from some networks, until some time.

    ``members`` are the users as principals' memberships name them (``user:scanner``).
    """

    name: str
    algorithms: frozenset[str]
    networks: tuple[IPv4Network | IPv6Network, ...]
    members: frozenset[str]
    ends_us: int

    @property
    def place(self) -> str:
        """Where it stands in the configuration."""
        return f"{EXCEPTIONS_PLACE}.{self.name}"

    def covers(self, address: str, now_us: int) -> bool:
        """Return whether it lives and ``address`` (numeric) lies in one of its networks."""
        if now_us >= self.ends_us:
            return False
        try:
            parsed = ip_address(address.partition("%")[0])
        except ValueError:
            return False
        # A dual-stack listener reports IPv4 clients as ::ffff:a.b.c.d.
        if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
            parsed = parsed.ipv4_mapped
        return any(parsed in network for network in self.networks)


@dataclass(frozen=True, slots=True)
class Ruling:
    """Whether a log-in may stand on the algorithms that were used for it.

    ``rule`` is the place in the configuration that decided; empty where the profile suffices.
    ``algorithms`` are what the connection may use from now on.
    """

    allowed: bool
    rule: str
    algorithms: Algorithms


@dataclass(frozen=True, slots=True)
class Offer:
    """What a listener offers to one address: its own algorithms, and those of exceptions."""

    profile: Algorithms
    own: Algorithms
    exceptions: tuple[LegacyException, ...] = ()

    @property
    def algorithms(self) -> Algorithms:
        """Everything that is offered, before anyone has logged in."""
        return self.own.extended(name for each in self.exceptions for name in each.algorithms)

    @property
    def tiers(self) -> tuple[Algorithms, ...]:
        """What is offered, the strongest first; each adds to the one before."""
        return tuple(dict.fromkeys((self.profile, self.own, self.algorithms)))

    def weaker(self, used: frozenset[str]) -> frozenset[str]:
        """Return which of the ``used`` algorithms the profile would not have offered."""
        return used - self.profile.names

    def place(self, used: frozenset[str]) -> str:
        """Return where the configuration opens what was ``used``; "" where the profile does."""
        if not self.weaker(used):
            return ""
        outside = used - self.own.names
        if not outside:
            return LEGACY_PLACE
        covering = [each for each in self.exceptions if outside <= each.algorithms]
        return covering[0].place if len(covering) == 1 else EXCEPTIONS_PLACE

    def ruling(self, used: frozenset[str], principal: Principal) -> Ruling:
        """Return whether ``principal`` may log in over a connection that ``used`` these.

        Algorithms are agreed on before anyone says who they are: what an exception opens for an
        address is bound to the exception's users only here.
        """
        outside = used - self.own.names
        if not outside:
            kept_to = self.own if self.weaker(used) else self.profile
            return Ruling(allowed=True, rule=self.place(used), algorithms=kept_to)
        for each in self.exceptions:
            if outside <= each.algorithms and each.members & principal.memberships:
                allowed = self.own.extended(each.algorithms)
                return Ruling(allowed=True, rule=each.place, algorithms=allowed)
        return Ruling(allowed=False, rule=self.place(used), algorithms=self.own)


@dataclass(frozen=True, slots=True)
class ListenerAlgorithms:
    """What one listener offers, to whom and until when.

    ``legacy_ends_us``: until then it offers ``LEGACY`` to everyone; 0 for never.
    """

    profile: Algorithms = MODERN
    legacy_ends_us: int = 0
    exceptions: tuple[LegacyException, ...] = ()

    def offer(self, address: str, now_us: int) -> Offer:
        """Return what a client at ``address`` (numeric) is offered now."""
        own = self.profile.extended(LEGACY) if now_us < self.legacy_ends_us else self.profile
        covering = tuple(each for each in self.exceptions if each.covers(address, now_us))
        return Offer(self.profile, own, covering)


def available(algorithms: Algorithms, known_kex: frozenset[str]) -> Algorithms:
    """Return ``algorithms`` without post-quantum key exchanges that the machine has not."""
    kex = tuple(name for name in algorithms.kex if name not in POST_QUANTUM or name in known_kex)
    return replace(algorithms, kex=kex)


def never_because(name: str) -> str:
    """Return why no exception opens the algorithm ``name``; empty when nothing is held against it."""
    return next((why for part, why in NEVER.items() if part in name), "")

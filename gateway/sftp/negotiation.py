"""What one SSH connection agrees on: offered by address, noted, and kept to after the log-in.

Overrides the parts of asyncssh's connection that negotiate (pinned by
``tests/sftp/test_stock.py``). No log-in and no file operation lives here. Imports the algorithms
and the connection's packets.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
from collections.abc import Callable, Collection, Sequence

from asyncssh.connection import SSHServerConnection, SSHServerConnectionOptions
from asyncssh.constants import MSG_KEXINIT
from asyncssh.kex import get_kex_algs
from asyncssh.misc import KeyExchangeFailed
from asyncssh.packet import PacketDecodeError, SSHPacket

from gateway.model import Clock, Principal
from gateway.sftp.algorithms import Algorithms, ListenerAlgorithms, Offer, Ruling, available
from gateway.sftp.transport import PacketTransport

HOLD_BACK_S = 1.0
"""How long a client is waited for that may need weaker algorithms, before it is told of them."""

_COOKIE_BYTES = 16
_KINDS = 6

KNOWN_KEX = frozenset(name.decode("ascii") for name in get_kex_algs())


def narrowed(
    options: SSHServerConnectionOptions, algorithms: Algorithms
) -> SSHServerConnectionOptions:
    """Return ``options`` with ``algorithms`` alone, and the host keys that sign with them."""
    offered = available(algorithms, KNOWN_KEX)
    fresh = copy.copy(options)
    fresh.kex_algs = _encoded(offered.kex)
    fresh.encryption_algs = _encoded(offered.ciphers)
    fresh.mac_algs = _encoded(offered.macs)
    fresh.signature_algs = _encoded(offered.signatures)
    fresh.server_host_keys = type(options.server_host_keys)(
        (name, key)
        for name, key in options.server_host_keys.items()
        if name in fresh.signature_algs
    )
    return fresh


def _encoded(names: Sequence[str]) -> list[bytes]:
    return [name.encode("ascii") for name in names]


class NegotiatedConnection(PacketTransport):
    """A connection that offers what its address may have, and remembers what was used."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        options: SSHServerConnectionOptions,
        algorithms: ListenerAlgorithms,
        clock: Clock,
    ) -> None:
        """``options`` hold every host key; ``algorithms`` say what an address is offered."""
        super().__init__(loop, options)
        self._algorithms = algorithms
        self._clock = clock
        self._held_back: asyncio.TimerHandle | None = None
        self._offer: Offer | None = None
        self._kept_to: Algorithms | None = None
        self._used: set[str] = set()
        self._signed_with = ""

    @property
    def offer(self) -> Offer:
        """What this client is offered."""
        assert self._offer is not None
        return self._offer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, with what the client's address is offered."""
        peer = transport.get_extra_info("peername")
        # Gone already: whoever is no longer there gets the profile alone.
        self._offer = self._algorithms.offer(peer[0] if peer else "", self._clock())
        self._keep_to(self._offer.algorithms)
        super().connection_made(transport)

    def _keep_to(self, algorithms: Algorithms) -> None:
        """Offer ``algorithms`` from the next key exchange on."""
        options = narrowed(self._options, algorithms)
        self._kex_algs = options.kex_algs
        self._enc_algs = options.encryption_algs
        self._mac_algs = options.mac_algs
        self._sig_algs = options.signature_algs
        self._server_host_keys = options.server_host_keys
        self._server_host_key_algs = list(options.server_host_keys)

    def _send_kexinit(self) -> None:
        """Say what is offered; where weaker algorithms are, let the client speak first.

        The client's order decides (RFC 4253 section 7.1), and OpenSSH puts CTR before GCM: told
        of an exception's algorithms, clients that have no need of them would take them. One that
        waits for the server hears everything after a moment.
        """
        if self._session_id or len(self.offer.tiers) == 1:
            super()._send_kexinit()
        else:
            self._held_back = self._loop.call_later(HOLD_BACK_S, self._send_held_back)

    def _send_held_back(self) -> None:
        self._held_back = None
        if self._transport is not None:
            super()._send_kexinit()

    async def _process_kexinit(self, pkttype: int, pktid: int, packet: SSHPacket) -> None:
        """Answer a KEXINIT; the first one, with the strongest that the client can do."""
        if self._held_back is not None:
            self._held_back.cancel()
            # What cannot be read, the stock method finds too, and says so to the client.
            with contextlib.suppress(PacketDecodeError):
                self._fit_to(SSHPacket(packet.get_remaining_payload()))
            self._send_held_back()
        await super()._process_kexinit(pkttype, pktid, packet)

    def _fit_to(self, theirs: SSHPacket) -> None:
        """Of each kind, offer the first tier that has what the client's KEXINIT names."""
        theirs.get_bytes(_COOKIE_BYTES)
        kex, host_keys, *ciphers_and_macs = (set(theirs.get_namelist()) for _ in range(_KINDS))
        tiers = [narrowed(self._options, tier) for tier in self.offer.tiers]

        def first(
            ours: Callable[[SSHServerConnectionOptions], Collection[bytes]], *wanted: set[bytes]
        ) -> SSHServerConnectionOptions:
            fitting = (tier for tier in tiers if all(one & set(ours(tier)) for one in wanted))
            return next(fitting, tiers[-1])

        self._kex_algs = first(lambda tier: tier.kex_algs, kex).kex_algs
        self._enc_algs = first(
            lambda tier: tier.encryption_algs, *ciphers_and_macs[:2]
        ).encryption_algs
        self._mac_algs = first(lambda tier: tier.mac_algs, *ciphers_and_macs[2:]).mac_algs
        self._server_host_keys = first(
            lambda tier: tier.server_host_keys, host_keys
        ).server_host_keys
        self._server_host_key_algs = list(self._server_host_keys)

    def _cleanup(self, exc: Exception | None) -> None:
        if self._held_back is not None:
            self._held_back.cancel()
            self._held_back = None
        super()._cleanup(exc)

    def choose_server_host_key(self, peer_host_key_algs: Sequence[bytes]) -> bool:
        """Return whether a host key suits the client; it is this connection's own copy.

        The stock method notes the agreed signature on the key that all connections share: two
        clients in their key exchange at once would get each other's.
        """
        for name in peer_host_key_algs:
            shared = self._server_host_keys.get(name)
            if shared is not None:
                key = copy.copy(shared)
                key.set_sig_algorithm(name)
                self._server_host_key = key
                return True
        return False

    def send_newkeys(self, k: bytes, h: bytes) -> None:
        """Finish a key exchange, and note what it used: every one of a connection counts.

        Raises KeyExchangeFailed when it was begun before the log-in with what only a user of
        another kind may use.
        """
        assert self._kex is not None
        assert self._server_host_key is not None
        agreed = {
            self._kex.algorithm,
            self._server_host_key.sig_algorithm,
            self._enc_alg_cs,
            self._enc_alg_sc,
            self._mac_alg_cs,
            self._mac_alg_sc,
        }
        names = {name.decode("ascii") for name in agreed}
        if self._kept_to is not None and not names <= self._kept_to.names:
            raise KeyExchangeFailed("These algorithms are not open to this user.")
        self._used |= names
        super().send_newkeys(k, h)

    def takes_signature(self, algorithm: str) -> bool:
        """Return whether a user's key may sign by ``algorithm`` here; notes that it did."""
        if algorithm not in self.offer.algorithms.signatures:
            return False
        self._signed_with = algorithm
        return True

    @property
    def used(self) -> frozenset[str]:
        """The algorithms that everything so far stands on, the user's own signature included."""
        return frozenset(self._used | ({self._signed_with} - {""}))

    def rule_on(self, principal: Principal, *, signed: bool) -> Ruling:
        """Return whether ``principal`` may log in; who may is kept to what that allows.

        ``signed``: by a key. A signature that was tried before a password counts for nothing.
        """
        if not signed:
            self._signed_with = ""
        ruling = self.offer.ruling(self.used, principal)
        if ruling.allowed:
            self._kept_to = ruling.algorithms
            self._keep_to(ruling.algorithms)
        return ruling

    @property
    def legacy_note(self) -> str:
        """What audit records say of weaker algorithms in use, and of what opened them; or ""."""
        if self._offer is None:
            return ""
        weaker = self._offer.weaker(self.used)
        return f"[{self._offer.place(self.used)}: {' '.join(sorted(weaker))}]" if weaker else ""

    # The library looks handlers up in this table, and not by name.
    _packet_handlers = {  # noqa: RUF012  as it declares it
        **SSHServerConnection._packet_handlers,  # noqa: SLF001  see above
        MSG_KEXINIT: _process_kexinit,
    }

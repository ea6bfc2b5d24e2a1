"""Strangers on the running gateway's SFTP port: those who never log in, and those who skip ahead."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator

import paramiko
import pytest

from tests.attacks.sftp_support import ATTRS, LIMIT_S, STAT, Attacker, channel_on, long, text, word
from tests.attacks.support import Target
from tests.fuzz import seeds
from tests.fuzz.mutation import mutated
from tests.support.users import until

IDLE_STRANGERS = 500
MUTATIONS = 150

SERVICE = b"\x05" + text("ssh-userauth")
USER = text("scanner") + text("ssh-connection")
SESSION = b"\x5a" + text("session") + word(0) + word(2**31 - 1) + word(32768)

# What may follow the key exchange only later, or never from a client.
TOO_EARLY = {
    "a channel": SESSION,
    "a channel request": b"\x62" + word(0) + text("subsystem") + b"\x01" + text("sftp"),
    "channel data": b"\x5e" + word(0) + text(word(5) + b"\x01" + word(3)),
    "a global request": b"\x50" + text("tcpip-forward") + b"\x01" + text("") + word(22),
    "authentication without its service": b"\x32" + USER + text("none"),
    "the server's success": b"\x34",
    "the server's failure": b"\x33" + text("password") + b"\x00",
    "prompts answered unasked": b"\x3d" + word(1) + text("x"),
    "another service": b"\x05" + text("ssh-connection"),
    "new keys": b"\x15",
    "a key exchange without its beginning": b"\x1e" + text(bytes(32)),
}

# The same once the service was asked for, where more of it is parsed.
UNSOUND = {
    "prompts answered unasked": b"\x3d" + word(1) + text("x"),
    "two thousand million answers": b"\x3d" + word(2**31),
    "a cut request": b"\x32" + USER,
    "a key without an algorithm": b"\x32" + USER + text("publickey") + b"\x01" + text("") * 3,
    "a name that is not UTF-8": b"\x32" + text(b"\xff\xfe") + USER[11:] + text("none"),
    "a name of 30 kB": b"\x32" + text("x" * 30_000) + text("ssh-connection") + text("none"),
    "another service": b"\x32" + text("scanner") + text("root-shell") + text("none"),
    "an unknown method": b"\x32" + USER + text("hostbased\0") + long(0),
    "a channel": SESSION,
    "the server's success": b"\x34",
}


@pytest.fixture(scope="module")
def attacker(target: Target) -> Iterator[Attacker]:
    """Somebody who could log in, and at the end the gateway is well."""
    attacker = Attacker(target)
    yield attacker
    attacker.healthy()


def say(transport: paramiko.Transport, payload: bytes) -> None:
    """Send one encrypted packet as it is; the gateway may have hung up."""
    with contextlib.suppress(OSError, EOFError):
        transport._send_message(paramiko.Message(payload))  # type: ignore[attr-defined]


def test_idle_strangers_keep_nobody_out(attacker: Attacker) -> None:
    """Five hundred connections that say nothing or only a version: OpenSSH gets in at once.

    Every other of them from the client's own address, the rest from a hundred others.
    """
    with contextlib.ExitStack() as stack:
        for number in range(IDLE_STRANGERS):
            address = "127.0.0.1" if number % 2 else f"127.0.3.{number % 200 // 2 + 1}"
            sock = stack.enter_context(attacker.connect(address))
            if number % 4 < 2:
                sock.sendall(b"SSH-2.0-idle\r\n")
        began = time.monotonic()
        done = attacker.gateway.sftp_batch("scanner", ["ls /scans"], method="publickey")
        # A log-in takes a quarter of a second here; this machine may be busy.
        assert time.monotonic() - began < 5
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("payload", TOO_EARLY.values(), ids=TOO_EARLY.keys())
def test_messages_before_their_time_get_nobody_in(attacker: Attacker, payload: bytes) -> None:
    """The gateway hangs up, and no channel is ever opened."""
    with attacker.stranger() as transport:
        say(transport, payload)
        say(transport, SESSION)
        until(lambda: not transport.is_active(), "the gateway hangs up", LIMIT_S)
        assert not transport.is_authenticated()


@pytest.mark.parametrize("payload", UNSOUND.values(), ids=UNSOUND.keys())
def test_unsound_authentication_gets_nobody_in(attacker: Attacker, payload: bytes) -> None:
    """Refused or hung up on; what comes after it is no channel either."""
    with attacker.stranger() as transport:
        say(transport, SERVICE)
        say(transport, payload)
        say(transport, SESSION)
        until(lambda: not transport.is_active(), "the gateway hangs up", LIMIT_S)
        assert not transport.is_authenticated()


def test_mutated_authentication_gets_nobody_in(attacker: Attacker) -> None:
    """Payloads made of the sound and unsound ones; nobody logs in, and nothing is logged."""
    chance, known = random.Random(5), [*TOO_EARLY.values(), *UNSOUND.values()]
    words = (USER, text("password"), text("publickey"), word(2**31), b"\x32", b"\x3d", b"\x01")
    waiting = [mutated(chance, chance.choice(known), words, known) for _ in range(MUTATIONS)]
    while waiting:
        with attacker.stranger() as transport:
            say(transport, SERVICE)
            # A connection takes several, as long as it lives.
            for payload in waiting[:10]:
                say(transport, payload[:20_000] or b"\0")
            assert not transport.is_authenticated()
        del waiting[:10]
    attacker.healthy()


def test_compression_is_not_negotiated(attacker: Attacker) -> None:
    """A bomb cannot begin: the gateway offers none, and who insists is hung up on."""
    with attacker.connect() as sock:
        sock.sendall(seeds.known("ssh-preauth")["kexinit_zlib"])
        said = b""
        while part := sock.recv(65536):
            said += part
    _, _, packets = said.partition(b"\r\n")
    offer = packets[: 4 + int.from_bytes(packets[:4], "big")]
    assert b"zlib" not in offer
    assert offer.count(text("none")) == 2


@pytest.mark.parametrize("name", seeds.known("ssh-preauth"))
def test_known_openings_leave_the_gateway_well(attacker: Attacker, name: str) -> None:
    """Every seed of the fuzzer before the key exchange; then the client goes."""
    with attacker.connect() as sock:
        sock.sendall(seeds.known("ssh-preauth")[name])
        assert sock.recv(4) == b"SSH-"
    with attacker.client() as client:
        assert client.ask(STAT, text("/scans")).kind == ATTRS


def test_a_stranger_who_is_let_in_had_to_prove_a_key(attacker: Attacker) -> None:
    """The same messages in their order do get in, so that the refusals above mean something."""
    with attacker.transport() as transport:
        assert transport.is_authenticated()
        assert channel_on(transport).ask(STAT, text("/scans")).kind == ATTRS

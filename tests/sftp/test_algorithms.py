"""Which algorithms reach the listener, whose log-in may stand on them, and until when."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import asyncssh
import paramiko
import pytest
from asyncssh.connection import SSHServerConnectionOptions

from gateway.config.sftp import SftpConfig
from gateway.doctor.sftp import check_listeners
from gateway.doctor.ssh import SshAnswer, ask
from gateway.model import SECOND_US
from gateway.sftp.algorithms import (
    FIPS,
    LEGACY,
    MODERN,
    PROFILES,
    WEAKER,
    LegacyException,
    ListenerAlgorithms,
)
from gateway.sftp.negotiation import NegotiatedConnection
from gateway.sftp.shown_key import key_line
from tests.sftp.conftest import LIMIT_S, ORDINARY, Listener
from tests.sftp.fake_door import CODE, PASSWORD, START_US, FakeMonitor
from tests.support import openssh
from tests.support.users import until

# asyncssh still uses the classes; ALGORITHMS.md says what their removal would mean.
pytestmark = pytest.mark.filterwarnings("ignore:Diffie-Hellman over finite fields")

OLD = "127.0.0.9"
"""The address of the old machine; what is said from elsewhere comes from 127.0.0.1."""
ENDS_US = START_US + 3600 * SECOND_US
OLDEST = frozenset({*LEGACY, "ssh-rsa", "diffie-hellman-group14-sha1", "hmac-sha1"})

EXCEPTION = LegacyException("ct-3", OLDEST, (ip_network(OLD),), frozenset({"user:alice"}), ENDS_US)
PLACE = "server.sftp.exceptions.ct-3"

OLD_CLIENT: dict[str, Any] = {
    "kex_algs": ["diffie-hellman-group14-sha1"],
    "encryption_algs": ["aes128-ctr"],
    "mac_algs": ["hmac-sha1"],
    "server_host_key_algs": ["ssh-rsa"],
    "signature_algs": ["ssh-rsa"],
}


@pytest.fixture(scope="session")
def rsa_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an RSA key's file, for hosts and users that know nothing else."""
    path = tmp_path_factory.mktemp("rsa") / "key"
    asyncssh.generate_private_key("ssh-rsa", key_size=2048).write_private_key(path)
    path.chmod(0o600)
    return path


@pytest.fixture
def offering(rsa_key: Path) -> Iterator[Callable[..., Listener]]:
    """Return a function that starts a listener with an RSA host key and these algorithms.

    ``alice`` and ``bob`` both log in with the RSA key.
    """
    running: list[Listener] = []

    def begin(algorithms: ListenerAlgorithms | None = None, **settings: Any) -> Listener:
        monitor = FakeMonitor()
        line = key_line(asyncssh.read_private_key(rsa_key))
        monitor.keys |= {"alice": line, "bob": line}
        chosen = replace(ORDINARY, algorithms=algorithms or ListenerAlgorithms(), **settings)
        listener = Listener(monitor, rsa_key, rsa_key, chosen)
        listener.start()
        running.append(listener)
        return listener

    yield begin
    for one in running:
        one.stop()


def offered(listener: Listener, source: str = "") -> SshAnswer:
    return ask(("127.0.0.1", listener.port), LIMIT_S, source)


def log_in(listener: Listener, source: str = OLD, **options: Any) -> dict[str, str]:
    """Log in, look at a folder, and return the ciphers and MACs in use."""

    async def go() -> dict[str, str]:
        conn = await listener.connect(local_addr=(source, 0), **options)
        used = {name: conn.get_extra_info(name) for name in ("recv_cipher", "recv_mac")}
        async with conn, conn.start_sftp_client() as sftp:
            await sftp.stat("/share")
        return used

    return asyncio.run(go())


# What is offered


@pytest.mark.parametrize("profile", PROFILES)
def test_profiles_offer_what_they_name(offering: Callable[..., Listener], profile: str) -> None:
    """To the letter, in order, with strict key exchange; on this machine nothing is missing."""
    algorithms = PROFILES[profile]
    answer = offered(offering(ListenerAlgorithms(algorithms)))
    marks = ("ext-info-s", "kex-strict-s-v00@openssh.com")
    assert tuple(name for name in answer.kex if name not in marks) == algorithms.kex
    assert answer.strict_kex
    assert answer.ciphers == algorithms.ciphers
    assert answer.macs == algorithms.macs
    assert set(answer.host_keys) == {"rsa-sha2-256", "rsa-sha2-512"}
    assert answer.identification == "SSH-2.0-Sealgate"


def test_profiles_have_no_weak_algorithm() -> None:
    """No SHA-1, CBC, RC4 or short tag; nothing but NIST's in the FIPS profile."""
    for profile in (MODERN, FIPS):
        for name in profile.names:
            weak = ("sha1", "md5", "cbc", "arcfour", "chacha", "umac", "-etm", "dss", "group1-")
            assert not [part for part in weak if part in name], name
        assert "ssh-rsa" not in profile.names
    assert not [name for name in FIPS.names if "25519" in name]
    assert not WEAKER.names & {"aes128-cbc", "3des-cbc"}


def test_an_exception_is_offered_to_its_addresses_alone(offering: Callable[..., Listener]) -> None:
    """Everyone else sees the profile, and nobody does once it has ended."""
    listener = offering(ListenerAlgorithms(exceptions=(EXCEPTION,)))
    assert {name for each in _lists(offered(listener, OLD)) for name in each} >= OLDEST
    assert not OLDEST & {*offered(listener).kex, *offered(listener).host_keys}
    assert offered(listener).ciphers == MODERN.ciphers
    listener.monitor.clock.now_us = ENDS_US
    assert _lists(offered(listener, OLD)) == _lists(offered(listener))


def _lists(answer: SshAnswer) -> tuple[tuple[str, ...], ...]:
    return answer.kex, answer.host_keys, answer.ciphers, answer.macs


def test_the_legacy_listener_ends_too(offering: Callable[..., Listener]) -> None:
    """Up to its end it adds CTR, SHA-2 MACs and group 14 for everyone; SHA-1 never."""
    listener = offering(ListenerAlgorithms(legacy_ends_us=ENDS_US))
    answer = offered(listener)
    assert answer.ciphers == (*MODERN.ciphers, "aes256-ctr", "aes192-ctr", "aes128-ctr")
    assert "diffie-hellman-group14-sha256" in answer.kex
    assert not [name for each in _lists(answer) for name in each if "sha1" in name]
    assert "ssh-rsa" not in answer.host_keys
    listener.monitor.clock.now_us = ENDS_US
    assert offered(listener).ciphers == MODERN.ciphers


def test_mapped_addresses_are_the_ipv4_addresses_they_are() -> None:
    """What a dual-stack listener reports must not hide a client from its exception."""
    assert EXCEPTION.covers(OLD, START_US)
    assert EXCEPTION.covers(f"::ffff:{OLD}", START_US)
    assert not EXCEPTION.covers("::ffff:127.0.0.1", START_US)
    assert not EXCEPTION.covers("fe80::1%eth0", START_US)
    assert not EXCEPTION.covers("", START_US)


# Who may log in


def test_an_old_client_logs_in_where_policy_names_it(offering: Callable[..., Listener]) -> None:
    """SHA-1 from host key to user's signature; its log-in says so, and names the exception."""
    listener = offering(ListenerAlgorithms(exceptions=(EXCEPTION,)))
    used = log_in(listener, **OLD_CLIENT)
    assert used == {"recv_cipher": "aes128-ctr", "recv_mac": "hmac-sha1"}
    (attempt,) = listener.monitor.attempts
    weak = "aes128-ctr diffie-hellman-group14-sha1 hmac-sha1 ssh-rsa"
    assert attempt.client.software.startswith(f"[{PLACE}: {weak}] AsyncSSH")
    assert listener.monitor.refusals == []


def test_an_old_client_reaches_nothing_else(offering: Callable[..., Listener]) -> None:
    """Not from another address, not after the end, and not the legacy listener."""
    listener = offering(ListenerAlgorithms(exceptions=(EXCEPTION,)))
    with pytest.raises(asyncssh.DisconnectError):
        log_in(listener, "127.0.0.1", **OLD_CLIENT)
    listener.monitor.clock.now_us = ENDS_US
    with pytest.raises(asyncssh.DisconnectError):
        log_in(listener, **OLD_CLIENT)
    legacy = offering(ListenerAlgorithms(legacy_ends_us=ENDS_US))
    with pytest.raises(asyncssh.DisconnectError):
        log_in(legacy, **OLD_CLIENT)
    assert not listener.monitor.attempts + legacy.monitor.attempts


@pytest.mark.parametrize("one", OLD_CLIENT)
def test_only_the_users_of_the_exception_log_in_with_it(
    offering: Callable[..., Listener], one: str
) -> None:
    """One weaker algorithm is enough to be turned away, and that is recorded with its rule."""
    listener = offering(ListenerAlgorithms(exceptions=(EXCEPTION,)))
    with pytest.raises(asyncssh.PermissionDenied):
        log_in(listener, username="bob", **_needing(one))
    until(lambda: listener.monitor.ended, "the session is over")
    ((rule, client, with_session),) = listener.monitor.refusals
    assert (rule, with_session) == (PLACE, True)
    assert client.software.startswith(f"[{PLACE}: ")
    assert not listener.monitor.sessions
    log_in(listener, username="bob")
    log_in(listener, username="alice", **_needing(one))


def _needing(one: str) -> dict[str, Any]:
    """Return the options of a client that needs one weaker algorithm (a MAC needs a cipher)."""
    return {key: OLD_CLIENT[key] for key in ({one, "encryption_algs"} if "mac" in one else {one})}


def test_two_exceptions_do_not_add_up_to_a_third(offering: Callable[..., Listener]) -> None:
    """What one user may use of each cannot be used together."""
    kex = replace(EXCEPTION, algorithms=frozenset({"diffie-hellman-group14-sha1"}))
    cipher = replace(EXCEPTION, name="ct-4", algorithms=frozenset({"aes128-ctr"}))
    listener = offering(ListenerAlgorithms(exceptions=(kex, cipher)))
    log_in(listener, kex_algs=OLD_CLIENT["kex_algs"])
    log_in(listener, encryption_algs=OLD_CLIENT["encryption_algs"])
    with pytest.raises(asyncssh.PermissionDenied):
        log_in(
            listener,
            kex_algs=OLD_CLIENT["kex_algs"],
            encryption_algs=OLD_CLIENT["encryption_algs"],
        )
    until(lambda: listener.monitor.refusals, "the refusal is recorded")
    assert listener.monitor.refusals[0][0] == "server.sftp.exceptions"


def test_users_of_the_legacy_listener_are_recorded_as_such(
    offering: Callable[..., Listener],
) -> None:
    """Everyone may use it; who uses what the profile has not is told apart."""
    listener = offering(ListenerAlgorithms(legacy_ends_us=ENDS_US))
    log_in(listener)
    log_in(listener, encryption_algs=["aes256-ctr"], mac_algs=["hmac-sha2-256"])
    modern, legacy = (attempt.client.software for attempt in listener.monitor.attempts)
    assert modern.startswith("AsyncSSH")
    assert legacy.startswith("[server.sftp.legacy: aes256-ctr] AsyncSSH")


def test_no_client_looks_like_one_with_an_exception(offering: Callable[..., Listener]) -> None:
    """A software that calls itself so loses the bracket."""
    listener = offering()
    for version in ("[server.sftp.exceptions.ct-3: x]", " [server.sftp.legacy: aes256-ctr]"):
        log_in(listener, client_version=version)
        assert listener.monitor.attempts[-1].client.software.startswith("server.sftp")


def test_nobody_changes_to_weaker_algorithms_later(
    offering: Callable[..., Listener], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the log-in a new key exchange offers what that log-in may stand on, and no more."""
    # As if it had waited for the server, and so heard of everything.
    monkeypatch.setattr(NegotiatedConnection, "_fit_to", lambda _self, _theirs: None)
    listener = offering(ListenerAlgorithms(exceptions=(EXCEPTION,)))

    async def go() -> None:
        conn = await listener.connect(local_addr=(OLD, 0), username="bob")
        conn._enc_algs = [b"aes128-ctr"]
        conn._mac_algs = [b"hmac-sha1"]
        conn._send_kexinit()
        conn._kexinit_sent = True
        await asyncio.wait_for(conn.wait_closed(), LIMIT_S)

    asyncio.run(go())
    assert until(lambda: listener.monitor.ended, "the session is over")


def test_a_session_is_not_joined_with_weaker_algorithms(
    offering: Callable[..., Listener],
) -> None:
    """Its records would not tell; the same client with the same algorithms may."""
    listener = offering(ListenerAlgorithms(exceptions=(EXCEPTION,)))
    opened = listener.monitor.login
    first: list[Any] = []

    def joining(attempt: Any) -> Any:
        first.append(opened(attempt))
        listener.monitor.sessions.setdefault(first[0].id, first[0])
        return first[0]

    listener.monitor.login = joining  # type: ignore[method-assign]
    log_in(listener)
    with pytest.raises(asyncssh.PermissionDenied):
        log_in(listener, **OLD_CLIENT)
    first.clear()
    log_in(listener, **OLD_CLIENT)
    log_in(listener, **OLD_CLIENT)


def test_two_clients_at_once_each_get_their_own_signature(rsa_key: Path) -> None:
    """The library notes the agreed signature on the key that all connections share."""

    async def go() -> list[bytes]:
        options = await SSHServerConnectionOptions.construct(
            None, server_host_keys=[str(rsa_key)], config=None
        )
        loop = asyncio.get_running_loop()
        algorithms = ListenerAlgorithms()
        kinds = (b"rsa-sha2-512", b"ssh-rsa", b"rsa-sha2-256")
        made = [NegotiatedConnection(loop, options, algorithms, lambda: 0) for _ in kinds]
        assert all(
            one.choose_server_host_key([kind]) for one, kind in zip(made, kinds, strict=True)
        )
        keys = [one.get_server_host_key() for one in made]
        for one in made:
            one._cancel_login_timer()
        return [key.sig_algorithm for key in keys if key is not None]

    assert asyncio.run(go()) == [b"rsa-sha2-512", b"ssh-rsa", b"rsa-sha2-256"]


# Other clients


def _openssh(
    listener: Listener,
    folder: Path,
    *options: str,
    source: str = OLD,
    password: str = PASSWORD,
) -> str:
    """Run one command of OpenSSH's sftp; return what it complains of."""
    public = asyncssh.read_private_key(listener.host_key).export_public_key().decode()
    known_hosts = folder / "known_hosts"
    known_hosts.write_text(f"[127.0.0.1]:{listener.port} {public}")
    arguments = openssh.options(
        port=listener.port,
        known_hosts=str(known_hosts),
        method="publickey",
        key=listener.user_key,
        address=source,
    )
    done = subprocess.run(
        [
            "sftp",
            "-oLogLevel=INFO",
            *(f"-o{one}" for one in options),
            *arguments,
            "alice@127.0.0.1",
        ],
        input="ls /share\n",
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
        env=openssh.environment(folder, password, CODE),
    )
    return "" if done.returncode == 0 else done.stderr


OPENSSH_OLD = (
    "KexAlgorithms=diffie-hellman-group14-sha1",
    "Ciphers=aes128-ctr",
    "MACs=hmac-sha1",
    "HostKeyAlgorithms=ssh-rsa",
    "PubkeyAcceptedAlgorithms=ssh-rsa",
)


def test_openssh_with_old_algorithms(offering: Callable[..., Listener], tmp_path: Path) -> None:
    """It comes in from the exception's address alone, and each of them is refused elsewhere."""
    listener = offering(ListenerAlgorithms(exceptions=(EXCEPTION,)))
    assert _openssh(listener, tmp_path, *OPENSSH_OLD) == ""
    for option in OPENSSH_OLD[:2]:
        assert "no matching" in _openssh(listener, tmp_path, option, source="127.0.0.1")
    sha1 = _openssh(listener, tmp_path, OPENSSH_OLD[4], source="127.0.0.1")
    assert "Permission denied" in sha1
    assert _openssh(listener, tmp_path, source="127.0.0.1") == ""


def test_a_weaker_signature_that_was_only_tried_keeps_nobody_out(
    offering: Callable[..., Listener], tmp_path: Path
) -> None:
    """A client that signs with an old key first comes in by its password after it."""
    nobodys = replace(EXCEPTION, members=frozenset())
    listener = offering(ListenerAlgorithms(exceptions=(nobodys,)))
    both = "PreferredAuthentications=publickey,password"
    assert "Permission denied" in _openssh(listener, tmp_path, OPENSSH_OLD[4])
    assert _openssh(listener, tmp_path, OPENSSH_OLD[4], both, password=PASSWORD + CODE) == ""
    by_key = [bool(attempt.ssh_key) for attempt in listener.monitor.attempts]
    assert by_key == [True, True, False]


def test_openssh_with_the_fips_profile(offering: Callable[..., Listener], tmp_path: Path) -> None:
    """NIST's algorithms suffice; Curve25519 is not offered, nor chacha."""
    listener = offering(ListenerAlgorithms(FIPS))
    assert _openssh(listener, tmp_path, "KexAlgorithms=ecdh-sha2-nistp384") == ""
    assert _openssh(listener, tmp_path, "KexAlgorithms=diffie-hellman-group16-sha512") == ""
    assert "no matching" in _openssh(listener, tmp_path, "KexAlgorithms=curve25519-sha256")
    chacha = _openssh(listener, tmp_path, "Ciphers=chacha20-poly1305@openssh.com")
    assert "no matching" in chacha


def test_a_users_ed25519_key_is_no_key_of_the_fips_profile(
    offering: Callable[..., Listener], user_key: Path
) -> None:
    """It is listed and proven, and yet lets nobody in."""
    listener = offering(ListenerAlgorithms(FIPS))
    listener.monitor.keys["alice"] = key_line(asyncssh.read_private_key(user_key))
    with pytest.raises(asyncssh.PermissionDenied):
        log_in(listener, client_keys=[str(user_key)])
    assert listener.monitor.attempts == []


def test_nobody_gets_weaker_algorithms_than_needed(
    offering: Callable[..., Listener], tmp_path: Path
) -> None:
    """OpenSSH puts CTR before GCM, and gets GCM where an exception or the listener has both.

    Otherwise everyone at the exception's addresses would be turned away but for its users.
    """
    nobodys = replace(EXCEPTION, members=frozenset())
    for algorithms in (
        ListenerAlgorithms(exceptions=(nobodys,)),
        ListenerAlgorithms(legacy_ends_us=ENDS_US),
    ):
        listener = offering(algorithms)
        assert _openssh(listener, tmp_path) == ""
        (attempt,) = listener.monitor.attempts
        assert attempt.client.software.startswith("OpenSSH")


def test_a_first_packet_that_cannot_be_read_ends_the_connection(
    offering: Callable[..., Listener],
) -> None:
    """Also where the server waits for it, which goes on with others."""
    listener = offering(ListenerAlgorithms(exceptions=(EXCEPTION,)))
    with _from(OLD, listener.port) as sock:
        sock.sendall(b"SSH-2.0-x\r\n" + b"\0\0\0\x0c\x0a\x14" + bytes(10))
        while sock.recv(4096):
            pass
    log_in(listener)


@pytest.mark.parametrize("source", [OLD, "127.0.0.1"])
def test_paramiko_with_old_algorithms(offering: Callable[..., Listener], source: str) -> None:
    """As a script of its time; its CTR and SHA-2 MAC are what ``legacy`` opens."""
    legacy = replace(EXCEPTION, algorithms=frozenset(LEGACY))
    listener = offering(ListenerAlgorithms(exceptions=(legacy,)))
    with paramiko.SSHClient() as client:
        client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
        options = {"ciphers": ["aes128-gcm@openssh.com", "aes256-gcm@openssh.com"]}
        arguments: dict[str, Any] = {
            "port": listener.port,
            "username": "alice",
            "key_filename": str(listener.user_key),
            "look_for_keys": False,
            "allow_agent": False,
            "disabled_algorithms": options,
            "timeout": LIMIT_S,
        }
        with _from(source, listener.port) as sock:
            if source == OLD:
                client.connect("127.0.0.1", sock=sock, **arguments)
                client.open_sftp().stat("/share")
                (attempt,) = listener.monitor.attempts
                assert attempt.client.software.startswith(f"[{PLACE}: aes128-ctr] paramiko")
            else:
                with pytest.raises(paramiko.SSHException):
                    client.connect("127.0.0.1", sock=sock, **arguments)


def _from(source: str, port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), LIMIT_S, source_address=(source, 0))


@pytest.mark.parametrize(
    ("algorithms", "verdict", "word"),
    [("modern", "ok", "asked"), ("fips", "warning", "curve25519-sha256")],
)
def test_doctor_compares_the_listener_with_the_file(
    offering: Callable[..., Listener], rsa_key: Path, algorithms: str, verdict: str, word: str
) -> None:
    """What was changed in the file and is not in force yet is named."""
    listener = offering()
    written = {
        "listen": f"127.0.0.1:{listener.port}",
        "host_keys": [str(rsa_key)],
        "algorithms": algorithms,
    }
    config = SftpConfig.model_validate(written, context=Path("/"))
    (found,) = check_listeners(config, START_US)
    assert (found.verdict, word in found.message) == (verdict, True)
    assert {each.name for each in found.details} == {"key exchange", "host keys", "ciphers", "macs"}

"""The LDAP driver against a real slapd: hostile names, bad servers, referrals, groups."""

from __future__ import annotations

import contextlib
import logging
import re
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auth.errors import DirectoryConfigError, DirectoryUnavailableError
from auth.ldap import GroupLookup, LdapDirectory, LdapSettings, escaped
from tests.auth.conftest import (
    ALICE_GUID,
    ALICE_ID,
    BOB_ID,
    GROUPS,
    ODD_NAMES,
    PEOPLE,
    settings_for,
    tree,
)
from tests.support.slapd import BASE_DN, Authority, Slapd, free_port, prepare, running, start

CLINICIANS, STAFF, EVERYONE = (
    f"ldap:cn={name},{GROUPS}" for name in ("clinicians", "staff", "everyone")
)


@contextlib.contextmanager
def opened(settings: LdapSettings) -> Iterator[LdapDirectory]:
    directory = LdapDirectory(settings)
    try:
        yield directory
    finally:
        directory.close()


@contextlib.contextmanager
def silent_listener() -> Iterator[socket.socket]:
    """A port that connects and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield listener


def url_of(listener: socket.socket, scheme: str = "ldaps") -> str:
    return f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"


# -- names and passwords ----------------------------------------------------------------------


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_escaping_keeps_the_value_and_nothing_else(value: str) -> None:
    """What goes into a filter is letters, digits and hex pairs, and decodes to the value."""
    text = escaped(value)
    assert re.fullmatch(r"(?:[A-Za-z0-9]|\\[0-9a-f]{2})*", text)
    decoded = re.sub(
        rb"\\([0-9a-f]{2})", lambda found: bytes.fromhex(found[1].decode()), text.encode()
    )
    assert decoded.decode() == value


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_name_with_metacharacters_finds_and_binds_its_own_entry(
    directory: LdapDirectory, name: str
) -> None:
    """Names that are special in filters and DNs are ordinary names."""
    account = directory.find(name)
    assert account is not None
    assert account.name == name
    assert directory.refresh(account.id) == account
    assert directory.verify(account, f"{name}-password")
    assert not directory.verify(account, "alice-password")


@pytest.mark.parametrize(
    "name",
    [
        "*",
        "a*",
        "alice)(uid=*",
        "*)(objectClass=*",
        "alice)(|(uid=*",
        "\\61lice",
        f"alice,{PEOPLE}",
        f"uid=alice,{PEOPLE}",
        "alice\\",
        "(alice)",
        "&(uid=alice)",
    ],
)
def test_filter_and_dn_injection_finds_nobody(directory: LdapDirectory, name: str) -> None:
    """A name cannot become part of the filter or the DN."""
    assert directory.find(name) is None


def test_unacceptable_names_and_passwords_do_not_reach_the_network(authority: Authority) -> None:
    """With no server at all they are refused at once, not answered with an error."""
    url = f"ldaps://127.0.0.1:{free_port()}"
    with opened(settings_for(url, ca_file=authority.ca_file)) as directory:
        for name in ("", " ", "\0", "x" * 1_000_000, "alice\0", "\udc80"):
            assert directory.find(name) is None
        for password in ("", " ", "\t", "\0", "pass\0word", "x" * 1_000_000, "\udc80"):
            assert not directory.verify(None, password)
        with pytest.raises(DirectoryUnavailableError):
            directory.find("alice")


def test_several_hits_are_nobody(directory: LdapDirectory) -> None:
    """When two entries share a login name neither can log in."""
    assert directory.find("twin") is None


def test_the_user_filter_also_bounds_refresh(settings: LdapSettings) -> None:
    """Who no longer matches the filter is gone, though the entry is still there."""
    narrowed = replace(settings, user_filter="(&(uid={name})(sn=bob))")
    with opened(narrowed) as directory:
        assert directory.refresh(BOB_ID) is not None
        assert directory.refresh(ALICE_ID) is None
        assert directory.find("alice") is None


def test_a_domain_is_dropped_only_when_configured(settings: LdapSettings) -> None:
    """CORP's alice is ours only when we are CORP."""
    with opened(replace(settings, domain="CORP")) as directory:
        assert directory.find("corp\\alice") is not None
        assert directory.find("other\\alice") is None
    with opened(settings) as directory:
        assert directory.find("corp\\alice") is None


def test_an_unknown_user_waits_as_long_as_a_known_one(settings: LdapSettings) -> None:
    """A miss is paced by what hits took, and a decoy bind by what wrong passwords took."""
    pauses: list[float] = []
    directory = LdapDirectory(settings, pause=pauses.append)
    alice = directory.find("alice")
    directory._find_pace._samples_s.extend([9.0] * 64)
    directory._bind_pace._samples_s.extend([8.0] * 64)
    assert directory.find("mallory") is None
    assert not directory.verify(None, "alice-password")
    assert directory.verify(alice, "alice-password")
    directory.close()
    assert [round(pause) for pause in pauses] == [9, 8]


# -- groups and states ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lookup", "nested", "expected"),
    [
        (GroupLookup.SEARCH, True, {CLINICIANS, STAFF, EVERYONE}),
        (GroupLookup.SEARCH, False, {CLINICIANS}),
        (GroupLookup.MEMBER_OF, True, {CLINICIANS, STAFF, EVERYONE}),
        (GroupLookup.MEMBER_OF, False, {CLINICIANS}),
        (GroupLookup.TOKEN_GROUPS, True, {STAFF}),
    ],
)
def test_groups(
    settings: LdapSettings,
    lookup: GroupLookup,
    nested: bool,
    expected: set[str],
) -> None:
    """Direct and nested groups are found in each way, and a loop of groups ends."""
    with opened(replace(settings, group_lookup=lookup, nested_groups=nested)) as directory:
        alice = directory.find("alice")
    assert alice is not None
    assert alice.memberships == expected | {"user:alice"}


def test_active_directory_ids_are_guids(settings: LdapSettings) -> None:
    """An objectGUID's mixed byte order becomes the usual text, and leads back."""
    with opened(replace(settings, id_attribute="objectGUID")) as directory:
        alice = directory.find("alice")
        assert alice is not None
        assert alice.id == str(ALICE_GUID)
        assert directory.refresh(alice.id) == alice
        assert directory.verify(alice, "alice-password")
        assert directory.refresh("not-a-guid") is None


def test_an_entry_without_an_id_is_an_error_not_an_account(settings: LdapSettings) -> None:
    """A directory that hides the id must be mended, not guessed at."""
    with (
        opened(replace(settings, id_attribute="objectGUID")) as directory,
        pytest.raises(DirectoryConfigError, match="id_attribute"),
    ):
        directory.find("bob")


@pytest.mark.parametrize(
    "changes",
    [
        {"disabled_attribute": "userAccountControl", "disabled_bits": 2, "disabled_values": ()},
        {"disabled_attribute": "userAccountControl", "disabled_values": ("514",)},
        {"disabled_attribute": "", "expiry_attribute": "accountExpires"},
    ],
)
def test_disabled_and_expired_accounts(settings: LdapSettings, changes: dict[str, object]) -> None:
    """Bit, value and date: bob is disabled by each, alice by none."""
    with opened(replace(settings, **changes)) as directory:  # type: ignore[arg-type]
        alice, bob = directory.find("alice"), directory.find("bob")
        assert alice is not None
        assert bob is not None
        assert alice.enabled
        assert not bob.enabled
        assert directory.verify(alice, "alice-password")
        assert not directory.verify(bob, "bob-password")


def test_expiry_follows_the_clock(settings: LdapSettings) -> None:
    """Bob's account ended in 2020: before that he is enabled."""
    known = replace(settings, disabled_attribute="", expiry_attribute="accountExpires")
    directory = LdapDirectory(known, wall_clock=lambda: 1_500_000_000.0)
    bob = directory.find("bob")
    directory.close()
    assert bob is not None
    assert bob.enabled


# -- TLS --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["wrong host", "self-signed", "expired", "other authority"])
def test_bad_certificate_is_refused(
    authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    """On LDAPS and StartTLS alike, before the service account's password is sent."""
    certificate = {
        "wrong host": lambda: authority.issue("wrong", ["ldap.example.net"]),
        "self-signed": lambda: authority.issue("selfsigned", self_signed=True),
        "expired": lambda: authority.issue("expired", days=-1),
        "other authority": lambda: Authority(tmp_path).issue("other"),
    }[kind]()
    with running(tmp_path / "slapd", certificate, tree()) as server:
        for url in (server.ldaps, server.ldap):
            settings = settings_for(url, ca_file=authority.ca_file, start_tls=True)
            with opened(settings) as directory, pytest.raises(DirectoryUnavailableError):
                directory.find("alice")
    assert caplog.text.count("certificate is not accepted") == 2


def test_start_tls_works_like_ldaps(slapd: Slapd, authority: Authority) -> None:
    """The same account is found and verified on the plain port after StartTLS."""
    settings = settings_for(slapd.ldap, ca_file=authority.ca_file, start_tls=True)
    with opened(settings) as directory:
        alice = directory.find("alice")
        assert alice is not None
        assert directory.verify(alice, "alice-password")
        assert not directory.verify(alice, "wrong")


def test_a_server_that_declines_start_tls_gets_no_password(authority: Authority) -> None:
    """An attacker who strips StartTLS sees the request for it and nothing after."""
    received: list[bytes] = []

    def decline(listener: socket.socket) -> None:
        peer, _ = listener.accept()
        with peer:
            request = peer.recv(4096)
            received.append(request)
            message_id = request[2 : 4 + request[3]]
            body = message_id + bytes.fromhex("780c0a0102040004008a0301 0203".replace(" ", ""))
            peer.sendall(bytes([0x30, len(body)]) + body)
            received.append(peer.recv(4096))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=decline, args=(listener,))
        thread.start()
        settings = settings_for(url_of(listener, "ldap"), ca_file=authority.ca_file, start_tls=True)
        with opened(settings) as directory, pytest.raises(DirectoryUnavailableError):
            directory.find("alice")
        thread.join()
    assert b"1.3.6.1.4.1.1466.20037" in received[0]
    assert received[1] == b""


# -- referrals --------------------------------------------------------------------------------


def test_a_referral_to_another_host_is_never_followed(authority: Authority, tmp_path: Path) -> None:
    """Neither among the results nor as the answer does a referral cause a connection."""
    with silent_listener() as other:
        referral = f"{url_of(other, 'ldap')}/{PEOPLE}"
        certificate = authority.issue("referring")
        with running(tmp_path / "slapd", certificate, tree(referral)) as server:
            settings = settings_for(server.ldaps, ca_file=authority.ca_file)
            with opened(settings) as directory:
                assert directory.find("mallory") is None
                assert directory.verify(directory.find("alice"), "alice-password")
            moved = replace(settings, base_dn=f"ou=moved,{BASE_DN}")
            with opened(moved) as directory:
                with pytest.raises(DirectoryConfigError, match="refers"):
                    directory.find("alice")
                with pytest.raises(DirectoryConfigError, match="refers"):
                    directory.verify(None, "alice-password")
        with pytest.raises(BlockingIOError):
            other.accept()


# -- servers that fail ------------------------------------------------------------------------


def test_the_next_server_takes_over_from_a_hanging_one(slapd: Slapd, authority: Authority) -> None:
    """The first login waits one timeout; the following ones ask the good server first."""
    with silent_listener() as hanging:
        settings = settings_for(url_of(hanging), slapd.ldaps, ca_file=authority.ca_file)
        with opened(settings) as directory:
            started = time.monotonic()
            alice = directory.find("alice")
            waited_s = time.monotonic() - started
            assert alice is not None
            assert 0.9 < waited_s < 5
            started = time.monotonic()
            assert directory.verify(alice, "alice-password")
            assert time.monotonic() - started < 0.9


def test_the_next_server_takes_over_from_a_dead_one(slapd: Slapd, authority: Authority) -> None:
    """A refused connection costs nothing."""
    dead = f"ldaps://127.0.0.1:{free_port()}"
    with opened(settings_for(dead, slapd.ldaps, ca_file=authority.ca_file)) as directory:
        assert directory.find("alice") is not None


def test_nobody_answering_is_an_error_within_the_timeouts(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    """Each of find, verify and refresh gives up in time and says so; the log names each server."""
    with silent_listener() as hanging:
        dead = f"ldap://127.0.0.1:{free_port()}"
        settings = settings_for(url_of(hanging), dead, ca_file=authority.ca_file, start_tls=True)
        with opened(settings) as directory:
            started = time.monotonic()
            with pytest.raises(DirectoryUnavailableError, match="No directory server"):
                directory.find("alice")
            with pytest.raises(DirectoryUnavailableError):
                directory.verify(None, "alice-password")
            with pytest.raises(DirectoryUnavailableError):
                directory.refresh(ALICE_ID)
            assert time.monotonic() - started < 8
        assert url_of(hanging) in caplog.text
        assert dead in caplog.text
    assert "alice" not in caplog.text
    assert "service-secret" not in caplog.text


def test_a_server_that_dies_mid_login_is_replaced_by_the_next(
    slapd: Slapd, authority: Authority, tmp_path: Path
) -> None:
    """Found on the first server, verified on the second."""
    with running(tmp_path / "slapd", authority.issue("dying"), tree()) as first:
        settings = settings_for(first.ldaps, slapd.ldaps, ca_file=authority.ca_file)
        with opened(settings) as directory:
            alice = directory.find("alice")
            assert directory.verify(alice, "alice-password")
            first.stop()
            assert directory.verify(alice, "alice-password")
            assert directory.refresh(ALICE_ID) == alice


def test_a_restarted_server_is_reconnected_at_once(authority: Authority, tmp_path: Path) -> None:
    """Dead kept connections are replaced without an error, also when many were kept."""
    configuration = prepare(tmp_path / "slapd", authority.issue("restarted"), tree())
    server = start(configuration)
    try:
        with opened(settings_for(server.ldaps, ca_file=authority.ca_file)) as directory:
            alice = directory.find("alice")
            in_threads(6, lambda: directory.verify(alice, "alice-password"))
            server.stop()
            server = start(configuration, ports=(server.ldap_port, server.ldaps_port))
            assert directory.verify(alice, "alice-password")
            assert directory.find("alice") == alice
    finally:
        server.stop()


def test_trickling_server_is_given_up(authority: Authority, tmp_path: Path) -> None:
    """A byte now and then does not keep a login waiting beyond the timeout."""
    done = threading.Event()

    def trickle(listener: socket.socket) -> None:
        peer, _ = listener.accept()
        with peer, contextlib.suppress(OSError):
            peer.recv(4096)
            peer.sendall(b"\x30\x84\x00\xff\xff\xff")
            while not done.wait(0.1):
                peer.sendall(b"\0")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=trickle, args=(listener,))
        thread.start()
        url = url_of(listener, "ldap")
        settings = settings_for(url, ca_file=authority.ca_file, start_tls=True)
        started = time.monotonic()
        with opened(settings) as directory, pytest.raises(DirectoryUnavailableError):
            directory.find("alice")
        waited_s = time.monotonic() - started
        done.set()
        thread.join()
    assert waited_s < 3


def test_garbage_from_a_server_is_a_failure_of_that_server(authority: Authority) -> None:
    """What is not LDAP ends in the usual clear error."""

    def babble(listener: socket.socket) -> None:
        peer, _ = listener.accept()
        with peer:
            peer.recv(4096)
            peer.sendall(b"\x30\x0aHTTP/1.1 4")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=babble, args=(listener,))
        thread.start()
        url = url_of(listener, "ldap")
        settings = settings_for(url, ca_file=authority.ca_file, start_tls=True)
        with opened(settings) as directory, pytest.raises(DirectoryUnavailableError):
            directory.find("alice")
        thread.join()


def in_threads(count: int, work: object) -> list[object]:
    results: list[object] = []
    barrier = threading.Barrier(count)

    def body() -> None:
        barrier.wait()
        results.append(work())  # type: ignore[operator]

    threads = [threading.Thread(target=body) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_many_threads_get_their_own_answers(directory: LdapDirectory) -> None:
    """Logins at once do not see each other's entries or verdicts."""

    def log_in() -> bool:
        alice, bob = directory.find("alice"), directory.find("bob")
        return (
            alice is not None
            and bob is not None
            and (alice.id, bob.id) == (ALICE_ID, BOB_ID)
            and directory.verify(alice, "alice-password")
            and not directory.verify(alice, "bob-password")
            and directory.verify(bob, "bob-password")
        )

    assert in_threads(8, log_in) == [True] * 8
    assert all(len(idle) <= 8 for idle in directory._links._idle.values())


def test_a_wrong_service_password_is_a_configuration_error(settings: LdapSettings) -> None:
    """Retrying would not help, and could lock the service account."""
    with (
        opened(replace(settings, bind_password="wrong")) as directory,
        pytest.raises(DirectoryConfigError, match="bind_password"),
    ):
        directory.find("alice")


def test_a_missing_base_is_a_configuration_error(settings: LdapSettings) -> None:
    """A base that does not exist is not an empty directory."""
    with (
        opened(replace(settings, base_dn=f"ou=nowhere,{BASE_DN}")) as directory,
        pytest.raises(DirectoryConfigError, match="base_dn"),
    ):
        directory.find("alice")


# -- settings ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"servers": ()}, "no servers"),
        ({"servers": ("ldap://ldap.example.org",)}, "without start_tls"),
        ({"servers": ("ldaps://",)}, "not an address"),
        ({"servers": ("https://ldap.example.org",)}, "not an address"),
        ({"servers": ("ldaps://u:p@ldap.example.org",)}, "not an address"),
        ({"servers": ("ldaps://ldap.example.org:99999",)}, "not an address"),
        ({"servers": ("ldapi:///",)}, "not an address"),
        ({"base_dn": "example.org"}, "base_dn is not a DN"),
        ({"base_dn": ""}, "base_dn is not a DN"),
        ({"bind_dn": "sealgate"}, "bind_dn is not a DN"),
        ({"bind_password": ""}, "bind_password is blank"),
        ({"user_filter": "(uid=alice)"}, "user_filter must compare"),
        ({"user_filter": "(uid:caseExactMatch:={name})"}, "user_filter must compare"),
        ({"user_filter": "((uid={name})"}, "user_filter is not an LDAP filter"),
        ({"group_filter": "(member=x)"}, "group_filter must compare"),
        ({"id_attribute": ""}, "id_attribute"),
        ({"ca_file": "/nonexistent/ca.pem"}, "ca_file"),
        ({"receive_timeout_s": 0}, "receive_timeout_s"),
        ({"receive_timeout_s": 1.5}, "receive_timeout_s"),
        ({"connect_timeout_s": 3600}, "connect_timeout_s"),
    ],
)
def test_settings_that_cannot_work_are_refused(
    authority: Authority, changes: dict[str, object], message: str
) -> None:
    """Each is refused when the directory is made, naming the setting."""
    good = settings_for("ldaps://127.0.0.1", ca_file=authority.ca_file)
    with pytest.raises(DirectoryConfigError, match=re.escape(message)):
        LdapDirectory(replace(good, **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("bind_dn", ["sealgate@example.org", "EXAMPLE\\sealgate"])
def test_active_directory_bind_names_are_taken(authority: Authority, bind_dn: str) -> None:
    """Active Directory binds by principal name and by domain name too, not by DN alone."""
    url = "ldaps://127.0.0.1"
    LdapDirectory(settings_for(url, ca_file=authority.ca_file, bind_dn=bind_dn))


def test_the_service_password_is_not_shown_by_repr(settings: LdapSettings) -> None:
    """Settings that end up in a log line do not give it away."""
    assert settings.bind_password not in repr(settings)


def test_nothing_is_logged_about_who_logs_in(
    directory: LdapDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither names nor passwords reach the application log at any level."""
    with caplog.at_level(logging.DEBUG):
        directory.verify(directory.find("alice"), "alice-password")
        directory.verify(directory.find("twin"), "twin-password")
        directory.find("mallory")
    assert not re.search("alice|twin|mallory|password", caplog.text)

"""Keys and certificates off the wire: whatever arrives, the answer is a key or none."""

from __future__ import annotations

import asyncssh
import pytest
from asyncssh.packet import MPInt, String, UInt32, UInt64
from hypothesis import given
from hypothesis import strategies as st

from gateway.sftp.algorithms import MODERN
from gateway.sftp.shown_key import algorithm_of, key_line, read, user_verified

SIGNATURES = MODERN.signatures
KEYS = [
    asyncssh.generate_private_key("ssh-ed25519"),
    asyncssh.generate_private_key("ecdsa-sha2-nistp384"),
    asyncssh.generate_private_key("ssh-rsa", key_size=2048),
]
AUTHORITY = KEYS[0]
CERTIFICATES = [
    AUTHORITY.generate_user_certificate(
        key, "key id", serial=5, principals=["alice", "bob"], source_address=["10.0.0.0/8"]
    ).public_data
    for key in KEYS
]
every_key = pytest.mark.parametrize("key", KEYS)


@every_key
def test_a_key_is_read_as_its_line(key: asyncssh.SSHKey) -> None:
    """And proves itself by its own signature of that very message."""
    shown = read(key.public_data)
    assert shown is not None
    assert (shown.line, shown.certificate) == (key_line(key), None)
    algorithm = b"rsa-sha2-256" if key.algorithm == b"ssh-rsa" else key.algorithm
    signature = key.sign(b"message", algorithm)
    assert algorithm_of(signature) == algorithm.decode()
    assert shown.proven_by(b"message", signature)
    assert not shown.proven_by(b"another", signature)
    assert not user_verified(signature)


@pytest.mark.parametrize(("key", "data"), list(zip(KEYS, CERTIFICATES, strict=True)))
def test_a_certificate_is_read_with_all_that_decides(key: asyncssh.SSHKey, data: bytes) -> None:
    """The key is the certified one; the authority is the one that has signed."""
    shown = read(data)
    assert shown is not None
    assert shown.line == key_line(key)
    found = shown.certificate
    assert found is not None
    assert (found.authority, found.is_users) == (key_line(AUTHORITY), True)
    assert (found.key_id, found.serial, found.principals) == ("key id", 5, ("alice", "bob"))
    assert (found.valid_from_s, found.valid_until_s) == (0, 2**64 - 1)
    assert found.critical_options == (("source-address", "10.0.0.0/8"),)


def certificate(*, principals: int = 1, options: int = 0, tail: bytes = b"") -> bytes:
    """Return a certificate with as many principals and options, signed by its authority."""
    public = AUTHORITY.public_data
    kind = String("ssh-ed25519-cert-v01@openssh.com")
    body = b"".join(
        (
            kind,
            String(bytes(32)),
            public[4 + len("ssh-ed25519") :],
            UInt64(1),
            UInt32(1),
            String("id"),
            String(b"".join(String(f"user{n}") for n in range(principals))),
            UInt64(0),
            UInt64(2**64 - 1),
            String(b"".join(String(f"x{n}@example.org") + String("") for n in range(options))),
            String(""),
            String(""),
            String(public),
        )
    )
    return body + String(AUTHORITY.sign(body, b"ssh-ed25519")) + tail


def test_certificates_are_bounded_and_end_where_they_end() -> None:
    """Many names, many options, or something behind the signature."""
    full = read(certificate(principals=256, options=64))
    assert full is not None
    assert full.is_vouched_for(SIGNATURES)
    assert read(certificate(principals=257)) is None
    assert read(certificate(options=65)) is None
    assert read(certificate(tail=b"\0")) is None


def test_an_authority_signs_by_what_the_listener_takes() -> None:
    """As its users do."""
    shown = read(CERTIFICATES[0])
    assert shown is not None
    assert shown.is_vouched_for(SIGNATURES)
    assert not shown.is_vouched_for(("rsa-sha2-512",))


def test_an_authority_never_signs_by_sha1() -> None:
    """Not where an exception takes such signatures of an old client either."""
    rsa = KEYS[2]
    made = rsa.generate_user_certificate(
        AUTHORITY, "id", principals=["alice"], sig_alg="ssh-rsa"
    ).public_data
    shown = read(made)
    assert shown is not None
    assert not shown.is_vouched_for((*SIGNATURES, "ssh-rsa"))


@pytest.mark.parametrize("number", [-7, 0, 1, 4, 1 << 200])
def test_numbers_that_make_no_rsa_key_make_none(number: int) -> None:
    """The library raises something else for each."""
    data = String("ssh-rsa") + MPInt(65537) + MPInt(number)
    shown = read(data)
    assert shown is None or not shown.proven_by(b"m", String("rsa-sha2-256") + String(bytes(256)))


@given(st.binary(max_size=300))
def test_any_bytes_are_a_key_or_none(data: bytes) -> None:
    """Nothing that a stranger sends raises."""
    shown = read(data)
    assert shown is None or shown.line
    user_verified(data)


@given(
    data=st.sampled_from([*CERTIFICATES, *(key.public_data for key in KEYS)]),
    at=st.integers(0, 2000),
    put=st.binary(min_size=1, max_size=8),
)
def test_a_changed_certificate_is_none(data: bytes, at: int, put: bytes) -> None:
    """Its authority has signed every byte of it; a changed key is another one, or none."""
    at %= len(data)
    changed = data[:at] + put + data[at + len(put) :]
    shown = read(changed)
    if shown is not None and changed != data and data in CERTIFICATES:
        assert not shown.is_vouched_for(SIGNATURES)
    elif shown is not None:
        shown.proven_by(b"message", put)
        shown.proven_by(b"message", String(put) + put)

"""What a certificate is worth, where its wording allows more than a client can be made to show."""

from __future__ import annotations

from dataclasses import replace

import pytest

from auth.ssh_key import Authority, described, refusal
from gateway.model import SECOND_US, Attempt, Certificate, Client, Wire

CERTIFICATE = Certificate("ssh-ed25519 CA", "id", 7, ("alice",), 1000, 2000, is_users=True)
CLINIC = Authority("clinic", "ssh-ed25519 CA")


def judged(
    certificate: Certificate = CERTIFICATE, *, at_s: float = 1500, address: str = "10.0.0.5"
) -> str:
    attempt = Attempt("alice", Wire.SFTP, Client(address), ssh_key="ssh-ed25519 K")
    now_us = int(at_s * SECOND_US)
    return refusal(certificate, CLINIC, attempt, name="alice", groups=(), now_us=now_us)


@pytest.mark.parametrize(
    ("at_s", "reason"),
    [
        (999.999999, "certificate-not-yet-valid"),
        (1000, ""),
        (1999.999999, ""),
        (2000, "certificate-expired"),
    ],
)
def test_the_span_holds_its_beginning_and_not_its_end(at_s: float, reason: str) -> None:
    """To the second."""
    assert judged(at_s=at_s) == reason


def test_a_span_without_an_end_never_ends() -> None:
    """The largest number stands for that."""
    assert judged(replace(CERTIFICATE, valid_until_s=2**64 - 1), at_s=4_000_000_000) == ""


@pytest.mark.parametrize(
    ("networks", "address", "reason"),
    [
        ("10.0.0.0/8", "::ffff:10.1.2.3", ""),
        ("192.0.2.7,10.0.0.5", "10.0.0.5", ""),
        ("10.0.0.5/8", "10.0.0.9", ""),
        ("2001:db8::/32", "2001:db8::1%eth0", ""),
        ("2001:db8::/32", "10.0.0.5", "certificate-address"),
        ("", "10.0.0.5", "certificate-address"),
        ("10.0.0.0/8,everywhere", "192.0.2.7", "certificate-address"),
        ("!192.0.2.7", "10.0.0.5", "certificate-address"),
        ("10.0.0.0/8", "unknown", "certificate-address"),
    ],
)
def test_a_source_address_narrows_and_never_widens(
    networks: str, address: str, reason: str
) -> None:
    """What cannot be read is nowhere."""
    option = (("source-address", networks),)
    assert judged(replace(CERTIFICATE, critical_options=option), address=address) == reason


def test_all_options_must_be_known() -> None:
    """One that is kept does not make up for one that nobody knows."""
    options = (("source-address", "10.0.0.0/8"), ("x@example.org", ""))
    assert judged(replace(CERTIFICATE, critical_options=options)) == "certificate-option"


@pytest.mark.parametrize(
    ("principals", "reason"),
    [
        ((), "certificate-principal"),
        (("",), "certificate-principal"),
        (("*",), "certificate-principal"),
        (("bob", "ALICE"), ""),
    ],
)
def test_the_login_name_must_be_named(principals: tuple[str, ...], reason: str) -> None:
    """As directories compare names; nothing stands for everybody."""
    assert judged(replace(CERTIFICATE, principals=principals)) == reason


def test_a_record_is_not_flooded_by_a_key_id() -> None:
    """It is whatever the authority was told."""
    long = described(replace(CERTIFICATE, key_id="x" * 100_000), CLINIC)
    assert len(long) < 400
    assert described(CERTIFICATE, None).endswith("of an unknown authority")

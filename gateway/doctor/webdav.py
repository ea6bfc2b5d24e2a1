"""The WebDAV listeners: TLS versions, ciphers and certificates, asked where they run.

Trusts nobody: the certificate is looked at, not believed. Imports the configuration.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.config.schema import WebdavConfig
from gateway.doctor.finding import (
    SOON_DAYS,
    Detail,
    Finding,
    days_left,
    ok,
    problem,
    warning,
)
from gateway.doctor.listening import TIMEOUT_S, reachable
from gateway.doctor.sftp import RSA_BITS_LOW
from gateway.model import SECOND_US

_VERSIONS = {"TLS 1.2": ssl.TLSVersion.TLSv1_2, "TLS 1.3": ssl.TLSVersion.TLSv1_3}


def check_listeners(webdav: WebdavConfig) -> Iterator[Finding]:
    """Yield a finding for each WebDAV listener: its TLS, and whether it shows the configured file."""
    own = _certificate(webdav)
    for endpoint in webdav.listen:
        subject, address = f"webdav {endpoint}", reachable(endpoint)
        spoken: list[Detail] = []
        shown = b""
        try:
            socket.create_connection(address, TIMEOUT_S).close()
        except OSError:
            remedy = "Start the gateway, or look at its log if it should be running."
            message = "nothing answers there; it would offer TLS 1.2 and 1.3 with AES-GCM."
            yield warning(subject, message, remedy)
            continue
        for name, version in _VERSIONS.items():
            with contextlib.suppress(OSError):
                cipher, shown = _handshake(address, version)
                spoken.append(Detail(name, cipher))
        if not spoken:
            message = "what listens there does not speak TLS."
            yield problem(subject, message, "Stop that program, or choose another port.")
        elif own is not None and shown != own.public_bytes(Encoding.DER):
            message = "it shows another certificate than the configured file."
            remedy = "Reload the gateway; if that changes nothing, another program listens there."
            yield warning(subject, message, remedy, *spoken)
        else:
            yield ok(subject, "it was asked.", *spoken)


def _handshake(address: tuple[str, int], version: ssl.TLSVersion) -> tuple[str, bytes]:
    """Return the cipher that ``version`` gets there, and the certificate that is shown."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    with (
        socket.create_connection(address, TIMEOUT_S) as plain,
        context.wrap_socket(plain) as wrapped,
    ):
        cipher = wrapped.cipher()
        return cipher[0] if cipher else "", wrapped.getpeercert(binary_form=True) or b""


def check_certificate(webdav: WebdavConfig, now_us: int) -> Iterator[Finding]:
    """Yield what there is to say of the certificate's file: its names, its key, its days left."""
    certificate = _certificate(webdav)
    subject = f"certificate {webdav.certificate}"
    if certificate is None:
        yield problem(subject, "is no certificate in PEM form.", "Name one with its chain.")
        return
    names = _names(certificate)
    details = (
        Detail("names", " ".join(names)),
        Detail("issuer", certificate.issuer.rfc4514_string()),
    )
    ends = certificate.not_valid_after_utc
    left = days_left(int(ends.timestamp()) * SECOND_US, now_us)
    begins_us = int(certificate.not_valid_before_utc.timestamp()) * SECOND_US
    key = certificate.public_key()
    host = urlsplit(webdav.public_url or "").hostname
    if left < 0:
        message = f"ran out on {ends:%Y-%m-%d}: no client connects."
        yield problem(subject, message, "Renew it, then reload the gateway.", *details)
    elif begins_us > now_us:
        message = "is not valid yet, by this machine's clock."
        yield problem(subject, message, "Set the clock, or wait.", *details)
    elif isinstance(key, rsa.RSAPublicKey) and key.key_size < RSA_BITS_LOW:
        message = f"has an RSA key of {key.key_size} bits, which clients refuse."
        yield problem(subject, message, "Have one issued for a key of 2048 bits or more.", *details)
    elif left <= SOON_DAYS:
        message = f"runs out on {ends:%Y-%m-%d}, in {left} days."
        yield warning(subject, message, "Renew it, then reload the gateway.", *details)
    elif host is not None and not any(_covers(name, host) for name in names):
        message = f"is not for {host}, which server.webdav.public_url names."
        yield warning(subject, message, "Have one issued for that name.", *details)
    else:
        yield ok(subject, f"is good until {ends:%Y-%m-%d}, {left} days.", *details)


def _certificate(webdav: WebdavConfig) -> x509.Certificate | None:
    try:
        return x509.load_pem_x509_certificate(webdav.certificate.read_bytes())
    except (OSError, ValueError):
        return None


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return []
    dns = found.get_values_for_type(x509.DNSName)
    return dns + [str(each) for each in found.get_values_for_type(x509.IPAddress)]


def _covers(name: str, host: str) -> bool:
    if name.startswith("*."):
        return host.lower().partition(".")[2] == name[2:].lower()
    return name.lower() == host.lower()

"""Starts a real slapd with a small tree, and makes the certificates it shows.

A slapd runs in the foreground as a child, on free loopback ports, with everything it keeps in the
folder it is given; ``stop`` ends it by its process id.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import shutil
import socket
import subprocess
import textwrap
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

SLAPD = "/usr/sbin/slapd"
SLAPADD = "/usr/sbin/slapadd"
BASE_DN = "dc=example,dc=org"
SERVICE_DN = f"cn=sealgate,{BASE_DN}"
SERVICE_PASSWORD = "service-secret"
START_LIMIT_S = 20.0

CONFIGURATION = """\
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
moduleload ppolicy
moduleload memberof

# Attributes as OpenSSH's and Microsoft's schemas name them; the numbers are our own.
attributetype ( 1.3.6.1.4.1.99999.1.1 NAME 'sshPublicKey'
  EQUALITY octetStringMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.40 )
attributetype ( 1.3.6.1.4.1.99999.1.2 NAME 'objectGUID'
  EQUALITY octetStringMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.40 SINGLE-VALUE )
attributetype ( 1.3.6.1.4.1.99999.1.3 NAME 'objectSid'
  EQUALITY octetStringMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.40 SINGLE-VALUE )
attributetype ( 1.3.6.1.4.1.99999.1.4 NAME 'tokenGroups'
  EQUALITY octetStringMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.40 )
attributetype ( 1.3.6.1.4.1.99999.1.5 NAME 'userAccountControl'
  EQUALITY integerMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.27 SINGLE-VALUE )
attributetype ( 1.3.6.1.4.1.99999.1.6 NAME 'accountExpires'
  EQUALITY integerMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.27 SINGLE-VALUE )
objectclass ( 1.3.6.1.4.1.99999.2.1 NAME 'gatewayExtras' SUP top AUXILIARY
  MAY ( sshPublicKey $ objectGUID $ objectSid $ tokenGroups $ userAccountControl
    $ accountExpires ) )

pidfile {folder}/slapd.pid
threads 4
security tls=1
TLSCertificateFile {certificate}
TLSCertificateKeyFile {key}

database mdb
suffix "{base}"
directory {folder}/data
maxsize 16777216
dbnosync
overlay ppolicy
overlay memberof
access to attrs=userPassword by anonymous auth by * none
access to dn.subtree="{base}" by dn.exact="{service}" read by anonymous auth by * none
"""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate chain and its key, as PEM files."""

    certificate: Path
    key: Path


class Authority:
    """A certificate authority in a folder; ``ca_file`` is what its clients trust."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test authority")])
        self._now = datetime.now(UTC)
        root = (
            self._builder(self._name, self._name, self._key.public_key(), days=30)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.ca_file = folder / "ca.pem"
        self.ca_file.write_bytes(root.public_bytes(serialization.Encoding.PEM))

    def issue(
        self,
        label: str,
        hosts: Iterable[str] = ("127.0.0.1", "localhost"),
        *,
        days: int = 30,
        self_signed: bool = False,
    ) -> Certificate:
        """Return a server certificate for ``hosts``; negative ``days``: expired that long ago."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, label)])
        names = x509.SubjectAlternativeName([_general_name(host) for host in hosts])
        issuer = subject if self_signed else self._name
        builder = self._builder(subject, issuer, key.public_key(), days=days)
        certificate = builder.add_extension(names, critical=False).sign(
            key if self_signed else self._key, hashes.SHA256()
        )
        files = Certificate(self._folder / f"{label}.pem", self._folder / f"{label}.key")
        files.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        files.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return files

    def _builder(
        self, subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, *, days: int
    ) -> x509.CertificateBuilder:
        until = self._now + timedelta(days=days)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(min(self._now, until) - timedelta(days=1))
            .not_valid_after(until)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        )


def _key_usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


@dataclass(frozen=True, slots=True)
class Slapd:
    """A running slapd: its process and where it listens."""

    process: subprocess.Popen[bytes]
    ldap_port: int
    ldaps_port: int

    @property
    def ldaps(self) -> str:
        return f"ldaps://127.0.0.1:{self.ldaps_port}"

    @property
    def ldap(self) -> str:
        return f"ldap://127.0.0.1:{self.ldap_port}"

    def stop(self) -> None:
        """End the process and wait for it; idempotent."""
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(START_LIMIT_S)


def available() -> bool:
    """Return whether this machine has slapd."""
    return os.access(SLAPD, os.X_OK) and os.access(SLAPADD, os.X_OK)


def prepare(folder: Path, certificate: Certificate, ldif: str) -> Path:
    """Make a configuration and a database holding ``ldif`` in ``folder``; return the former."""
    (folder / "data").mkdir(parents=True)
    configuration = folder / "slapd.conf"
    configuration.write_text(
        CONFIGURATION.format(
            folder=folder,
            base=BASE_DN,
            service=SERVICE_DN,
            certificate=certificate.certificate,
            key=certificate.key,
        )
    )
    entries = folder / "entries.ldif"
    entries.write_text(textwrap.dedent(ldif))
    subprocess.run(
        [SLAPADD, "-q", "-f", configuration, "-l", entries], check=True, capture_output=True
    )
    return configuration


def start(configuration: Path, *, ports: tuple[int, int] | None = None) -> Slapd:
    """Start slapd on free ports (or these) and return when it accepts connections."""
    ldap_port, ldaps_port = ports or (free_port(), free_port())
    urls = f"ldap://127.0.0.1:{ldap_port}/ ldaps://127.0.0.1:{ldaps_port}/"
    process = subprocess.Popen(
        [SLAPD, "-f", configuration, "-h", urls, "-d", "0"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    running = Slapd(process, ldap_port, ldaps_port)
    try:
        for port in (ldap_port, ldaps_port):
            _await_listening(process, port)
    except BaseException:
        running.stop()
        raise
    return running


@contextlib.contextmanager
def running(folder: Path, certificate: Certificate, ldif: str) -> Iterator[Slapd]:
    """Run a slapd with these entries for the length of the block, then remove its folder."""
    server = start(prepare(folder, certificate, ldif))
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def free_port() -> int:
    """Return a loopback port that nothing listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _await_listening(process: subprocess.Popen[bytes], port: int) -> None:
    # slapd in the foreground does not tell when it listens, so it is asked every 10 ms.
    tick = threading.Event()
    for _ in range(int(START_LIMIT_S / 0.01)):
        if process.poll() is not None:
            raise RuntimeError(f"slapd ended with status {process.returncode} while starting")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        tick.wait(0.01)
    raise RuntimeError("slapd did not listen in time")

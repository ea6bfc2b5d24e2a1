"""What kind of SSH host key a file holds: its name, its size, and how it signs.

Reads the one file it is asked about. Imports nothing of the project.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    SSHPrivateKeyTypes,
    load_pem_private_key,
    load_ssh_private_key,
)

SIZE_LIMIT_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class HostKeyKind:
    """A kind of key as people call it (``RSA``), its size, and the signatures that it can make.

    ``fingerprint`` is what OpenSSH shows of it: ``SHA256:`` and base64.
    """

    name: str
    size_bits: int
    signatures: frozenset[str]
    fingerprint: str


def kind_of(path: Path) -> HostKeyKind | None:
    """Return the kind of the private key in ``path``; None when it does not open as one."""
    try:
        with path.open("rb") as file:
            data = file.read(SIZE_LIMIT_BYTES)
    except OSError:
        return None
    for load in (load_ssh_private_key, load_pem_private_key):
        with contextlib.suppress(ValueError, TypeError, UnsupportedAlgorithm):
            # Only its kind is asked for: proving the primes of an RSA key takes a quarter second.
            return _kind(load(data, password=None, unsafe_skip_rsa_key_validation=True))
    return None


def _kind(key: SSHPrivateKeyTypes | PrivateKeyTypes) -> HostKeyKind:
    name, size_bits, signatures = type(key).__name__.removesuffix("PrivateKey"), 0, frozenset[str]()
    if isinstance(key, ed25519.Ed25519PrivateKey):
        name, size_bits, signatures = "Ed25519", 256, frozenset({"ssh-ed25519"})
    elif isinstance(key, ec.EllipticCurvePrivateKey):
        name, size_bits = "ECDSA", key.curve.key_size
        signatures = frozenset({f"ecdsa-sha2-nistp{size_bits}"})
    elif isinstance(key, rsa.RSAPrivateKey):
        name, size_bits = "RSA", key.key_size
        signatures = frozenset({"rsa-sha2-512", "rsa-sha2-256", "ssh-rsa"})
    return HostKeyKind(name, size_bits, signatures, _fingerprint(key) if signatures else "")


def _fingerprint(key: SSHPrivateKeyTypes | PrivateKeyTypes) -> str:
    line = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    digest = hashlib.sha256(base64.b64decode(line.split()[1])).digest()
    return "SHA256:" + base64.b64encode(digest).decode("ascii").rstrip("=")

"""What the WebDAV front end is told at start: its limits, its public address, its TLS files.

Plain frozen records with the defaults that production uses; no reading of configuration here.
Imports nothing from the project.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

KIB = 1024
MIB = 1024 * KIB

BLOCK_BYTES = 256 * KIB
"""How much content is handed from the door to the socket (and back) at once.

Measured over TLS: 8 KiB blocks 0.94 GB/s, 256 KiB 1.93 GB/s, 4 MiB 1.49 GB/s.
"""

XML_BODY_LIMIT_BYTES = 1 * MIB
"""The largest PROPFIND, PROPPATCH or LOCK body that is read."""

HEADER_LIMIT_BYTES = 64 * KIB
"""The largest request line with all its header fields."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Paths of the PEM files: the certificate with its chain, and its private key."""

    certificate: Path
    private_key: Path


@dataclass(frozen=True, slots=True)
class WebdavSettings:
    """Limits and names of one WebDAV listener.

    ``public_url`` is the address that clients use when a reverse proxy stands before the
    listener (empty: whatever ``Host`` they send). Beyond ``connections_max``, or half of the files
    that the process may open, the connection idle longest makes room. Times are seconds.
    """

    public_url: str = ""
    realm: str = "Sealgate"
    threads: int = 64
    backlog: int = 1024
    connections_max: int = 2000
    handshake_timeout_s: float = 5.0
    header_timeout_s: float = 10.0
    keep_alive_s: float = 75.0
    io_timeout_s: float = 30.0
    body_rate_min_bytes_s: int = 1 * KIB
    body_rate_grace_s: float = 20.0
    drain_limit_bytes: int = 1 * MIB
    drain_limit_s: float = 2.0
    linger_s: float = 0.02
    lock_timeout_default_s: int = 600

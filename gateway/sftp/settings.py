"""How the SFTP listener behaves: limits, time-outs and the algorithms it offers.

Plain frozen records; no I/O. Imports nothing from the project.
"""

from __future__ import annotations

from dataclasses import dataclass

SOFTWARE = "Sealgate"
"""What stands behind ``SSH-2.0-`` in the identification line (RFC 4253 section 4.2)."""

_KIB = 1024

_SIGNATURES = (
    "ssh-ed25519",
    "sk-ssh-ed25519@openssh.com",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "rsa-sha2-512",
    "rsa-sha2-256",
)

_KEX = (
    "curve25519-sha256",
    "curve25519-sha256@libssh.org",
    "ecdh-sha2-nistp256",
    "ecdh-sha2-nistp384",
    "ecdh-sha2-nistp521",
)

_GCM = ("aes256-gcm@openssh.com", "aes128-gcm@openssh.com")


@dataclass(frozen=True, slots=True)
class AlgorithmProfile:
    """The SSH algorithms that a listener offers, best first.

    ``optional_kex`` are put in front of ``kex`` where the crypto library of this machine has
    them. ``signatures`` bounds host keys and users' keys alike, so that SHA-1 proves nothing.
    """

    kex: tuple[str, ...]
    ciphers: tuple[str, ...]
    macs: tuple[str, ...]
    signatures: tuple[str, ...]
    optional_kex: tuple[str, ...] = ("mlkem768x25519-sha256",)


# The MACs of the modern profile are never used (GCM carries its own tag), but a key exchange
# without a common MAC name fails with clients that compare the lists all the same.
MODERN = AlgorithmProfile(
    kex=_KEX,
    ciphers=_GCM,
    macs=("hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com", "hmac-sha2-256"),
    signatures=_SIGNATURES,
)
"""Only AES-GCM, which is also the fastest here and what FIPS wants; no SHA-1 anywhere."""

LEGACY = AlgorithmProfile(
    kex=(*_KEX, "diffie-hellman-group14-sha256"),
    ciphers=(*_GCM, "aes256-ctr", "aes128-ctr"),
    macs=(
        "hmac-sha2-256-etm@openssh.com",
        "hmac-sha2-512-etm@openssh.com",
        "hmac-sha2-256",
        "hmac-sha2-512",
    ),
    signatures=_SIGNATURES,
)
"""For scanners with JSch 0.1.55 and the like: adds CTR with SHA-2 MACs and group 14."""


@dataclass(frozen=True, slots=True)
class SftpSettings:
    """Everything that one SFTP listener can be told.

    ``max_attempts`` bounds log-ins tried on one connection, ``max_auth_requests`` every refused
    authentication message (key queries too). ``max_pending_logins`` bounds connections that have
    not logged in: beyond it, the oldest one of the busiest address is dropped, so that idle
    strangers cannot keep others out. ``logins_per_address`` is how many log-ins of one address
    are decided at a time: a refusal takes its second, and the threads are for everybody. ``watch_interval_s`` is how long a session that ended
    elsewhere may keep its connection. A read longer than ``read_limit_bytes`` is answered short;
    the limit is announced, and no client may be told less (OpenSSH then shrinks every request).
    """

    login_timeout_s: float = 30
    banner: str = ""
    profile: AlgorithmProfile = MODERN
    max_attempts: int = 6
    max_auth_requests: int = 30
    max_connections: int = 1000
    max_pending_logins: int = 200
    max_channels: int = 10
    max_refusals: int = 20
    max_handles_per_session: int = 256
    read_limit_bytes: int = 256 * _KIB
    write_limit_bytes: int = 256 * _KIB
    send_buffer_bytes: int = 1024 * _KIB
    keepalive_interval_s: float = 30
    keepalive_count: int = 4
    watch_interval_s: float = 15
    transfer_threads: int = 32
    login_threads: int = 32
    logins_per_address: int = 4
    backlog: int = 1024

    @property
    def packet_limit_bytes(self) -> int:
        """Return the longest SFTP packet that is taken: a full write and its envelope."""
        return max(self.read_limit_bytes, self.write_limit_bytes) + _KIB

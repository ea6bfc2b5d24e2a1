"""How the SFTP listener behaves: limits, time-outs and the algorithms it offers.

Plain frozen records; no I/O. Imports the algorithms.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.sftp.algorithms import ListenerAlgorithms

SOFTWARE = "Sealgate"
"""What stands behind ``SSH-2.0-`` in the identification line (RFC 4253 section 4.2)."""

_KIB = 1024


@dataclass(frozen=True, slots=True)
class SftpSettings:
    """Everything that one SFTP listener can be told.

    ``max_attempts`` bounds log-ins tried on one connection, ``max_auth_requests`` every refused
    authentication message (key queries too). ``max_pending_logins`` bounds connections that have
    not logged in, ``max_pending_per_address`` those of one address: beyond it, one of the busiest
    address is dropped, so that idle strangers cannot keep others out (``gateway.sftp.admission``). ``logins_per_address`` is how many log-ins of one address
    are decided at a time: a refusal takes its second, and the threads are for everybody. ``watch_interval_s`` is how long a session that ended
    elsewhere may keep its connection. A read longer than ``read_limit_bytes`` is answered short;
    the limit is announced, and no client may be told less (OpenSSH then shrinks every request).
    """

    login_timeout_s: float = 30
    banner: str = ""
    algorithms: ListenerAlgorithms = field(default_factory=ListenerAlgorithms)
    max_attempts: int = 6
    max_auth_requests: int = 30
    max_connections: int = 1000
    max_pending_logins: int = 200
    max_pending_per_address: int = 64
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

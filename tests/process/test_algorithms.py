"""A served gateway with a legacy listener and an exception: who comes in, and what is recorded."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.doctor.ssh import ask
from gateway.sftp.algorithms import LEGACY, MODERN
from tests.process.support import ServedGateway, prepared
from tests.support import openssh
from tests.support.gateway import free_ports

OLD = "127.0.0.9"
OLD_OPTIONS = (
    "KexAlgorithms=diffie-hellman-group14-sha1",
    "Ciphers=aes128-ctr",
    "MACs=hmac-sha1",
    "HostKeyAlgorithms=ssh-rsa",
)
LIMIT_S = 30


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServedGateway, int]]:
    """A gateway, and the port of its legacy listener."""
    made = prepared(tmp_path_factory.mktemp("site"))
    (port,) = free_ports(1)
    until = str(datetime.now(UTC).date() + timedelta(days=100))

    def change(config: dict[str, Any]) -> None:
        sftp = config["server"]["sftp"]
        sftp["legacy"] = {"listen": f"127.0.0.1:{port}", "until": until, "reason": "old"}
        sftp["exceptions"] = {
            "ct-3": {
                "networks": OLD,
                "users": "scanner",
                "algorithms": ["legacy", "ssh-rsa", "diffie-hellman-group14-sha1", "hmac-sha1"],
                "until": until,
                "reason": "older",
            }
        }

    made.write_config(change)
    try:
        made.serve()
        yield made, port
    finally:
        if made.process is not None:
            made.stop()
        made.notified.close()


def log_in(gateway: ServedGateway, folder: Path, *options: str, port: int, source: str) -> int:
    """Return how OpenSSH's sftp ended as ``scanner``, whose key it has."""
    arguments = openssh.options(
        port=port,
        known_hosts="/dev/null",
        method="publickey",
        key=gateway.users["scanner"].ssh_key,
        address=source,
    )
    own = [f"-o{one}" for one in (*options, "StrictHostKeyChecking=no")]
    done = subprocess.run(
        ["sftp", *own, *arguments, "scanner@127.0.0.1"],
        input="ls /scans\n",
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
        env=openssh.environment(folder, "", ""),
    )
    return done.returncode


def test_each_listener_has_its_own_offer(site: tuple[ServedGateway, int]) -> None:
    """Asked over the wire, from an ordinary address."""
    gateway, legacy_port = site
    ordinary, legacy = (
        ask(("127.0.0.1", port), LIMIT_S) for port in (gateway.sftp_port, legacy_port)
    )
    assert ordinary.ciphers == MODERN.ciphers
    assert set(legacy.ciphers) == {*MODERN.extended(LEGACY).ciphers}
    assert ordinary.strict_kex
    assert legacy.strict_kex


def test_an_old_client_reaches_what_policy_names_and_is_recorded(
    site: tuple[ServedGateway, int], tmp_path: Path
) -> None:
    """The exception's address with the weakest, the legacy listener with CTR, and no others."""
    gateway, legacy_port = site
    port = gateway.sftp_port
    mark = gateway.audit_mark()
    assert log_in(gateway, tmp_path, *OLD_OPTIONS, port=port, source=OLD) == 0
    assert log_in(gateway, tmp_path, *OLD_OPTIONS, port=port, source="127.0.0.1") != 0
    assert log_in(gateway, tmp_path, *OLD_OPTIONS, port=legacy_port, source="127.0.0.1") != 0
    ctr = "Ciphers=aes128-ctr"
    assert log_in(gateway, tmp_path, ctr, port=legacy_port, source="127.0.0.1") == 0
    assert log_in(gateway, tmp_path, port=port, source=OLD) == 0
    used = [
        each.fields["client_software"].partition("] ")[0]
        for each in gateway.audit_since(mark)
        if each.action == "login"
    ]
    weakest = "aes128-ctr diffie-hellman-group14-sha1 hmac-sha1 ssh-rsa"
    assert used[:2] == [
        f"[server.sftp.exceptions.ct-3: {weakest}",
        "[server.sftp.legacy: aes128-ctr",
    ]
    assert used[2].startswith("OpenSSH")

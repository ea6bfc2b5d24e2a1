"""A gateway for machines: they log in by key alone, may use scp's own protocol, and some are old.

Imports the project's wiring, to fill a folder and to write a configuration.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from backends.catalog.nodes import NodeRow
from backends.ledger import changes
from gateway.app import open_gateway
from gateway.config import load_config
from gateway.paths import VirtualPath
from tests.e2e.programs import run
from tests.process.support import ServedGateway, prepared
from tests.support import openssh

OLD_ADDRESS = "127.0.0.2"
"""Where machines with old algorithms are."""

SCANNER = "scanner@127.0.0.1"
LARGE = "/scans/large"
LARGE_COUNT = 30_000


@contextlib.contextmanager
def machine_room(folder: Path) -> Iterator[ServedGateway]:
    """Run the gateway for the length of a ``with`` block."""
    gateway = prepared(folder)

    def change(config: dict[str, Any]) -> None:
        config["groups"]["scanners"]["scp"] = "allowed"
        config["server"]["sftp"]["exceptions"] = {
            "old": {
                "networks": f"{OLD_ADDRESS}/32",
                "users": "scanner",
                "algorithms": "legacy",
                "until": (datetime.now(UTC) + timedelta(days=30)).date(),
                "reason": "The library of this curl knows no AES-GCM.",
            }
        }

    gateway.write_config(change)
    fill(gateway)
    try:
        gateway.serve()
        yield gateway
    finally:
        if gateway.process is not None:
            gateway.stop()
        gateway.notified.close()


def fill(gateway: ServedGateway) -> None:
    """Make the folder LARGE with its files, straight in the catalog, while nobody serves."""
    opened = open_gateway(load_config(gateway.config))
    try:
        with opened.catalog.begin() as tx:
            root = opened.vault.find(tx, VirtualPath.parse(LARGE).parent)
            assert root is not None
            made = opened.vault.add_folder(tx, root, VirtualPath.parse(LARGE).name, author="test")
            share, now_us = made.share, opened.clock()
            with changes(tx, share.id, share.seal) as ledger:
                ledger.add_nodes(
                    NodeRow(
                        id=os.urandom(16),
                        share_id=share.id,
                        parent_id=made.id,
                        name_sealed=share.names.seal(made.id, f"größe-{number:06}"),
                        is_folder=False,
                        version_id=os.urandom(16),
                        size_bytes=number,
                        created_us=now_us,
                        modified_us=now_us,
                        created_by="test",
                    )
                    for number in range(LARGE_COUNT)
                )
    finally:
        opened.close()


def key_file(gateway: ServedGateway) -> str:
    """Return where the scanner's private key is."""
    key = gateway.users["scanner"].ssh_key
    assert key is not None
    return str(key)


def ssh_options(gateway: ServedGateway) -> list[str]:
    """Return the options with which OpenSSH's programs log in as the scanner."""
    return gateway.ssh_options("scanner", method="publickey")


def environment(place: Path) -> dict[str, str]:
    """Return the environment of a program that has nothing to answer prompts with."""
    return openssh.environment(place, "", "") | {"HOME": str(place), "LC_ALL": "C.UTF-8"}


def putty_options(gateway: ServedGateway, place: Path) -> list[str]:
    """Return the options with which PuTTY's programs log in as the scanner."""
    key = place / "scanner.ppk"
    if not key.exists():
        run(["puttygen", key_file(gateway), "-o", str(key)], env=environment(place))
    listed = run(["ssh-keygen", "-lf", str(gateway.info["known_hosts"])])
    hostkeys = [part for one in re.findall(r"SHA256:\S+", listed) for part in ("-hostkey", one)]
    return ["-batch", "-i", str(key), "-P", str(gateway.sftp_port), *hostkeys]


def curl_options(gateway: ServedGateway) -> list[str]:
    """Return curl with the options with which it logs in as the scanner, from where it may."""
    line = next(
        line
        for line in Path(gateway.info["known_hosts"]).read_text().splitlines()
        if "ssh-rsa" in line or "ed25519" in line
    )
    assert line
    return [
        *("curl", "--fail", "--silent", "--show-error", "--noproxy", "*"),
        *("--interface", OLD_ADDRESS, "--user", "scanner:", "--key", key_file(gateway)),
        "--insecure",
    ]

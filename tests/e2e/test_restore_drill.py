"""The restore drill of docs/BACKUP.md: a running gateway is backed up, and lives again elsewhere."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.gateway import RunningGateway, free_ports

LARGE_BYTES = 17 * 2**20 + 5
"""More than one segment."""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Files of all sizes that are kept differently, and names that are hard to carry."""
    root = tmp_path / "tree"
    sizes = {"empty": 0, "small": 100, "inline": 16_384, "segment": 16_385, "large": LARGE_BYTES}
    for folder in (root, root / "Ordner mit Umlauten äöü", root / "deep" / "er"):
        folder.mkdir(parents=True)
        for name, size in sizes.items():
            if size < LARGE_BYTES or folder == root:
                (folder / name).write_bytes(os.urandom(size))
    (root / "no files").mkdir()
    return root


def content(root: Path) -> dict[str, bytes | None]:
    """Return everything below a folder: bytes of files, None for folders."""
    return {
        str(path.relative_to(root)): None if path.is_dir() else path.read_bytes()
        for path in root.rglob("*")
    }


@contextlib.contextmanager
def bare_machine(source: RunningGateway, folder: Path) -> Iterator[RunningGateway]:
    """Give a gateway with the configuration and the keys of ``source``, and none of its data."""
    webdav_port, sftp_port = free_ports(2)
    shutil.copytree(
        source.folder, folder / "demo", ignore=shutil.ignore_patterns("data", "demo.json")
    )
    machine = RunningGateway(folder / "demo", folder / "gateway.log", webdav_port, sftp_port)
    ports = {str(source.webdav_port): str(webdav_port), str(source.sftp_port): str(sftp_port)}
    known_hosts = machine.folder / "known_hosts"
    config = machine.folder / "config.yaml"
    for file in (config, known_hosts):
        text = file.read_text()
        for old, new in ports.items():
            text = text.replace(f":{old}", f":{new}")
        file.write_text(text)
    machine.info = source.info | {
        "webdav_url": f"https://127.0.0.1:{webdav_port}/",
        "known_hosts": str(known_hosts),
        "config": str(config),
        "data_dir": str(machine.folder / "data"),
    }
    machine.users = source.users
    try:
        yield machine
    finally:
        if machine.process is not None:
            machine.stop()


def run(gateway: RunningGateway, *arguments: str) -> str:
    """Run a sub-command that must find nothing wrong; return what it prints."""
    done = gateway.command(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def scan(gateway: RunningGateway, *commands: str) -> None:
    """Run a batch as the scanner, whose key needs no code."""
    done = gateway.sftp_batch("scanner", commands, method="publickey")
    assert done.returncode == 0, done.stdout


def test_a_backup_of_a_running_gateway_lives_again_elsewhere(
    gateway: RunningGateway, folder: str, tree: Path, tmp_path: Path
) -> None:
    """Trees, versions of files and the audit trail are bit for bit what they were."""
    place = f"/scans/{folder.rsplit('/', 1)[1]}"
    scan(gateway, f"put -r {tree} {place}")
    changed = tree / "small"
    for content_of in (b"first", b"second"):
        changed.write_bytes(content_of)
        reply = gateway.curl("alice", "PUT", f"{folder}/report ü", body=content_of * 9000)
        assert reply.status in {201, 204}
        scan(gateway, f"put {changed} {place}/small")
    noise = tmp_path / "noise"
    noise.write_bytes(os.urandom(100_000))
    puts = [f"put {noise} {place}-noise-{number}" for number in range(15)]
    backup = str(tmp_path / "backup")
    with gateway.sftp("scanner", puts, method="publickey") as writing:
        run(gateway, "backup", backup)
        said, _ = writing.communicate(timeout=120)
        assert writing.returncode == 0, said
    made = json.loads(run(gateway, "backup", backup, "--json"))
    assert made["segments"] > made["copied_segments"]
    run(gateway, "backup", "verify", backup)
    with bare_machine(gateway, tmp_path / "machine") as machine:
        run(machine, "restore", backup)
        machine.start_serve()
        (tmp_path / "fetched").mkdir()
        scan(machine, f"get -r {place} {tmp_path / 'fetched' / 'tree'}")
        assert content(tmp_path / "fetched" / "tree") == content(tree)
        assert machine.curl("alice", "GET", f"{folder}/report ü").body == b"second" * 9000
        scan(machine, f"get {place}-noise-14 {tmp_path / 'again'}")
        assert (tmp_path / "again").read_bytes() == noise.read_bytes()
        assert machine.curl("alice", "PUT", f"{folder}/new", body=b"goes on").status == 201
        trail = json.loads(run(machine, "audit", "verify", "--json"))
        assert trail["findings"] == []
        assert trail["records"] > made["rows"]["audit"] > 20

"""Two gateways over one PostgreSQL catalog and one bucket: the same picture from both."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from tests.support.gateway import RunningGateway
from tests.support.postgres import ADMIN, PASSWORD, PostgresServer
from tests.support.s3 import ACCESS_KEY_ID, BUCKET, SECRET_ACCESS_KEY, S3Server, running_juicefs
from tests.support.users import until

BIG_BYTES = 20 * 2**20
LOCK = b"""<?xml version="1.0"?><lockinfo xmlns="DAV:"><lockscope><exclusive/></lockscope>
<locktype><write/></locktype><owner>alice</owner></lockinfo>"""

CONFIG: dict[str, Any] = {
    "server": {
        "node": "one",
        "webdav": {
            "listen": "",
            "certificate": "keys/tls.crt",
            "private_key": "keys/tls.key",
            "workers": 1,
        },
        "sftp": {"listen": "", "host_keys": ["keys/ssh_host_ed25519_key"], "workers": 1},
    },
    "keys": {"master_key": {"file": "keys/master.key"}},
    "directory": {"file": {"users": "users.yaml"}},
    "shares": {"radiology": {}},
    "groups": {
        "clinicians": {
            "members": {"file": "clinicians"},
            "shares": {"radiology": {"allow": "all"}},
        },
    },
}


def storage(postgres: PostgresServer, bucket: S3Server) -> dict[str, Any]:
    """Return the section that names a new database and the bucket."""
    database = postgres.new_database()
    return {
        "data_dir": "data",
        "catalog": f"postgresql://{ADMIN}@127.0.0.1:{postgres.port}/{database}?sslmode=verify-full",
        "catalog_password": {"file": "secrets/catalog"},
        "catalog_ca_file": "secrets/ca.pem",
        "blobs": f"s3://{BUCKET}/sealgate",
        "s3": {
            "endpoint": bucket.endpoint,
            "access_key": {"file": "secrets/access"},
            "secret_key": {"file": "secrets/secret"},
        },
    }


def first_node(folder: Path, postgres: PostgresServer, bucket: S3Server) -> RunningGateway:
    """Return a gateway that ``sealgate demo`` makes around this configuration."""
    node = RunningGateway.create(folder)
    secrets = node.folder / "secrets"
    secrets.mkdir(parents=True)
    shutil.copy(postgres.authority.ca_file, secrets / "ca.pem")
    given = {"catalog": PASSWORD, "access": ACCESS_KEY_ID, "secret": SECRET_ACCESS_KEY}
    for name, value in given.items():
        (secrets / name).write_text(value + "\n")
        (secrets / name).chmod(0o600)
    config = CONFIG | {"storage": storage(postgres, bucket)}
    (node.folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return node


def second_node(folder: Path, one: RunningGateway) -> RunningGateway:
    """Return another gateway with the same keys, users and storage."""
    node = RunningGateway.create(folder)
    shutil.copytree(one.folder, node.folder)
    path = node.folder / "config.yaml"
    config = yaml.safe_load(path.read_text())
    config["server"]["node"] = "two"
    config["server"]["webdav"]["listen"] = f"127.0.0.1:{node.webdav_port}"
    config["server"]["sftp"]["listen"] = f"127.0.0.1:{node.sftp_port}"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    known_hosts = node.folder / "known_hosts"
    lines = known_hosts.read_text().replace(f":{one.sftp_port} ", f":{node.sftp_port} ")
    known_hosts.write_text(lines)
    node.info = one.info | {
        "config": str(path),
        "known_hosts": str(known_hosts),
        "webdav_url": f"https://127.0.0.1:{node.webdav_port}/",
    }
    # The same codes, and the same sessions: both live in the catalog.
    node.users, node.webdav_logins, node.sftp_logins = one.users, one.webdav_logins, one.sftp_logins
    return node


@pytest.fixture(scope="module")
def nodes(
    postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[RunningGateway, RunningGateway]]:
    """Two gateways, running."""
    with running_juicefs(tmp_path_factory.mktemp("bucket")) as bucket:
        one = first_node(tmp_path_factory.mktemp("one"), postgres, bucket)
        two = None
        try:
            one.start()
            two = second_node(tmp_path_factory.mktemp("two"), one).start_serve()
            yield one, two
        finally:
            for node in (one, two):
                if node is not None and node.process is not None:
                    node.stop()


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def workers(node: RunningGateway, wire: str) -> list[psutil.Process]:
    assert node.process is not None
    found = psutil.Process(node.process.pid).children(recursive=True)
    return [each for each in found if {"gateway.worker", wire} <= set(each.cmdline())]


def test_the_configuration_of_a_cluster_is_good(
    nodes: tuple[RunningGateway, RunningGateway],
) -> None:
    """And nothing of it is kept on the gateways' own disks."""
    one, _ = nodes
    checked = one.command("check-config")
    assert checked.returncode == 0, checked.stdout
    assert not one.data_dir.exists()


def test_what_one_gateway_stores_another_shows(
    nodes: tuple[RunningGateway, RunningGateway], tmp_path: Path
) -> None:
    """Put through one, got and renamed through the other, by both protocols and one session."""
    one, two = nodes
    content = os.urandom(BIG_BYTES)
    (tmp_path / "big").write_bytes(content)
    assert one.curl("alice", "PUT", "/radiology/big", body=tmp_path / "big").status == 201
    assert digest(two.curl("alice", "GET", "/radiology/big").body) == digest(content)
    moved = two.curl(
        "alice", "MOVE", "/radiology/big", headers={"Destination": f"{two.url}/radiology/moved"}
    )
    assert moved.status == 201
    fetched = tmp_path / "fetched"
    done = one.sftp_batch(
        "alice", [f"get /radiology/moved {fetched}", "rename /radiology/moved /radiology/again"]
    )
    assert done.returncode == 0, done.stdout
    assert digest(fetched.read_bytes()) == digest(content)
    assert two.curl("alice", "GET", "/radiology/moved").status == 404
    assert two.curl("alice", "HEAD", "/radiology/again").headers["content-length"] == str(BIG_BYTES)


def test_a_lock_taken_through_one_gateway_binds_the_other(
    nodes: tuple[RunningGateway, RunningGateway], tmp_path: Path
) -> None:
    """Over WebDAV and over SFTP, until it is given back through either."""
    one, two = nodes
    path = "/radiology/locked"
    assert one.curl("alice", "PUT", path, body=b"old").status == 201
    locked = one.curl("alice", "LOCK", path, body=LOCK, headers={"Timeout": "Second-60"})
    assert locked.status == 200
    token = locked.headers["lock-token"]
    assert two.curl("alice", "PUT", path, body=b"new").status == 423
    (tmp_path / "new").write_bytes(b"new")
    assert two.sftp_batch("alice", [f"put {tmp_path / 'new'} {path}"]).returncode != 0
    assert one.curl("alice", "GET", path).body == b"old"
    assert two.curl("alice", "UNLOCK", path, headers={"Lock-Token": token}).status == 204
    assert two.curl("alice", "PUT", path, body=b"new").status == 204
    assert one.curl("alice", "GET", path).body == b"new"


def test_a_killed_worker_takes_nothing_along(nodes: tuple[RunningGateway, RunningGateway]) -> None:
    """The other gateway goes on at once, and the worker is replaced."""
    one, two = nodes
    path = "/radiology/kept"
    assert one.curl("alice", "PUT", path, body=b"kept").status == 201
    (worker,) = workers(one, "webdav")
    worker.kill()
    assert two.curl("alice", "GET", path).body == b"kept"
    assert two.curl("alice", "PUT", path, body=b"changed").status == 204
    until(lambda: one.curl("alice", "GET", path).body == b"changed", "another worker serves", 30)


def test_a_database_that_went_away_is_told_and_comes_back(
    nodes: tuple[RunningGateway, RunningGateway], postgres: PostgresServer
) -> None:
    """Meanwhile nothing is done and nothing hangs; then all goes on without a restart."""
    one, _ = nodes
    path = "/radiology/before"
    assert one.curl("alice", "PUT", path, body=b"before").status == 201
    postgres.stop()
    try:
        assert one.curl("alice", "GET", path).status in {500, 503}
        assert one.curl("alice", "PUT", path, body=b"after").status in {500, 503}
    finally:
        postgres.start()
    assert one.curl("alice", "GET", path).body == b"before"
    assert one.curl("alice", "PUT", path, body=b"after").status == 204


def test_a_restarted_gateway_finds_everything_and_the_trail_verifies(
    nodes: tuple[RunningGateway, RunningGateway],
) -> None:
    """Both gateways' journals are one trail; looking at it needs neither of them."""
    one, two = nodes
    path = "/radiology/restart"
    assert two.curl("alice", "PUT", path, body=b"there").status == 201
    assert one.stop() == 0
    one.start_serve()
    assert one.curl("alice", "GET", path).body == b"there"
    verified = two.command("audit", "verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert {record.fields["node"] for record in one.audit_records()} == {"one", "two"}

"""The check-up of what stands elsewhere: an LDAP directory and a catalog in PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from backends.catalog.engine import Catalog
from backends.catalog.postgres import open_catalog
from backends.keyfile import MasterKeys
from backends.keyring import MASTER_KEY_PREFIX
from gateway.config import GatewayConfig, parse_config
from gateway.doctor.finding import Verdict
from gateway.doctor.people import check_directory
from gateway.doctor.storage import check_stores
from tests.support import slapd
from tests.support.postgres import PostgresServer
from tests.support.slapd import BASE_DN, SERVICE_DN, SERVICE_PASSWORD, Authority

TREE = (
    f"dn: {BASE_DN}\nobjectClass: dcObject\nobjectClass: organization\ndc: example\no: example\n\n"
    f"dn: {SERVICE_DN}\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\n"
    f"cn: sealgate\nuserPassword: {SERVICE_PASSWORD}\n\n"
)

TEXT = """\
server: {sftp: {host_keys: host_key}}
storage: {data_dir: data}
keys: {master_key: {file: master.key}}
directory:
  ldap: {servers: [%s], base_dn: "%s", bind_dn: "%s", bind_password: {file: secret}, ca_file: ca}
shares: {files: }
groups: {staff: {members: {users: alice}, shares: {files: {allow: read}}}}
"""


def config_at(folder: Path, *servers: str, authority: Path | None = None) -> GatewayConfig:
    text = TEXT % (", ".join(f'"{server}"' for server in servers), BASE_DN, SERVICE_DN)
    if authority is not None:
        text = text.replace("ca_file: ca", f"ca_file: {authority}")
    return parse_config(text.encode(), folder / "config.yaml")


def test_each_directory_server_is_asked(tmp_path: Path) -> None:
    """With the service account and over TLS; a wrong password and a server that is down show."""
    authority = Authority(tmp_path)
    with slapd.running(tmp_path / "slapd", authority.issue("good"), TREE) as server:
        secret = tmp_path / "secret"
        secret.write_text(SERVICE_PASSWORD)
        down = f"ldaps://127.0.0.1:{slapd.free_port()}"
        config = config_at(tmp_path, server.ldaps, down, authority=authority.ca_file)
        up, lost = check_directory(config)
        assert (up.verdict, up.subject) == (Verdict.OK, f"directory {server.ldaps}")
        assert (lost.verdict, lost.subject) == (Verdict.PROBLEM, f"directory {down}")
        secret.write_text("wrong")
        refused = next(iter(check_directory(config)))
        assert refused.verdict is Verdict.PROBLEM
        assert "wrong" not in str(refused)
        (tmp_path / "stranger").mkdir()
        stranger = Authority(tmp_path / "stranger")
        secret.write_text(SERVICE_PASSWORD)
        config = config_at(tmp_path, server.ldaps, authority=stranger.ca_file)
        (untrusted,) = check_directory(config)
        assert untrusted.verdict is Verdict.PROBLEM
        assert untrusted.details


@pytest.fixture
def catalog(postgres: PostgresServer) -> Iterator[Catalog]:
    """A new catalog in PostgreSQL."""
    name = postgres.new_catalog()
    made = open_catalog(postgres.settings(name))
    yield made
    made.close()
    postgres.drop(name)


@pytest.mark.parametrize(
    ("revision", "verdict", "word"),
    [
        ("", Verdict.OK, "up to date"),
        ("0001", Verdict.WARNING, "older"),
        ("9", Verdict.PROBLEM, "newer"),
    ],
)
def test_the_version_of_the_catalog(
    catalog: Catalog, tmp_path: Path, revision: str, verdict: Verdict, word: str
) -> None:
    """It is told, and not changed: that is for the next start."""
    if revision:
        with catalog.begin() as tx:
            tx.connection.execute(f"UPDATE alembic_version SET version_num = '{revision}'")
    key = tmp_path / "master.key"
    key.touch(mode=0o600)
    key.write_text(f"{MASTER_KEY_PREFIX}{'5a' * 32}\n")
    config = config_at(tmp_path, "ldaps://127.0.0.1")
    for _ in range(2):
        (found,) = check_stores(config, catalog=catalog, masters=MasterKeys(key))
        assert (found.verdict, word in found.message) == (verdict, True)

"""The storage section: which drivers it chooses, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from backends.catalog.sqlite import CATALOG_FILE
from gateway.app import has_data, no_data
from gateway.config import (
    ConfigError,
    GatewayConfig,
    Problem,
    check_files,
    parse_config,
    warnings,
)
from gateway.config.places import BucketPlace, DatabasePlace
from gateway.config.storage import StorageConfig

TEXT = """\
server:
  sftp: {host_keys: host_key}
storage:
  data_dir: data
keys: {master_key: {file: master.key}}
directory: {file: {users: users.yaml}}
shares: {files: }
groups:
  staff:
    members: {file: staff}
    shares: {files: {allow: [list, read]}}
"""
S3 = "  s3: {endpoint: 'https://s3.example.org', access_key: {file: a}, secret_key: {file: s}}\n"
DATABASE = "  catalog: 'postgresql://sealgate@db.example.org/sealgate'\n"
CA_FILE = "  catalog_ca_file: ca.pem\n"


def text_with(*lines: str) -> bytes:
    return TEXT.replace("  data_dir: data\n", "  data_dir: data\n" + "".join(lines)).encode()


def config(*lines: str, source: Path = Path("/etc/x/config.yaml")) -> GatewayConfig:
    return parse_config(text_with(*lines), source)


def storage(*lines: str) -> StorageConfig:
    return config(*lines).storage


def the_problem(*lines: str) -> Problem:
    with pytest.raises(ConfigError) as caught:
        config(*lines)
    (problem,) = caught.value.problems
    assert problem.message
    assert problem.remedy
    return problem


@pytest.mark.parametrize("lines", [(), ("  catalog: sqlite\n", "  blobs: local\n")])
def test_a_file_and_a_folder_are_the_default(lines: tuple[str, ...]) -> None:
    """Left out or written out."""
    made = storage(*lines)
    assert (made.catalog, made.blobs, made.s3) == (None, None, None)


@pytest.mark.parametrize(
    ("address", "place"),
    [
        (
            "postgresql://sealgate@db.example.org/files",
            DatabasePlace("db.example.org", 5432, "sealgate", "files", "verify-full"),
        ),
        (
            "postgres://s%40g@10.0.0.1:6432/a%20b?sslmode=require",
            DatabasePlace("10.0.0.1", 6432, "s@g", "a b", "require"),
        ),
        ("postgresql://u@localhost/d", DatabasePlace("localhost", 5432, "u", "d", "prefer")),
        (
            "postgresql://u@[::1]/d?sslmode=disable",
            DatabasePlace("::1", 5432, "u", "d", "disable"),
        ),
        (
            "postgresql://u@/d?host=/run/postgresql",
            DatabasePlace("/run/postgresql", 5432, "u", "d", "prefer"),
        ),
    ],
)
def test_an_address_chooses_a_database(address: str, place: DatabasePlace) -> None:
    """By the network, with TLS that checks the server, or by a socket of this machine."""
    assert storage(f"  catalog: '{address}'\n", CA_FILE).catalog == place


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("s3://bucket", BucketPlace("bucket", "")),
        ("s3://bucket/", BucketPlace("bucket", "")),
        ("s3://bucket/a/b", BucketPlace("bucket", "a/b/")),
        ("s3://bucket/a/b/", BucketPlace("bucket", "a/b/")),
    ],
)
def test_an_address_chooses_a_bucket(address: str, place: BucketPlace) -> None:
    """With the beginning of its keys, which always ends in a slash."""
    assert storage(f"  blobs: {address}\n", S3).blobs == place


def test_secrets_lie_elsewhere() -> None:
    """In a file or with systemd, like the master key."""
    made = storage(DATABASE, CA_FILE, "  catalog_password: {credential: db}\n")
    assert made.catalog_password is not None
    assert made.catalog_password.path(Path("/run/c")) == Path("/run/c/db")
    bucket = storage("  blobs: s3://bucket\n", S3)
    assert bucket.s3 is not None
    assert bucket.s3.access_key.file == Path("/etc/x/a")
    assert bucket.s3.region == "us-east-1"


@pytest.mark.parametrize(
    ("address", "word"),
    [
        ("mysql://u@h/d", "PostgreSQL"),
        ("SQLite", "PostgreSQL"),
        ("postgresql://u@h:99999/d", "database"),
        ("postgresql://u@h:0/d", "must name"),
        ("postgresql://u@[h/d", "database"),
        ("postgresql://h/d", "must name"),
        ("postgresql://u@h", "must name"),
        ("postgresql://u@h/", "must name"),
        ("postgresql://u@h/d/e", "must name"),
        ("postgresql://u@h/d#x", "must name"),
        ("postgresql://u@/d", "one server"),
        ("postgresql://u@a,b/d", "one server"),
        ("postgresql://u@h/d?host=/run/x", "one server"),
        ("postgresql://u@/d?host=other", "one server"),
        ("postgresql://u@h/d?sslmode=disable", "openly"),
        ("postgresql://u@h/d?sslmode=prefer", "openly"),
        ("postgresql://u@192.0.2.1/d?sslmode=allow", "openly"),
        ("postgresql://u@h/d?sslmode=full", "no sslmode"),
        ("postgresql://u@h/d?sslmode", "database"),
        ("postgresql://u@h/d?sslmode=require&sslmode=require", "one value"),
        ("postgresql://u@h/d?options=-cfsync%3Doff", "cannot be set"),
        ("postgresql://u@h/d?ssl_mode=require", "cannot be set"),
    ],
)
def test_a_wrong_database_is_refused_in_place(address: str, word: str) -> None:
    """One mistake makes one problem, with its line."""
    problem = the_problem(f"  catalog: '{address}'\n", CA_FILE)
    assert (problem.line, problem.key) == (5, "storage.catalog")
    assert word in problem.message


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://u:hush@h/d",
        "postgresql://u:hush@h:x/d",
        "postgresql://u:hush#1@h/d",
        "postgresql://u@h/d?password=hush",
        "postgresql://u@h/d?sslpassword=hush",
        "mysql://u:hush@h/d",
    ],
)
def test_a_password_in_an_address_is_refused_and_not_repeated(address: str) -> None:
    """The message may be read by more people than the file."""
    problem = the_problem(f"  catalog: '{address}'\n", CA_FILE)
    assert "hush" not in str(problem)
    assert problem.key == "storage.catalog"


@pytest.mark.parametrize(
    ("lines", "word"),
    [
        (("  blobs: bucket\n", S3), "not a bucket"),
        (("  blobs: s3:///a\n", S3), "not a bucket"),
        (("  blobs: s3://u@bucket\n", S3), "not a bucket"),
        (("  blobs: s3://bucket/../x\n", S3), "begin the keys"),
        (("  blobs: s3://bucket//x\n", S3), "begin the keys"),
    ],
)
def test_a_wrong_bucket_is_refused_in_place(lines: tuple[str, ...], word: str) -> None:
    """One mistake makes one problem, with its line."""
    problem = the_problem(*lines)
    assert (problem.line, problem.key) == (5, "storage.blobs")
    assert word in problem.message


@pytest.mark.parametrize(
    ("endpoint", "word"),
    [
        ("http://s3.example.org", "in the clear"),
        ("s3.example.org", "object store"),
        ("https://s3.example.org/bucket", "object store"),
        ("https://u:hush@s3.example.org", "object store"),
        ("https://s3.example.org:99999", "object store"),
    ],
)
def test_a_wrong_endpoint_is_refused_in_place(endpoint: str, word: str) -> None:
    """Plain http is for this machine alone, and a bucket does not belong here."""
    problem = the_problem("  blobs: s3://bucket\n", S3.replace("https://s3.example.org", endpoint))
    assert (problem.line, problem.key) == (6, "storage.s3.endpoint")
    assert word in problem.message
    assert "hush" not in str(problem)


def test_an_endpoint_on_loopback_may_be_plain() -> None:
    """For trials, and for a proxy on this machine."""
    plain = S3.replace("https://s3.example.org", "http://127.0.0.1:9000/")
    made = storage("  blobs: s3://bucket\n", plain)
    assert made.s3 is not None
    assert made.s3.endpoint == "http://127.0.0.1:9000"


@pytest.mark.parametrize(
    ("lines", "word"),
    [
        ((DATABASE,), "needs 'catalog_ca_file'"),
        (("  catalog_password: {file: p}\n",), "without a PostgreSQL 'catalog'"),
        (("  catalog: sqlite\n", CA_FILE), "without a PostgreSQL 'catalog'"),
        (("  blobs: s3://bucket\n",), "without 's3'"),
        ((S3,), "without a bucket"),
    ],
)
def test_keys_that_belong_together_come_together(lines: tuple[str, ...], word: str) -> None:
    """What a driver needs, and nothing of a driver that is not in use."""
    problem = the_problem(*lines)
    assert problem.key == "storage"
    assert word in problem.message


def test_a_server_that_is_not_checked_is_a_warning() -> None:
    """TLS with anyone keeps out only those who listen."""
    lines = DATABASE.replace("/sealgate'", "/sealgate?sslmode=require'")
    (caution,) = warnings(config(lines))
    assert (caution.line, caution.key) == (5, "storage.catalog")
    assert warnings(config(DATABASE, CA_FILE)) == ()


def test_the_files_of_other_drivers_are_looked_for(tmp_path: Path) -> None:
    """Secrets that are missing, and authorities."""
    made = config(
        DATABASE,
        CA_FILE,
        "  catalog_password: {file: p}\n",
        "  blobs: s3://bucket\n",
        S3.replace("}}", "}, ca_file: c}"),
        source=tmp_path / "config.yaml",
    )
    found = [problem.key for problem in check_files(made)]
    for key in ("catalog_password.file", "catalog_ca_file", "s3.access_key.file", "s3.ca_file"):
        assert f"storage.{key}" in found
    assert "storage.s3.secret_key.file" in found


def test_asking_for_data_makes_none(tmp_path: Path) -> None:
    """Nor a folder for it; the sentence names where it was looked for."""
    made = config(source=tmp_path / "config.yaml")
    assert not has_data(made)
    assert list(tmp_path.iterdir()) == []
    assert str(tmp_path / "data") in no_data(made)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / CATALOG_FILE).touch()
    assert has_data(made)
    assert "'sealgate' on db.example.org" in no_data(config(DATABASE, CA_FILE))

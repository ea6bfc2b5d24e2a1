"""Reading from disk, and what the file system has against a configuration."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gateway.config import (
    ConfigError,
    check_files,
    compile_policy,
    load_config,
    parse_config,
)
from gateway.config.document import SIZE_LIMIT_BYTES
from gateway.model import Wire

TEXT = """\
server:
  webdav: {certificate: tls.pem, private_key: tls.key}
  sftp: {host_keys: [host_key]}
storage: {data_dir: data}
keys: {master_key: {file: keys/master.key}}
directory: {file: {users: users.yaml}}
shares: {files: }
groups:
  machines:
    members: {users: robot}
    shares: {files: {allow: [create, all]}}
    second_factor: none
    networks: 10.0.0.1
"""
SECRETS = ("tls.key", "host_key", "keys/master.key", "users.yaml")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder in which everything that TEXT names is there."""
    for folder in ("data", "keys"):
        (tmp_path / folder).mkdir(mode=0o700)
    (tmp_path / "config.yaml").write_text(TEXT)
    (tmp_path / "tls.pem").write_text("x")
    for name in SECRETS:
        (tmp_path / name).write_text("x")
        (tmp_path / name).chmod(0o600)
    return tmp_path


def complaints(site: Path, text: str = TEXT, credentials: Path | None = None) -> list[str]:
    config = parse_config(text.encode(), site / "config.yaml")
    found = check_files(config, credentials_dir=credentials)
    return [f"{problem.line} {problem.key} {problem.message}" for problem in found]


def test_site_in_order_has_no_complaints(site: Path) -> None:
    """Relative paths start from the folder of the configuration, wherever one stands."""
    assert check_files(load_config(site / "config.yaml")) == []


@pytest.mark.parametrize("name", ["tls.pem", *SECRETS])
def test_missing_file_is_named_with_its_line(site: Path, name: str) -> None:
    """Each file that the configuration names must be there."""
    (site / name).unlink()
    (complaint,) = complaints(site)
    assert f"there is no file {site / name}" in complaint


@pytest.mark.parametrize("name", SECRETS)
def test_secret_open_to_everyone_is_refused(site: Path, name: str) -> None:
    """Another account of the machine could read it."""
    (site / name).chmod(0o644)
    (complaint,) = complaints(site)
    assert "open to every account" in complaint


def test_folder_where_a_file_should_be_is_refused(site: Path) -> None:
    """A path that names a folder cannot be a certificate."""
    (site / "tls.pem").unlink()
    (site / "tls.pem").mkdir()
    assert "is not a file" in complaints(site)[0]


def test_master_key_linked_out_of_the_data_folder_is_refused(site: Path) -> None:
    """The name lies outside and the key inside: the data would be copied with its key."""
    key = site / "keys" / "master.key"
    key.rename(site / "data" / "real.key")
    key.symlink_to(site / "data" / "real.key")
    (complaint,) = complaints(site)
    assert complaint.startswith("5 keys.master_key.file lies inside storage.data_dir")


def test_data_folder_that_links_around_the_key_is_refused(site: Path) -> None:
    """The data folder's own name may be the link."""
    (site / "data").rmdir()
    (site / "data").symlink_to(site / "keys")
    assert any("lies inside storage.data_dir" in complaint for complaint in complaints(site))


def test_new_data_folder_needs_a_parent(site: Path) -> None:
    """It may be made at the first start, when there is a place for it."""
    (site / "data").rmdir()
    assert complaints(site) == []
    text = TEXT.replace("data_dir: data", "data_dir: no/such/data")
    assert "there is no folder" in complaints(site, text)[0]


def test_data_folder_open_to_everyone_is_refused(site: Path) -> None:
    """Sealed content is still nobody else's."""
    (site / "data").chmod(0o755)
    assert "open to every account" in complaints(site)[0]


def test_credential_must_have_been_handed_over(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder of systemd is asked, by argument or by environment."""
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    text = TEXT.replace("{file: keys/master.key}", "{credential: master}")
    assert "handed over no credential" in complaints(site, text)[0]
    handed = site / "credentials"
    handed.mkdir()
    (handed / "master").write_text("x")
    assert complaints(site, text, handed) == []
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(handed))
    assert complaints(site, text) == []


def test_ldap_files_and_anchor_are_looked_for(site: Path) -> None:
    """Also the files of sections that not everyone has."""
    text = TEXT.replace(
        "{file: {users: users.yaml}}",
        "{ldap: {servers: 'ldaps://a', base_dn: 'dc=a', ca_file: ca.pem, bind_dn: 'cn=b',"
        " bind_password: {file: pw}}}",
    )
    text += "audit: {anchor: away/anchor}\n"
    found = complaints(site, text)
    assert [complaint.split()[1] for complaint in found] == [
        "directory.ldap.ca_file",
        "directory.ldap.bind_password.file",
        "audit.anchor",
    ]
    (site / "away").symlink_to(site / "data")
    assert any("audit.anchor lies inside" in complaint for complaint in complaints(site, text))


def test_missing_configuration_is_a_problem_like_any_other(tmp_path: Path) -> None:
    """No traceback for a mistyped path."""
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "no.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path)


def test_large_file_is_refused_without_being_read_whole(tmp_path: Path) -> None:
    """A log file named by mistake does not fill the memory."""
    (tmp_path / "config.yaml").write_bytes(b"#" * (10 * SIZE_LIMIT_BYTES))
    with pytest.raises(ConfigError, match="larger than 1 MiB"):
        load_config(tmp_path / "config.yaml")


def test_configuration_cannot_be_changed(site: Path) -> None:
    """A reload makes a new one; nothing edits the running one."""
    config = load_config(site / "config.yaml")
    with pytest.raises(ValidationError):
        config.storage.data_dir = site
    policy = compile_policy(config)
    with pytest.raises(FrozenInstanceError):
        policy.revision = ""  # type: ignore[misc]  # what must fail


def test_service_group_holds_over_sftp_alone(site: Path) -> None:
    """Unless written otherwise a group holds over both; an SSH key exists only in one."""
    (group,) = compile_policy(load_config(site / "config.yaml")).groups
    assert group.wires == {Wire.SFTP}
    assert not group.second_factor
    assert group.members == {"user:robot"}


def problem_count(raw: bytes) -> int:
    try:
        parse_config(raw, Path("/etc/x/config.yaml"))
    except ConfigError as error:
        return len(error.problems)
    return 0


@given(st.binary(max_size=200))
def test_no_bytes_make_the_reader_fail_otherwise(raw: bytes) -> None:
    """Whatever is in the file, the answer is a list of problems."""
    assert problem_count(raw) > 0


@given(st.integers(0, len(TEXT)), st.sampled_from(["", ":", "{", "]", "-", "'", "#", "\n", "&a "]))
def test_no_slip_of_the_finger_makes_the_reader_fail_otherwise(place: int, slip: str) -> None:
    """One character too many or a file cut short."""
    assert problem_count((TEXT[:place] + slip + TEXT[place:]).encode()) >= 0
    assert problem_count(TEXT[:place].encode()) >= 0

"""A gateway that cannot start says why in one sentence, ends with 2, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from backends.keyring import MasterKey
from tests.process.support import ServedGateway, one_sentence, prepared, run_here, run_sealgate

Contents = dict[str, bytes]


@dataclass(frozen=True, slots=True)
class Site:
    """A complete installation that was never started, and where its parts are."""

    folder: Path
    gateway: ServedGateway

    @property
    def config(self) -> Path:
        return self.folder / "config.yaml"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def master_key(self) -> Path:
        return self.folder / "keys" / "master.key"

    def change(self, change: Callable[[dict[str, Any]], None]) -> None:
        self.gateway.write_config(change)

    def refused(self, capsys: pytest.CaptureFixture[str] | None = None) -> str:
        """Start in vain; return the one sentence, nothing else having happened.

        With ``capsys`` the start is tried in this process, which must keep no socket either.
        """
        before = contents(self.folder)
        if capsys is None:
            done = run_sealgate("serve", "-c", self.config)
            log = done.stderr.splitlines()
            done.stderr = "".join(f"{line}\n" for line in log if " supervisor: " not in line)
        else:
            held = psutil.Process().net_connections("inet")
            done = run_here(capsys, "serve", "-c", self.config)
            assert psutil.Process().net_connections("inet") == held
        sentence = one_sentence(done)
        assert contents(self.folder) == before
        assert not left_running(self.config)
        return sentence


def contents(folder: Path) -> Contents:
    """Return every file below ``folder``; folders count too, with nothing in them."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b""
        for path in sorted(folder.rglob("*"))
    }


def left_running(config: Path) -> list[psutil.Process]:
    """Return the living processes that were started with this configuration."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess):
            if str(config) in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


@pytest.fixture(scope="module")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedGateway]:
    """An installation with data, to be copied by each test."""
    made = prepared(tmp_path_factory.mktemp("pattern"))
    yield made
    made.notified.close()


@pytest.fixture
def used(pattern: ServedGateway, tmp_path: Path) -> Site:
    """An installation of which data exist already."""
    folder = tmp_path / "site"
    shutil.copytree(pattern.folder, folder)
    info = pattern.info | {"config": str(folder / "config.yaml")}
    copy = ServedGateway(folder, tmp_path / "log", 0, 0, notified=pattern.notified, info=info)
    return Site(folder, copy)


@pytest.fixture
def site(used: Site) -> Site:
    """An installation that has no data folder yet."""
    shutil.rmtree(used.data)
    return used


@contextlib.contextmanager
def closed_port() -> Iterator[int]:
    """Give a loopback port that refuses connections: bound, but nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def test_missing_master_key(site: Site) -> None:
    """Without its master key nothing starts, and the key's file is named."""
    site.master_key.unlink()
    assert str(site.master_key) in site.refused()


def test_world_readable_master_key(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """A master key that every account can read is refused, with the command that mends it."""
    site.master_key.chmod(0o644)
    sentence = site.refused(capsys)
    assert "open to every account" in sentence
    assert f"chmod o= {site.master_key}" in sentence


def test_wrong_master_key_leaves_the_data_alone(used: Site) -> None:
    """Another master key than the data's is told apart before anything is written."""
    used.master_key.unlink()
    MasterKey.generate().write(used.master_key)
    assert "master key" in used.refused()


@pytest.mark.parametrize("wire", ["webdav", "sftp"])
def test_taken_port(site: Site, wire: str) -> None:
    """A port that another program listens on is refused before anything is made."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]

        def take(config: dict[str, Any]) -> None:
            config["server"][wire]["listen"] = f"127.0.0.1:{port}"

        site.change(take)
        sentence = site.refused()
    assert f"Port {port} on 127.0.0.1 is taken" in sentence
    assert f"server.{wire}.listen" in sentence


def test_unreachable_directory(site: Site) -> None:
    """When no LDAP server answers nobody could log in, so the gateway does not start."""
    with closed_port() as port:

        def ldap(config: dict[str, Any]) -> None:
            config["directory"] = {
                "ldap": {"servers": [f"ldaps://127.0.0.1:{port}"], "base_dn": "dc=example,dc=org"}
            }
            for name, group in config["groups"].items():
                group["members"] = {"ldap": f"cn={name},dc=example,dc=org"}

        site.change(ldap)
        sentence = site.refused()
    assert "directory.ldap.servers" in sentence


def test_file_in_the_place_of_the_data_folder(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file where the data folder should be is named and left alone."""
    site.data.write_text("not a folder")
    assert str(site.data) in site.refused(capsys)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
@pytest.mark.parametrize("exists", [True, False])
def test_read_only_data_folder(
    used: Site, tmp_path: Path, exists: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """A data folder on a file system that is read-only is refused, made already or not."""
    place = tmp_path / "mounted"
    place.mkdir()
    source = used.folder if exists else tmp_path / "empty"
    source.mkdir(exist_ok=True)
    mounted = subprocess.run(
        ["mount", "-o", "bind,ro", source, place], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("this machine does not let root mount")
    try:

        def move(config: dict[str, Any]) -> None:
            config["storage"]["data_dir"] = str(place / "data")

        used.change(move)
        sentence = used.refused(capsys)
    finally:
        subprocess.run(["umount", place], check=True)
    assert "storage.data_dir" in sentence


@pytest.mark.parametrize("name", ["tls.crt", "tls.key", "ssh_host_ed25519_key"])
def test_missing_key_or_certificate(
    site: Site, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A certificate or host key that is not there is named with the key that asks for it."""
    (site.folder / "keys" / name).unlink()
    sentence = site.refused(capsys)
    assert f"there is no file {site.folder / 'keys' / name}" in sentence
    assert "config.yaml:" in sentence


@pytest.mark.parametrize("name", ["tls.crt", "tls.key", "ssh_host_ed25519_key"])
def test_key_or_certificate_that_is_none(
    site: Site, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A certificate or host key that cannot be read as one is named, without a traceback."""
    (site.folder / "keys" / name).write_bytes(secrets.token_bytes(200))
    assert name in site.refused(capsys)


def test_certificate_of_another_key(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """A certificate and a private key that do not fit each other are refused."""
    (site.folder / "keys" / "tls.crt").write_bytes((site.folder / "ca.pem").read_bytes())
    assert "tls.crt" in site.refused(capsys)


def test_broken_configuration_names_line_key_and_remedy(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    """A misspelt key is refused with its line, its name and the right spelling."""
    lines = site.config.read_text().splitlines()
    at = next(number for number, line in enumerate(lines, start=1) if "idle_timeout:" in line)
    lines[at - 1] = lines[at - 1].replace("idle_timeout", "idle_timout")
    site.config.write_text("\n".join(lines))
    sentence = site.refused(capsys)
    assert f"{site.config}:{at}:" in sentence
    assert "idle_timout" in sentence
    assert "Did you mean 'idle_timeout'?" in sentence


def test_text_that_is_no_yaml_names_the_line(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    """What YAML cannot read is refused with its line."""
    site.config.write_text("server:\n  webdav: [1, 2\n")
    assert f"{site.config}:" in site.refused(capsys)


def test_missing_configuration_file(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """A configuration that is not there is named, with how to name another."""
    site.config.unlink()
    sentence = site.refused(capsys)
    assert str(site.config) in sentence
    assert "-c" in sentence


def test_no_configuration_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without -c and SEALGATE_CONFIG there is nothing to serve."""
    monkeypatch.delenv("SEALGATE_CONFIG", raising=False)
    sentence = one_sentence(run_here(capsys, "serve"))
    assert "-c FILE" in sentence
    assert "SEALGATE_CONFIG" in sentence


def test_unknown_command() -> None:
    """A command that does not exist is wrong use."""
    done = run_sealgate("serv")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr

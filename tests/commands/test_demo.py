"""``sealgate demo`` keeps the contract of DESIGN section 9: what it makes, says and keeps."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.process.support import one_sentence, run_here
from tests.support.gateway import RunningGateway, running_gateway

KEYS = {
    *("webdav_url", "sftp_host", "sftp_port", "ca_file", "known_hosts", "config", "data_dir"),
    "users",
}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A demo, started once for the tests of this module."""
    with running_gateway(tmp_path_factory.mktemp("demo")) as running:
        yield running


def test_demo_json_holds_what_programs_need(demo: RunningGateway) -> None:
    """The file has exactly the agreed keys, full paths, and is for its owner alone."""
    info = demo.info
    assert set(info) == KEYS
    assert info["webdav_url"] == f"https://127.0.0.1:{demo.webdav_port}/"
    assert (info["sftp_host"], info["sftp_port"]) == ("127.0.0.1", demo.sftp_port)
    for key in ("ca_file", "known_hosts", "config"):
        assert Path(info[key]).is_absolute()
        assert Path(info[key]).is_file()
    assert Path(info["data_dir"]).is_dir()
    assert stat.S_IMODE(demo.demo_json.stat().st_mode) == 0o600


def test_demo_users(demo: RunningGateway) -> None:
    """Four users: three people with password and code, one machine with a key."""
    users = {user["name"]: user for user in demo.info["users"]}
    assert {name: user["groups"] for name, user in users.items()} == {
        "alice": ["clinicians"],
        "bob": ["billing"],
        "scanner": ["scanners"],
        "admin": ["administrators"],
    }
    for name, user in users.items():
        assert set(user) == {"name", "password", "totp_secret", "groups", "ssh_key"}
        person = name != "scanner"
        assert (user["password"] is not None) is person
        assert (user["totp_secret"] is not None) is person
        assert (user["ssh_key"] is None) is person
    assert stat.S_IMODE(Path(users["scanner"]["ssh_key"]).stat().st_mode) == 0o600


def test_demo_keeps_its_keys_outside_the_data(demo: RunningGateway) -> None:
    """No secret of the gateway lies in the data folder or is open to others."""
    config = yaml.safe_load(demo.config.read_text())
    master_key = demo.folder / config["keys"]["master_key"]["file"]
    assert master_key.is_file()
    assert not master_key.is_relative_to(demo.data_dir)
    secrets = [master_key, *demo.folder.glob("keys/*_key"), demo.folder / "keys" / "tls.key"]
    secrets += [demo.folder / "users.yaml", demo.folder / "accounts.json"]
    assert len(secrets) == 6
    assert not any(stat.S_IMODE(path.stat().st_mode) & 0o077 for path in secrets)
    assert stat.S_IMODE(demo.data_dir.stat().st_mode) == 0o700


def test_demo_configuration_is_a_good_one(
    demo: RunningGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the demo runs on passes ``check-config`` without a warning."""
    checked = run_here(capsys, "check-config", "--json", "-c", demo.config)
    assert json.loads(checked.stdout) == {"problems": [], "warnings": []}


def test_demo_says_how_to_connect(demo: RunningGateway) -> None:
    """The printed lines name curl, sftp and file managers, and a QR code for the app."""
    said = demo.log()
    assert "curl --cacert" in said
    assert f"sftp -P {demo.sftp_port}" in said
    for client in ("Windows Explorer", "macOS Finder", "GNOME Files"):
        assert client in said
    assert "█" in said
    assert "Traceback" not in said


def test_demo_prints_a_code(demo: RunningGateway, capsys: pytest.CaptureFixture[str]) -> None:
    """``--code`` prints six digits for a person, and refuses a machine."""
    shown = run_here(capsys, "demo", "--dir", demo.folder, "--code", "alice")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert re.fullmatch(r"\d{6}\n", shown.stdout)
    assert "scanner" in one_sentence(
        run_here(capsys, "demo", "--dir", demo.folder, "--code", "scanner")
    )


def test_second_demo_in_the_folder_changes_nothing(
    demo: RunningGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    """A demo that is running keeps its files when another is started by mistake."""
    before = {path: path.read_bytes() for path in demo.folder.iterdir() if path.is_file()}
    ports = ("--webdav-port", "1", "--sftp-port", "2")
    done = run_here(capsys, "demo", "--dir", demo.folder, *ports)
    assert "is running" in one_sentence(done)
    assert {path: path.read_bytes() for path in demo.folder.iterdir() if path.is_file()} == before


def test_users_may_do_what_was_agreed(demo: RunningGateway) -> None:
    """Alice writes radiology, bob reads it, the scanner drops into inbox and owns scans."""
    assert demo.curl("alice", "PUT", "/radiology/kept", body=b"kept").status == 201
    assert demo.curl("bob", "GET", "/radiology/kept").body == b"kept"
    assert demo.curl("bob", "PUT", "/radiology/kept", body=b"no").status == 403
    assert demo.curl("bob", "DELETE", "/radiology/kept").status == 403
    sent = demo.folder.parent / "sent"
    sent.write_bytes(b"scan")
    batch = [f"put {sent} /scans/a", "rename /scans/a /scans/b", "rm /scans/b"]
    batch += [f"put {sent} /inbox/a", "-get /inbox/a /dev/null", "-rm /inbox/a"]
    done = demo.sftp_batch("scanner", batch, method="publickey")
    assert done.returncode == 0, done.stdout
    assert demo.curl("admin", "GET", "/inbox/a").body == b"scan"


def test_same_folder_starts_again_with_the_same_data(demo: RunningGateway) -> None:
    """After SIGTERM the status is 0 and demo.json is gone; a new start finds everything."""
    before = demo.info
    assert demo.stop() == 0, demo.log()
    assert not demo.demo_json.exists()
    demo.start()
    assert demo.info == before
    assert demo.curl("alice", "GET", "/radiology/kept").body == b"kept"

"""``sealgate backup`` and ``sealgate restore``: what they say, record, refuse and leave behind."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from backends.backup.folder import MANIFEST
from backends.keyfile import MasterKeys
from backends.keyring import MasterKey
from gateway.app import open_gateway
from gateway.config import load_config
from gateway.paths import VirtualPath
from tests.commands.conftest import Sealgate
from tests.process.support import ServedGateway

CONTENT = bytes(range(256)) * 1000


@pytest.fixture(scope="module", autouse=True)
def content(installation: ServedGateway) -> None:
    """One file of some segments in the installation."""
    gateway = open_gateway(load_config(installation.config))
    try:
        with gateway.catalog.begin() as tx:
            folder = gateway.vault.find(tx, VirtualPath.parse("/radiology"))
            assert folder is not None
            draft = gateway.vault.draft(folder.share, None)
            draft.write_at(0, CONTENT)
            gateway.vault.add_file(
                tx, folder, "secret-name", draft.seal(), modified_us=1, author="p1"
            )
    finally:
        gateway.close()


@pytest.fixture(scope="module")
def bare(installation: ServedGateway, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration of a machine that has the key file and nothing else."""
    folder = tmp_path_factory.mktemp("bare")
    config = yaml.safe_load(installation.config.read_text())
    config["storage"]["data_dir"] = str(folder / "data")
    key = Path(installation.config.parent, config["keys"]["master_key"]["file"])
    shutil.copy(key, folder / "master.key")
    config["keys"]["master_key"] = {"file": str(folder / "master.key")}
    path = installation.config.with_name("bare.yaml")
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.fixture
def machine(bare: Path) -> Iterator[Path]:
    """The bare machine's configuration; what a test restored there is removed."""
    yield bare
    shutil.rmtree(load_config(bare).storage.data_dir, ignore_errors=True)


def on(sealgate: Sealgate, config: Path) -> Sealgate:
    """Return the command with another configuration."""
    gateway = dataclasses.replace(
        sealgate.gateway, info=sealgate.gateway.info | {"config": str(config)}
    )
    return Sealgate(gateway, sealgate.capsys)


def records(sealgate: Sealgate, action: str) -> list[dict[str, Any]]:
    return sealgate.records("audit", "search", "--json", "--action", action)


def test_backup_and_restore_tell_what_they_did(
    sealgate: Sealgate, machine: Path, tmp_path: Path
) -> None:
    """Counts as JSON, two records in the source and one in the restored trail, which verifies."""
    folder = tmp_path / "backup"
    made = sealgate.parsed("backup", str(folder))
    assert made["damaged"] == []
    assert made["segments"] == made["copied_segments"] == 1
    assert made["bytes"] == made["copied_bytes"] > len(CONTENT)
    assert made["rows"]["versions"] == 1
    assert json.loads((folder / MANIFEST).read_text())["id"] == made["id"]
    begins, ends = records(sealgate, "backup")[-2:]
    assert (begins["outcome"], begins["bytes"]) == ("ok", None)
    assert (ends["outcome"], ends["bytes"]) == ("ok", made["bytes"])
    assert all(made["id"] in each["note"] for each in (begins, ends))
    checked = sealgate.parsed("backup", "verify", str(folder))
    assert (checked["problems"], checked["damaged"], checked["damaged_before"]) == ([], [], [])
    there = on(sealgate, machine)
    restored = there.parsed("restore", str(folder))
    assert restored["finished"] is True
    assert (restored["segments"], restored["damaged"]) == (1, [])
    assert there.parsed("audit", "verify")["findings"] == []
    (record,) = records(there, "restore_backup")
    assert made["id"] in record["note"]
    assert [each["note"] for each in records(there, "backup")][-1] == begins["note"]
    gateway = open_gateway(load_config(machine))
    try:
        with gateway.catalog.snapshot() as tx:
            node = gateway.vault.find(tx, VirtualPath.parse("/radiology/secret-name"))
            assert node is not None
            content = gateway.vault.open_content(tx, node)
        assert content.read_at(0, content.size_bytes) == CONTENT
    finally:
        gateway.close()


def test_people_are_told_where_the_key_is_not(
    sealgate: Sealgate, machine: Path, tmp_path: Path
) -> None:
    """The key's id stands at the end of a backup; a restore says what to do next."""
    key_id = sealgate.parsed("keys", "status")["master_key_id"]
    done = sealgate("backup", str(tmp_path / "backup"))
    assert done.returncode == 0
    assert done.stderr == ""
    assert f"master key {key_id}, which is NOT in it" in done.stdout.splitlines()[-1]
    done = sealgate("backup", "verify", str(tmp_path / "backup"))
    assert done.stdout.endswith("It is whole.\n")
    done = on(sealgate, machine)("restore", str(tmp_path / "backup"))
    assert (done.returncode, done.stderr) == (0, "")
    for word in ("audit verify", "90 seconds", "Start the gateway"):
        assert word in done.stdout
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or b"secret-name" not in path.read_bytes()


def test_resume_goes_on_and_needs_a_beginning(sealgate: Sealgate, tmp_path: Path) -> None:
    """Where nothing was begun the status is 2; after a backup it makes another one."""
    done = sealgate("backup", "resume", str(tmp_path / "none"))
    assert (done.returncode, done.stdout) == (2, "")
    assert not (tmp_path / "none").exists()
    sealgate.parsed("backup", str(tmp_path / "backup"))
    again = sealgate.parsed("backup", "resume", str(tmp_path / "backup"), "--limit", "1GiB")
    assert again["copied_segments"] == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("backup", "one", "two"),
        ("backup", "resume", "one", "two"),
        ("backup", "{new}", "--limit", "fast"),
        ("backup", "{new}", "--limit", "0B"),
        ("backup", "{data}/backup"),
        ("backup", "{data}"),
        ("backup", "verify", "{new}"),
        ("restore", "{new}"),
    ],
)
def test_wrong_use_is_said_and_makes_nothing(
    sealgate: Sealgate, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    """Status 2, one sentence, no folder."""
    places = {"new": str(tmp_path / "new"), "data": str(sealgate.gateway.data_dir)}
    done = sealgate(*(word.format(**places) for word in arguments))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("sealgate: ")
    assert list(tmp_path.iterdir()) == []
    assert not (sealgate.gateway.data_dir / "backup").exists()


def test_damage_has_status_1(sealgate: Sealgate, machine: Path, tmp_path: Path) -> None:
    """In the source, in the backup and in a restore, which --accept-damage brings to its end."""
    there = on(sealgate, machine)
    folder = tmp_path / "backup"
    blobs = sealgate.gateway.data_dir / "blobs"
    (segment,) = (path for path in blobs.rglob("*") if path.is_file())
    whole = segment.read_bytes()
    segment.write_bytes(whole[:-1])
    try:
        made = sealgate.parsed("backup", str(folder), status=1)
        assert [each["segment"] for each in made["damaged"]] == [segment.name]
        assert records(sealgate, "backup")[-1]["outcome"] == "failed"
        assert segment.name in sealgate("backup", str(folder)).stdout
    finally:
        segment.write_bytes(whole)
    assert sealgate("backup", "verify", str(folder)).returncode == 1
    sealgate.parsed("backup", str(folder))
    copied = folder / "blobs" / segment.parent.name / segment.name
    copied.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    checked = sealgate.parsed("backup", "verify", str(folder), status=1)
    assert [each["segment"] for each in checked["damaged"]] == [segment.name]
    stopped = there.parsed("restore", str(folder), status=1)
    assert stopped["finished"] is False
    refused = there("audit", "verify")
    assert refused.returncode == 2
    assert "'sealgate restore' again" in refused.stderr
    assert "--accept-damage" in there("restore", str(folder)).stdout
    assert there.parsed("restore", str(folder), "--accept-damage", status=1)["finished"] is True
    assert there.parsed("audit", "verify")["findings"] == []


def test_an_edited_manifest_is_a_problem(sealgate: Sealgate, machine: Path, tmp_path: Path) -> None:
    """Verifying has status 1; a restore is refused and makes no data folder."""
    folder = tmp_path / "backup"
    sealgate.parsed("backup", str(folder))
    text = (folder / MANIFEST).read_text()
    (folder / MANIFEST).write_text(text.replace('"segment_count": 1', '"segment_count": 2'))
    found = sealgate.parsed("backup", "verify", str(folder), status=1)
    assert "does not verify" in found["problems"][0]
    assert sealgate("backup", "verify", str(folder)).returncode == 1
    done = on(sealgate, machine)("restore", str(folder))
    assert (done.returncode, done.stdout) == (2, "")
    assert not load_config(machine).storage.data_dir.exists()


def test_another_key_and_other_data_are_refused(
    sealgate: Sealgate, machine: Path, tmp_path: Path
) -> None:
    """The message names the key that is needed; data that is there stays."""
    folder = tmp_path / "backup"
    made = sealgate.parsed("backup", str(folder))
    done = sealgate("restore", str(folder))
    assert done.returncode == 2
    assert "overwrites nothing" in done.stderr
    key = MasterKeys(Path(yaml.safe_load(machine.read_text())["keys"]["master_key"]["file"]))
    kept = key.path.rename(tmp_path / "kept")
    try:
        MasterKey(b"k" * 32).write(key.path)
        for command in (("restore", str(folder)), ("backup", "verify", str(folder))):
            done = on(sealgate, machine)(*command)
            assert done.returncode == 2
            assert made["master_key_id"] in done.stderr
        assert not load_config(machine).storage.data_dir.exists()
    finally:
        kept.replace(key.path)


def test_a_key_beside_the_backup_is_refused(sealgate: Sealgate, tmp_path: Path) -> None:
    """A stolen backup must not come with what opens it."""
    config = yaml.safe_load(sealgate.gateway.config.read_text())
    key = Path(sealgate.gateway.config.parent, config["keys"]["master_key"]["file"])
    folder = tmp_path / "backup"
    sealgate.parsed("backup", str(folder))
    shutil.copy(key, folder / "master.key")
    config["keys"]["master_key"] = {"file": str(folder / "master.key")}
    other = sealgate.gateway.config.with_name("beside.yaml")
    other.write_text(yaml.safe_dump(config))
    done = on(sealgate, other)("backup", str(folder))
    assert done.returncode == 2
    assert "may not lie with a backup" in done.stderr

"""``keys init`` makes a master key once and never again; ``keys status`` names the keys."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from backends.keyring import MasterKey
from tests.commands.conftest import Sealgate


@pytest.fixture
def master_key(sealgate: Sealgate) -> Iterator[Path]:
    """The place of the master key, empty during the test."""
    path = sealgate.gateway.folder / "keys" / "master.key"
    kept = path.rename(path.with_suffix(".kept"))
    yield path
    kept.rename(path)


@pytest.mark.parametrize("json", [True, False])
def test_new_key_is_readable_by_its_owner_alone(
    sealgate: Sealgate, master_key: Path, json: bool
) -> None:
    """The key that was made has mode 0600 and is a good one; only its id is printed."""
    if json:
        made = sealgate.parsed("keys", "init")
        assert set(made) == {"file", "key_id"}
        key_id, said = made["key_id"], str(made)
    else:
        said = sealgate("keys", "init").stdout
        key_id = said.split()[3]
        assert "Keep a copy" in said
    assert stat.S_IMODE(master_key.stat().st_mode) == 0o600
    assert MasterKey.from_file(master_key).key_id == key_id
    assert master_key.read_text().split()[1] not in said


def test_existing_key_is_never_overwritten(sealgate: Sealgate) -> None:
    """A second init leaves the key as it is and fails."""
    path = sealgate.gateway.folder / "keys" / "master.key"
    before = path.read_bytes()
    done = sealgate("keys", "init")
    assert (done.returncode, done.stdout) == (2, "")
    assert str(path) in done.stderr
    assert path.read_bytes() == before


def test_something_else_in_its_place_is_left_alone(sealgate: Sealgate, master_key: Path) -> None:
    """A link in the key's place is not followed, so nothing is written somewhere else."""
    elsewhere = master_key.parent / "elsewhere"
    master_key.symlink_to(elsewhere)
    done = sealgate("keys", "init")
    assert done.returncode == 2
    assert not elsewhere.exists()


def test_key_from_systemd_is_not_made_here(sealgate: Sealgate) -> None:
    """Where systemd hands the key over there is no file to make."""
    text = sealgate.gateway.config.read_text()
    sealgate.gateway.write_config(
        lambda config: config["keys"].update(master_key={"credential": "master-key"})
    )
    done = sealgate("keys", "init")
    sealgate.gateway.write_text(text)
    assert done.returncode == 2
    assert "systemd" in done.stderr


def test_status_names_the_keys(sealgate: Sealgate) -> None:
    """The master key's id and each share's epoch are shown, and no key itself."""
    path = sealgate.gateway.folder / "keys" / "master.key"
    shown = sealgate.parsed("keys", "status")
    assert shown["master_key_id"] == MasterKey.from_file(path).key_id
    assert shown["share_epochs"] == {"radiology": 1, "inbox": 1, "scans": 1}
    said = sealgate("keys", "status").stdout
    assert f"master key {shown['master_key_id']}" in said
    assert "share scans: epoch 1" in said
    assert path.read_text().split()[1] not in said


def test_status_without_the_key_fails_in_one_sentence(sealgate: Sealgate, master_key: Path) -> None:
    """Without its file there is nothing to show."""
    done = sealgate("keys", "status")
    assert (done.returncode, done.stdout) == (2, "")
    assert str(master_key) in done.stderr

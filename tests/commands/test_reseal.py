"""``keys reseal|destroy-share``: beside a gateway, killed anywhere, and proven."""

from __future__ import annotations

import io
import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from backends.catalog import keys
from backends.epochs import RETIRE_GRACE_US
from backends.vault import Node
from gateway.app import Gateway, open_gateway
from gateway.care.clearing import Clearing
from gateway.config import load_config
from gateway.model import Transaction
from gateway.paths import VirtualPath
from tests.backends.world import BLOCK, sample
from tests.commands.conftest import Sealgate
from tests.process.support import ServedGateway, prepared, served

BIG = sample(3 * BLOCK)
SHORT = b"kept inside the catalog"


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedGateway]:
    """An installation, and beside its data folder a copy of it."""
    made = prepared(tmp_path_factory.mktemp("installation"))
    shutil.copytree(made.data_dir, made.data_dir.with_name("pristine"))
    yield made
    made.notified.close()


@pytest.fixture
def installation(pristine: ServedGateway) -> Iterator[ServedGateway]:
    """An installation of a test's own."""
    text = pristine.config.read_text()
    yield pristine
    pristine.write_text(text)
    shutil.rmtree(pristine.data_dir)
    shutil.copytree(pristine.data_dir.with_name("pristine"), pristine.data_dir)


@contextmanager
def opened(sealgate: Sealgate) -> Iterator[Gateway]:
    gateway = open_gateway(load_config(sealgate.gateway.config))
    try:
        yield gateway
    finally:
        gateway.close()


def node_at(gateway: Gateway, tx: Transaction, path: str) -> Node:
    found = gateway.vault.find(tx, VirtualPath.parse(path))
    assert found is not None
    return found


def store(sealgate: Sealgate, contents: dict[str, bytes]) -> None:
    """Put files at the top of shares."""
    with opened(sealgate) as gateway:
        for path, content in contents.items():
            with gateway.catalog.begin() as tx:
                folder, _, name = path.rpartition("/")
                parent = node_at(gateway, tx, folder)
                draft = gateway.vault.draft(parent.share, None)
                draft.write_at(0, content)
                sealed = draft.seal()
                gateway.vault.add_file(tx, parent, name, sealed, modified_us=0, author="p1")


def read(sealgate: Sealgate, path: str) -> bytes:
    with opened(sealgate) as gateway:
        with gateway.catalog.snapshot() as tx:
            content = gateway.vault.open_content(tx, node_at(gateway, tx, path))
        return content.read_at(0, content.size_bytes)


def age(sealgate: Sealgate, share: str) -> None:
    """Let a day have passed for a share: unused segments and running uploads are gone."""
    with opened(sealgate) as gateway:
        with gateway.catalog.begin() as tx:
            row = keys.share_by_name(tx, share)
            assert row is not None
            for each in keys.epochs_of(tx, row.id):
                earlier_us = each.created_us - RETIRE_GRACE_US
                keys.put_epoch(tx, each._replace(created_us=earlier_us))
        Clearing(gateway).run(strays=True)
        with closing(sqlite3.connect(data_file(sealgate))) as connection, connection:
            connection.execute("UPDATE segments SET orphaned_us = 1 WHERE orphaned_us > 0")
        Clearing(gateway).run(strays=True)


def data_file(sealgate: Sealgate) -> Path:
    return sealgate.gateway.data_dir / "catalog.sqlite"


def blobs(sealgate: Sealgate) -> int:
    return sum(file.is_file() for file in (sealgate.gateway.data_dir / "blobs").rglob("*"))


def status_of(sealgate: Sealgate, share: str) -> dict[str, Any]:
    shown = sealgate.parsed("keys", "status")
    found: dict[str, Any] = next(one for one in shown["shares"] if one["name"] == share)
    return found


def notes(sealgate: Sealgate, action: str) -> list[str]:
    records = sealgate.records("audit", "export")
    return [one["note"] for one in records if one["action"] == action]


@pytest.fixture
def rotated(sealgate: Sealgate) -> Sealgate:
    """A share with content under epoch 1, whose epoch is 2."""
    store(sealgate, {"/scans/big": BIG, "/scans/short": SHORT, "/inbox/other": BIG})
    assert sealgate("keys", "rotate-share", "scans").returncode == 0
    return sealgate


def test_status_tells_what_lies_under_each_epoch(rotated: Sealgate) -> None:
    """And how much there is to reseal."""
    scans = status_of(rotated, "scans")
    first, second = scans["epochs"]
    assert (first["versions"], first["segments"], first["unused_segments"]) == (2, 1, 0)
    assert (second["versions"], second["segments"], second["sealed_bytes"]) == (0, 0, 0)
    assert scans["bytes_to_reseal"] == first["sealed_bytes"] > len(BIG)
    said = rotated("keys", "status").stdout
    assert "2 versions, 1 segments in use" in said
    assert f"'sealgate keys reseal scans' would read {first['sealed_bytes']} bytes" in said


def test_reseal_brings_a_share_under_its_epoch(rotated: Sealgate) -> None:
    """The old epoch's key stays a day, and then goes by another run; each act is recorded."""
    done = rotated.parsed("keys", "reseal", "scans", "--rate", "1GiB")
    (scans,) = done["shares"]
    assert (scans["segments"], scans["versions"], scans["damaged"]) == (1, 2, [])
    assert scans["destroyed_epochs"] == []
    assert (scans["left"][0]["versions"], scans["left"][0]["unused_segments"]) == (0, 1)
    assert read(rotated, "/scans/big") == BIG
    assert read(rotated, "/scans/short") == SHORT
    said = rotated("keys", "reseal", "--all").stdout
    assert "share scans: nothing to reseal" in said
    assert "1 unused segments wait for collection" in said
    assert "Run this again after" in said
    age(rotated, "scans")
    done = rotated.parsed("keys", "reseal", "--all")
    assert [one["destroyed_epochs"] for one in done["shares"]] == [[], [], [1]]
    assert done["destroyed_keys_found_in"] == []
    assert status_of(rotated, "scans")["epochs"][0]["destroyed"] is not None
    assert read(rotated, "/scans/big") == BIG
    assert read(rotated, "/inbox/other") == BIG
    assert notes(rotated, "keys_reseal") == [
        "scans: begun under epoch 2",
        "scans: 1 segments, 2 versions, 0 damaged",
    ]
    assert notes(rotated, "keys_destroy_epoch") == ["scans: epoch 1"]
    assert rotated("audit", "verify").returncode == 0


def test_damage_is_named_and_ends_in_status_1(rotated: Sealgate) -> None:
    """With share, node and segment; what is not damaged is resealed."""
    with opened(rotated) as gateway, gateway.catalog.snapshot() as tx:
        node_id = node_at(gateway, tx, "/scans/big").id.hex()
    with closing(sqlite3.connect(data_file(rotated))) as connection:
        (segment_id,) = connection.execute(
            "SELECT segment_id FROM extents JOIN versions ON versions.id = version_id"
            " WHERE node_id = ?",
            [bytes.fromhex(node_id)],
        ).fetchone()
    name = segment_id.hex()
    blob = rotated.gateway.data_dir / "blobs" / name[:2] / name
    blob.write_bytes(blob.read_bytes()[:-1] + b"\0\0")
    done = rotated("keys", "reseal", "scans")
    assert done.returncode == 1
    assert f"node {node_id}, segment {name}" in done.stdout
    (scans,) = rotated.parsed("keys", "reseal", "scans", status=1)["shares"]
    (damage,) = scans["damaged"]
    assert (damage["share"], damage["node_id"], damage["segment_id"]) == ("scans", node_id, name)
    assert scans["left"][0]["versions"] == 1
    assert read(rotated, "/scans/short") == SHORT


@pytest.mark.parametrize("arguments", [(), ("scans", "--all"), ("nowhere",), ("scans", "nowhere")])
def test_reseal_needs_shares_that_are_there(sealgate: Sealgate, arguments: tuple[str, ...]) -> None:
    """By name, or all of them."""
    done = sealgate("keys", "reseal", *arguments)
    assert (done.returncode, done.stdout) == (2, "")


@pytest.mark.parametrize("rate", ["0MiB", "fast", "-1MiB"])
def test_a_rate_is_a_size(
    sealgate: Sealgate, rate: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """And not nothing."""
    with pytest.raises(SystemExit):
        sealgate("keys", "reseal", "scans", f"--rate={rate}")
    assert "--rate" in capsys.readouterr().err


KILLER = """
import importlib, os, signal, sys
place, attribute, when, config, *arguments = sys.argv[1:]
owner = importlib.import_module(place)
*path, last = attribute.split(".")
for name in path:
    owner = getattr(owner, name)
real = getattr(owner, last)
def killing(*values, **named):
    if when == "after":
        real(*values, **named)
    os.kill(os.getpid(), signal.SIGKILL)
setattr(owner, last, killing)
from gateway.cli import main
sys.exit(main([*arguments, "-c", config]))
"""


def killed(sealgate: Sealgate, place: str, when: str, *arguments: str) -> None:
    """Run a command that is killed before or after its first call of a function."""
    module, _, attribute = place.partition(":")
    config = str(sealgate.gateway.config)
    done = subprocess.run(
        [sys.executable, "-c", KILLER, module, attribute, when, config, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


RESEAL_BOUNDARIES = [
    ("backends.blobs.local:_LocalWriter.finish", "before"),
    ("backends.blobs.local:_LocalWriter.finish", "after"),
    ("backends.catalog.versions:put", "after"),
    ("backends.catalog.versions:replace_segment", "after"),
    ("backends.catalog.versions:add_segments", "after"),
    ("backends.reseal:Resealing._reseal_segments", "after"),
    ("backends.reseal:Resealing._reseal_rows", "after"),
    ("gateway.commands.keys.resealing:retire", "before"),
]


@pytest.mark.parametrize(("place", "when"), RESEAL_BOUNDARIES)
def test_a_killed_reseal_is_run_again(rotated: Sealgate, place: str, when: str) -> None:
    """Everything reads in between, and nothing is left under the old epoch afterwards."""
    killed(rotated, place, when, "keys", "reseal", "scans")
    assert read(rotated, "/scans/big") == BIG
    assert read(rotated, "/scans/short") == SHORT
    assert rotated("keys", "reseal", "scans").returncode == 0
    assert status_of(rotated, "scans")["bytes_to_reseal"] == 0
    assert read(rotated, "/scans/big") == BIG
    assert read(rotated, "/scans/short") == SHORT


def test_a_killed_destruction_of_an_epoch_is_whole_or_nothing(rotated: Sealgate) -> None:
    """The key goes with its record."""
    rotated("keys", "reseal", "scans")
    age(rotated, "scans")
    place = "gateway.commands.keys.resealing:retire"
    killed(rotated, place, "after", "keys", "reseal", "scans")
    assert status_of(rotated, "scans")["epochs"][0]["destroyed"] is None
    assert rotated.parsed("keys", "reseal", "scans")["shares"][0]["destroyed_epochs"] == [1]
    assert notes(rotated, "keys_destroy_epoch") == ["scans: epoch 1"]


# Destroying a share


def without_scans(config: dict[str, Any]) -> None:
    """Take the share out of a configuration."""
    del config["shares"]["scans"]
    for group in config["groups"].values():
        group["shares"].pop("scans", None)


@pytest.fixture
def doomed(rotated: Sealgate) -> Sealgate:
    """A share of two epochs that the configuration does not name any more."""
    store(rotated, {"/scans/later": BIG})
    rotated.gateway.write_config(without_scans)
    return rotated


DESTROY = ("keys", "destroy-share", "scans", "--yes-destroy", "scans")


def require_gone(sealgate: Sealgate, left_blobs: int = 1) -> None:
    """Nothing of the share is left but the trace of its epochs; the others are whole."""
    shown = sealgate.parsed("keys", "status")
    assert "scans" not in [one["name"] for one in shown["shares"]]
    assert shown["destroyed_shares"] == []
    with closing(sqlite3.connect(data_file(sealgate))) as connection:
        known = {row[0] for row in connection.execute("SELECT id FROM shares")}
        for table in ("nodes", "versions", "segments"):
            found = connection.execute(f"SELECT DISTINCT share_id FROM {table}")
            assert {row[0] for row in found} <= known
        traces = connection.execute("SELECT share_id, key_wrapped FROM epochs").fetchall()
        assert {row[1] for row in traces if row[0] not in known} == {None}
    assert blobs(sealgate) == left_blobs
    assert read(sealgate, "/inbox/other") == BIG


def test_a_destroyed_share_is_proven_unreadable(doomed: Sealgate) -> None:
    """What opened before does not now, no key is in the files, and it is all cleared away."""
    done = doomed.parsed(*DESTROY)
    assert done["proven"] is True
    (proof,) = done["destroyed"]
    assert proof["opened_before"] == 3 + 2 + 3
    assert proof["tried"] == 3 + 2 + 4
    assert (proof["opened_now"], proof["keys_that_open"], proof["found_in"]) == (0, 0, [])
    assert (proof["cleared_nodes"], proof["cleared_versions"]) == (4, 3)
    require_gone(doomed)
    (note,) = notes(doomed, "keys_destroy_share")
    assert note.startswith("scans (")
    assert note.endswith("): 2 epochs, 3 nodes, 3 versions")
    assert notes(doomed, "keys_clear_share")[0].endswith(": proven unreadable")
    assert doomed("audit", "verify").returncode == 0
    again = doomed(*DESTROY)
    assert again.returncode == 2
    assert "no share 'scans'" in again.stderr


def test_the_proof_is_told_to_a_person_who_typed_the_name(
    doomed: Sealgate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what it does not cover: backups, and the memory of running processes."""
    monkeypatch.setattr("sys.stdin", io.StringIO("scans\n"))
    done = doomed("keys", "destroy-share", "scans")
    assert done.returncode == 0
    assert "holds 3 files and folders, 3 versions" in done.stderr
    assert "opened 3 versions, 2 segments and 3 names" in done.stdout
    assert "Now it opens 0 of 9" in done.stdout
    assert "None of the 3 destroyed keys is in the files" in done.stdout
    assert "Backups made before" in done.stdout
    assert "PROVEN" in done.stdout
    require_gone(doomed)


@pytest.mark.parametrize("typed", ["", "\n", "scan\n", "yes\n", "Scans\n"])
def test_another_name_destroys_nothing(
    doomed: Sealgate, monkeypatch: pytest.MonkeyPatch, typed: str
) -> None:
    """Whether typed or given; a script must give it."""
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    for arguments in ((), ("--yes-destroy", "inbox"), ("--json",)):
        done = doomed("keys", "destroy-share", "scans", *arguments)
        assert (done.returncode, done.stdout) == (2, "")
    assert status_of(doomed, "scans")["epochs"][0]["versions"] == 2
    assert notes(doomed, "keys_destroy_share") == []


def test_a_configured_share_is_not_destroyed(rotated: Sealgate) -> None:
    """A running gateway uses it, and would make it anew."""
    done = rotated(*DESTROY)
    assert (done.returncode, done.stdout) == (2, "")
    assert "still names share 'scans'" in done.stderr
    assert read(rotated, "/scans/big") == BIG


def test_a_key_that_can_still_be_found_is_no_proof(doomed: Sealgate) -> None:
    """In a place of the catalog, or in a copy of it beside it; once it is gone, it is proven."""
    with closing(sqlite3.connect(data_file(doomed))) as connection, connection:
        connection.execute(
            "INSERT INTO meta SELECT 'planted', key_wrapped FROM epochs JOIN shares"
            " ON shares.id = share_id WHERE name = 'scans' AND epochs.epoch = 1"
        )
    done = doomed.parsed(*DESTROY, status=1)
    assert done["proven"] is False
    (proof,) = done["destroyed"]
    assert proof["keys_that_open"] == 1
    assert proof["found_in"] == [str(data_file(doomed))]
    assert doomed.parsed("keys", "status")["destroyed_shares"] == ["scans"]
    assert notes(doomed, "keys_clear_share")[0].endswith("NOT proven unreadable")
    with closing(sqlite3.connect(data_file(doomed))) as connection, connection:
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("DELETE FROM meta WHERE key = 'planted'")
    said = doomed("keys", "destroy-share", "scans")
    assert said.returncode == 0
    assert "by an earlier run" in said.stdout
    require_gone(doomed)


def test_a_copy_of_the_catalog_beside_it_is_no_proof(doomed: Sealgate) -> None:
    """It is named."""
    copy = data_file(doomed).with_name("catalog.sqlite.before")
    with closing(sqlite3.connect(data_file(doomed))) as connection:
        connection.execute("VACUUM INTO ?", [str(copy)])
    done = doomed(*DESTROY)
    assert done.returncode == 1
    assert f"still in {copy}" in done.stdout
    assert "NOT PROVEN" in done.stdout
    copy.unlink()
    assert doomed(*DESTROY).returncode == 0
    require_gone(doomed)


DESTROY_BOUNDARIES = [
    ("backends.catalog.keys:put_epoch", "after"),
    ("backends.catalog.keys:remove_share", "after"),
    ("gateway.commands.keys.destroying:destroy", "after"),
    ("gateway.commands.keys.destroying:_destroyed", "after"),
    ("backends.catalog.erasure:settle", "after"),
    ("backends.catalog.remains:remove_nodes", "after"),
    ("backends.catalog.versions:remove", "after"),
    ("backends.catalog.segments:remove", "after"),
    ("backends.blobs.local:LocalBlobStore.delete", "before"),
    ("backends.catalog.remains:remove_rest", "after"),
    ("backends.catalog.remains:forget_act", "after"),
]


@pytest.mark.parametrize(("place", "when"), DESTROY_BOUNDARIES)
def test_a_killed_destruction_is_run_again(doomed: Sealgate, place: str, when: str) -> None:
    """The share is whole or unreadable, never between; the second run proves it too."""
    killed(doomed, place, when, *DESTROY)
    with opened(doomed) as gateway, gateway.catalog.snapshot() as tx:
        row = keys.share_by_name(tx, "scans")
        if row is not None:
            assert all(each.key_wrapped for each in keys.epochs_of(tx, row.id))
    acts = notes(doomed, "keys_destroy_share")
    assert bool(acts) == (row is None)
    assert doomed.parsed(*DESTROY)["proven"] is True
    # A segment whose row went and whose blob did not is a stray, which the janitor collects.
    require_gone(doomed, left_blobs=3 if place.endswith("LocalBlobStore.delete") else 1)


def test_keys_change_under_a_running_gateway(tmp_path: Path) -> None:
    """It reads and writes on while a share is resealed and another one destroyed."""
    with served(tmp_path) as gateway:
        curl = gateway.curl
        for number in range(5):
            body = f"content {number}".encode() * 20_000
            assert curl("alice", "PUT", f"/radiology/{number}", body=body).status == 201
        for command in (("rotate-share", "radiology"), ("reseal", "--all", "--rate", "50MiB")):
            done = gateway.command("keys", *command, "--json")
            assert done.returncode == 0, done.stderr
            assert json.loads(done.stdout)
            for number in range(5):
                body = f"content {number}".encode() * 20_000
                assert curl("alice", "GET", f"/radiology/{number}").body == body
            assert curl("alice", "PUT", "/radiology/0", body=body).status == 204
            assert curl("alice", "PUT", "/radiology/0", body=b"content 0" * 20_000).status == 204
        gateway.write_config(without_scans)
        gateway.reload()
        done = gateway.command(*DESTROY, "--json")
        assert done.returncode == 0, done.stderr + done.stdout
        assert json.loads(done.stdout)["proven"] is True
        assert curl("alice", "GET", "/radiology/1").body == b"content 1" * 20_000

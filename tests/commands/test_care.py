"""``gc`` and ``scrub``: clearing away and verifying, beside a server or without one."""

from __future__ import annotations

import contextlib
import os
import pty
import sqlite3
import subprocess
import termios
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from gateway.app import Gateway, open_gateway
from gateway.care.clearing import Clearing
from gateway.care.turn import Turn
from gateway.config import load_config
from gateway.model import SECOND_US, Clock, Transaction, system_clock
from gateway.paths import VirtualPath
from tests.commands.conftest import Sealgate
from tests.process.support import ServedGateway, prepared
from tests.support.gateway import SEALGATE

LARGE = bytes(100_000)
GOES_ON_S = 30
DAY_US = 24 * 3600 * SECOND_US


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[ServedGateway]:
    """An installation of its own for each test, with three files in segments, 20 days old."""
    made = prepared(tmp_path)
    with running(made, twenty_days_ago) as gateway:
        for number in range(3):
            write(gateway, f"/radiology/scan {number}", LARGE)
    yield made
    made.notified.close()


def twenty_days_ago() -> int:
    return system_clock() - 20 * DAY_US


@contextlib.contextmanager
def running(installation: ServedGateway, clock: Clock = system_clock) -> Iterator[Gateway]:
    gateway = open_gateway(load_config(installation.config), clock=clock)
    try:
        yield gateway
    finally:
        gateway.close()


def write(gateway: Gateway, path: str, content: bytes) -> None:
    """Put a file, or a new version of it, into the vault."""
    target = VirtualPath.parse(path)
    vault = gateway.vault
    with gateway.catalog.begin() as tx:
        folder, file = vault.find(tx, target.parent), vault.find(tx, target)
        assert folder is not None
        draft = vault.draft(folder.share, None)
        draft.write_at(0, content)
        sealed, now_us = draft.seal(), gateway.clock()
        if file is None:
            vault.add_file(tx, folder, target.name, sealed, modified_us=now_us, author="p")
        else:
            vault.add_version(tx, file, sealed, modified_us=now_us, author="p")


def sql(installation: ServedGateway, statement: str) -> list[tuple[Any, ...]]:
    """Run a statement on the catalog's file, past the gateway."""
    file = installation.folder / "data" / "catalog.sqlite"
    with contextlib.closing(sqlite3.connect(file)) as connection:
        found = connection.execute(statement).fetchall()
        connection.commit()
    return found


def blobs(installation: ServedGateway) -> list[Path]:
    return sorted((installation.folder / "data" / "blobs").glob("*/*"))


def recorded(sealgate: Sealgate, action: str) -> list[dict[str, Any]]:
    lines = sealgate.records("audit", "export", "--format", "jsonl")
    return [line for line in lines if line["action"] == action]


def test_a_clean_installation_is_clean(sealgate: Sealgate) -> None:
    """Nothing is found, everything was read, and the run is one record."""
    report = sealgate.parsed("scrub", "--all")
    assert report["findings"] == report["repairs"] == report["unconfigured_shares"] == []
    assert report["segments"] == 3
    assert report["bytes"] > 3 * len(LARGE)
    assert report["rows"] > 6
    (record,) = recorded(sealgate, "scrub")
    assert (record["outcome"], record["protocol"]) == ("ok", "admin")
    assert "(local)" in record["principal_name"]
    assert "3 segments" in record["note"]
    assert "Everything verifies." in sealgate("scrub").stdout


def test_by_default_a_daily_part_is_read(sealgate: Sealgate, installation: ServedGateway) -> None:
    """What was read longest ago first; everything has its turn."""
    assert sealgate.parsed("scrub")["segments"] == 1
    assert sealgate.parsed("scrub", "--fraction", "1/2")["segments"] == 2
    times = sql(installation, "SELECT count(DISTINCT verified_us) FROM segments")
    assert times == [(2,)]
    assert sealgate.parsed("scrub", "--all", "--share", "scans")["segments"] == 0


def test_damage_is_told_with_what_to_do(sealgate: Sealgate, installation: ServedGateway) -> None:
    """For people and for programs, with status 1; nothing changes without --repair."""
    blob = blobs(installation)[0]
    blob.write_bytes(blob.read_bytes()[:-1])
    report = sealgate.parsed("scrub", "--all", status=1)
    (found,) = report["findings"]
    assert (found["kind"], found["share"]) == ("segment", "radiology")
    assert found["segment_id"] == blob.name
    assert found["path"].startswith("/radiology/scan ")
    done = sealgate("scrub", "--all")
    assert done.returncode == 1
    for text in (found["path"], found["node_id"], blob.name, "1 findings."):
        assert text in done.stdout
    assert sql(installation, "SELECT count(*) FROM quarantine") == [(0,)]
    failed = [each for each in recorded(sealgate, "scrub") if each["rule"] == "segment"]
    assert [each["path"] for each in failed] == [found["path"]] * 2


def test_repair_never_deletes(sealgate: Sealgate, installation: ServedGateway) -> None:
    """A damaged segment, a dropped folder and an edited counter at once; then only the damage is left."""
    with running(installation) as gateway, gateway.catalog.begin() as tx:
        vault = gateway.vault
        root = vault.find(tx, VirtualPath.parse("/radiology"))
        assert root is not None
        folder = vault.add_folder(tx, root, "folder", author="p")
        vault.add_folder(tx, folder, "lost", author="p")
    blob = blobs(installation)[0]
    blob.write_bytes(b"")
    sql(installation, f"DELETE FROM nodes WHERE id = x'{folder.id.hex()}'")
    sql(installation, "UPDATE shares SET used_bytes = 1 WHERE name = 'radiology'")
    tables = ("nodes", "versions", "segments", "extents")
    before = [sql(installation, f"SELECT count(*) FROM {table}") for table in tables]
    report = sealgate.parsed("scrub", "--all", "--repair", status=1)
    assert {each["kind"] for each in report["findings"]} == {"share", "lost", "segment"}
    assert len(report["repairs"]) == 3
    assert [sql(installation, f"SELECT count(*) FROM {table}") for table in tables] == before
    assert blob in blobs(installation)
    again = sealgate.parsed("scrub", "--all", status=1)
    assert {each["kind"] for each in again["findings"]} == {"segment"}
    listed = sealgate.records("trash", "list", "radiology", "--json")
    assert [Path(one["path"]).name for one in listed] == ["lost"]
    repairs = [each for each in recorded(sealgate, "scrub") if each["rule"] == "repair"]
    assert any("MAY HAVE BEEN DROPPED" in each["note"] for each in repairs)


def test_a_run_over_everything_goes_on_where_it_was_cut_off(
    sealgate: Sealgate, installation: ServedGateway
) -> None:
    """What was read since it began is not read again; the run after that reads everything."""
    began_us = system_clock() - DAY_US
    sql(installation, f"INSERT INTO meta VALUES ('scrub_all_us', CAST('{began_us}' AS BLOB))")
    sql(
        installation,
        f"UPDATE segments SET verified_us = {began_us + 1} WHERE id ="
        " (SELECT min(id) FROM segments)",
    )
    assert sealgate.parsed("scrub", "--all")["segments"] == 2
    assert sealgate.parsed("scrub", "--all")["segments"] == 3


def test_a_share_that_no_configuration_names_is_told(
    sealgate: Sealgate, installation: ServedGateway
) -> None:
    """Its rows cannot be judged, which is no damage."""

    def drop(config: dict[str, Any]) -> None:
        del config["shares"]["scans"]
        for group in config["groups"].values():
            group.get("shares", {}).pop("scans", None)

    installation.write_config(drop)
    assert sealgate.parsed("scrub")["unconfigured_shares"] == ["scans"]
    assert "'scans' is in the catalog, but not in the configuration" in sealgate("scrub").stdout


@pytest.mark.parametrize(
    "wrong",
    [
        ("--fraction", "0"),
        ("--fraction", "2"),
        ("--fraction", "1/0"),
        ("--fraction", "x"),
        ("--rate", "fast"),
        ("--rate", "0"),
        ("--all", "--fraction", "1/2"),
    ],
)
def test_what_cannot_be_meant_is_refused(sealgate: Sealgate, wrong: tuple[str, ...]) -> None:
    """Before anything is read."""
    with pytest.raises(SystemExit, match="2"):
        sealgate("scrub", *wrong)


def test_an_unknown_share_is_refused(sealgate: Sealgate) -> None:
    """Rather than to find that nothing is wrong with it."""
    done = sealgate("scrub", "--share", "none")
    assert done.returncode == 2
    assert "'none'" in done.stderr


def test_a_rate_is_kept(sealgate: Sealgate) -> None:
    """A third of a megabyte at a megabyte a second takes its time, and no longer."""
    assert sealgate.parsed("scrub", "--all", "--rate", "1MiB")["segments"] == 3


def test_a_second_command_waits_for_its_turn(
    sealgate: Sealgate, installation: ServedGateway
) -> None:
    """Two at once would read everything twice."""
    with running(installation) as gateway:
        turn = Turn(gateway.catalog, gateway.clock, "another", commanded=True)
        assert turn.take()
        for command in ("scrub", "gc"):
            done = sealgate(command)
            assert done.returncode == 2
            assert "at work" in done.stderr
        turn.give_up()
    assert sealgate("gc").returncode == 0


def test_the_bar_is_shown_on_a_terminal_alone(installation: ServedGateway) -> None:
    """On stderr, so that the findings can be piped; never with --json."""

    def shown(*options: str) -> bytes:
        ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (25, 80))
        command = [str(SEALGATE), "scrub", *options, "-c", str(installation.config)]
        with os.fdopen(theirs, "wb") as terminal:
            subprocess.run(command, stdout=subprocess.DEVNULL, stderr=terminal, check=True)
        text = b""
        with contextlib.suppress(OSError):
            while part := os.read(ours, 4096):
                text += part
        os.close(ours)
        return text

    assert b"segments" in shown("--all")
    assert shown("--json") == b""


def test_gc_clears_away_and_tells_how_much(sealgate: Sealgate, installation: ServedGateway) -> None:
    """Old versions, old trash, expired uploads, and a day later their segments; all recorded."""

    def keep_ten_days(config: dict[str, Any]) -> None:
        config["shares"]["radiology"] |= {"versions": {"keep": 5, "for": "10d"}, "trash": "10d"}

    installation.write_config(keep_ten_days)
    with running(installation, twenty_days_ago) as gateway:
        write(gateway, "/radiology/scan 0", b"newer")
        with gateway.catalog.begin() as tx:
            doomed = gateway.vault.find(tx, VirtualPath.parse("/radiology/scan 1"))
            root = gateway.vault.find(tx, VirtualPath.parse("/radiology"))
            assert doomed is not None
            assert root is not None
            gateway.vault.delete(tx, doomed, author="p")
            draft = gateway.vault.draft(root.share, None)
            draft.write_at(0, LARGE)
            gateway.vault.unfinished.keep(
                tx,
                root.share,
                root.id,
                "half",
                draft.seal(),
                principal_id="p",
                base_id=b"",
                modified_us=0,
            )
    assert sealgate.parsed("gc") == {
        "versions": 1,
        "trashed": 1,
        "uploads": 1,
        "segments": 0,
        "failed": [],
    }
    sql(installation, "UPDATE segments SET orphaned_us = 1 WHERE orphaned_us IS NOT NULL")
    assert "Unused segments deleted: 3" in sealgate("gc").stdout
    assert len(blobs(installation)) == 1
    expired = [(each["share"], each["count"]) for each in recorded(sealgate, "expire")]
    assert expired == [("radiology", 1)] * 3
    assert [each["count"] for each in recorded(sealgate, "gc")] == [3]
    assert sealgate.parsed("scrub", "--all")["findings"] == []


def test_users_go_on_while_files_are_looked_over_for_old_versions(
    installation: ServedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a million files that takes seconds, every few minutes."""
    meanwhile: list[str] = []
    with running(installation) as gateway, ThreadPoolExecutor(1) as other:
        prunable = gateway.vault.prunable

        def slow(tx: Transaction, name: str, after_id: bytes) -> tuple[list[bytes], bytes | None]:
            other.submit(write, gateway, f"/{name}/{name}", b"x").result(GOES_ON_S)
            meanwhile.append(name)
            return prunable(tx, name, after_id)

        monkeypatch.setattr(gateway.vault, "prunable", slow)
        Clearing(gateway).run(strays=False)
        assert meanwhile == list(gateway.config.shares)


def test_gc_tells_of_a_share_that_it_could_not_clear(
    sealgate: Sealgate, installation: ServedGateway
) -> None:
    """Status 1; the others were cleared away all the same."""
    sql(installation, "UPDATE shares SET used_bytes = 1 WHERE name = 'radiology'")
    assert sealgate.parsed("gc", status=1)["failed"] == ["radiology"]
    assert "'radiology'" in sealgate("gc").stdout


def test_what_a_dropped_row_named_is_not_collected(
    sealgate: Sealgate, installation: ServedGateway
) -> None:
    """Until a scrub of everything finds nothing missing any more."""
    kept = sql(installation, "SELECT * FROM extents")
    sql(installation, "DELETE FROM extents")
    assert sealgate("scrub").returncode == 1
    sql(installation, "UPDATE segments SET orphaned_us = 1")
    assert sealgate("gc").returncode == 0
    assert len(blobs(installation)) == 3
    file = installation.folder / "data" / "catalog.sqlite"
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.executemany("INSERT INTO extents VALUES (?, ?, ?, ?, ?)", kept)
        connection.commit()
    assert sealgate("scrub").returncode == 0
    sql(installation, "DELETE FROM extents")
    sql(installation, "UPDATE segments SET orphaned_us = 1")
    assert sealgate("gc").returncode == 0
    assert blobs(installation) == []

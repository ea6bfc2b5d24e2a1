"""``audit export``, ``search`` and ``verify``: reading the trail, and proving it whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.commands.conftest import Sealgate
from tests.process.support import ServedGateway, run_here

FIELDS = {
    *("time", "node", "journal", "seq", "hash", "request_id"),
    *("principal_id", "principal_name", "session", "protocol", "client_address"),
    *("client_software", "action", "share", "node_id", "version_id", "path", "bytes"),
    *("outcome", "rule", "error"),
}
Lines = list[str]


@pytest.fixture
def export(trail: ServedGateway, sealgate: Sealgate) -> Lines:
    """The lines of an export of everything."""
    return sealgate("audit", "export", "--format", "jsonl").stdout.splitlines()


def test_export_is_one_record_a_line(trail: ServedGateway, export: Lines) -> None:
    """Every line is a JSON object with the fields that DESIGN names."""
    records = [json.loads(line) for line in export]
    assert all(set(record) >= FIELDS for record in records)
    assert [record["path"] for record in records][-1] == "/inbox/ü"
    assert {record["action"] for record in records} == {"totp_enrol", "write"}


def test_export_of_a_span_of_time(trail: ServedGateway, sealgate: Sealgate, export: Lines) -> None:
    """--since is inclusive, --until exclusive; ISO times without a zone are UTC."""
    last = json.loads(export[-1])["time"]
    assert sealgate("audit", "export", "--since", last).stdout.splitlines() == export[-1:]
    assert sealgate("audit", "export", "--until", last).stdout.splitlines() == export[:-1]
    bare = last.removesuffix("Z")
    assert sealgate("audit", "export", "--since", bare).stdout.splitlines() == export[-1:]
    assert sealgate("audit", "export", "--until", "2000-01-01").stdout == ""


def test_time_that_is_none_is_wrong_use(trail: ServedGateway, sealgate: Sealgate) -> None:
    """A time that cannot be read is said with an example of one that can."""
    done = sealgate("audit", "export", "--since", "yesterday")
    assert (done.returncode, done.stdout) == (2, "")
    assert "'yesterday' is not a time" in done.stderr


@pytest.mark.parametrize(
    ("asked", "paths"),
    [
        (("--path", "/radiology"), ["/radiology/a", "/radiology/a/b"]),
        (("--path", "/radiology/a/b"), ["/radiology/a/b"]),
        (("--principal", "alice", "--outcome", "denied"), ["/inbox/ü"]),
        (("--principal", "id-of-alice", "--share", "inbox"), ["/inbox/ü"]),
        (("--session", "session-0"), ["/radiology/a"]),
        (("--client-address", "127.0.0.9", "--action", "write", "--share", "inbox"), ["/inbox/ü"]),
    ],
)
def test_search_finds_what_fits(
    trail: ServedGateway, sealgate: Sealgate, asked: tuple[str, ...], paths: list[str]
) -> None:
    """Only records that fit every option come, and the status is 0."""
    found = sealgate.records("audit", "search", "--json", *asked)
    assert [record["path"] for record in found] == paths
    assert len(sealgate("audit", "search", *asked).stdout.splitlines()) == len(paths)


def test_search_in_vain_has_status_1(trail: ServedGateway, sealgate: Sealgate) -> None:
    """When nothing fits nothing is printed."""
    done = sealgate("audit", "search", "--principal", "nobody")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")


def test_names_cannot_play_with_the_terminal(trail: ServedGateway, sealgate: Sealgate) -> None:
    """A control character in a stored name is printed as an escape."""
    said = sealgate("audit", "search", "--share", "scans").stdout
    assert "\x1b" not in said
    assert "\\x1b[2J" in said


def test_whole_trail_verifies(trail: ServedGateway, sealgate: Sealgate, tmp_path: Path) -> None:
    """The live trail and its export are whole; the export needs no configuration."""
    live = sealgate.parsed("audit", "verify")
    assert live["findings"] == []
    said = sealgate("audit", "verify")
    assert (said.returncode, said.stdout) == (
        0,
        f"{live['records']} records: every chain is whole.\n",
    )
    file = tmp_path / "export"
    file.write_text(sealgate("audit", "export").stdout)
    alone = run_here(sealgate.capsys, "audit", "verify", file, "--json")
    assert alone.returncode == 0
    assert json.loads(alone.stdout) == live


def edited(lines: Lines) -> Lines:
    return [line.replace('"outcome": "denied"', '"outcome": "ok"') for line in lines]


def renamed(lines: Lines) -> Lines:
    return [line.replace("/inbox/\\u00fc", "/inbox/o") for line in lines]


def removed(lines: Lines) -> Lines:
    middle = next(at for at, line in enumerate(lines) if json.loads(line)["seq"] == 2)
    return lines[:middle] + lines[middle + 1 :]


def swapped(lines: Lines) -> Lines:
    return lines[::-1]


def garbled(lines: Lines) -> Lines:
    return [*lines[:-1], lines[-1][:-20]]


def not_text(lines: Lines) -> Lines:
    return ["\udcff\udc80", *lines]


@pytest.mark.parametrize("tamper", [edited, renamed, removed, swapped, garbled, not_text])
def test_tampered_export_is_found(
    sealgate: Sealgate, export: Lines, tmp_path: Path, tamper: Callable[[Lines], Lines]
) -> None:
    """An export that was edited, cut or shuffled has findings, and the status is 1."""
    file = tmp_path / "export"
    changed = tamper(export)
    assert changed != export
    file.write_bytes("\n".join(changed).encode("utf-8", "surrogateescape"))
    done = run_here(sealgate.capsys, "audit", "verify", file, "--json")
    assert done.returncode == 1, done.stderr
    (finding, *_) = json.loads(done.stdout)["findings"]
    assert set(finding) == {"journal", "seq", "message"}
    told = run_here(sealgate.capsys, "audit", "verify", file)
    assert told.returncode == 1
    assert "problems." in told.stdout


def test_export_that_is_not_there_is_wrong_use(sealgate: Sealgate, tmp_path: Path) -> None:
    """A file that cannot be read is no verdict on the trail."""
    for file in (tmp_path / "none", tmp_path):
        done = run_here(sealgate.capsys, "audit", "verify", file)
        assert done.returncode == 2
        assert str(file) in done.stderr

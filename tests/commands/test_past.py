"""``sealgate versions`` and ``sealgate trash``: what an administrator brings back, and its records."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from backends.errors import NotFoundError
from backends.vault import Node
from gateway.app import Gateway, open_gateway
from gateway.config import load_config
from gateway.model import Transaction
from gateway.paths import VirtualPath
from tests.commands.conftest import Sealgate
from tests.process.support import ServedGateway

BIG = b"0123456789abcdef" * 20_000
CONTENTS = (b"first", BIG, b"third")


def node_at(gateway: Gateway, tx: Transaction, path: str) -> Node:
    found = gateway.vault.find(tx, VirtualPath.parse(path))
    if found is None:
        raise NotFoundError(path)
    return found


def put(gateway: Gateway, path: str, content: bytes) -> None:
    target = VirtualPath.parse(path)
    with gateway.catalog.begin() as tx:
        folder = node_at(gateway, tx, str(target.parent))
        draft = gateway.vault.draft(folder.share, None)
        draft.write_at(0, content)
        sealed, file = draft.seal(), gateway.vault.find(tx, target)
        if file is None:
            gateway.vault.add_file(tx, folder, target.name, sealed, modified_us=1, author="alice")
        else:
            gateway.vault.add_version(tx, file, sealed, modified_us=1, author="alice")


@pytest.fixture(scope="module")
def filled(installation: ServedGateway) -> Iterator[Callable[[str], bytes]]:
    """The installation with a file of three versions and a trash; yields a way to read files."""
    gateway = open_gateway(load_config(installation.config))
    for content in CONTENTS:
        put(gateway, "/radiology/report", content)
    with gateway.catalog.begin() as tx:
        gateway.vault.add_folder(tx, node_at(gateway, tx, "/radiology"), "old", author="alice")
    put(gateway, "/radiology/old/scan", BIG)
    put(gateway, "/radiology/gone", b"gone")
    with gateway.catalog.begin() as tx:
        for path in ("/radiology/gone", "/radiology/old"):
            gateway.vault.delete(tx, node_at(gateway, tx, path), author="alice")

    def read(path: str) -> bytes:
        with gateway.catalog.snapshot() as tx:
            content = gateway.vault.open_content(tx, node_at(gateway, tx, path))
        return content.read_at(0, content.size_bytes)

    yield read
    gateway.close()


def listed(sealgate: Sealgate, *arguments: str) -> list[dict[str, Any]]:
    return sealgate.records(*arguments, "--json")


def last_record(sealgate: Sealgate, action: str) -> dict[str, Any]:
    return listed(sealgate, "audit", "search", "--action", action)[-1]


def test_versions_are_listed_newest_first(
    sealgate: Sealgate, filled: Callable[[str], bytes]
) -> None:
    """With size, hash and which of them is current."""
    found = listed(sealgate, "versions", "list", "/radiology/report")
    assert [each["size_bytes"] for each in found] == [5, len(BIG), 5]
    assert [each["current"] for each in found] == [True, False, False]
    assert found[1]["sha256"] == hashlib.sha256(BIG).hexdigest()
    shown = sealgate("versions", "list", "/radiology/report").stdout.splitlines()
    assert len(shown) == 3
    assert shown[0].startswith("* ")


def test_an_old_version_is_shown_and_the_look_recorded(
    sealgate: Sealgate, filled: Callable[[str], bytes], tmp_path: Path
) -> None:
    """Into a new file that only its owner may read; an existing file is left alone."""
    version = listed(sealgate, "versions", "list", "/radiology/report")[1]["version_id"]
    out = tmp_path / "out"
    done = sealgate("versions", "show", "/radiology/report", version[:12], "-o", str(out))
    assert done.returncode == 0, done.stderr
    assert out.read_bytes() == BIG
    assert out.stat().st_mode & 0o077 == 0
    assert last_record(sealgate, "versions_show")["version_id"] == version
    again = sealgate("versions", "show", "/radiology/report", version, "-o", str(out))
    assert again.returncode == 2
    assert "new file" in again.stderr


def test_an_old_version_becomes_current_again_as_a_new_one(
    sealgate: Sealgate, filled: Callable[[str], bytes]
) -> None:
    """Nothing of the history is lost by going back in it."""
    before = listed(sealgate, "versions", "list", "/radiology/report")
    done = sealgate("versions", "restore", "/radiology/report", before[1]["version_id"])
    assert done.returncode == 0, done.stderr
    assert filled("/radiology/report") == BIG
    after = listed(sealgate, "versions", "list", "/radiology/report")
    assert after[1:] == [each | {"current": False} for each in before]
    record = last_record(sealgate, "restore")
    assert record["path"] == "/radiology/report"
    assert record["version_id"] == after[0]["version_id"]


@pytest.mark.parametrize("version", ["", "0", "ffffffffffffffffffffffffffffffff0"])
def test_a_version_must_be_named_unmistakably(
    sealgate: Sealgate, filled: Callable[[str], bytes], version: str
) -> None:
    """No id, an unknown one, too long a one: nothing is done."""
    done = sealgate("versions", "restore", "/radiology/report", version + "zz")
    assert done.returncode == 2
    assert "as the list shows it" in done.stderr


@pytest.mark.parametrize("path", ["/radiology", "/radiology/absent", "nonsense", "/", "/no/share"])
def test_what_is_no_file_has_no_versions(
    sealgate: Sealgate, filled: Callable[[str], bytes], path: str
) -> None:
    """One sentence each, and status 2."""
    done = sealgate("versions", "list", path)
    assert done.returncode == 2
    assert done.stderr.startswith("sealgate: ")


def test_what_was_deleted_comes_back(sealgate: Sealgate, filled: Callable[[str], bytes]) -> None:
    """A file where it was, a folder with what it held to another name."""
    found = {each["path"]: each for each in listed(sealgate, "trash", "list", "radiology")}
    assert set(found) == {"/radiology/gone", "/radiology/old"}
    assert found["/radiology/old"]["kind"] == "folder"
    gone, old = (found[path]["id"] for path in ("/radiology/gone", "/radiology/old"))
    assert sealgate("trash", "restore", "radiology", gone).returncode == 0
    assert filled("/radiology/gone") == b"gone"
    moved = sealgate("trash", "restore", "radiology", old, "--to", "/radiology/older")
    assert moved.returncode == 0, moved.stderr
    assert filled("/radiology/older/scan") == BIG
    assert listed(sealgate, "trash", "list", "radiology") == []
    assert last_record(sealgate, "trash_restore")["path"] == "/radiology/older"


def test_a_purge_removes_for_good(
    sealgate: Sealgate, installation: ServedGateway, filled: Callable[[str], bytes]
) -> None:
    """And the record says how many went."""
    gateway = open_gateway(load_config(installation.config))
    put(gateway, "/radiology/doomed", BIG)
    with gateway.catalog.begin() as tx:
        doomed = node_at(gateway, tx, "/radiology/doomed")
        gateway.vault.delete(tx, doomed, author="alice")
    gateway.close()
    assert sealgate("trash", "purge", "radiology", doomed.id.hex()).returncode == 0
    assert listed(sealgate, "trash", "list", "radiology") == []
    assert last_record(sealgate, "purge")["count"] == 1
    assert sealgate("trash", "restore", "radiology", doomed.id.hex()).returncode == 2

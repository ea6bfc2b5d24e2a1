"""``keys``: making, showing, rotating, splitting and combining, each act recorded."""

from __future__ import annotations

import io
import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from shamir_mnemonic import generate_mnemonics

from backends.keyfile import MasterKeys
from backends.keyring import MasterKey
from gateway.commands.keys.splitting import gather
from tests.commands.conftest import Sealgate
from tests.process.support import served


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
    assert MasterKeys(master_key).newest.key_id == key_id
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


def key_path(sealgate: Sealgate) -> Path:
    return sealgate.gateway.folder / "keys" / "master.key"


def notes(sealgate: Sealgate, action: str) -> list[str]:
    """Return the notes of every record of an action, all of which must be the administrator's."""
    records = [one for one in sealgate.records("audit", "export") if one["action"] == action]
    assert {(one["protocol"], one["outcome"]) for one in records} <= {("admin", "ok")}
    return [one["note"] for one in records]


@pytest.fixture
def from_systemd(sealgate: Sealgate) -> Iterator[None]:
    """The configuration as under systemd, which hands a copy of the key over."""
    text = sealgate.gateway.config.read_text()
    sealgate.gateway.write_config(
        lambda config: config["keys"].update(master_key={"credential": "master.key"})
    )
    yield
    sealgate.gateway.write_text(text)


def test_status_names_the_keys(sealgate: Sealgate) -> None:
    """The master key's id and each share's epochs are shown, and no key itself."""
    path = key_path(sealgate)
    shown = sealgate.parsed("keys", "status")
    assert shown["master_key_id"] == MasterKeys(path).newest.key_id
    assert shown["unused_key_ids"] == []
    assert [share["name"] for share in shown["shares"]] == ["inbox", "radiology", "scans"]
    scans = shown["shares"][2]
    assert scans["epoch"] == scans["epochs"][-1]["epoch"]
    assert scans["epochs"][0]["destroyed"] is None
    said = sealgate("keys", "status").stdout
    assert f"master key {shown['master_key_id']}" in said
    assert f"share scans: epoch {scans['epoch']}" in said
    assert f"epoch 1: made {scans['epochs'][0]['created']}" in said
    assert path.read_text().split()[1] not in said


def test_status_without_the_key_fails_in_one_sentence(sealgate: Sealgate, master_key: Path) -> None:
    """Without its file there is nothing to show."""
    done = sealgate("keys", "status")
    assert (done.returncode, done.stdout) == (2, "")
    assert str(master_key) in done.stderr


def test_rotating_the_master_key_replaces_it(sealgate: Sealgate) -> None:
    """Everything opens under the new key, which alone is left; the act is in the trail."""
    path = key_path(sealgate)
    old_id, mode = MasterKeys(path).newest.key_id, path.stat().st_mode
    done = sealgate.parsed("keys", "rotate-master")
    assert MasterKeys(path).key_ids == (done["new_key_id"],)
    assert path.stat().st_mode == mode
    assert (done["old_key_id"], done["old_key_removed"], done["finished"]) == (old_id, True, True)
    assert done["shares"] == 3
    assert sealgate.parsed("keys", "status")["master_key_id"] == done["new_key_id"]
    assert notes(sealgate, "keys_rotate_master")[-1] == f"{old_id} -> {done['new_key_id']}"
    assert sealgate("audit", "verify").returncode == 0


def test_an_old_key_is_kept_when_asked_for(sealgate: Sealgate) -> None:
    """It is shown as unused, and goes when it is asked to; a second time there is none."""
    path = key_path(sealgate)
    old_id = MasterKeys(path).newest.key_id
    said = sealgate("keys", "rotate-master", "--keep-old").stdout
    assert f"Backups made before this need {old_id}" in said
    assert sealgate.parsed("keys", "status")["unused_key_ids"] == [old_id]
    assert old_id in sealgate("keys", "status").stdout
    assert sealgate.parsed("keys", "remove-unused")["removed_key_ids"] == [old_id]
    assert sealgate.parsed("keys", "remove-unused")["removed_key_ids"] == []
    assert old_id not in path.read_text()
    assert notes(sealgate, "keys_remove_unused") == [old_id]
    assert sealgate.parsed("keys", "status")["unused_key_ids"] == []


def test_a_copied_key_file_is_rotated_in_two_steps(
    sealgate: Sealgate, from_systemd: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new key is added first, so that a restart hands it over before it is needed."""
    path = key_path(sealgate)
    old_id = MasterKeys(path).newest.key_id
    refused = sealgate("keys", "rotate-master")
    assert refused.returncode == 2
    assert "--key-file" in refused.stderr
    assert MasterKeys(path).key_ids == (old_id,)
    command = ("keys", "rotate-master", "--key-file", str(path))
    first = sealgate.parsed(*command)
    new_id = first["new_key_id"]
    assert first["finished"] is False
    assert MasterKeys(path).key_ids == (old_id, new_id)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(path.parent))
    assert sealgate.parsed("keys", "status")["master_key_id"] == old_id
    second = sealgate.parsed(*command)
    assert (second["finished"], second["new_key_id"]) == (True, new_id)
    assert sealgate.parsed("keys", "status")["master_key_id"] == new_id
    assert MasterKeys(path).key_ids == (new_id,)
    assert notes(sealgate, "keys_rotate_master")[-2:] == [
        f"prepared {new_id}",
        f"{old_id} -> {new_id}",
    ]


def test_the_first_of_two_steps_says_what_comes_next(
    sealgate: Sealgate, from_systemd: None
) -> None:
    """A restart, and the same command again."""
    path = key_path(sealgate)
    said = sealgate("keys", "rotate-master", "--key-file", str(path)).stdout
    assert "Restart" in said
    assert "run the same command again" in said
    done = sealgate("keys", "remove-unused", "--key-file", str(path))
    assert (done.returncode, len(MasterKeys(path).key_ids)) == (0, 1)


def test_a_key_file_that_cannot_be_changed_is_left_alone(sealgate: Sealgate) -> None:
    """The rotation fails before anything is sealed anew."""
    path = key_path(sealgate)
    before = path.read_text()
    draft = path.with_name("master.key.new")
    draft.mkdir()
    done = sealgate("keys", "rotate-master")
    draft.rmdir()
    assert (done.returncode, done.stdout) == (2, "")
    assert "cannot be changed" in done.stderr
    assert path.read_text() == before
    assert sealgate("keys", "status").returncode == 0


def test_a_share_gets_a_new_epoch(sealgate: Sealgate) -> None:
    """That share alone, with a record; then all of them at once."""
    before = {one["name"]: one["epoch"] for one in sealgate.parsed("keys", "status")["shares"]}
    done = sealgate.parsed("keys", "rotate-share", "scans")
    assert done == {"epochs": {"scans": before["scans"] + 1}}
    assert notes(sealgate, "keys_rotate_share") == [f"scans: epoch {before['scans'] + 1}"]
    said = sealgate("keys", "rotate-share", "--all").stdout
    assert f"share radiology: epoch {before['radiology'] + 1}" in said
    after = {one["name"]: one["epoch"] for one in sealgate.parsed("keys", "status")["shares"]}
    assert after == {name: before[name] + 1 + (name == "scans") for name in before}
    assert len(notes(sealgate, "keys_rotate_share")) == 4


@pytest.mark.parametrize("arguments", [(), ("scans", "--all"), ("nothing",)])
def test_a_share_to_rotate_is_named_rightly(sealgate: Sealgate, arguments: tuple[str, ...]) -> None:
    """One that there is, or all; otherwise nothing is changed or recorded."""
    before = notes(sealgate, "keys_rotate_share")
    done = sealgate("keys", "rotate-share", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert notes(sealgate, "keys_rotate_share") == before


def test_split_prints_sheets_that_combine(
    sealgate: Sealgate, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Any three of five sheets, upper case and in any order, make the key file again."""
    path = key_path(sealgate)
    said = sealgate("keys", "split", "--shares", "5", "--threshold", "3").stdout
    key_id = MasterKeys(path).newest.key_id
    sheets = said.rstrip().split("\n\n")
    assert len(sheets) == 5
    for number, sheet in enumerate(sheets, start=1):
        assert f"master key {key_id}, key share {number} of 5" in sheet
        assert "any 3 of the 5" in sheet
    assert notes(sealgate, "keys_split")[-1] == f"{key_id}: 5 shares, 3 needed"
    assert path.read_text().split()[1] not in said
    monkeypatch.setattr(
        "sys.stdin", io.StringIO("\n".join([sheets[4], sheets[0], sheets[2]]).upper())
    )
    kept = path.rename(tmp_path / "kept")
    made = sealgate.parsed("keys", "combine")
    assert made == {"file": str(path), "key_id": key_id}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_bytes() == kept.read_bytes()
    assert notes(sealgate, "keys_combine") == [key_id]


def test_split_writes_files_that_are_never_overwritten(sealgate: Sealgate, tmp_path: Path) -> None:
    """One a share, for its owner alone; a second splitting needs another folder."""
    folder = tmp_path / "sheets"
    command = ("keys", "split", "--shares", "3", "--threshold", "2", "--out", str(folder))
    made = sealgate.parsed(*command)
    assert [str(file) for file in sorted(folder.iterdir())] == made["files"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}
    before = {file: file.read_bytes() for file in folder.iterdir()}
    again = sealgate(*command)
    assert (again.returncode, again.stdout) == (2, "")
    assert {file: file.read_bytes() for file in folder.iterdir()} == before
    key_file = tmp_path / "again.key"
    done = sealgate("keys", "combine", *made["files"][1:], "--key-file", str(key_file))
    assert done.returncode == 0
    assert key_file.read_bytes() == key_path(sealgate).read_bytes()


def test_a_failed_splitting_leaves_no_sheet(sealgate: Sealgate, tmp_path: Path) -> None:
    """Where one of the files exists, the others are not left behind either."""
    key_id = MasterKeys(key_path(sealgate)).newest.key_id
    taken = tmp_path / f"key-share-{key_id}-2-of-3.txt"
    taken.write_text("another")
    command = ("keys", "split", "--shares", "3", "--threshold", "2", "--out", str(tmp_path))
    assert sealgate(*command).returncode == 2
    assert list(tmp_path.iterdir()) == [taken]
    assert taken.read_text() == "another"


@pytest.mark.parametrize(("count", "threshold"), [(1, 1), (3, 1), (2, 3), (17, 3), (0, 0)])
def test_a_splitting_that_cannot_be_is_refused(
    sealgate: Sealgate, count: int, threshold: int
) -> None:
    """Too many, too few, or every share a copy of the key."""
    done = sealgate("keys", "split", "--shares", str(count), "--threshold", str(threshold))
    assert (done.returncode, done.stdout) == (2, "")
    assert "threshold" in done.stderr


def test_keys_and_sheets_stay_out_of_the_data_folder(sealgate: Sealgate) -> None:
    """A copy of the data would hold its own key."""
    data = sealgate.gateway.data_dir
    sheets = ("keys", "split", "--shares", "3", "--threshold", "2", "--out", str(data / "sheets"))
    for command in (
        sheets,
        ("keys", "init", "--key-file", str(data / "a.key")),
        ("keys", "combine", "--key-file", str(data / "a.key")),
        ("keys", "rotate-master", "--key-file", str(data / "a.key")),
    ):
        done = sealgate(*command)
        assert done.returncode == 2
        assert "data folder" in done.stderr
    assert not (data / "sheets").exists()
    assert not (data / "a.key").exists()


@pytest.fixture
def sheets(sealgate: Sealgate) -> list[str]:
    """The words of three key shares of the key in use, of which two are needed."""
    made = sealgate.parsed("keys", "split", "--shares", "3", "--threshold", "2")
    assert [one["number"] for one in made["shares"]] == [1, 2, 3]
    return [one["words"] for one in made["shares"]]


def test_combining_refuses_what_is_no_good_set(
    sealgate: Sealgate, sheets: list[str], tmp_path: Path
) -> None:
    """Each fault by its own sentence, which repeats no word; no file is made."""
    first, second = sheets[0].split(), sheets[1].split()
    other = generate_mnemonics(1, [(2, 3)], b"k" * 32)[0]
    faults = {
        "Word 7 of key share 1": [[*first[:6], "zebra", *first[7:]]],
        "do not fit together": [[first[1], first[0], *first[2:]]],
        "32 words instead of 33": [first[:-1]],
        "1 more are missing": [first],
        "given twice": [first, first],
        "belongs to another set": [first, other[1].split()],
        "No key share": [["#"]],
    }
    key_file, share = tmp_path / "made.key", tmp_path / "share"
    for sentence, shares in faults.items():
        share.write_text("\n#\n".join(" ".join(words) for words in shares))
        done = sealgate("keys", "combine", str(share), "--key-file", str(key_file))
        assert (done.returncode, done.stdout) == (2, "")
        assert sentence in done.stderr, sentence
        assert not {*first, *second, "zebra"} & set(done.stderr.split()) - {"key", "share"}
        assert not key_file.exists()


def test_combining_the_shares_of_another_key_is_refused(sealgate: Sealgate, tmp_path: Path) -> None:
    """Both key ids are named, and no key file is left that would not open the data."""
    other = MasterKey(b"k" * 32)
    share, key_file = tmp_path / "share", tmp_path / "made.key"
    share.write_text("\n#\n".join(generate_mnemonics(1, [(2, 3)], other.to_bytes())[0][:2]))
    done = sealgate("keys", "combine", str(share), "--key-file", str(key_file))
    assert done.returncode == 2
    for key_id in (other.key_id, MasterKeys(key_path(sealgate)).newest.key_id):
        assert key_id in done.stderr
    assert not key_file.exists()


def test_combining_leaves_an_existing_key_file_alone(
    sealgate: Sealgate, sheets: list[str], tmp_path: Path
) -> None:
    """Before any share is asked for."""
    before = key_path(sealgate).read_bytes()
    done = sealgate("keys", "combine")
    assert done.returncode == 2
    assert "left alone" in done.stderr
    assert key_path(sealgate).read_bytes() == before


def test_typed_key_shares_are_taken_line_by_line(
    sheets: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong line is said at once and typed again; the rest of the share stays."""
    words = sheets[1].split()
    typed = [
        "1. " + " 2) ".join(words[:20]).upper(),
        " ".join([*words[20:32], "zebra"]),
        " ".join(words[20:]),
        sheets[1],
        "",
        sheets[2],
    ]
    gathering = gather(typed)
    assert gathering.missing == 0
    said = capsys.readouterr().err
    assert "Word 33 of key share 1" in said
    assert "Go on with word 21 of key share 1" in said
    assert "1 more needed" in said
    assert "Key share 2 was given twice" in said
    assert "That is enough" in said


def test_keys_rotate_under_a_running_gateway(tmp_path: Path) -> None:
    """Its workers go on reading and writing through every kind of rotation."""
    with served(tmp_path) as gateway:
        curl = gateway.curl
        for number, command in enumerate(
            (("rotate-master",), ("rotate-share", "--all"), ("rotate-master", "--keep-old"))
        ):
            content = f"content {number}".encode() * 20_000
            path = f"/radiology/{number}"
            assert curl("alice", "PUT", path, body=content).status == 201
            done = gateway.command("keys", *command, "--json")
            assert done.returncode == 0, done.stderr
            assert json.loads(done.stdout)
            assert curl("alice", "GET", path).body == content
            assert curl("alice", "GET", "/radiology/0").status == 200
            assert curl("alice", "PUT", path, body=b"again").status == 204
        assert curl("alice", "GET", "/radiology/0").body == b"again"

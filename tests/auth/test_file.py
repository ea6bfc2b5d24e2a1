"""The users file: what it may hold, how it is watched, and that its hashes stay its own."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from auth.directory import membership
from auth.errors import DirectoryConfigError
from auth.file import (
    FILE_LIMIT_BYTES,
    FileDirectory,
    FileUser,
    _decoy,
    hash_password,
    write_users,
)
from tests.auth.conftest import ALICE_ID, ALICE_KEY, BOB_ID

HASH = hash_password("secret")


def save(path: Path, text: str) -> Path:
    """Write the file as an editor would: beside it, then renamed over it."""
    draft = path.with_suffix(".draft")
    draft.write_text(text, encoding="utf-8")
    draft.chmod(0o600)
    draft.replace(path)
    return path


def one_user(**changes: str) -> str:
    fields = {"name": "alice", "id": ALICE_ID, "password": f"'{HASH}'"} | changes
    lines = [f"  {key}: {value}\n" for key, value in fields.items() if value]
    return "users:\n" + "".join(lines).replace(" ", "-", 1)


def test_a_hash_is_argon2id_salted_and_verifies() -> None:
    """Two hashes of one password differ; the format is the PHC string others read too."""
    first, second = hash_password("secret"), hash_password("secret")
    assert first != second
    assert first.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    Argon2id.verify_phc_encoded(b"secret", first)


@pytest.mark.parametrize("password", ["", " ", "a\0b", "x" * 2000])
def test_a_password_that_cannot_log_in_is_not_hashed(password: str) -> None:
    """It is refused when it is set, not when it is first tried."""
    with pytest.raises(DirectoryConfigError, match="use another"):
        hash_password(password)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    """Names, groups and keys survive, whatever YAML would make of them unquoted."""
    path = tmp_path / "users.yaml"
    user = FileUser("no", ALICE_ID, "1.0: #x\n'", HASH, ("yes", "a: b"), (ALICE_KEY,))
    write_users(path, [user, FileUser("bob", BOB_ID, enabled=False)])
    directory = FileDirectory(path)
    assert directory.find("no") == user.account
    assert membership("file", "a: b") in user.account.memberships
    bob = directory.find("bob")
    assert bob is not None
    assert not bob.enabled


def test_the_file_is_its_owners_alone_and_leaves_no_draft(tmp_path: Path) -> None:
    """Mode 0600 from the first byte on, and nothing beside it."""
    path = tmp_path / "users.yaml"
    write_users(path, [])
    write_users(path, [FileUser("alice", ALICE_ID)])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_an_account_without_a_password_never_verifies(tmp_path: Path) -> None:
    """A service account that has only keys cannot log in by password, not even the decoy's."""
    path = save(tmp_path / "u", one_user(password=""))
    directory = FileDirectory(path)
    scanner = directory.find("alice")
    assert scanner is not None
    assert not directory.verify(scanner, "secret")
    assert not directory.verify(scanner, "")


def test_the_decoy_costs_what_the_users_hashes_cost() -> None:
    """An unknown user is hashed with the parameters that most users have."""
    other = HASH.replace("m=19456,t=2", "m=8192,t=3")
    users = [FileUser(str(n), ALICE_ID, password=text) for n, text in enumerate([other] * 2)]
    decoy = _decoy([FileUser("a", ALICE_ID, password=HASH), *users])
    assert decoy.startswith("$argon2id$v=19$m=8192,t=3,p=1$")
    assert _decoy([]).startswith(HASH[: HASH.index("p=1") + 3])
    with pytest.raises(InvalidKey, match="do not match"):
        Argon2id.verify_phc_encoded(b"x", decoy)


def test_a_domain_is_dropped_only_when_configured(tmp_path: Path) -> None:
    """CORP\\alice is alice for a directory of CORP alone."""  # noqa: D301
    path = save(tmp_path / "u", one_user())
    assert FileDirectory(path, domain="CORP").find("corp\\alice") is not None
    assert FileDirectory(path, domain="CORP").find("other\\alice") is None
    assert FileDirectory(path).find("corp\\alice") is None


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    """Disabling takes effect at the next question, also on an account found before."""
    path = save(tmp_path / "u", one_user())
    directory = FileDirectory(path)
    alice = directory.find("alice")
    assert directory.verify(alice, "secret")
    save(path, one_user(enabled="false"))
    assert not directory.verify(alice, "secret")
    refreshed = directory.refresh(ALICE_ID)
    assert refreshed is not None
    assert not refreshed.enabled
    save(path, one_user(name="bob", id=BOB_ID))
    assert directory.refresh(ALICE_ID) is None
    assert not directory.verify(alice, "secret")


def test_a_file_edited_in_place_is_read_again(tmp_path: Path) -> None:
    """Same inode and size, other time: still a change."""
    path = save(tmp_path / "u", one_user())
    directory = FileDirectory(path)
    path.write_text(one_user(name="alicf"), encoding="utf-8")
    os.utime(path, ns=(1, 1))
    assert directory.find("alice") is None


def test_a_broken_file_keeps_the_old_users_and_is_reported_once(tmp_path: Path) -> None:
    """The running directory stays; the complaint names the line and no secret."""
    problems: list[str] = []
    path = save(tmp_path / "u", one_user())
    directory = FileDirectory(path, on_problem=problems.append)
    save(path, one_user() + "  passwort: hunter2\n")
    for _ in range(3):
        assert directory.find("alice") is not None
    assert len(problems) == 1
    assert "line 5" in problems[0]
    assert "hunter2" not in problems[0]
    assert "argon2id" not in problems[0]
    save(path, one_user(name="bob"))
    assert directory.find("bob") is not None
    path.unlink()
    assert directory.find("bob") is not None
    assert len(problems) == 2


WRONG = {
    "empty": ("", "the file is empty"),
    "no users": ("people: []\n", "line 1: unknown key; the keys are users"),
    "not a mapping": ("- a\n", "line 1: expected keys and values"),
    "users not a list": ("users: alice\n", "line 1: expected a list"),
    "user not a mapping": ("users:\n- alice\n", "line 2: expected keys"),
    "no name": (one_user(name=""), "line 2: a user has no name"),
    "no id": (one_user(id=""), "line 2: a user has no id"),
    "number as a name": (one_user(name="7"), "line 2: name must be text; put it in quotes"),
    "truth as a name": (one_user(name="yes"), "line 2: name must be text"),
    "blank name": (one_user(name="' '"), "line 2: no login name can look like this"),
    "bad id": (one_user(id="17a"), "line 3: id must be a UUID"),
    "plain password": (one_user(password="hunter2"), "line 4: password must be an Argon2id hash"),
    "empty password": (one_user(password="''"), "line 4: password must be an Argon2id hash"),
    "costly hash": (
        one_user(password=HASH.replace("m=19456", "m=999999")),
        "line 4: password must be an Argon2id hash",
    ),
    "wrong truth": (one_user(enabled="maybe"), "line 5: enabled must be true or false"),
    "quoted truth": (one_user(enabled="'false'"), "line 5: enabled must be true or false"),
    "bad key": (one_user(ssh_keys="[no key]"), "line 5: not a public SSH key"),
    "blank group": (one_user(groups="['']"), "line 5: a group has no name"),
    "duplicate key": (one_user() + "  name: bob\n", "line 5: name is given twice"),
    "two of a name": (
        one_user() + one_user(name="ALICE", id=BOB_ID).removeprefix("users:\n"),
        "line 5: another user has this name",
    ),
    "two of an id": (
        one_user() + one_user(name="bob").removeprefix("users:\n"),
        "line 5: another user has this id",
    ),
    "alias": ("users: &a\n- *a\n", "line 2: aliases are not allowed"),
    "tab": ("users:\n\t- x\n", "line 2: found character '\\t'"),
    "two documents": (one_user() + "---\n" + one_user(), "line 5"),
    "deep": ("users: " + "[" * 2000, "nested too deeply"),
    "control": ("users: \x01\n", "not YAML"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_file_is_refused_naming_its_line(tmp_path: Path, case: str) -> None:
    """Each mistake has a message with file, line and what would be right, and no secret."""
    text, message = WRONG[case]
    path = save(tmp_path / "users.yaml", text)
    with pytest.raises(DirectoryConfigError) as caught:
        FileDirectory(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_missing_unreadable_or_huge_file_is_refused(tmp_path: Path) -> None:
    """What cannot be read at all is named too."""
    with pytest.raises(DirectoryConfigError, match="create it"):
        FileDirectory(tmp_path / "none.yaml")
    with pytest.raises(DirectoryConfigError, match="cannot be read"):
        FileDirectory(tmp_path)
    huge = save(tmp_path / "huge.yaml", "#" * (FILE_LIMIT_BYTES + 1))
    with pytest.raises(DirectoryConfigError, match="over"):
        FileDirectory(huge)
    latin = tmp_path / "latin.yaml"
    latin.write_bytes(b"users: \xff\n")
    latin.chmod(0o600)
    with pytest.raises(DirectoryConfigError, match="UTF-8"):
        FileDirectory(latin)


@pytest.mark.parametrize("mode", [0o644, 0o660, 0o602])
def test_a_file_that_others_can_read_or_change_is_refused(tmp_path: Path, mode: int) -> None:
    """Hashes are for guessing offline, and an entry is a way in."""
    path = save(tmp_path / "u", one_user())
    path.chmod(mode)
    with pytest.raises(DirectoryConfigError, match="chmod 640"):
        FileDirectory(path)
    path.chmod(0o640)
    assert FileDirectory(path).find("alice") is not None

"""The contract of ``auth.directory.Directory``, run for every driver."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from auth.directory import Directory, membership
from auth.file import FileDirectory, FileUser, hash_password, write_users
from auth.ldap import LdapDirectory
from tests.auth.conftest import ALICE_ID, ALICE_KEY, BOB_ID, CAROL_ID


@pytest.fixture(scope="session")
def users_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A users file with the people of the shared LDAP tree."""
    path = tmp_path_factory.mktemp("users") / "users.yaml"
    hashed = {name: hash_password(f"{name}-password") for name in ("alice", "bob", "carol")}
    write_users(
        path,
        [
            FileUser("alice", ALICE_ID, "Alice Ähn", hashed["alice"], ("staff",), (ALICE_KEY,)),
            FileUser("bob", BOB_ID, "bob", hashed["bob"]),
            FileUser("carol", CAROL_ID, "carol", hashed["carol"], enabled=False),
        ],
    )
    return path


@pytest.fixture(params=["file", "ldap"])
def any_directory(request: pytest.FixtureRequest, users_file: Path) -> Iterator[Directory]:
    """Each driver with the same people."""
    if request.param == "file":
        yield FileDirectory(users_file)
    else:
        ldap: LdapDirectory = request.getfixturevalue("directory")
        yield ldap


def test_a_known_user_is_found(any_directory: Directory) -> None:
    """The record holds everything that the directory knows."""
    alice = any_directory.find("alice")
    assert alice is not None
    assert (alice.id, alice.name, alice.display_name) == (ALICE_ID, "alice", "Alice Ähn")
    assert alice.enabled
    assert alice.ssh_keys == (ALICE_KEY,)
    assert membership("user", "alice") in alice.memberships


def test_case_does_not_matter_and_the_directory_spells_the_name(any_directory: Directory) -> None:
    """ALICE is alice, under alice's own spelling."""
    found = any_directory.find("ALICE")
    assert found is not None
    assert found.name == "alice"


@pytest.mark.parametrize("name", ["mallory", "", " ", "alice ", " alice", "ali*", "*", "alice\0"])
def test_nobody_else_is_found(any_directory: Directory, name: str) -> None:
    """Unknown, blank, padded and wildcard names are nobody's."""
    assert any_directory.find(name) is None


def test_the_right_password_is_verified_and_no_other(any_directory: Directory) -> None:
    """Another user's, a longer, a shorter and an empty password are all wrong."""
    alice = any_directory.find("alice")
    assert any_directory.verify(alice, "alice-password")
    for wrong in ("bob-password", "alice-password ", "alice-passwor", "", " ", "\0", "x" * 2000):
        assert not any_directory.verify(alice, wrong)
    assert any_directory.verify(alice, "alice-password")


def test_an_unknown_user_never_verifies(any_directory: Directory) -> None:
    """None is an unknown user, whatever the password."""
    for password in ("alice-password", "", "x"):
        assert not any_directory.verify(None, password)


def test_a_disabled_account_is_found_but_never_verifies(any_directory: Directory) -> None:
    """The right password of a disabled account does not let it in."""
    carol = any_directory.find("carol")
    assert carol is not None
    assert not carol.enabled
    assert not any_directory.verify(carol, "carol-password")


def test_refresh_finds_by_the_immutable_id(any_directory: Directory) -> None:
    """The id leads to what the name leads to."""
    assert any_directory.refresh(BOB_ID) == any_directory.find("bob")


@pytest.mark.parametrize("principal_id", ["", "*", "bob", str(uuid.UUID(int=7)), "x)(uid=*"])
def test_refresh_of_what_is_no_id_is_gone(any_directory: Directory, principal_id: str) -> None:
    """Neither unknown ids nor names nor filters lead to anybody."""
    assert any_directory.refresh(principal_id) is None

"""What the drivers share: spellings of names, DNs and keys, and answers that take equal time."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auth.directory import (
    Pace,
    acceptable_name,
    acceptable_password,
    fold,
    membership,
    normal_dn,
    ssh_key,
    without_domain,
)
from auth.errors import DirectoryConfigError
from tests.auth.conftest import ALICE_KEY


@pytest.mark.parametrize("name", ["alice", "Zoë", "two words", "o'neil", "a*b", "李"])
def test_names_that_accounts_have_are_acceptable(name: str) -> None:
    """Letters of any script and LDAP's special characters may be in a name."""
    assert acceptable_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        " alice",
        "alice ",
        "al\0ice",
        "al\nice",
        "al\u00adice",
        "al\u200bice",
        "\u202eecila",
        "\udc80",
        "x" * 257,
        "é" * 129,
        "x" * 1_000_000,
    ],
)
def test_names_that_no_account_has_are_not(name: str) -> None:
    """Blank, over-long, invisible and undecodable names are refused."""
    assert not acceptable_name(name)


@pytest.mark.parametrize(
    "password", ["", " ", "\t\n", "pass\0word", "\0", "x" * 1025, "é" * 513, "\udc80"]
)
def test_passwords_that_no_account_has_are_not_acceptable(password: str) -> None:
    """A blank password would bind as anonymous; NUL cuts it short on some servers."""
    assert not acceptable_password(password)


def test_passwords_keep_their_spaces() -> None:
    """Only a password of nothing but space is blank."""
    assert acceptable_password("  correct horse ")


SPELLINGS = {
    "cn=clinicians,ou=groups,dc=example,dc=org": [
        "CN=Clinicians,OU=Groups,DC=example,DC=org",
        "cn = clinicians , ou=groups ,dc=example, dc=org",
        "cn=clini\\63ians;ou=groups;dc=example;dc=org",
        "2.5.4.3=clinicians,ou=groups,dc=example,dc=org",
        "OID.2.5.4.3=clinicians,ou=groups,domainComponent=example,dc=org",
        "cn=\\ clinicians\\ ,ou=groups,dc=example,dc=org",
    ],
    "cn=a\\,b,dc=x": ["cn=a\\2Cb,dc=x", "CN=A\\2cB,dc=x"],
    "cn=a+uid=b,dc=x": ["uid=b+cn=a,dc=x"],
    "cn=zoë,dc=x": ["cn=zo\\C3\\AB,dc=x", "cn=zoe\u0308,dc=x"],
    "cn=#0401ff,dc=x": ["cn=#0401FF,dc=x"],
}


@pytest.mark.parametrize(
    ("normal", "spelling"),
    [(normal, spelling) for normal, all_of_it in SPELLINGS.items() for spelling in all_of_it],
)
def test_spellings_of_a_dn_are_one_membership(normal: str, spelling: str) -> None:
    """Case, spaces, escapes, order in a part and an attribute's number do not matter."""
    assert normal_dn(spelling) == normal
    assert membership("ldap", spelling) == f"ldap:{normal}"


def test_an_escaped_comma_does_not_make_another_group() -> None:
    """A group named with a comma is not a group in a folder of that name."""
    assert normal_dn("cn=staff\\,ou=admins,dc=x") != normal_dn("cn=staff,ou=admins,dc=x")


@pytest.mark.parametrize(
    "dn",
    [
        "",
        "clinicians",
        "cn=",
        "=x",
        "cn=a,",
        ",cn=a",
        "cn=a\\",
        "cn=a\\zb",
        'cn="a,b"',
        "cn=a<b",
        "cn=#0",
        "cn=#zz",
        "c n=a",
        "cn=\\ff",
        "cn=a,,dc=x",
    ],
)
def test_what_is_not_a_dn_is_refused(dn: str) -> None:
    """A group that is misspelt in the policy is an error, not a group nobody is in."""
    with pytest.raises(DirectoryConfigError, match="not a DN"):
        normal_dn(dn)


VALUES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(
    lambda value: bool(fold(value))
)


@given(VALUES, VALUES)
def test_any_value_survives_in_a_dn(first: str, second: str) -> None:
    """Fully escaped values keep their bounds, and normalising twice changes nothing."""
    escape = "".join(f"\\{octet:02x}" for octet in first.encode())
    other = "".join(f"\\{octet:02x}" for octet in second.encode())
    normal = normal_dn(f"cn={escape},ou={other}")
    assert normal_dn(normal) == normal
    assert (normal == normal_dn(f"cn={other},ou={escape}")) == (fold(first) == fold(second))


@given(st.text())
def test_any_text_is_a_dn_or_a_clear_error(text: str) -> None:
    """No text makes the normaliser fail in another way."""
    try:
        normal = normal_dn(text)
    except DirectoryConfigError:
        return
    assert normal_dn(normal) == normal


def test_memberships_of_files_and_users_are_folded() -> None:
    """The policy and the directory may spell a group or user in different case."""
    assert membership("file", " Clinicians ") == membership("file", "clinicians")
    assert membership("user", "ALICE") == "user:alice"
    with pytest.raises(DirectoryConfigError, match="no name"):
        membership("file", " ")


def test_kinds_of_membership_do_not_mix() -> None:
    """A file group cannot pass for a user or an LDAP group."""
    assert membership("file", "user:alice") != membership("user", "alice")


@pytest.mark.parametrize(
    ("name", "domain", "bare"),
    [
        ("CORP\\alice", "corp", "alice"),
        ("CORP\\alice", "", "CORP\\alice"),
        ("OTHER\\alice", "corp", "OTHER\\alice"),
        ("alice", "corp", "alice"),
    ],
)
def test_only_the_configured_domain_is_dropped(name: str, domain: str, bare: str) -> None:
    """Another domain's alice is not ours."""
    assert without_domain(name, domain) == bare


def test_a_key_line_loses_its_comment() -> None:
    """What is kept is type and base64."""
    assert ssh_key(f"{ALICE_KEY} alice@desk with words\n") == ALICE_KEY


@pytest.mark.parametrize(
    "line",
    [
        "",
        "ssh-ed25519",
        "ssh-ed25519 !!!!",
        f'from="10.0.0.1" {ALICE_KEY}',
        f'command="x",no-pty {ALICE_KEY}',
        ALICE_KEY.replace("ssh-ed25519", "ssh-rsa"),
        "ssh-é " + base64.b64encode(b"x").decode(),
        ALICE_KEY + " " * 20_000 + "x",
    ],
)
def test_a_line_with_options_or_without_a_key_is_no_key(line: str) -> None:
    """Dropping ``from=`` would let the key in from anywhere."""
    assert ssh_key(line) is None


def test_unknown_users_are_answered_as_slowly_as_known_ones() -> None:
    """The wait makes up exactly what is missing to a known user's time."""
    now, pauses = [100.0], []  # type: list[float], list[float]
    pace = Pace(5.0, monotonic=lambda: now[0], pause=pauses.append)
    started = pace.start()
    pace.unknown(started)
    assert pauses == []
    now[0] += 0.5
    pace.known(started)
    started = pace.start()
    now[0] += 0.25
    pace.unknown(started)
    assert pauses == [0.25]
    now[0] += 1
    pace.unknown(started)
    assert pauses == [0.25]


def test_a_hanging_server_does_not_teach_long_waits() -> None:
    """No wait exceeds the limit."""
    now, pauses = [0.0], []  # type: list[float], list[float]
    pace = Pace(2.0, monotonic=lambda: now[0], pause=pauses.append)
    now[0] = 60.0
    pace.known(0.0)
    pace.unknown(60.0)
    assert pauses == [2.0]

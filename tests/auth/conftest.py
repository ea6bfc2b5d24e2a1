"""The directory tree that the tests of the LDAP driver share, in a real slapd over TLS."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from auth.ldap import LdapDirectory, LdapSettings
from tests.support.slapd import (
    BASE_DN,
    SERVICE_DN,
    SERVICE_PASSWORD,
    Authority,
    Slapd,
    available,
    running,
)

ALICE_ID = "0f2f1a52-9f6e-4d8b-8d4e-6a1b2c3d4e01"
ALICE_GUID = uuid.UUID("11223344-5566-7788-99aa-bbccddeeff00")
BOB_ID = "0f2f1a52-9f6e-4d8b-8d4e-6a1b2c3d4e02"
CAROL_ID = "0f2f1a52-9f6e-4d8b-8d4e-6a1b2c3d4e03"
ALICE_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"
STAFF_SID = bytes.fromhex("0105000000000005150000000102030405060708090a0b0c51040000")
PEOPLE = f"ou=people,{BASE_DN}"
GROUPS = f"ou=groups,{BASE_DN}"


def text64(value: str) -> str:
    return base64.b64encode(value.encode()).decode()


def person(uid: str, number: int, *extra: str, cn: str = "") -> str:
    lines = [
        f"dn:: {text64(f'uid={escape_dn(uid)},{PEOPLE}')}",
        "objectClass: inetOrgPerson",
        "objectClass: gatewayExtras",
        f"uid:: {text64(uid)}",
        f"cn:: {text64(cn or uid)}",
        f"sn:: {text64(uid)}",
        f"userPassword:: {text64(f'{uid}-password')}",
        f"entryUUID: 0f2f1a52-9f6e-4d8b-8d4e-6a1b2c3d4e{number:02d}",
        *extra,
    ]
    return "\n".join(lines) + "\n\n"


def group(cn: str, *members: str, extra: str = "") -> str:
    listed = "\n".join(f"member: {member}" for member in members)
    classes = "objectClass: groupOfNames\nobjectClass: gatewayExtras"
    return f"dn: cn={cn},{GROUPS}\n{classes}\ncn: {cn}\n{listed}\n{extra}\n"


def escape_dn(value: str) -> str:
    return "".join("\\" + letter if letter in ',+"\\<>;=#' else letter for letter in value)


ODD_NAMES = ("star*", "pa(ren)", "back\\slash", "comma,equals=plus+", "ünïcode", "two words")


def tree(referral: str = "ldap://127.0.0.1:9/dc=elsewhere") -> str:
    alice, bob = f"uid=alice,{PEOPLE}", f"uid=bob,{PEOPLE}"
    filler = f"cn=nobody,{BASE_DN}"
    base64_guid = base64.b64encode(ALICE_GUID.bytes_le).decode()
    base64_sid = base64.b64encode(STAFF_SID).decode()
    ou = "objectClass: organizationalUnit"
    return "".join(
        [
            f"dn: {BASE_DN}\nobjectClass: dcObject\nobjectClass: organization\n",
            "dc: example\no: example\n\n",
            f"dn: {SERVICE_DN}\nobjectClass: organizationalRole\n",
            "objectClass: simpleSecurityObject\ncn: sealgate\n",
            f"userPassword: {SERVICE_PASSWORD}\n\n",
            f"dn: {PEOPLE}\n{ou}\nou: people\n\n",
            f"dn: {GROUPS}\n{ou}\nou: groups\n\n",
            f"dn: ou=twins,{BASE_DN}\n{ou}\nou: twins\n\n",
            f"dn: ou=moved,{BASE_DN}\nobjectClass: referral\nobjectClass: extensibleObject\n",
            f"ou: moved\nref: {referral}\n\n",
            person(
                "alice",
                1,
                f"sshPublicKey: {ALICE_KEY} alice@desk",
                f'sshPublicKey: from="10.0.0.1" {ALICE_KEY}',
                "sshPublicKey: not a key",
                f"objectGUID:: {base64_guid}",
                f"tokenGroups:: {base64_sid}",
                "userAccountControl: 512",
                "accountExpires: 9223372036854775807",
                f"memberOf: cn=clinicians,{GROUPS}",
                cn="Alice Ähn",
            ),
            person("bob", 2, "userAccountControl: 514", "accountExpires: 132223104000000000"),
            person("carol", 3, "pwdAccountLockedTime: 000001010000Z"),
            *(person(name, 10 + index) for index, name in enumerate(ODD_NAMES)),
            person("twin", 30),
            f"dn: uid=twin,ou=twins,{BASE_DN}\nobjectClass: inetOrgPerson\nuid: twin\ncn: t\n",
            "sn: t\nuserPassword: twin-password\n\n",
            group("clinicians", alice, extra=f"memberOf: cn=staff,{GROUPS}\n"),
            group(
                "staff",
                f"cn=clinicians,{GROUPS}",
                extra=f"memberOf: cn=everyone,{GROUPS}\nobjectSid:: {base64_sid}\n",
            ),
            # A loop: everyone and staff hold each other.
            group("everyone", f"cn=staff,{GROUPS}", bob, extra=f"memberOf: cn=staff,{GROUPS}\n"),
            group("empty", filler),
        ]
    ).replace(
        f"member: cn=clinicians,{GROUPS}\n",
        f"member: cn=clinicians,{GROUPS}\nmember: cn=everyone,{GROUPS}\n",
    )


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A certificate authority of the tests' own."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def slapd(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slapd]:
    """A slapd with the shared tree; tests must not change it."""
    assert available(), "slapd is not installed; 'make test' installs it"
    folder = tmp_path_factory.mktemp("slapd") / "main"
    with running(folder, authority.issue("good"), tree()) as server:
        yield server


def settings_for(
    *urls: str, ca_file: Path, bind_dn: str = SERVICE_DN, **changes: object
) -> LdapSettings:
    base: dict[str, object] = {
        "base_dn": BASE_DN,
        "bind_dn": bind_dn,
        "bind_password": SERVICE_PASSWORD,
        "group_base_dn": GROUPS,
        "disabled_attribute": "pwdAccountLockedTime",
        "disabled_values": ("000001010000Z",),
        "connect_timeout_s": 1,
        "receive_timeout_s": 1,
    }
    return LdapSettings(servers=urls, ca_file=str(ca_file), **(base | changes))  # type: ignore[arg-type]


@pytest.fixture
def settings(slapd: Slapd, authority: Authority) -> LdapSettings:
    """Settings that fit the shared slapd."""
    return settings_for(slapd.ldaps, ca_file=authority.ca_file, receive_timeout_s=10)


@pytest.fixture
def directory(settings: LdapSettings) -> Iterator[LdapDirectory]:
    """The driver over the shared slapd."""
    made = LdapDirectory(settings)
    yield made
    made.close()

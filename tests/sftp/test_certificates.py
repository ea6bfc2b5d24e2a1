"""Certificates of users, made by ssh-keygen and shown by OpenSSH's client."""

from __future__ import annotations

import asyncio
import base64
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import asyncssh
import pytest

from auth.ssh_key import Authority
from gateway.sftp.shown_key import key_line
from tests.door.support import grant, group
from tests.sftp.conftest import LIMIT_S
from tests.sftp.real_door import RealDoor, real_door

KEY_THEN_CODE = "publickey,keyboard-interactive"
# The tests' clock stands in January 2027.
STAFF = group("staff", grant("radiology"))


def keygen(*arguments: str | Path) -> None:
    done = subprocess.run(
        ["ssh-keygen", "-q", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def new_key(path: Path, *kind: str) -> Path:
    keygen("-t", *(kind or ("ed25519",)), "-N", "", "-f", path)
    return path


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The private key of the authority."""
    return new_key(tmp_path_factory.mktemp("authority") / "ca")


def trusted(key: Path) -> Authority:
    return Authority("clinic", key_line(asyncssh.read_private_key(key)))


@pytest.fixture
def door(tmp_path: Path, host_key: Path, authority: Path) -> Iterator[RealDoor]:
    """A listener whose policy trusts the authority; no directory lists alice's key."""
    with real_door(tmp_path, host_key, new_key(tmp_path / "key")) as opened:
        opened.put_in_force(STAFF, authorities=(trusted(authority),))
        yield opened


def certify(
    door: RealDoor, authority: Path, *options: str, principals: str | None = "alice"
) -> None:
    """Have the authority certify the key that the client shows."""
    named = ("-n", principals) if principals is not None else ()
    key = door.listener.user_key
    keygen("-s", authority, "-I", "alice's laptop", *named, *options, f"{key}.pub")


def come(door: RealDoor) -> list[tuple[str, str]]:
    """Log in with the certificate and a code; return what the records say."""
    done = door.sftp(method=KEY_THEN_CODE, password="not alice's")
    assert done.returncode == 0, done.stderr
    return door.logins()


def refused(door: RealDoor) -> list[tuple[str, str]]:
    """Show the certificate in vain; return what the records say."""
    done = door.sftp()
    assert done.returncode != 0
    assert "Permission denied" in done.stderr
    return door.logins()


CODE_THEN_IN = [("denied", "code-missing"), ("ok", "ssh_key+totp")]


def test_a_certificate_counts_as_the_key_and_is_named_in_the_record(
    door: RealDoor, authority: Path
) -> None:
    """It needs its code as any key does, and is worth a lease as any key is."""
    certify(door, authority, "-z", "4711")
    done = door.sftp(method=KEY_THEN_CODE)
    assert done.returncode == 0, done.stderr
    assert door.sftp().returncode == 0
    refused, opened, by_lease = door.login_records()
    named = 'certificate "alice\'s laptop" serial 4711 of authority clinic'
    assert [one["rule"] for one in (opened, by_lease)] == ["ssh_key+totp", "lease+ssh_key"]
    assert {one["note"] for one in (refused, opened, by_lease)} == {named}


GOOD = {
    "an open span": ("-V", "always:forever"),
    "a span around now": ("-V", "20270101Z:20270201Z"),
    "from where the client is": ("-O", "source-address=192.0.2.0/24,127.0.0.0/8"),
    "without any extension": ("-O", "clear"),
}


@pytest.mark.parametrize("options", GOOD.values(), ids=GOOD)
def test_good_certificates_let_their_user_in(
    door: RealDoor, authority: Path, options: tuple[str, ...]
) -> None:
    """Those that others tell apart by options which mean nothing here too."""
    certify(door, authority, *options, principals="carol,alice")
    assert come(door) == CODE_THEN_IN


WRONG = {
    "nobody named": ("certificate-principal", None, ()),
    "another named": ("certificate-principal", "bob,alice2", ()),
    "over": ("certificate-expired", "alice", ("-V", "20260101Z:20261231Z")),
    "to come": ("certificate-not-yet-valid", "alice", ("-V", "20280101Z:20290101Z")),
    "from elsewhere": ("certificate-address", "alice", ("-O", "source-address=192.0.2.7")),
    "a forced command": ("certificate-option", "alice", ("-O", "force-command=ls")),
    "an unknown option": ("certificate-option", "alice", ("-O", "critical:x@example.org=1")),
    "a verified user": ("user-not-verified", "alice", ("-O", "verify-required")),
}


@pytest.mark.parametrize(("reason", "principals", "options"), WRONG.values(), ids=WRONG)
def test_wrong_certificates_let_nobody_in_and_leave_a_record(
    door: RealDoor,
    authority: Path,
    reason: str,
    principals: str | None,
    options: tuple[str, ...],
) -> None:
    """The client hears what it hears of any other refusal."""
    certify(door, authority, *options, principals=principals)
    assert refused(door) == [("denied", reason)]


def test_a_host_certificate_is_no_users(door: RealDoor, authority: Path) -> None:
    """An authority may sign both; OpenSSH's client itself does not show one."""
    certify(door, authority, "-h")

    async def go() -> None:
        key = str(door.listener.user_key)
        with pytest.raises(asyncssh.PermissionDenied):
            await door.listener.connect(client_keys=[(key, f"{key}-cert.pub")])

    asyncio.run(go())
    assert door.logins() == [("denied", "certificate-not-a-users")]


def test_a_certificate_of_another_authority_is_not_even_asked_for(
    door: RealDoor, tmp_path: Path
) -> None:
    """Anybody can make one."""
    certify(door, new_key(tmp_path / "stranger"))
    assert refused(door) == []


@pytest.mark.parametrize(
    "revoking",
    [
        lambda one: replace(one, revoked_serials=frozenset({7})),
        lambda one: replace(one, revoked_key_ids=frozenset({"alice's laptop"})),
    ],
)
def test_a_revoked_certificate_is_refused_from_the_next_log_in_on(
    door: RealDoor, authority: Path, revoking: Callable[[Authority], Authority]
) -> None:
    """By its serial number or its key id; a lease does not help it."""
    certify(door, authority, "-z", "7")
    assert come(door) == CODE_THEN_IN
    door.put_in_force(STAFF, authorities=(revoking(trusted(authority)),))
    assert refused(door) == [("denied", "certificate-revoked")]


def test_an_authority_may_be_good_for_some_groups_only(door: RealDoor, authority: Path) -> None:
    """Membership is asked when somebody comes."""
    certify(door, authority)
    narrowed = replace(trusted(authority), groups=frozenset({"readers"}))
    door.put_in_force(STAFF, authorities=(narrowed,))
    assert refused(door) == [("denied", "certificate-groups")]
    door.put_in_force(STAFF, authorities=(replace(narrowed, groups=frozenset({"staff"})),))
    assert come(door) == CODE_THEN_IN


@pytest.mark.parametrize("kind", [("rsa", "-b", "2048"), ("ecdsa",)])
def test_other_types_of_keys_and_authorities(
    tmp_path: Path, host_key: Path, kind: tuple[str, ...]
) -> None:
    """RSA by SHA-2, and ECDSA."""
    signer = new_key(tmp_path / "ca", *kind)
    with real_door(tmp_path, host_key, new_key(tmp_path / "key", *kind)) as door:
        door.put_in_force(STAFF, authorities=(trusted(signer),))
        certify(door, signer)
        assert come(door) == CODE_THEN_IN


def test_a_certificate_signed_by_sha1_is_none(tmp_path: Path, host_key: Path) -> None:
    """Its hash can be made to fit another one."""
    signer = new_key(tmp_path / "ca", "rsa", "-b", "2048")
    with real_door(tmp_path, host_key, new_key(tmp_path / "key")) as door:
        door.put_in_force(STAFF, authorities=(trusted(signer),))
        certify(door, signer, "-t", "ssh-rsa")
        assert refused(door) == []


def test_a_listed_key_comes_in_beside_its_refused_certificate(
    door: RealDoor, authority: Path
) -> None:
    """The certificate is no longer good; that the directory lists the key is another reason."""
    certify(door, authority, principals="bob")
    door.list_key(door.listener.user_key)
    assert come(door)[-1] == ("ok", "ssh_key+totp")


def test_an_account_that_is_disabled_has_no_use_of_its_certificate(
    door: RealDoor, authority: Path
) -> None:
    """The directory has the last word."""
    certify(door, authority)
    alice = door.gate.directory.accounts["alice"]
    door.gate.directory.accounts["alice"] = replace(alice, enabled=False)
    assert refused(door) == [("denied", "account-disabled")]


def test_a_certificate_that_was_tampered_with_is_none(door: RealDoor, authority: Path) -> None:
    """Its authority signed something else."""
    certify(door, authority, principals="bobby")
    path = Path(f"{door.listener.user_key}-cert.pub")
    kind, encoded = path.read_text().split()[:2]
    forged = base64.b64decode(encoded).replace(b"bobby", b"alice")
    path.write_text(f"{kind} {base64.b64encode(forged).decode()}")
    assert refused(door) == []

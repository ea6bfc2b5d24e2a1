"""The whole way with a real directory: slapd over TLS, groups from it, codes, both protocols."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support import slapd
from tests.support.gateway import RunningGateway, running_gateway
from tests.support.slapd import BASE_DN, SERVICE_DN, SERVICE_PASSWORD, Authority, Slapd
from tests.support.users import Login, User, until

PASSWORD = "correct horse"
PEOPLE = f"ou=people,{BASE_DN}"
GROUPS = f"ou=groups,{BASE_DN}"
MEMBERS = {"alice": "clinicians", "bob": "billing"}


def person(uid: str, ssh_key: str = "") -> str:
    extras = "objectClass: gatewayExtras\n" if ssh_key else ""
    key = f"sshPublicKey: {ssh_key}\n" if ssh_key else ""
    return (
        f"dn: uid={uid},{PEOPLE}\nobjectClass: inetOrgPerson\n{extras}uid: {uid}\ncn: {uid}\n"
        f"sn: {uid}\n{key}userPassword: {PASSWORD}\n\n"
    )


def group(name: str, uid: str) -> str:
    member = f"member: uid={uid},{PEOPLE}\n"
    return f"dn: cn={name},{GROUPS}\nobjectClass: groupOfNames\ncn: {name}\n{member}\n"


def line_file(key: Path) -> Path:
    return Path(f"{key}.pub")


def line(key: Path) -> str:
    return line_file(key).read_text().strip()


def tree(keys: dict[str, Path]) -> str:
    unit = "objectClass: organizationalUnit\n"
    return "".join(
        (
            f"dn: {BASE_DN}\nobjectClass: dcObject\nobjectClass: organization\n",
            "dc: example\no: example\n\n",
            f"dn: {SERVICE_DN}\nobjectClass: organizationalRole\n",
            "objectClass: simpleSecurityObject\ncn: sealgate\n",
            f"userPassword: {SERVICE_PASSWORD}\n\n",
            f"dn: {PEOPLE}\n{unit}ou: people\n\ndn: {GROUPS}\n{unit}ou: groups\n\n",
            person("alice", line(keys["alice"])),
            person("bob"),
            *(group(name, uid) for uid, name in MEMBERS.items()),
        )
    )


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """SSH keys of alice and bob, and of an authority."""
    folder = tmp_path_factory.mktemp("keys")
    made = {name: folder / name for name in ("alice", "bob", "authority", "certified")}
    for path in made.values():
        keygen("-t", "ed25519", "-N", "", "-f", path)
    return made


def keygen(*arguments: str | Path) -> None:
    subprocess.run(["ssh-keygen", "-q", *arguments], check=True, timeout=30)


@pytest.fixture(scope="module")
def directory(
    tmp_path_factory: pytest.TempPathFactory, keys: dict[str, Path]
) -> Iterator[tuple[Slapd, Path]]:
    """A running slapd, and the authority that its clients trust."""
    assert slapd.available(), "slapd is not installed; 'make test' installs it"
    authority = Authority(tmp_path_factory.mktemp("authority"))
    folder = tmp_path_factory.mktemp("directory") / "slapd"
    with slapd.running(folder, authority.issue("good"), tree(keys)) as server:
        yield server, authority.ca_file


@pytest.fixture(scope="module")
def clinic(
    directory: tuple[Slapd, Path],
    tmp_path_factory: pytest.TempPathFactory,
    keys: dict[str, Path],
) -> Iterator[RunningGateway]:
    """A gateway whose users and groups come from the directory."""
    server, ca_file = directory
    with running_gateway(tmp_path_factory.mktemp("clinic")) as gateway:
        gateway.stop()
        config = yaml.safe_load(gateway.config.read_text())
        secret = gateway.folder / "keys" / "ldap.secret"
        secret.write_text(SERVICE_PASSWORD)
        secret.chmod(0o600)
        config["directory"] = {
            "ldap": {
                "servers": [server.ldaps],
                "ca_file": str(ca_file),
                "base_dn": BASE_DN,
                "bind_dn": SERVICE_DN,
                "bind_password": {"file": str(secret)},
                "group_base_dn": GROUPS,
            }
        }
        config["groups"] = {name: config["groups"][name] for name in MEMBERS.values()}
        for name in MEMBERS.values():
            config["groups"][name]["members"] = {"ldap": f"CN={name}, {GROUPS}"}
        # alice's key is in the directory.
        config["groups"]["billing"]["ssh_keys"] = {"bob": line(keys["bob"])}
        config["user_cas"] = {"clinic": {"key": line(keys["authority"]), "groups": "billing"}}
        gateway.config.write_text(yaml.safe_dump(config, sort_keys=False))
        checked = gateway.command("check-config")
        assert checked.returncode == 0, checked.stdout
        gateway.start_serve()
        for uid, name in MEMBERS.items():
            enrolled = gateway.command("totp", "enrol", uid, "--json")
            assert enrolled.returncode == 0, enrolled.stderr
            seed = json.loads(enrolled.stdout)["secret"]
            gateway.users[uid] = User(uid, PASSWORD, seed, (name,), keys[uid])
        yield gateway


def test_directory_user_moves_a_file_through_both_protocols(
    clinic: RunningGateway, tmp_path: Path
) -> None:
    """A password from LDAP and a code open both doors; the LDAP group's rights hold."""
    content = b"seen through two doors"
    assert clinic.curl("alice", "PUT", "/radiology/ldap", body=content).status == 201
    fetched = tmp_path / "fetched"
    done = clinic.sftp_batch("alice", [f"get /radiology/ldap {fetched}"])
    assert done.returncode == 0, done.stdout
    assert fetched.read_bytes() == content


def test_group_of_the_directory_decides(clinic: RunningGateway) -> None:
    """Billing reads and does not write, and the refusal names the rule."""
    assert clinic.curl("bob", "PROPFIND", "/radiology/", headers={"Depth": "0"}).status == 207
    mark = clinic.audit_mark()
    assert clinic.curl("bob", "PUT", "/radiology/no", body=b"x").status == 403
    (denied,) = [one for one in clinic.audit_since(mark) if one.outcome == "denied"]
    assert denied.fields["principal_name"] == "bob"
    assert denied.fields["rule"]


def test_wrong_password_unknown_user_and_wrong_code_read_alike(clinic: RunningGateway) -> None:
    """The three answers differ in nothing that a client can see."""
    code = clinic.code("alice")
    replies = [
        clinic.curl("alice", "PROPFIND", "/", secret="wrong" + code),
        clinic.curl("mallory", "PROPFIND", "/", secret=PASSWORD + code),
        clinic.curl("alice", "PROPFIND", "/", secret=PASSWORD + "000000"),
    ]
    assert {reply.status for reply in replies} == {401}
    assert len({reply.body for reply in replies}) == 1


def test_a_code_over_webdav_is_worth_a_lease_for_the_key_that_ldap_lists(
    clinic: RunningGateway,
) -> None:
    """From the same address alone, until an administrator signs the user off."""
    here, elsewhere = "127.0.0.31", "127.0.0.32"

    def by_key(address: str) -> int:
        done = clinic.sftp_batch("alice", ["pwd"], method="publickey", address=address)
        return done.returncode

    assert by_key(here) != 0
    assert clinic.curl("alice", "OPTIONS", "/", address=here).status == 200
    mark = clinic.audit_mark()
    assert (by_key(here), by_key(here)) == (0, 0)
    assert by_key(elsewhere) != 0
    logins = [one.fields["rule"] for one in clinic.audit_since(mark) if one.action == "login"]
    assert logins == ["lease+ssh_key", "lease+ssh_key", "code-missing"]
    listed = map(json.loads, clinic.command("sessions", "list", "--json").stdout.splitlines())
    (session,) = [one["session"] for one in listed if one["client_address"] == here]
    assert clinic.command("sessions", "end", session).returncode == 0
    assert by_key(here) != 0


def test_a_key_of_the_policy_file_and_a_certificate_share_a_lease(
    clinic: RunningGateway, keys: dict[str, Path]
) -> None:
    """The key with a code first; then the certificate of another key without one."""
    bob, address = clinic.users["bob"], "127.0.0.33"
    login = Login("never asked for", clinic.code("bob"))
    chain = "publickey,keyboard-interactive"
    done = clinic.sftp_batch("bob", ["pwd"], method=chain, login=login, address=address)
    assert done.returncode == 0, done.stdout
    bob.ssh_key = keys["certified"]
    assert clinic.sftp_batch("bob", ["pwd"], method="publickey", address=address).returncode != 0
    keygen("-s", keys["authority"], "-I", "new key", "-z", "3", "-n", "bob", line_file(bob.ssh_key))
    mark = clinic.audit_mark()
    done = clinic.sftp_batch("bob", ["pwd"], method="publickey", address=address)
    assert done.returncode == 0, done.stdout
    (record,) = [one for one in clinic.audit_since(mark) if one.action == "login"]
    assert record.fields["rule"] == "lease+ssh_key"
    assert record.fields["note"] == "certificate 'new key' serial 3 of authority clinic"


def test_directory_that_dies_is_told_clearly_and_comes_back(
    clinic: RunningGateway, directory: tuple[Slapd, Path]
) -> None:
    """Without a directory nobody new comes in (503, not 401); living sessions go on."""
    server, _ = directory
    living = clinic.webdav_secret("alice")
    assert clinic.curl("alice", "OPTIONS", "/", secret=living).status == 200
    configuration = Path(server.process.args[2])  # type: ignore[index,arg-type]
    server.stop()
    fresh = PASSWORD + clinic.code("alice")
    assert clinic.curl("alice", "OPTIONS", "/", secret=fresh).status == 503
    assert clinic.curl("alice", "OPTIONS", "/", secret=living).status == 200
    again = slapd.start(configuration, ports=(server.ldap_port, server.ldaps_port))
    try:
        until(
            lambda: clinic.curl("alice", "OPTIONS", "/", secret=fresh).status == 200,
            "the directory is used again",
        )
    finally:
        again.stop()

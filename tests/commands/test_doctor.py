"""``doctor`` looks at everything, says what is wrong with it, and changes nothing."""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from gateway.app import open_gateway
from gateway.config import load_config
from tests.commands.conftest import Sealgate

Findings = list[dict[str, Any]]


@pytest.fixture
def look(sealgate: Sealgate) -> Iterator[Callable[..., Findings]]:
    """Return a function that runs the command and returns what it finds, problems or not.

    The configuration and the keys are back as they were after the test.
    """
    folder = sealgate.gateway.folder
    kept = folder.with_name("kept")
    shutil.copytree(folder, kept, symlinks=True)

    def run(status: int = 0, **found: str) -> Findings:
        findings: Findings = sealgate.parsed("doctor", status=status)["findings"]
        return [
            each for each in findings if all(word in each[name] for name, word in found.items())
        ]

    yield run
    shutil.rmtree(folder)
    kept.rename(folder)


def only(findings: Findings) -> dict[str, Any]:
    assert len(findings) == 1, findings
    assert findings[0]["remedy"] or findings[0]["verdict"] == "ok"
    return findings[0]


def test_a_new_installation_has_no_problems(sealgate: Sealgate) -> None:
    """Every part is looked at, and each finding has a verdict, a subject and a message."""
    findings = sealgate.parsed("doctor")["findings"]
    assert {each["verdict"] for each in findings} <= {"ok", "warning"}
    assert all(each["subject"] and each["message"] for each in findings)
    subjects = " ".join(each["subject"] for each in findings)
    for word in (
        "configuration", "webdav", "certificate", "sftp", "host key", "master key", "data folder",
        "directory", "segments", "catalog", "one-time codes", "audit anchor", "clock",
    ):  # fmt: skip
        assert word in subjects, word
    told = sealgate("doctor")
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.splitlines()[-1].startswith("0 problems, ")
    assert "ciphers: aes256-gcm@openssh.com aes128-gcm@openssh.com" in told.stdout


def test_a_gateway_that_does_not_run_is_no_problem(look: Callable[..., Findings]) -> None:
    """What its listeners would offer is said from the configuration."""
    sftp = only(look(subject="sftp 127"))
    assert (sftp["verdict"], "nothing answers" in sftp["message"]) == ("warning", True)
    offered = {each["name"]: each["text"] for each in sftp["details"]}
    assert offered["host keys"] == "ssh-ed25519 rsa-sha2-512 rsa-sha2-256"
    assert only(look(subject="webdav 127"))["verdict"] == "warning"


def test_it_changes_nothing(sealgate: Sealgate) -> None:
    """Neither the catalog's records nor the files: not even a first catalog is made."""

    def contents() -> dict[str, int]:
        files = [path for path in sealgate.gateway.folder.rglob("*") if path.is_file()]
        # SQLite's own companions come and go with whoever reads.
        return {str(each): each.stat().st_size for each in files if "catalog.db-" not in each.name}

    before = contents()
    sealgate.parsed("doctor")
    assert contents() == before


def test_before_the_first_start(look: Callable[..., Findings], sealgate: Sealgate) -> None:
    """There is no data yet, and that is fine; none is made."""
    shutil.rmtree(sealgate.gateway.data_dir)
    assert "not there yet" in only(look(subject="catalog"))["message"]
    assert not sealgate.gateway.data_dir.exists()


def test_a_wrong_configuration_is_told_with_its_lines(
    look: Callable[..., Findings], sealgate: Sealgate
) -> None:
    """As ``check-config`` does; nothing else can be looked at then."""
    sealgate.gateway.write_config(lambda config: config["server"].update(nod="x"))
    found = only(look(status=1))
    assert found["verdict"] == "problem"
    assert "config.yaml:" in found["subject"]
    assert "server.nod" in found["subject"]
    assert sealgate.gateway.config.exists()


def test_no_configuration_is_wrong_use(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Status 2 is for the command line, not for the installation."""
    from gateway.cli import main  # noqa: PLC0415

    monkeypatch.delenv("SEALGATE_CONFIG", raising=False)
    assert main(["doctor"]) == 2
    assert "-c FILE" in capsys.readouterr().err


# Certificates and keys


def certificate(
    folder: Path, *, days: int = 90, began: int = -1, rsa_bits: int = 0, name: str = "localhost"
) -> None:
    """Put a certificate and its key where the installation has its own."""
    key = (
        rsa.generate_private_key(65537, rsa_bits)
        if rsa_bits
        else ec.generate_private_key(ec.SECP256R1())
    )
    named = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(named)
        .issuer_name(named)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now + timedelta(days=min(began, days - 1)))
        .not_valid_after(now + timedelta(days=days, hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "keys/tls.crt").write_bytes(made.public_bytes(Encoding.PEM))
    (folder / "keys/tls.key").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )


@pytest.mark.parametrize(
    ("options", "verdict", "word"),
    [
        ({"days": 90}, "ok", "90 days"),
        ({"days": 20}, "warning", "in 20 days"),
        ({"days": -3}, "problem", "ran out"),
        ({"days": 90, "began": 3}, "problem", "not valid yet"),
        ({"days": 90, "rsa_bits": 1024}, "problem", ""),
    ],
)
def test_certificates_are_looked_at(
    look: Callable[..., Findings],
    sealgate: Sealgate,
    options: dict[str, Any],
    verdict: str,
    word: str,
) -> None:
    """Their days, and whether their key is long enough."""
    certificate(sealgate.gateway.folder, **options)
    found = only(look(status=verdict == "problem", subject="certificate "))
    assert (found["verdict"], word in found["message"]) == (verdict, True)


def test_a_certificate_for_another_name(look: Callable[..., Findings], sealgate: Sealgate) -> None:
    """Clients that follow the public URL would refuse it; a wildcard covers one part."""

    def public(config: dict[str, Any]) -> None:
        config["server"]["webdav"]["public_url"] = "https://files.example.org"

    sealgate.gateway.write_config(public)
    for name, verdict in (
        ("www.example.org", "warning"),
        ("*.example.org", "ok"),
        ("FILES.example.org", "ok"),
    ):
        certificate(sealgate.gateway.folder, name=name)
        assert only(look(subject="certificate "))["verdict"] == verdict


def host_key(folder: Path, bits: int) -> Path:
    path = folder / f"keys/rsa{bits}"
    key = rsa.generate_private_key(65537, bits)
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    path.chmod(0o600)
    return path


@pytest.mark.parametrize(("bits", "verdict"), [(1024, "problem"), (2048, "warning"), (3072, "ok")])
def test_short_host_keys(
    look: Callable[..., Findings], sealgate: Sealgate, bits: int, verdict: str
) -> None:
    """Clients refuse less than 2048 bits; who makes a key today takes 3072."""
    path = host_key(sealgate.gateway.folder, bits)
    sealgate.gateway.write_config(
        lambda config: config["server"]["sftp"].update(host_keys=[str(path)])
    )
    found = only(look(status=verdict == "problem", subject="host key "))
    assert (found["verdict"], str(bits) in found["message"]) == (verdict, True)
    assert found["details"][0]["text"].startswith("SHA256:")


def test_two_host_keys_of_a_kind(look: Callable[..., Findings], sealgate: Sealgate) -> None:
    """With them the gateway would not start."""
    path = host_key(sealgate.gateway.folder, 3072)
    sealgate.gateway.write_config(
        lambda config: config["server"]["sftp"]["host_keys"].append(str(path))
    )
    found = look(status=1, subject="host key ", verdict="problem")
    assert "same kind" in only(found)["message"]


def test_a_host_key_that_the_profile_does_not_use(
    look: Callable[..., Findings], sealgate: Sealgate
) -> None:
    """In the FIPS profile the Ed25519 key lies idle."""
    sealgate.gateway.write_config(lambda config: config["server"]["sftp"].update(algorithms="fips"))
    unused = only(look(subject="ed25519"))
    assert (unused["verdict"], "not used" in unused["message"]) == ("warning", True)
    offered = {each["name"]: each["text"] for each in only(look(subject="sftp 127"))["details"]}
    assert "25519" not in offered["key exchange"] + offered["host keys"]


def test_what_opens_weaker_algorithms(look: Callable[..., Findings], sealgate: Sealgate) -> None:
    """To whom, for how long; what ends soon or has ended is warned of."""
    today = datetime.now(UTC).date()

    def opened(config: dict[str, Any]) -> None:
        config["server"]["sftp"]["exceptions"] = {
            name: {
                "networks": "192.0.2.7",
                "users": "scanner",
                "algorithms": "legacy",
                "until": str(today + timedelta(days=days)),
                "reason": "old",
            }
            for name, days in (("long", 200), ("soon", 10), ("over", -10))
        }

    sealgate.gateway.write_config(opened)
    found = look(subject="server.sftp.exceptions.")
    told = {(each["subject"].rpartition(".")[2], each["verdict"]) for each in found}
    assert told == {("long", "ok"), ("soon", "warning"), ("over", "warning")}
    assert len(found) == 3
    assert all({"name": "users", "text": "scanner"} in each["details"] for each in found[1:])


def test_open_secrets_are_problems(look: Callable[..., Findings], sealgate: Sealgate) -> None:
    """A master key that others may read, and a missing one."""
    key = sealgate.gateway.folder / "keys/master.key"
    key.chmod(0o640)
    assert only(look(subject="master key"))["verdict"] == "warning"
    key.chmod(0o644)
    assert look(status=1, verdict="problem", message="open to")
    key.unlink()
    assert look(status=1, subject="master key", verdict="problem")


# What is stored


def test_another_master_key_is_a_problem(look: Callable[..., Findings], sealgate: Sealgate) -> None:
    """The catalog would not open with it."""
    key = sealgate.gateway.folder / "keys/master.key"
    text = key.read_text()
    flipped = "0" if text.rstrip()[-1] != "0" else "1"
    key.write_text(text.rstrip()[:-1] + flipped + "\n")
    found = only(look(status=1, subject="catalog", verdict="problem"))
    assert "master key" in found["message"]


def test_users_without_a_seed_are_named(look: Callable[..., Findings], sealgate: Sealgate) -> None:
    """They cannot log in until somebody enrols them; a service account needs none."""
    sealgate("totp", "remove", "bob")
    found = only(look(subject="one-time codes"))
    assert found["verdict"] == "warning"
    assert found["details"] == [{"name": "users", "text": "bob"}]


def test_the_anchor_is_compared(look: Callable[..., Findings], sealgate: Sealgate) -> None:
    """Behind, up to date, and ahead of a catalog that was set back."""
    anchor = sealgate.gateway.folder / "anchor"
    sealgate.gateway.write_config(
        lambda config: config.setdefault("audit", {}).update(anchor=str(anchor))
    )
    gateway = open_gateway(load_config(sealgate.gateway.config))
    for _ in range(3):
        gateway.checkpoint()
    gateway.close()
    found = only(look(subject="audit anchor"))
    assert (found["verdict"], "on the disk" in found["message"]) == ("warning", True)
    lines = anchor.read_text().splitlines(keepends=True)
    anchor.write_text(lines[0])
    assert "ends at checkpoint" in only(look(status=1, subject="audit anchor"))["message"]
    ahead = json.loads(lines[-1]) | {"number": 99}
    anchor.write_text("".join(lines) + json.dumps(ahead) + "\n")
    assert "set back" in only(look(status=1, subject="audit anchor"))["message"]


def test_a_directory_that_fails(look: Callable[..., Findings], sealgate: Sealgate) -> None:
    """Server by server, with what the log would say."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    servers = [f"ldaps://127.0.0.1:{port}", "ldaps://127.0.0.1:1"]

    def ldap(config: dict[str, Any]) -> None:
        config["directory"] = {"ldap": {"servers": servers, "base_dn": "dc=example,dc=org"}}
        for group in config["groups"].values():
            group["members"] = {"users": "alice"}

    sealgate.gateway.write_config(ldap)
    found = look(status=1, subject="directory ldaps")
    assert [each["subject"] for each in found] == [f"directory {server}" for server in servers]
    assert {each["verdict"] for each in found} == {"problem"}
    assert all(each["details"] for each in found)


# Whoever else listens there


@pytest.mark.parametrize("said", [b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 400\r\n\r\n", b""])
def test_another_program_on_the_port_is_a_problem(
    look: Callable[..., Findings], sealgate: Sealgate, said: bytes
) -> None:
    """What answers is no Sealgate; it hangs up after what it says."""
    with socket.create_server(("127.0.0.1", sealgate.gateway.sftp_port)) as other:
        other.settimeout(20)

        def answer() -> None:
            caller, _ = other.accept()
            with caller:
                caller.sendall(said)
                caller.recv(100)

        thread = threading.Thread(target=answer)
        thread.start()
        found = only(look(status=1, subject="sftp 127"))
        thread.join(20)
    assert found["verdict"] == "problem"


def test_no_tls_on_the_port_is_a_problem(look: Callable[..., Findings], sealgate: Sealgate) -> None:
    """A plain web server, for one."""
    with socket.create_server(("127.0.0.1", sealgate.gateway.webdav_port)) as other:

        def answer() -> None:
            for _ in range(3):
                caller, _ = other.accept()
                caller.close()

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        found = only(look(status=1, subject="webdav 127"))
    assert "does not speak TLS" in found["message"]


def test_another_certificate_on_the_port_is_a_warning(
    look: Callable[..., Findings], sealgate: Sealgate
) -> None:
    """The file was renewed, and the gateway not yet told."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(
        sealgate.gateway.folder / "keys/tls.crt", sealgate.gateway.folder / "keys/tls.key"
    )
    certificate(sealgate.gateway.folder)
    with socket.create_server(("127.0.0.1", sealgate.gateway.webdav_port)) as other:

        def answer() -> None:
            for _ in range(3):
                caller, _ = other.accept()
                try:
                    with context.wrap_socket(caller, server_side=True) as wrapped:
                        wrapped.recv(1)
                except OSError:
                    caller.close()

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        found = only(look(subject="webdav 127"))
    assert (found["verdict"], "another certificate" in found["message"]) == ("warning", True)
    assert {each["name"] for each in found["details"]} == {"TLS 1.2", "TLS 1.3"}


def test_the_data_folder_of_another_account(
    look: Callable[..., Findings], sealgate: Sealgate
) -> None:
    """Run as root, the command would leave files that the service cannot write."""
    os.chown(sealgate.gateway.data_dir, 65534, -1)
    found = look(subject="data folder", verdict="warning", message="belongs to")
    assert "sudo -u" in only(found)["remedy"]


def test_old_clients_need_an_ecdsa_host_key(
    look: Callable[..., Findings], sealgate: Sealgate
) -> None:
    """JSch 0.1.55 takes no Ed25519, and of RSA only SHA-1; without old clients nothing is said."""
    assert look(subject="host keys") == []
    until = str(datetime.now(UTC).date() + timedelta(days=200))
    legacy = {"listen": "127.0.0.1:1", "until": until, "reason": "old"}
    sealgate.gateway.write_config(lambda config: config["server"]["sftp"].update(legacy=legacy))
    assert "ECDSA" in only(look(subject="host keys"))["message"]

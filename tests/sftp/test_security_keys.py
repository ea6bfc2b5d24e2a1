"""Security keys (FIDO2, PROTOCOL.u2f): software stands in for the token and signs as one does."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import asyncssh
import pytest
from asyncssh.packet import Byte, MPInt, String, UInt32
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from auth.directory import VERIFY_REQUIRED, ssh_key
from auth.ssh_key import Authority
from gateway.model import Attempt, Client, Wire
from gateway.sftp.shown_key import key_line
from tests.door.support import grant, group, password_of
from tests.sftp.conftest import LIMIT_S
from tests.sftp.real_door import RealDoor, real_door

PRESENT = 0x01
VERIFIED = 0x04
APPLICATION = b"ssh:"
STAFF = group("staff", grant("radiology"))


class Token(asyncssh.SSHKeyPair):
    """A key pair whose private half is a token's; ``flags`` are what it says of its user."""

    _key_type = "token"

    def __init__(self, kind: str, flags: int) -> None:
        self._flags = flags
        if kind == "ed25519":
            self._secret: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey
            self._secret = ed25519.Ed25519PrivateKey.generate()
            algorithm = b"sk-ssh-ed25519@openssh.com"
            raw = self._secret.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
            fields = String(raw)
        else:
            self._secret = ec.generate_private_key(ec.SECP256R1())
            algorithm = b"sk-ecdsa-sha2-nistp256@openssh.com"
            point = self._secret.public_key().public_bytes(
                Encoding.X962, PublicFormat.UncompressedPoint
            )
            fields = String("nistp256") + String(point)
        blob = String(algorithm) + fields + String(APPLICATION)
        super().__init__(algorithm, algorithm, (algorithm,), (), blob, None)

    @property
    def line(self) -> str:
        return key_line(asyncssh.import_public_key(self._openssh()))

    def _openssh(self) -> bytes:
        return self.algorithm + b" " + base64.b64encode(self.public_data)

    def certified(self, certificate: bytes) -> Token:
        """Show a certificate in the place of the key."""
        kind = certificate[4 : 4 + int.from_bytes(certificate[:4], "big")]
        self.algorithm, self.public_data = kind, certificate
        return self

    def sign(self, data: bytes) -> bytes:
        said = Byte(self._flags) + UInt32(7)
        message = hashlib.sha256(APPLICATION).digest() + said + hashlib.sha256(data).digest()
        if isinstance(self._secret, ed25519.Ed25519PrivateKey):
            signature = String(self._secret.sign(message))
        else:
            r, s = decode_dss_signature(self._secret.sign(message, ec.ECDSA(SHA256())))
            signature = String(MPInt(r) + MPInt(s))
        return String(self.sig_algorithm) + signature + said


@pytest.fixture
def door(tmp_path: Path, host_key: Path, user_key: Path) -> Iterator[RealDoor]:
    """A listener where alice has just given a code, so that her key needs none."""
    with real_door(tmp_path, host_key, user_key) as opened:
        password, code = password_of("alice"), opened.gate.code("alice")
        client = Client("127.0.0.1")
        opened.gate.monitor.login(Attempt("alice", Wire.SFTP, client, password=password, code=code))
        opened.gate.new_records()
        yield opened


def comes_in(door: RealDoor, token: Token) -> bool:
    async def go() -> bool:
        try:
            conn = await door.listener.connect(client_keys=[token])
        except asyncssh.PermissionDenied:
            return False
        conn.close()
        await conn.wait_closed()
        return True

    return asyncio.run(go())


every_kind = pytest.mark.parametrize("kind", ["ed25519", "ecdsa"])


@every_kind
@pytest.mark.parametrize("flags", [PRESENT, PRESENT | VERIFIED])
def test_a_touched_key_counts_as_any_key(door: RealDoor, kind: str, flags: int) -> None:
    """Ed25519 and ECDSA alike."""
    token = Token(kind, flags)
    door.list_key(token.line)
    assert comes_in(door, token)
    assert door.logins() == [("ok", "lease+ssh_key")]


@every_kind
@pytest.mark.parametrize("flags", [0, VERIFIED])
def test_a_key_that_nobody_touched_proves_nothing(door: RealDoor, kind: str, flags: int) -> None:
    """Software on the client's machine can ask for as many signatures as it likes."""
    token = Token(kind, flags)
    door.list_key(token.line)
    assert not comes_in(door, token)
    assert door.logins() == []


@every_kind
@pytest.mark.parametrize(
    ("flags", "logins"),
    [
        (PRESENT, [("denied", "user-not-verified")]),
        (PRESENT | VERIFIED, [("ok", "lease+ssh_key")]),
    ],
)
def test_a_line_may_demand_that_the_user_is_verified(
    door: RealDoor, kind: str, flags: int, logins: list[tuple[str, str]]
) -> None:
    """A token that was stolen asks for a PIN; also where another line lists it without."""
    token = Token(kind, flags)
    door.list_key(token.line)
    door.list_key(VERIFY_REQUIRED + token.line)
    assert comes_in(door, token) == (logins[0][0] == "ok")
    assert door.logins() == logins


@pytest.mark.parametrize("demand", [VERIFY_REQUIRED, ""])
def test_the_policys_lines_count_like_the_directorys(door: RealDoor, demand: str) -> None:
    """With what they demand."""
    token = Token("ed25519", PRESENT)
    keys = (("alice", (demand + token.line,)),)
    door.put_in_force(group("staff", grant("radiology"), ssh_keys=keys))
    assert comes_in(door, token) == (not demand)


def test_options_of_a_line_are_kept_or_the_line_is_none() -> None:
    """Nothing that narrows a key is dropped."""
    line = Token("ed25519", 0).line
    assert ssh_key(f"{line} comment") == line
    assert ssh_key(f"verify-required {line}") == VERIFY_REQUIRED + line
    assert ssh_key(f"restrict,Verify-Required,no-pty   {line}") == VERIFY_REQUIRED + line
    assert ssh_key(f"no-pty {line}") == line
    plain = key_line(asyncssh.generate_private_key("ssh-ed25519"))
    for refused in (
        f"verify-required {plain}",
        f"no-touch-required {line}",
        f'from="10.0.0.0/8",verify-required {line}',
        f"cert-authority {line}",
        f"verify-required verify-required {line}",
        "verify-required",
    ):
        assert ssh_key(refused) is None


@every_kind
@pytest.mark.parametrize(
    ("flags", "options", "logins"),
    [
        (PRESENT, (), [("ok", "lease+ssh_key")]),
        (0, ("-O", "no-touch-required"), []),
        (PRESENT, ("-O", "verify-required"), [("denied", "user-not-verified")]),
        (PRESENT | VERIFIED, ("-O", "verify-required"), [("ok", "lease+ssh_key")]),
    ],
)
def test_security_keys_may_be_certified(
    door: RealDoor, kind: str, flags: int, options: tuple[str, ...], logins: list[tuple[str, str]]
) -> None:
    """A certificate may demand more than a touch, and never less."""
    token = Token(kind, flags)
    authority = asyncssh.generate_private_key("ssh-ed25519")
    signer, key = door.folder / "ca", door.folder / "token.pub"
    authority.write_private_key(signer)
    signer.chmod(0o600)
    key.write_text(f"{token.line} alice\n")
    subprocess.run(
        ["ssh-keygen", "-q", "-s", signer, "-I", "id", "-n", "alice", *options, key],
        check=True,
        timeout=LIMIT_S,
    )
    encoded = (door.folder / "token-cert.pub").read_text().split()[1]
    door.put_in_force(STAFF, authorities=(Authority("clinic", key_line(authority)),))
    assert comes_in(door, token.certified(base64.b64decode(encoded))) == bool(
        logins and logins[0][0] == "ok"
    )
    assert door.logins() == logins

"""What a client shows to log in by: a public key, or a certificate of one, read off the wire.

Reads and verifies, and decides nothing: whose key it is and what a certificate is worth is the
authenticator's part. May import the shared nouns.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import asyncssh
from asyncssh.packet import PacketDecodeError, SSHPacket, String
from asyncssh.public_key import decode_ssh_public_key

from gateway.model import Certificate

# How many fields a key of each type has (all with their length in front) where PROTOCOL.certkeys
# puts it into a certificate.
_KEY_FIELDS = {
    b"ssh-ed25519": 1,
    b"sk-ssh-ed25519@openssh.com": 2,
    b"ecdsa-sha2-nistp256": 2,
    b"ecdsa-sha2-nistp384": 2,
    b"ecdsa-sha2-nistp521": 2,
    b"sk-ecdsa-sha2-nistp256@openssh.com": 3,
    b"ssh-rsa": 2,
}
_CERTIFICATE = b"-cert-v01@openssh.com"
_USERS = 1
_PRINCIPALS_LIMIT = 256
_OPTIONS_LIMIT = 64

_USER_VERIFIED = 0x04

SHA1 = "ssh-rsa"
"""The one signature of SHA-1 that the library takes."""


@dataclass(frozen=True, slots=True)
class Voucher:
    """The signature of an authority under a certificate, not verified yet."""

    authority: asyncssh.SSHKey
    signed: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class ShownKey:
    """A key that nobody has proven yet; ``line`` is its OpenSSH line, without a comment."""

    key: asyncssh.SSHKey
    line: str
    certificate: Certificate | None = None
    voucher: Voucher | None = None

    def is_vouched_for(self, signatures: Collection[str]) -> bool:
        """Return whether the authority has signed the certificate, if it is one.

        By one of ``signatures``, and not by SHA-1. To be asked of known authorities only: verifying
        with a key that a stranger has made can be made to take long.
        """
        if self.voucher is None:
            return True
        algorithm = algorithm_of(self.voucher.signature)
        if algorithm not in signatures or algorithm == SHA1:
            return False
        return _verified(self.voucher.authority, self.voucher.signed, self.voucher.signature)

    def proven_by(self, message: bytes, signature: bytes) -> bool:
        """Return whether ``signature`` over ``message`` is this key's; once it is listed, as above.

        That of a security key only counts when somebody touched it.
        """
        return _verified(self.key, message, signature)


def _verified(key: asyncssh.SSHKey, message: bytes, signature: bytes) -> bool:
    key.set_touch_required(True)
    try:
        return key.verify(message, signature)
    except (PacketDecodeError, ValueError, OverflowError):
        return False


def read(data: bytes) -> ShownKey | None:
    """Return what ``data`` shows; None: neither a key nor a certificate of one."""
    try:
        kind = SSHPacket(data).get_string()
        if kind.endswith(_CERTIFICATE):
            return _certified(data, kind)
        key = decode_ssh_public_key(data)
        return ShownKey(key, key_line(key))
    except (asyncssh.KeyImportError, PacketDecodeError, ValueError, OverflowError):
        # The library lets a negative number of an RSA key through to where it overflows.
        return None


def _certified(data: bytes, kind: bytes) -> ShownKey:
    """Return the key in a certificate (PROTOCOL.certkeys); raises what ``read`` catches."""
    packet = SSHPacket(data)
    packet.get_string()
    packet.get_string()  # a nonce
    plain = kind.removesuffix(_CERTIFICATE) + (b"@openssh.com" if kind.startswith(b"sk-") else b"")
    if plain not in _KEY_FIELDS:
        message = "unknown type"
        raise ValueError(message)
    fields = [packet.get_string() for _ in range(_KEY_FIELDS[plain])]
    key = decode_ssh_public_key(b"".join(map(String, (plain, *fields))))
    serial, purpose = packet.get_uint64(), packet.get_uint32()
    key_id = packet.get_string().decode("utf-8")
    principals = _strings(packet.get_string(), _PRINCIPALS_LIMIT)
    valid_from_s, valid_until_s = packet.get_uint64(), packet.get_uint64()
    options = _strings(packet.get_string(), 2 * _OPTIONS_LIMIT)
    packet.get_string()  # extensions: what they would allow is never offered here
    packet.get_string()  # reserved
    authority = decode_ssh_public_key(packet.get_string())
    voucher = Voucher(authority, packet.get_consumed_payload(), packet.get_string())
    packet.check_end()
    certificate = Certificate(
        authority=key_line(authority),
        key_id=key_id,
        serial=serial,
        principals=tuple(one.decode("utf-8") for one in principals),
        valid_from_s=valid_from_s,
        valid_until_s=valid_until_s,
        is_users=purpose == _USERS,
        critical_options=tuple(
            (name.decode("utf-8"), _option_value(value))
            for name, value in zip(options[::2], options[1::2], strict=True)
        ),
    )
    return ShownKey(key, key_line(key), certificate, voucher)


def _strings(data: bytes, limit: int) -> list[bytes]:
    packet, found = SSHPacket(data), []
    while packet:
        found.append(packet.get_string())
        if len(found) > limit:
            message = "too many"
            raise ValueError(message)
    return found


def _option_value(data: bytes) -> str:
    """Return the text inside an option's data; a flag has none."""
    if not data:
        return ""
    packet = SSHPacket(data)
    value = packet.get_string()
    packet.check_end()
    return value.decode("utf-8")


def key_line(key: asyncssh.SSHKey) -> str:
    """Return a key as an OpenSSH line of type and base64, without its comment."""
    words = key.export_public_key("openssh").decode("ascii").split()
    return " ".join(words[:2])


def algorithm_of(signature: bytes) -> str:
    """Return the algorithm that a signature names; empty when it names none."""
    try:
        return SSHPacket(signature).get_string().decode("ascii", "replace")
    except PacketDecodeError:
        return ""


def user_verified(signature: bytes) -> bool:
    """Return whether a security key says that it knew its user (PROTOCOL.u2f), as by a PIN.

    Only of a signature that is proven: the flag is among what is signed.
    """
    packet = SSHPacket(signature)
    try:
        if not packet.get_string().startswith(b"sk-"):
            return False
        packet.get_string()
        return bool(packet.get_byte() & _USER_VERIFIED)
    except PacketDecodeError:
        return False

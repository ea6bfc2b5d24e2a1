"""SSH keys and certificates: whether one that its holder has proven is somebody's.

Pure. Reading keys off the wire and verifying signatures is the SFTP front end's part. Imports the
shared model and the spelling of names.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from auth.directory import VERIFY_REQUIRED, fold
from gateway.model import SECOND_US, Attempt, Certificate

KEY_TYPES = (
    "ssh-ed25519",
    "sk-ssh-ed25519@openssh.com",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "ssh-rsa",
)
"""The types of keys that prove anything here."""

UNKNOWN_AUTHORITY = "certificate-authority-unknown"
NOT_A_USERS = "certificate-not-a-users"
WRONG_PRINCIPAL = "certificate-principal"
NOT_YET_VALID = "certificate-not-yet-valid"
EXPIRED = "certificate-expired"
WRONG_ADDRESS = "certificate-address"
UNKNOWN_OPTION = "certificate-option"
REVOKED = "certificate-revoked"
OUTSIDE_GROUPS = "certificate-groups"
USER_NOT_VERIFIED = "user-not-verified"

_KEY_ID_LIMIT_CHARS = 256


@dataclass(frozen=True, slots=True)
class Authority:
    """An authority that certifies users' keys.

    ``key`` is its public key as ``"type base64"``. Only members of one of ``groups`` come in by
    its certificates; of any group when there are none named.
    """

    name: str
    key: str
    groups: frozenset[str] = frozenset()
    revoked_serials: frozenset[int] = frozenset()
    revoked_key_ids: frozenset[str] = frozenset()


def is_listed(lines: Collection[str], ssh_key: str) -> bool:
    """Return whether the key is among ``lines``, with whatever it demands."""
    return ssh_key in lines or VERIFY_REQUIRED + ssh_key in lines


def verification_missing(lines: Collection[str], attempt: Attempt) -> bool:
    """Return whether one of ``lines`` wants the user verified (a PIN) and the key did not do so."""
    return VERIFY_REQUIRED + attempt.ssh_key in lines and not attempt.user_verified


def authority_of(authorities: Collection[Authority], certificate: Certificate) -> Authority | None:
    """Return the authority that signed the certificate; None: it is none of ours."""
    found = [one for one in authorities if one.key == certificate.authority]
    return found[0] if found else None


def refusal(
    certificate: Certificate,
    authority: Authority | None,
    attempt: Attempt,
    *,
    name: str,
    groups: Collection[str],
    now_us: int,
) -> str:
    """Return ``""`` when the certificate vouches for ``name``, else the reason why it does not.

    ``name`` is the account's own name and ``groups`` are its groups in the policy. The rules are
    those of OpenSSH's PROTOCOL.certkeys, except that an empty list of principals is nobody.
    """
    now_s = now_us // SECOND_US
    if authority is None:
        return UNKNOWN_AUTHORITY
    if not certificate.is_users:
        return NOT_A_USERS
    if (
        certificate.serial in authority.revoked_serials
        or certificate.key_id in authority.revoked_key_ids
    ):
        return REVOKED
    if now_s < certificate.valid_from_s:
        return NOT_YET_VALID
    if now_s >= certificate.valid_until_s:
        return EXPIRED
    if fold(name) not in map(fold, certificate.principals):
        return WRONG_PRINCIPAL
    if authority.groups and authority.groups.isdisjoint(groups):
        return OUTSIDE_GROUPS
    return _option_refusal(certificate, attempt)


def _option_refusal(certificate: Certificate, attempt: Attempt) -> str:
    for option, value in certificate.critical_options:
        if option == "source-address":
            if not _within(attempt.client.address, value):
                return WRONG_ADDRESS
        elif option == "verify-required":
            if not attempt.user_verified:
                return USER_NOT_VERIFIED
        else:
            # Whatever it narrows (force-command: what runs) is not known here.
            return UNKNOWN_OPTION
    return ""


def described(certificate: Certificate, authority: Authority | None) -> str:
    """Return what an audit record says of a certificate."""
    name = "an unknown authority" if authority is None else f"authority {authority.name}"
    key_id = certificate.key_id[:_KEY_ID_LIMIT_CHARS]
    return f"certificate {key_id!r} serial {certificate.serial} of {name}"


def _within(address: str, networks: str) -> bool:
    """Return whether ``address`` lies in a comma-separated list; nothing lies in a wrong one."""
    try:
        known = _plain(address)
        return any(
            known in ip_network(network.strip(), strict=False) for network in networks.split(",")
        )
    except ValueError:
        return False


def _plain(address: str) -> IPv4Address | IPv6Address:
    parsed = ip_address(address.partition("%")[0])
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return mapped or parsed

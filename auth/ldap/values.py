"""LDAP values: escaping what goes into filters, reading what comes out of entries. Pure."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

from auth.errors import DirectoryConfigError


def escaped(value: str | bytes) -> str:
    """Return ``value`` fit to stand in a filter, so that nothing in it can end or widen it.

    Every octet that is no plain ASCII letter or digit is written in hex (RFC 4515 section 3).
    """
    data = value.encode("utf-8") if isinstance(value, str) else value
    return "".join(
        chr(octet) if octet < 128 and chr(octet).isalnum() else f"\\{octet:02x}" for octet in data
    )


def number_of(text: str) -> int:
    """Return the whole number that ``text`` writes; -1 when it writes none."""
    try:
        return int(text)
    except ValueError:
        return -1  # every bit set: a value that cannot be read disables


_FILETIME_EPOCH_S = 11_644_473_600
_FILETIME_NEVER = frozenset({0, 0x7FFFFFFFFFFFFFFF})


def moment_of(text: str) -> float:
    """Return the Unix time of an LDAP generalised time or a Windows file time (100 ns ticks).

    A text that is neither is the beginning of time, so that what cannot be read has expired.
    """
    try:
        if text.endswith("Z"):
            moment = datetime.strptime(text[:14], "%Y%m%d%H%M%S").replace(tzinfo=UTC)
            return moment.timestamp()
        ticks = int(text)
    except ValueError:
        return 0.0
    return float("inf") if ticks in _FILETIME_NEVER else ticks / 10_000_000 - _FILETIME_EPOCH_S


def is_guid(attribute: str) -> bool:
    """Return whether the attribute holds sixteen bytes instead of text."""
    return attribute.lower() == "objectguid"


def id_text(attribute: str, values: list[bytes]) -> str:
    """Return an entry's immutable id as text; DirectoryConfigError when it has no single one."""
    if len(values) == 1 and 0 < len(values[0]) <= 128:
        if not is_guid(attribute):
            text = values[0].decode("utf-8", "replace").lower()
            if text.isascii() and text.isprintable():
                return text
        elif len(values[0]) == 16:
            # Active Directory stores the first three fields little-endian (MS-DTYP 2.3.4).
            return str(uuid.UUID(bytes_le=values[0]))
    raise DirectoryConfigError(
        "An entry has no usable immutable id; mend id_attribute, or let bind_dn read it."
    )


def id_assertion(attribute: str, principal_id: str) -> str:
    """Return the escaped id; raises ValueError for one this directory cannot have given."""
    if is_guid(attribute):
        return escaped(uuid.UUID(principal_id).bytes_le)
    if attribute.lower() == "entryuuid":
        uuid.UUID(principal_id)
    return escaped(principal_id)

"""Scalars of the configuration that are more than text: sizes, durations, networks, hours, names.

Each parser takes text and returns the value or raises ``wrong(...)`` with what would be right.
Imports pydantic's error, the layers below for their own parsers, and ``gateway.config.problems``.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from ipaddress import ip_address, ip_network
from pathlib import Path
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic_core import PydanticCustomError

from auth.directory import (
    VERIFY_REQUIRED,
    MembershipKind,
    acceptable_name,
    membership,
    normal_dn,
    ssh_key,
)
from auth.errors import DirectoryConfigError
from auth.hours import DAY_MINUTES, DAYS_PER_WEEK, Hours
from auth.pattern import Pattern
from auth.policy import Network
from auth.ssh_key import KEY_TYPES
from gateway.config.problems import did_you_mean, shortened
from gateway.errors import InvalidPathError
from gateway.paths import check_name
from gateway.sftp.algorithms import WEAKER, never_because

ALL = "all"
"""The word that stands for every action in ``allow`` and ``deny``."""

LEGACY_WORD = "legacy"
"""The word that stands for all algorithms of a legacy listener."""

NAME_LIMIT_CHARS = 64
"""The longest name of a share, group or exception."""

_SIZE = re.compile(r"(\d{1,15})\s*(B|[KMGTP]i?B)?")
_SIZE_UNITS: dict[str, int] = {
    prefix + infix + "B": base**power
    for infix, base in (("", 1000), ("i", 1024))
    for power, prefix in enumerate("KMGTP", start=1)
} | {"B": 1}
_DURATION = re.compile(r"(\d{1,9})\s*([smhdw])")
_DURATION_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_HOURS = re.compile(r"(\S+) (\d\d):(\d\d)-(\d\d):(\d\d) (\S+)")
_HOURS_REMEDY = "Write days, times and time zone, as in 'Mon-Fri 06:00-20:00 Europe/Berlin'."
_WINDOWS_RESERVED = '<>:"|?*'


def wrong(message: str, remedy: str) -> PydanticCustomError:
    """Return the error of a value that is not what its key needs."""
    # The message goes in as data, because pydantic reads braces in a template as fields.
    return PydanticCustomError("sealgate", "{message}", {"message": message, "remedy": remedy})


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A numeric address and TCP port to listen on. ``host`` of IPv6 stands without brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_size(text: str) -> int:
    """Return the bytes that a size such as ``500GiB`` or ``10 MB`` names."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise wrong(f"{shortened(text)} is not a size.", "Write one like '500GiB' or '10 MB'.")
    return int(match[1]) * _SIZE_UNITS[match[2] or "B"]


def parse_duration(text: str) -> int:
    """Return the seconds that a duration such as ``30s``, ``10m``, ``12h`` or ``90d`` names."""
    match = _DURATION.fullmatch(text)
    if match is None:
        remedy = "Write a whole number and a unit: '30s', '10m', '12h', '90d' or '2w'."
        raise wrong(f"{shortened(text)} is not a duration.", remedy)
    return int(match[1]) * _DURATION_UNITS_S[match[2]]


def parse_whole(text: str) -> int:
    """Return the whole number that ``text`` writes in decimal digits."""
    if not (text.isascii() and text.isdigit() and len(text) <= 20):
        raise wrong(f"{shortened(text)} is not a whole number.", "Write digits only, as in '30'.")
    return int(text)


def parse_flag(text: str) -> bool:
    """Return the truth value that ``true`` or ``false`` names."""
    if text not in {"true", "false"}:
        raise wrong(f"{shortened(text)} is neither true nor false.", "Write 'true' or 'false'.")
    return text == "true"


def parse_endpoint(text: str) -> Endpoint:
    """Return the endpoint that ``0.0.0.0:8443`` or ``[::]:8443`` names."""
    host, colon, port = text.rpartition(":")
    remedy = "Write a numeric address and a port: '0.0.0.0:8443' or '[::]:8443'."
    bracketed = host.startswith("[") and host.endswith("]")
    try:
        address = ip_address(host[1:-1] if bracketed else host)
    except ValueError:
        raise wrong(f"{shortened(text)} is not an address to listen on.", remedy) from None
    if not colon or bracketed != (address.version == 6):
        raise wrong(f"{shortened(text)} is not an address to listen on.", remedy)
    number = parse_whole(port)
    if not 1 <= number <= 65_535:
        raise wrong(f"{shortened(port)} is not a port.", "Ports run from 1 to 65535.")
    return Endpoint(str(address), number)


def parse_network(text: str) -> Network:
    """Return the network that an address or CIDR range names; no host bits may be set."""
    try:
        return ip_network(text)
    except ValueError:
        pass
    try:
        loose = ip_network(text, strict=False)
    except ValueError:
        remedy = "Write a range such as '10.0.0.0/8' or one address such as '192.0.2.7'."
        raise wrong(f"{shortened(text)} is not a network.", remedy) from None
    raise wrong(f"{shortened(text)} sets bits beyond its prefix.", f"Did you mean '{loose}'?")


def parse_hours(text: str) -> Hours:
    """Return the span that ``Mon-Fri 06:00-20:00 Europe/Berlin`` names; it may pass midnight."""
    match = _HOURS.fullmatch(text)
    if match is None:
        raise wrong(f"{shortened(text)} is not a span of hours.", _HOURS_REMEDY)
    days = frozenset(day for item in match[1].split(",") for day in _days(item))
    start, end = (_minute(match[place], match[place + 1]) for place in (2, 4))
    if start in {end, DAY_MINUTES}:
        raise wrong("the span ends when it begins.", "A whole day is '00:00-24:00'.")
    return Hours(days, start, end, _zone(match[6]))


def _days(item: str) -> Iterable[int]:
    first, dash, last = item.partition("-")
    places: list[int] = []
    for day in (first, last) if dash else (first,):
        if day not in _DAYS:
            raise wrong(f"{shortened(day)} is not a day.", did_you_mean(day, _DAYS))
        places.append(_DAYS.index(day))
    span = (places[-1] - places[0]) % DAYS_PER_WEEK
    return ((places[0] + offset) % DAYS_PER_WEEK for offset in range(span + 1))


def _minute(hour: str, minute: str) -> int:
    total = int(hour) * 60 + int(minute)
    if int(minute) > 59 or total > DAY_MINUTES:
        raise wrong(f"{hour}:{minute} is not a time of day.", "Times run from 00:00 to 24:00.")
    return total


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        remedy = "Write one such as 'Europe/Berlin' or 'UTC'."
        raise wrong(f"{shortened(name)} is not a time zone known here.", remedy) from None


def parse_share_name(text: str) -> str:
    """Return the name of a share: one part of a path that every client's system can show."""
    try:
        name = check_name(text)
    except InvalidPathError as error:
        raise wrong(f"{shortened(text)} cannot name a share: {error}", "Choose another.") from None
    hidden = any(unicodedata.category(character)[0] == "C" for character in name)
    reserved = sorted(set(name) & set(_WINDOWS_RESERVED))
    if hidden or reserved or name != name.strip() or name[0] == "." or name[-1] == ".":
        remedy = f"Leave out control characters, {_WINDOWS_RESERVED}, and dots or spaces at an end."
        raise wrong(f"{shortened(text)} cannot name a share.", remedy)
    if len(name) > NAME_LIMIT_CHARS:
        raise wrong("the name is too long.", f"Use at most {NAME_LIMIT_CHARS} characters.")
    return name


def parse_group_name(text: str) -> str:
    """Return the name of a group of the policy: letters, digits, ``-`` and ``_``."""
    return _plain_name(text, "a group")


def parse_exception_name(text: str) -> str:
    """Return the name of an exception: letters, digits, ``-`` and ``_``."""
    return _plain_name(text, "an exception")


def _plain_name(text: str, what: str) -> str:
    plain = all(character.isalnum() or character in "-_" for character in text)
    if not (text and plain and text[0].isalnum() and len(text) <= NAME_LIMIT_CHARS):
        remedy = f"Use letters, digits, '-' and '_', at most {NAME_LIMIT_CHARS} in all."
        raise wrong(f"{shortened(text)} cannot name {what}.", remedy)
    return unicodedata.normalize("NFC", text)


def parse_weaker(text: str) -> str:
    """Return ``legacy`` or the name of an SSH algorithm that an exception may open."""
    known = (LEGACY_WORD, *sorted(WEAKER.names))
    why = never_because(text)
    if why:
        raise wrong(
            f"{shortened(text)} is never offered: {why}.", f"Known here: {', '.join(known)}."
        )
    return one_of(*known)(text)


def parse_day(text: str) -> date:
    """Return the day that ``2027-06-30`` names."""
    try:
        if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
            return date.fromisoformat(text)
    except ValueError:
        pass
    raise wrong(f"{shortened(text)} is not a day.", "Write year, month and day: '2027-06-30'.")


def parse_pattern(text: str) -> str:
    """Return ``text`` when it is a path pattern of the policy."""
    try:
        Pattern.parse(text)
    except InvalidPathError as error:
        remedy = "Write one such as '/2019/**' or '/*/reports/*.pdf', without a slash at its end."
        raise wrong(f"{shortened(text)} is not a path pattern: {error}", remedy) from None
    return text


def parse_file_path(text: str, base: Path) -> Path:
    """Return the path that ``text`` names, taken from the folder ``base`` when it is relative."""
    if not text or "\0" in text:
        raise wrong("is not a path.", "Write the path of a file.")
    return Path(os.path.normpath(base / text))


def parse_public_url(text: str) -> str:
    """Return an https address without path, query or credentials, its trailing slash dropped."""
    remedy = "Write it as clients do: 'https://files.example.org' (a port may follow)."
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise wrong(f"{shortened(text)} is not a URL.", remedy) from None
    plain = parts.scheme == "https" and parts.hostname and parts.path in {"", "/"}
    if not plain or parts.username is not None or parts.query or parts.fragment or port == 0:
        raise wrong(f"{shortened(text)} is not the URL of a server.", remedy)
    return text.removesuffix("/")


def parse_ldap_server(text: str) -> str:
    """Return the URL of an LDAP server: a scheme, a host and perhaps a port, nothing else."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), 0
    if parts.scheme not in {"ldap", "ldaps"} or not parts.hostname or port == 0:
        remedy = "Write one like 'ldaps://ldap.example.org' (a port may follow)."
        raise wrong(f"{shortened(text)} is not the address of an LDAP server.", remedy)
    if parts.path not in {"", "/"} or "@" in text or parts.query or parts.fragment:
        raise wrong(f"{shortened(text)} holds more than host and port.", "Leave out the rest.")
    return text.removesuffix("/")


def parse_dn(text: str) -> str:
    """Return ``text`` when it is a distinguished name."""
    try:
        normal_dn(text)
    except DirectoryConfigError:
        remedy = "Write one like 'ou=people,dc=example,dc=org'."
        raise wrong(f"{shortened(text)} is not a distinguished name.", remedy) from None
    return text


def one_of(*choices: str) -> Callable[[str], str]:
    """Return a parser that takes one of ``choices`` and suggests the nearest for anything else."""

    def parse(text: str) -> str:
        if text not in choices:
            raise wrong(f"{shortened(text)} is not known here.", did_you_mean(text, choices))
        return text

    return parse


def parse_membership(kind: MembershipKind) -> Callable[[str], str]:
    """Return a parser that takes a membership's name as written, when the directory could have it."""

    def parse(text: str) -> str:
        try:
            membership(kind, text)
        except DirectoryConfigError as error:
            raise wrong(f"{shortened(text)} names nobody.", str(error)) from None
        return text

    return parse


def parse_login_name(text: str) -> str:
    """Return ``text`` when somebody could log in by it."""
    if not acceptable_name(text):
        raise wrong(f"{shortened(text)} is no login name.", "Write one as users type it.")
    return text


def parse_ssh_key(text: str) -> str:
    """Return a public key line without its comment, see ``auth.directory.ssh_key``."""
    found = ssh_key(text)
    kind = "" if found is None else found.removeprefix(VERIFY_REQUIRED).partition(" ")[0]
    if kind in KEY_TYPES and found is not None:
        return found
    remedy = "Write the line of a .pub file, as in 'ssh-ed25519 AAAA...'."
    if "PRIVATE KEY" in text:
        # Not quoted, for the obvious reason.
        raise wrong("is a private key, which belongs to its user alone.", remedy)
    if kind.endswith("-cert-v01@openssh.com"):
        raise wrong("is a certificate.", "Name its authority under 'user_cas'.")
    if kind:
        raise wrong(f"{shortened(kind)} keys are not accepted.", f"Use {', '.join(KEY_TYPES)}.")
    hint = "Of a key's options 'verify-required' alone may narrow it, for security keys."
    raise wrong(f"{shortened(text)} is no public SSH key.", f"{remedy} {hint}")


def parse_authority_key(text: str) -> str:
    """Return the public key line of an authority."""
    found = parse_ssh_key(text)
    if found.startswith(VERIFY_REQUIRED):
        raise wrong("has an option before the key.", "Write the key alone.")
    return found

"""What an LDAP directory is told at start, and what is wrong with it.

Records and checks; no connection. Imports ldap3's parser of filters and ``auth.errors``.
"""

from __future__ import annotations

import enum
import re
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field

from ldap3.core.exceptions import LDAPException
from ldap3.operation.search import parse_filter

from auth.directory import acceptable_password, normal_dn
from auth.errors import DirectoryConfigError


class GroupLookup(enum.StrEnum):
    """How the groups of an account are found."""

    SEARCH = "search"  # groups list their members; nested groups by searching upwards
    MEMBER_OF = "member_of"  # entries carry memberOf
    TOKEN_GROUPS = "token_groups"  # noqa: S105  Active Directory's closure, nested ones included


@dataclass(frozen=True, slots=True)
class LdapSettings:
    """How to reach and read the directory.

    ``servers`` are tried in order: ``ldaps://host[:port]``, or ``ldap://host[:port]`` together
    with ``start_tls``. ``ca_file`` empty: the system's authorities. ``bind_dn`` empty: search
    anonymously. ``user_filter`` holds ``{name}``, ``group_filter`` holds ``{dn}``; both are
    replaced by the escaped value.

    An account is disabled when ``disabled_attribute`` has one of ``disabled_values``, or any bit
    of ``disabled_bits``, or (neither given) any value at all; or when ``expiry_attribute`` lies in
    the past. OpenLDAP's password policy: ``pwdAccountLockedTime`` with the value
    ``000001010000Z`` (other values are temporary and the server enforces them itself). Active
    Directory: ``userAccountControl`` with bit 2, and ``accountExpires``.

    Worst case for one answer: for each server ``connect_timeout_s`` for each of its addresses,
    and ``receive_timeout_s`` each for the handshake, the bind and each search.
    """

    servers: tuple[str, ...]
    base_dn: str
    bind_dn: str = ""
    bind_password: str = field(default="", repr=False)
    start_tls: bool = False
    ca_file: str = ""
    domain: str = ""
    user_filter: str = "(uid={name})"
    group_base_dn: str = ""
    group_filter: str = "(member={dn})"
    group_lookup: GroupLookup = GroupLookup.SEARCH
    nested_groups: bool = True
    id_attribute: str = "entryUUID"
    name_attribute: str = "uid"
    display_attribute: str = "cn"
    ssh_key_attribute: str = "sshPublicKey"
    disabled_attribute: str = ""
    disabled_bits: int = 0
    disabled_values: tuple[str, ...] = ()
    expiry_attribute: str = ""
    connect_timeout_s: int = 3
    receive_timeout_s: int = 5


@dataclass(frozen=True, slots=True)
class Server:
    """One server: its URL as given, and how it is reached."""

    url: str
    host: str
    port: int
    tls_at_once: bool


def checked_servers(settings: LdapSettings) -> tuple[Server, ...]:
    """Return the servers; raises DirectoryConfigError naming the first setting that cannot work."""
    problems = _problems(settings)
    first = next(problems, None)
    if first is not None:
        raise DirectoryConfigError(first)
    return tuple(_server(url, start_tls=settings.start_tls) for url in settings.servers)


def _problems(settings: LdapSettings) -> Iterator[str]:
    if not settings.servers:
        yield "The directory has no servers; name at least one ldaps:// URL."
    if settings.bind_dn and not acceptable_password(settings.bind_password):
        yield "bind_password is blank or too long; a blank one would bind as nobody."
    limits = (settings.connect_timeout_s, settings.receive_timeout_s)
    if not all(type(limit) is int and 1 <= limit <= 60 for limit in limits):
        yield "connect_timeout_s and receive_timeout_s must be whole seconds from 1 to 60."
    for key in ("base_dn", "bind_dn", "group_base_dn"):
        # Active Directory also takes user@domain and DOMAIN\user as the name to bind with.
        exempt = key == "bind_dn" and re.search(r"[@\\]", settings.bind_dn)
        if (getattr(settings, key) or key == "base_dn") and not exempt:
            try:
                normal_dn(getattr(settings, key))
            except DirectoryConfigError:
                yield f"{key} is not a DN; write it like ou=people,dc=example,dc=org."
    for key in ("id_attribute", "name_attribute"):
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]*", getattr(settings, key)):
            yield f"{key} is not the name of an attribute."
    yield from _filter_problems("user_filter", settings.user_filter, "{name}")
    yield from _filter_problems("group_filter", settings.group_filter, "{dn}")


def _filter_problems(key: str, text: str, placeholder: str) -> Iterator[str]:
    # Other comparisons would not turn into a test for presence when the name becomes a star.
    if placeholder not in text or re.search(r"[:~<>]=\s*\{", text):
        yield f"{key} must compare {placeholder} with a plain =, like (uid={{name}})."
    try:
        parse_filter(  # type: ignore[no-untyped-call]  # the stub leaves it bare
            text.replace(placeholder, "x"),
            None,
            auto_escape=False,
            auto_encode=False,
            validator=None,
            check_names=False,
        )
    except LDAPException:
        yield f"{key} is not an LDAP filter (RFC 4515); check its parentheses."


def _server(url: str, *, start_tls: bool) -> Server:
    try:
        parts = urllib.parse.urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        parts, host, port = urllib.parse.urlsplit(""), None, None
    if parts.scheme not in {"ldap", "ldaps"} or not host or parts.path.strip("/") or "@" in url:
        raise DirectoryConfigError(
            "An entry of servers is not an address; write it like ldaps://ldap.example.org:636."
        )
    tls_at_once = parts.scheme == "ldaps"
    if not tls_at_once and not start_tls:
        raise DirectoryConfigError(
            "An entry of servers is ldap:// without start_tls, which would send passwords in the"
            " clear; use ldaps:// or set start_tls."
        )
    return Server(url, host, port or (636 if tls_at_once else 389), tls_at_once)

"""What two values of the configuration break together, and what is allowed but looks unmeant.

Pure: looks at models, never at files. Imports the models and the layers below for their rules.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from auth.pattern import ANY_DEPTH
from gateway.config.directory import DirectoryConfig
from gateway.config.exceptions import over, too_much
from gateway.config.logins import login_findings, login_warnings
from gateway.config.problems import Finding, Keys, Problem, did_you_mean, written
from gateway.config.scalars import ALL, Endpoint
from gateway.config.schema import (
    AuditConfig,
    GatewayConfig,
    GroupConfig,
    KeysConfig,
    RightsConfig,
    ServerConfig,
    UserCaConfig,
)
from gateway.config.storage import StorageConfig
from gateway.model import Clock, Wire, system_clock


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a configuration that are valid by themselves; None where one is not.

    ``share_names`` and ``group_names`` are all names written under ``shares`` and ``groups``, so
    that a fault inside one does not make it unknown to others.
    """

    server: ServerConfig | None
    storage: StorageConfig | None
    keys: KeysConfig | None
    directory: DirectoryConfig | None
    audit: AuditConfig | None
    share_names: tuple[str, ...]
    groups: dict[str, GroupConfig]
    group_names: tuple[str, ...]
    user_cas: dict[str, UserCaConfig]


def cross_check(parts: Parts, now_us: int) -> Iterator[Finding]:
    """Yield everything that values which are fine by themselves break together."""
    yield from _listening(parts)
    if parts.server is not None and parts.server.sftp is not None:
        yield from too_much(parts.server.sftp, now_us)
    yield from _outside_the_data(parts)
    yield from _shares_apart(parts)
    for name, group in parts.groups.items():
        keys: Keys = ("groups", name)
        yield from _members(keys, group, parts.directory)
        yield from _limits(keys, group)
        yield from _grants(keys, group, parts.share_names)
    yield from login_findings(parts.groups, parts.user_cas, parts.group_names)


def warnings(config: GatewayConfig, *, clock: Clock = system_clock) -> tuple[Problem, ...]:
    """Return what is allowed but looks unmeant, in order of line; for ``check-config`` to print."""
    findings = itertools.chain(
        _trusting(config),
        over(config.server.sftp, clock()) if config.server.sftp is not None else (),
        _unused(config),
        _patterns(config),
        login_warnings(config.groups),
    )
    found = [config.place(finding) for finding in findings]
    return tuple(sorted(found, key=lambda it: (it.line, it.column)))


def _listening(parts: Parts) -> Iterator[Finding]:
    server = parts.server
    if server is None:
        return
    webdav, sftp = server.webdav, server.sftp
    legacy = sftp.legacy if sftp is not None else None
    doors: tuple[tuple[Keys, tuple[Endpoint, ...]], ...] = (
        (("webdav",), webdav.listen if webdav is not None else ()),
        (("sftp",), sftp.addresses if sftp is not None else ()),
        (("sftp", "legacy"), legacy.listen if legacy is not None else ()),
    )
    taken: list[tuple[Endpoint, str]] = []
    for door, endpoints in doors:
        place = written(("server", *door))
        for endpoint in endpoints:
            for other, other_place in taken:
                if _clash(endpoint, other):
                    message = f"{endpoint} is taken by {other} of {other_place}."
                    yield Finding(("server", *door, "listen"), message, "Choose another port.")
            taken.append((endpoint, place))


def _clash(one: Endpoint, other: Endpoint) -> bool:
    same_family = (":" in one.host) == (":" in other.host)
    wildcard = {"0.0.0.0", "::"} & {one.host, other.host}  # noqa: S104  compared, not bound
    return one.port == other.port and same_family and (one.host == other.host or bool(wildcard))


def _outside_the_data(parts: Parts) -> Iterator[Finding]:
    if parts.storage is None:
        return
    data_dir = parts.storage.data_dir
    key_file = parts.keys.master_key.file if parts.keys is not None else None
    if key_file is not None and key_file.is_relative_to(data_dir):
        yield master_key_inside_data()
    anchor = parts.audit.anchor if parts.audit is not None else None
    if anchor is not None and anchor.is_relative_to(data_dir):
        yield anchor_inside_data()


def master_key_inside_data() -> Finding:
    """Return the finding that whoever takes the data folder takes its key along."""
    return Finding(
        ("keys", "master_key", "file"),
        "lies inside storage.data_dir, so a copy of the data would hold its own key.",
        "Keep the key in another folder, such as /etc/sealgate.",
    )


def anchor_inside_data() -> Finding:
    """Return the finding that the anchor would be rolled back with what it should vouch for."""
    return Finding(
        ("audit", "anchor"),
        "lies inside storage.data_dir, so it would be rolled back together with the data.",
        "Keep it in another folder, best on another machine.",
    )


def _shares_apart(parts: Parts) -> Iterator[Finding]:
    seen: dict[str, str] = {}
    for name in parts.share_names:
        first = seen.setdefault(name.casefold(), name)
        if first != name:
            message = f"differs from the share '{first}' by case alone."
            remedy = "Choose a name that Windows and macOS can tell apart."
            yield Finding(("shares", name), message, remedy, at_key=True)


def _members(
    keys: Keys, group: GroupConfig, directory: DirectoryConfig | None
) -> Iterator[Finding]:
    if directory is None:
        return
    given = (
        ("ldap", group.members.ldap, directory.ldap),
        ("file", group.members.file, directory.file),
    )
    for kind, members, driver in given:
        if members and driver is None:
            message = f"names {kind} groups, but 'directory' is not '{kind}'."
            remedy = "Name groups of the directory in use, or users."
            yield Finding((*keys, "members", kind), message, remedy, at_key=True)


def _limits(keys: Keys, group: GroupConfig) -> Iterator[Finding]:
    if group.idle_timeout_s > group.session_timeout_s:
        place = "idle_timeout" if "idle_timeout_s" in group.model_fields_set else "session_timeout"
        yield Finding(
            (*keys, place),
            f"the idle timeout ({group.idle_timeout_s} s) is longer than the session timeout"
            f" ({group.session_timeout_s} s).",
            "Make idle_timeout the shorter one.",
        )
    if not group.is_service:
        return
    if group.networks is None:
        yield Finding(
            (*keys, "second_factor"),
            "a group without a second factor needs 'networks'.",
            "Name the addresses of its machines, as in 'networks: [192.0.2.7]'.",
        )
    elif any(network.prefixlen == 0 for network in group.networks):
        message = "a group without a second factor cannot be open to every address."
        yield Finding((*keys, "networks"), message, "Name the addresses of its machines.")
    if group.protocols is not None and Wire.WEBDAV in group.protocols:
        yield Finding(
            (*keys, "protocols"),
            "a group without a second factor logs in by SSH key, which WebDAV does not have.",
            "Write 'protocols: [sftp]', or leave it out.",
        )


def _grants(keys: Keys, group: GroupConfig, share_names: tuple[str, ...]) -> Iterator[Finding]:
    for share, grant in group.shares.items():
        place = (*keys, "shares", share)
        if share not in share_names:
            remedy = did_you_mean(share, share_names)
            yield Finding(place, "there is no such share.", remedy, at_key=True)
        if not grant.paths:
            yield from _some_right(place, grant)
        yield from _contradictions(place, grant)
        for pattern, rule in grant.paths.items():
            yield from _some_right((*place, "paths", pattern), rule)
            yield from _contradictions((*place, "paths", pattern), rule)


def _some_right(keys: Keys, rights: RightsConfig) -> Iterator[Finding]:
    if not rights.allow and not rights.deny:
        yield Finding(
            keys, "neither allows nor denies anything.", "Add 'allow' or 'deny'.", at_key=True
        )


def _contradictions(keys: Keys, rights: RightsConfig) -> Iterator[Finding]:
    both = sorted(set(rights.allow) & set(rights.deny))
    if both:
        message = f"denies what 'allow' beside it allows: {', '.join(both)}."
        yield Finding((*keys, "deny"), message, "Keep each action in one of the two.")
    elif ALL in rights.deny and rights.allow:
        message = "denies everything, so 'allow' beside it has no effect."
        yield Finding((*keys, "deny"), message, "Remove one of the two.")


def _trusting(config: GatewayConfig) -> Iterator[Finding]:
    database = config.storage.catalog
    if database is not None and not database.is_local and database.sslmode != "verify-full":
        message = f"'sslmode={database.sslmode}' does not make sure that the right server answers."
        remedy = "Write 'sslmode=verify-full', with 'catalog_ca_file'."
        yield Finding(("storage", "catalog"), message, remedy)


def _unused(config: GatewayConfig) -> Iterator[Finding]:
    named = {share for group in config.groups.values() for share in group.shares}
    for share in config.shares:
        if share not in named:
            message = "no group names this share, so nobody can reach it."
            yield Finding(("shares", share), message, "Name it in a group's 'shares'.", at_key=True)
    doors = {"webdav": config.server.webdav, "sftp": config.server.sftp}
    for name, group in config.groups.items():
        wires = group.protocols or (("sftp",) if group.is_service else tuple(doors))
        if all(doors[wire] is None for wire in wires):
            message = "holds over no protocol that 'server' opens, so it never applies."
            remedy = "Open that door under 'server', or change 'protocols'."
            yield Finding(("groups", name), message, remedy, at_key=True)


def _patterns(config: GatewayConfig) -> Iterator[Finding]:
    for name, group in config.groups.items():
        for share, grant in group.shares.items():
            for pattern, rule in grant.paths.items():
                keys = ("groups", name, "shares", share, "paths", pattern)
                last = pattern.rpartition("/")[2]
                deeper = pattern.rstrip("/") + "/" + ANY_DEPTH
                open_below = rule.deny and last != ANY_DEPTH and deeper not in grant.paths
                if open_below and "." not in last:
                    message = "denies on what it matches alone, not on what lies below it."
                    remedy = f"Write '{deeper}' when a whole folder is meant."
                    yield Finding(keys, message, remedy, at_key=True)
                if set(pattern) & set("?["):
                    message = "'?' and '[' stand for themselves in a path pattern."
                    remedy = "Use '*' when a wildcard is meant."
                    yield Finding(keys, message, remedy, at_key=True)

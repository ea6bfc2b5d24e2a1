"""What is wrong with how groups let their members in, as far as the file alone can tell.

Pure. Imports the models and the spelling of names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from auth.chain import OF_PEOPLE, Chain
from auth.directory import fold, membership
from gateway.config.problems import Finding, Keys, did_you_mean
from gateway.config.schema import GroupConfig, UserCaConfig
from gateway.model import Wire


def login_findings(
    groups: Mapping[str, GroupConfig],
    user_cas: Mapping[str, UserCaConfig],
    group_names: tuple[str, ...],
) -> Iterator[Finding]:
    """Yield what keeps members out, or would let them in by less than the group wants."""
    for name, group in groups.items():
        keys: Keys = ("groups", name)
        yield from _chains(keys, group)
        yield from _strangers(keys, group)
    yield from _nothing_in_common(groups)
    yield from _authorities(user_cas, group_names)


def login_warnings(groups: Mapping[str, GroupConfig]) -> Iterator[Finding]:
    """Yield what is allowed but looks unmeant."""
    for name, group in groups.items():
        over_sftp_alone = group.protocols is not None and Wire.WEBDAV not in group.protocols
        if group.sftp_logins == (Chain.KEY_LEASE.value,) and over_sftp_alone:
            message = "accepts leases alone, but no code can be given that opens one."
            remedy = f"Add '{Chain.KEY_TOTP}' or '{Chain.PASSWORD_TOTP}'."
            yield Finding(("groups", name, "sftp_logins"), message, remedy)


def _accepted(group: GroupConfig) -> frozenset[Chain]:
    return OF_PEOPLE if group.sftp_logins is None else frozenset(map(Chain, group.sftp_logins))


def _chains(keys: Keys, group: GroupConfig) -> Iterator[Finding]:
    if group.sftp_logins is None:
        return
    place = (*keys, "sftp_logins")
    named = _accepted(group)
    if group.is_service and named != {Chain.KEY}:
        message = "a group without a second factor logs in by SSH key alone."
        yield Finding(place, message, f"Write '{Chain.KEY}', or leave it out.")
    elif not group.is_service and Chain.KEY in named:
        remedy = (
            f"Write '{Chain.KEY_TOTP}' or '{Chain.KEY_LEASE}'; see 'second_factor' for machines."
        )
        yield Finding(place, "a key alone is no way in for people.", remedy)
    elif group.protocols is not None and Wire.SFTP not in group.protocols:
        message = "says how to log in over SFTP, which 'protocols' leaves out."
        yield Finding(place, message, "Remove it, or add sftp to 'protocols'.")


def _strangers(keys: Keys, group: GroupConfig) -> Iterator[Finding]:
    """Yield the keys of users who are certainly no members."""
    seen: dict[str, str] = {}
    for user in group.ssh_keys:
        first = seen.setdefault(fold(user), user)
        if first != user:
            message = f"is the same login name as '{first}'."
            yield Finding((*keys, "ssh_keys", user), message, "Keep one of the two.", at_key=True)
    if group.members.ldap or group.members.file:
        return
    members = {fold(user) for user in group.members.users}
    for user in group.ssh_keys:
        if fold(user) not in members:
            message = "is not a member of the group, so these keys let nobody in."
            remedy = did_you_mean(user, group.members.users)
            yield Finding((*keys, "ssh_keys", user), message, remedy, at_key=True)


def _nothing_in_common(groups: Mapping[str, GroupConfig]) -> Iterator[Finding]:
    """Yield the groups that leave a member of both no way in over SFTP."""
    of_people = {name: group for name, group in groups.items() if not group.is_service}
    left: dict[str, tuple[frozenset[Chain], list[str]]] = {}
    for name, group in of_people.items():
        for member in sorted(_memberships(group)):
            chains, others = left.get(member, (frozenset(Chain), []))
            common = chains & _accepted(group)
            if not common and chains:
                message = (
                    f"has no way in common with '{', '.join(others)}', to which"
                    f" {member.partition(':')[2]!r} belongs too."
                )
                remedy = "Accept one of the same ways in both groups."
                yield Finding(("groups", name, "sftp_logins"), message, remedy)
                break
            left[member] = (common, [*others, name])


def _memberships(group: GroupConfig) -> set[str]:
    members = group.members
    return {
        *(membership("ldap", name) for name in members.ldap),
        *(membership("file", name) for name in members.file),
        *(membership("user", name) for name in members.users),
    }


def _authorities(
    user_cas: Mapping[str, UserCaConfig], group_names: tuple[str, ...]
) -> Iterator[Finding]:
    seen: dict[str, str] = {}
    for name, authority in user_cas.items():
        keys: Keys = ("user_cas", name)
        first = seen.setdefault(authority.key, name)
        if first != name:
            # Which of the two revokes and restricts would be a matter of chance.
            message = f"is the key of '{first}' too."
            yield Finding((*keys, "key"), message, "Name each authority once.")
        for group in authority.groups or ():
            if group not in group_names:
                remedy = did_you_mean(group, group_names)
                yield Finding((*keys, "groups"), f"there is no group '{group}'.", remedy)

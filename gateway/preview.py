"""What another configuration would change: for each group as written, for each user in effect.

Pure comparison of two policies; asks no directory. Imports the policy and the configuration.
"""

from __future__ import annotations

import calendar
import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from auth.hours import Hours
from auth.limits import lock_timeout_s
from auth.pattern import ANY_DEPTH
from auth.policy import Clause, Grant, Group, Policy, clauses, groups_of
from gateway.config.schema import ShareConfig
from gateway.model import Action, Principal
from gateway.paths import VirtualPath

ANY = "any name"
"""Stands for the names that no pattern spells out."""

KEY_END_CHARS = 12
"""How much of an SSH key is shown."""

_KEYS = {
    "wires": "protocols",
    "idle_timeout_s": "idle_timeout",
    "session_timeout_s": "session_timeout",
    "lock_timeout_s": "lock_timeout",
    "logins": "sftp_logins",
}
"""Fields of a group whose key in the file has another name."""

_WITHOUT = {"networks": "anywhere", "hours": "always", "scp": "says nothing"}
"""What a field means that holds nothing."""

_SETS = frozenset({"members", "wires", "logins"})
"""Fields of which each item more is something gained."""


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that would change: ``gained`` and ``lost``, or one text for another.

    ``place`` is a key of the configuration, or a user and where their rights change.
    """

    place: str
    key: str = ""
    gained: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    before: str = ""
    after: str = ""

    @property
    def is_one(self) -> bool:
        """Whether anything changes at all."""
        return bool(self.gained or self.lost or self.before != self.after)

    def __str__(self) -> str:
        place = " ".join(part for part in (self.place, self.key) if part)
        parts = []
        if self.gained:
            parts.append(f"gains {', '.join(self.gained)}")
        if self.lost:
            parts.append(f"loses {', '.join(self.lost)}")
        if self.before != self.after:
            parts.append(f"{self.before} -> {self.after}" if self.before else self.after)
        return f"{place}: {'; '.join(parts)}"


def group_changes(old: Policy, new: Policy) -> Iterator[Change]:
    """Yield what changes in the groups as they are written, in order of name."""
    before = {group.name: group for group in old.groups}
    after = {group.name: group for group in new.groups}
    for name in sorted({*before, *after}):
        one, other = before.get(name), after.get(name)
        if one is None and other is not None:
            yield Change(f"groups.{name}", after="is new")
            yield from _between(_bare(other), other)
        elif one is not None and other is None:
            yield Change(f"groups.{name}", after="is gone")
            yield from _between(one, _bare(one))
        elif one is not None and other is not None:
            yield from _between(one, other)


def authority_changes(old: Policy, new: Policy) -> Iterator[Change]:
    """Yield what changes in the authorities that certify users' keys, in order of name."""
    before = {each.name: each for each in old.authorities}
    after = {each.name: each for each in new.authorities}
    for name in sorted({*before, *after}):
        place = f"user_cas.{name}"
        one, other = before.get(name), after.get(name)
        if one is None or other is None:
            yield Change(place, after="is new" if one is None else "is gone")
            continue
        for field in dataclasses.fields(one):
            values = getattr(one, field.name), getattr(other, field.name)
            if isinstance(values[0], frozenset):
                change = _moved(place, field.name, *(map(_text, value) for value in values))
            else:
                change = Change(place, field.name, before=str(values[0]), after=str(values[1]))
            if change.is_one:
                yield change


def share_changes(
    old: Mapping[str, ShareConfig], new: Mapping[str, ShareConfig]
) -> Iterator[Change]:
    """Yield what changes in the shares themselves: their room, and how long they keep things."""
    for name in sorted({*old, *new}):
        place = f"shares.{name}"
        one, other = old.get(name), new.get(name)
        if one is None or other is None:
            yield Change(place, after="is new" if one is None else "is gone")
            continue
        texts = [
            {
                "quota": "none" if share.quota_bytes is None else f"{share.quota_bytes} bytes",
                "versions.keep": str(share.versions.keep),
                "versions.for": f"{share.versions.for_s} s",
                "trash": f"{share.trash_s} s",
            }
            for share in (one, other)
        ]
        for key, before in texts[0].items():
            if before != texts[1][key]:
                yield Change(place, key, before=before, after=texts[1][key])


def _bare(group: Group) -> Group:
    """Return the group with its limits and nobody and nothing in it."""
    return dataclasses.replace(group, members=frozenset(), grants=(), wires=frozenset())


def _between(old: Group, new: Group) -> Iterator[Change]:
    place = f"groups.{old.name}"
    for field in dataclasses.fields(Group):
        if field.name in {"name", "grants"}:
            continue
        one, other = getattr(old, field.name), getattr(new, field.name)
        key = _KEYS.get(field.name, field.name)
        if field.name == "ssh_keys":
            change = _moved(place, key, _keys(one), _keys(other))
        elif field.name in _SETS:
            change = _moved(place, key, map(_text, one), map(_text, other))
        else:
            texts = [_told(field.name, value) for value in (one, other)]
            change = Change(place, key, before=texts[0], after=texts[1])
        if change.is_one:
            yield change
    grants = [{grant.share: grant for grant in group.grants} for group in (old, new)]
    for share in sorted({*grants[0], *grants[1]}):
        none = Grant(share)
        yield from _of_grant(
            f"{place}.shares.{share}", grants[0].get(share, none), grants[1].get(share, none)
        )


def _of_grant(place: str, old: Grant, new: Grant) -> Iterator[Change]:
    parts: dict[str, tuple[Mapping[str, frozenset[Action]], Mapping[str, frozenset[Action]]]] = {}
    for key in ("allow", "deny"):
        rules = [
            {"": getattr(grant, key)}
            | {f".paths.{rule.pattern}": getattr(rule, key) for rule in grant.paths}
            for grant in (old, new)
        ]
        parts[key] = (rules[0], rules[1])
    for inner in sorted({name for pair in parts.values() for one in pair for name in one}):
        for key, (one, other) in parts.items():
            change = _moved(place + inner, key, one.get(inner, ()), other.get(inner, ()))
            if change.is_one:
                yield change


def _keys(listed: Iterable[tuple[str, tuple[str, ...]]]) -> Iterator[str]:
    """Yield each user's keys by the end of their lines, which is enough to know them again."""
    for user, lines in listed:
        yield from (f"{user} ...{line[-KEY_END_CHARS:]}" for line in lines)


def _moved(place: str, key: str, old: Iterable[str], new: Iterable[str]) -> Change:
    one, other = {str(each) for each in old}, {str(each) for each in new}
    return Change(place, key, tuple(sorted(other - one)), tuple(sorted(one - other)))


def _told(name: str, value: object) -> str:
    if value is None or value == ():
        return _WITHOUT.get(name, "none")
    if name == "second_factor":
        return "required" if value else "none"
    if name.endswith("_s"):
        return f"{value} s"
    if isinstance(value, tuple):
        return ", ".join(sorted(map(_text, value)))
    return _text(value)


def _text(value: object) -> str:
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, Hours):
        days = ",".join(calendar.day_abbr[day] for day in sorted(value.days))
        times = [
            f"{minute // 60:02}:{minute % 60:02}"
            for minute in (value.start_minute, value.end_minute)
        ]
        return f"{days} {times[0]}-{times[1]} {value.zone}"
    return str(value)


# Users, in effect


def user_changes(old: Policy, new: Policy, principal: Principal) -> Iterator[Change]:
    """Yield what changes for ``principal``, all of its groups together.

    Rights are compared as they are where and when the groups behind them apply; that a right
    comes to apply elsewhere or at another time is a change of its own.
    """
    name = principal.name
    groups = [groups_of(policy, principal) for policy in (old, new)]
    if not groups[0] and not groups[1]:
        return
    for there, other, word in ((groups[0], groups[1], "no"), (groups[1], groups[0], "some")):
        if there and not other:
            text = "can log in no more" if word == "no" else "can log in"
            yield Change(name, after=f"{text}: {word} group knows this user")
    moved = _moved(name, "groups", *([group.name for group in each] for each in groups))
    if moved.is_one:
        yield moved
    if groups[0] and groups[1]:
        yield from _limits(name, groups[0], groups[1])
        times = [lock_timeout_s(policy, principal) for policy in (old, new)]
        if times[0] != times[1]:
            yield Change(name, "lock_timeout", before=f"{times[0]} s", after=f"{times[1]} s")
    for share in sorted(
        {grant.share for each in groups for group in each for grant in group.grants}
    ):
        yield from _in_share(old, new, principal, share)


def _limits(name: str, old: tuple[Group, ...], new: tuple[Group, ...]) -> Iterator[Change]:
    for field in ("idle_timeout_s", "session_timeout_s"):
        one, other = (min(getattr(group, field) for group in groups) for groups in (old, new))
        if one != other:
            yield Change(name, _KEYS[field], before=f"{one} s", after=f"{other} s")
    factors = [any(group.second_factor for group in groups) for groups in (old, new)]
    if factors[0] != factors[1]:
        words = ["required" if each else "none" for each in factors]
        yield Change(name, "second_factor", before=words[0], after=words[1])


def _in_share(old: Policy, new: Policy, principal: Principal, share: str) -> Iterator[Change]:
    """Yield what changes in the share at large, then where patterns make another difference."""
    patterns = sorted(
        {
            rule.pattern
            for policy in (old, new)
            for group in groups_of(policy, principal)
            for grant in group.grants
            if grant.share == share
            for rule in grant.paths
        }
    )
    at_large: tuple[Change, ...] = ()
    for pattern in ("", *patterns):
        path = VirtualPath((share, *_example(pattern)))
        place = f"{principal.name}: {share} {pattern}".rstrip()
        found = tuple(_at(place, old, new, principal, path))
        told = tuple(dataclasses.replace(each, place="") for each in found)
        if not pattern:
            at_large = told
            yield from found
        elif told != at_large:
            yield from found or (Change(place, after="stays as it is"),)


def _example(pattern: str) -> tuple[str, ...]:
    """Return the parts of a path that ``pattern`` covers and spells out no more than it must."""
    parts = pattern.split("/")[1:] if pattern else [ANY_DEPTH]
    return tuple(ANY if part == ANY_DEPTH else part.replace("*", ANY) for part in parts)


def _at(
    place: str, old: Policy, new: Policy, principal: Principal, path: VirtualPath
) -> Iterator[Change]:
    one, other = (_rights(clauses(policy, principal, path)) for policy in (old, new))
    change = _moved(place, "", one, other)
    if change.is_one:
        yield change
    shifted = [action for action in one if action in other and one[action] != other[action]]
    if shifted:
        words = ", ".join(sorted(shifted))
        yield Change(place, words, after="from other networks, protocols or hours than before")


def _rights(found: list[Clause]) -> dict[str, frozenset[object]]:
    """Return the actions that the clauses allow together, each with where and when it holds."""
    denied = {action for clause in found for action in clause.deny}
    held: dict[str, set[object]] = {}
    for clause in found:
        group = clause.group
        holds = (group.wires, frozenset(group.networks), frozenset(group.hours))
        allowed = set(clause.allow)
        if Action.WRITE in allowed - denied:
            # Whoever may write a node may lock it, unless lock is denied.
            allowed.add(Action.LOCK)
        for action in allowed - denied:
            held.setdefault(action.value, set()).add(holds)
    return {action: frozenset(terms) for action, terms in held.items()}

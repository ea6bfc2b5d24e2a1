"""The directory driver for LDAP: finding accounts, verifying passwords, collecting groups.

Implements ``auth.directory.Directory``. Imports the other modules of this package.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
import uuid
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from typing import TypeVar

from auth.directory import (
    Account,
    Pace,
    acceptable_name,
    acceptable_password,
    membership,
    normal_dn,
    ssh_key,
    without_domain,
)
from auth.errors import DirectoryConfigError
from auth.ldap.failover import Links
from auth.ldap.link import (
    INVALID_CREDENTIALS,
    NO_OBJECT,
    REFERRAL,
    SIZE_LIMIT,
    SUCCESS,
    Entry,
    Scope,
)
from auth.ldap.settings import GroupLookup, LdapSettings, checked_servers
from auth.ldap.values import escaped, id_assertion, id_text, moment_of, number_of

log = logging.getLogger(__name__)

GROUPS_LIMIT = 4096
"""The most groups, nested ones counted, that an account may belong to."""

SSH_KEYS_LIMIT = 64
"""The most SSH keys that are read from one account."""

GROUP_CACHE_S = 60.0
"""How long the groups of a group are remembered."""

T = TypeVar("T")


class LdapDirectory:
    """Accounts in an LDAP directory, see ``auth.directory.Directory`` for the contract.

    A password is checked by binding as the entry that the service account found. Raises
    DirectoryConfigError when ``settings`` cannot work; servers are first asked when needed.
    """

    def __init__(
        self,
        settings: LdapSettings,
        *,
        wall_clock: Callable[[], float] = time.time,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._settings = settings
        self._wall_clock = wall_clock
        self._links = Links(settings, checked_servers(settings))
        self._parents = _Remembered(self._read_parents)
        self._token_names = _Remembered(self._read_token_group)
        limit_s = float(settings.receive_timeout_s)
        self._find_pace = Pace(limit_s, pause=pause)
        self._bind_pace = Pace(limit_s, pause=pause)

    def find(self, name: str) -> Account | None:
        """Return the one account that logs in as ``name``; see the contract."""
        bare = without_domain(name, self._settings.domain)
        if not acceptable_name(bare):
            return None
        started = self._find_pace.start()
        entry = self._one(self._settings.user_filter.replace("{name}", escaped(bare)))
        if entry is None:
            self._find_pace.unknown(started)
            return None
        account = self._account(entry)
        self._find_pace.known(started)
        return account

    def verify(self, account: Account | None, password: str) -> bool:
        """Return whether a bind as the account succeeds; see the contract."""
        if not acceptable_password(password):
            return False
        entry = self._by_id(account.id if account else str(uuid.uuid4()))
        started = self._bind_pace.start()
        dn = entry.dn if entry else f"cn={secrets.token_hex(8)},{self._settings.base_dn}"
        code = self._links.run(lambda link: link.bind(dn, password), bound=False)
        if entry is None:
            self._bind_pace.unknown(started)
            return False
        if code == INVALID_CREDENTIALS:
            self._bind_pace.known(started)
        return code == SUCCESS and self._enabled(entry)

    def refresh(self, principal_id: str) -> Account | None:
        """Return the account as it is now, None when it is gone; see the contract."""
        entry = self._by_id(principal_id)
        return self._account(entry) if entry else None

    def close(self) -> None:
        """Close the idle connections; the directory stays usable."""
        self._links.close()

    def _by_id(self, principal_id: str) -> Entry | None:
        try:
            wanted = id_assertion(self._settings.id_attribute, principal_id)
        except ValueError:
            return None
        # With a star for the name, an entry that no longer is a user here counts as gone.
        anybody = self._settings.user_filter.replace("{name}", "*")
        return self._one(f"(&({self._settings.id_attribute}={wanted}){anybody})")

    def _one(self, text: str) -> Entry | None:
        settings = self._settings
        attributes = (
            settings.id_attribute,
            settings.name_attribute,
            settings.display_attribute,
            settings.ssh_key_attribute,
            settings.disabled_attribute,
            settings.expiry_attribute,
            "memberOf" if settings.group_lookup is GroupLookup.MEMBER_OF else "",
        )
        code, entries = self._search(settings.base_dn, text, attributes, limit=2)
        if code == SIZE_LIMIT or len(entries) > 1:
            log.warning("Several directory entries match one user; narrow user_filter.")
            return None
        return entries[0] if entries else None

    def _search(
        self,
        base: str,
        text: str,
        attributes: Iterable[str],
        *,
        scope: Scope = "SUBTREE",
        limit: int = GROUPS_LIMIT + 1,
    ) -> tuple[int, list[Entry]]:
        code, entries = self._links.run(
            lambda link: link.search(base, text, attributes, scope=scope, limit=limit), bound=True
        )
        if code in {SUCCESS, SIZE_LIMIT} or (code == NO_OBJECT and scope == "BASE"):
            return code, entries
        if code == REFERRAL:
            raise DirectoryConfigError(
                "The directory refers a search to another server, which is never followed; name"
                " the server that holds base_dn and group_base_dn in servers."
            )
        raise DirectoryConfigError(
            f"The directory refused a search (result {code}); mend base_dn, group_base_dn or the"
            " rights of bind_dn."
        )

    def _account(self, entry: Entry) -> Account:
        settings = self._settings
        name = entry.text(settings.name_attribute)
        if not acceptable_name(name):
            raise DirectoryConfigError(
                "An entry that user_filter found has no usable login name; mend name_attribute."
            )
        keys = [ssh_key(line) for line in entry.texts(settings.ssh_key_attribute)]
        groups = {membership("ldap", dn) for dn in self._groups(entry)}
        return Account(
            id=id_text(settings.id_attribute, entry.values(settings.id_attribute)),
            name=name,
            display_name=entry.text(settings.display_attribute),
            memberships=frozenset(groups | {membership("user", name)}),
            enabled=self._enabled(entry),
            ssh_keys=tuple(key for key in keys[:SSH_KEYS_LIMIT] if key),
        )

    def _enabled(self, entry: Entry) -> bool:
        settings = self._settings
        values = entry.texts(settings.disabled_attribute)
        if settings.disabled_bits:
            disabled = any(number_of(value) & settings.disabled_bits for value in values)
        elif settings.disabled_values:
            disabled = not {value.lower() for value in settings.disabled_values}.isdisjoint(
                value.lower() for value in values
            )
        else:
            disabled = bool(values)
        expires = entry.text(settings.expiry_attribute)
        return not disabled and (not expires or self._wall_clock() < moment_of(expires))

    def _groups(self, entry: Entry) -> set[str]:
        lookup = self._settings.group_lookup
        if lookup is GroupLookup.TOKEN_GROUPS:
            _, found = self._search(entry.dn, "(objectClass=*)", ["tokenGroups"], scope="BASE")
            sids = found[0].values("tokenGroups") if found else []
            return {dn for sid in _bounded(sids) for dn in self._token_names(sid.hex())}
        if lookup is GroupLookup.MEMBER_OF:
            direct = frozenset(entry.texts("memberOf"))
        else:
            direct = self._read_parents(entry.dn)
        seen: dict[str, str] = {}
        waiting = deque(_bounded(direct))
        while waiting:
            dn = waiting.popleft()
            if normal_dn(dn) in seen:
                continue
            seen[normal_dn(dn)] = dn
            _bounded(seen)
            if self._settings.nested_groups:
                waiting.extend(self._parents(dn))
        return set(seen)

    def _read_parents(self, dn: str) -> frozenset[str]:
        """Return the DNs of the groups that hold ``dn`` directly."""
        settings = self._settings
        if settings.group_lookup is GroupLookup.MEMBER_OF:
            _, found = self._search(dn, "(objectClass=*)", ["memberOf"], scope="BASE")
            return frozenset(_bounded(found[0].texts("memberOf") if found else []))
        text = settings.group_filter.replace("{dn}", escaped(dn))
        _, found = self._search(settings.group_base_dn or settings.base_dn, text, [])
        return frozenset(_bounded([entry.dn for entry in found]))

    def _read_token_group(self, sid: str) -> frozenset[str]:
        """Return the DN of the group with this binary SID, which is in hex."""
        text = f"(objectSid={escaped(bytes.fromhex(sid))})"
        base = self._settings.group_base_dn or self._settings.base_dn
        _, found = self._search(base, text, [], limit=2)
        return frozenset(entry.dn for entry in found)


class _Remembered:
    """Answers of ``read``, each kept for GROUP_CACHE_S, at most GROUPS_LIMIT of them."""

    def __init__(self, read: Callable[[str], frozenset[str]]) -> None:
        self._read = read
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[float, frozenset[str]]] = OrderedDict()

    def __call__(self, key: str) -> frozenset[str]:
        now = time.monotonic()
        with self._lock:
            kept = self._kept.get(key)
        if kept is not None and now - kept[0] < GROUP_CACHE_S:
            return kept[1]
        answer = self._read(key)
        with self._lock:
            self._kept[key] = (now, answer)
            self._kept.move_to_end(key)
            while len(self._kept) > GROUPS_LIMIT:
                self._kept.popitem(last=False)
        return answer


def _bounded(groups: Iterable[T]) -> list[T]:
    """Return the groups as a list; a group left out in silence could be one that is denied."""
    listed = list(groups)
    if len(listed) > GROUPS_LIMIT:
        raise DirectoryConfigError(
            f"An account belongs to more than {GROUPS_LIMIT} groups; narrow group_base_dn or"
            " group_filter."
        )
    return listed

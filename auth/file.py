"""The directory driver for a YAML file of users: demonstrations, tests and small installations.

Holds reading, watching and writing that file, and nothing that decides who may do what. Imports
only ``auth.directory``, ``auth.errors``, PyYAML and cryptography's Argon2id.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import stat
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from auth.directory import (
    Account,
    acceptable_name,
    acceptable_password,
    fold,
    membership,
    ssh_key,
    without_domain,
)
from auth.errors import DirectoryConfigError

log = logging.getLogger(__name__)

FILE_LIMIT_BYTES = 4 * 1024 * 1024
"""The biggest users file that is read."""

CONCURRENT_HASHES = 4
"""How many passwords are hashed at once: each takes MEMORY_KIB."""

# OWASP's password storage advice for Argon2id.
MEMORY_KIB = 19 * 1024
ITERATIONS = 2
LANES = 1
_SALT_SIZE_BYTES = 16
_HASH_SIZE_BYTES = 32

_PHC = re.compile(
    r"(\$argon2id\$v=19\$m=(\d{1,6}),t=(\d{1,2}),p=(\d{1,2}))\$[A-Za-z0-9+/]{11,86}"
    r"\$[A-Za-z0-9+/]{22,86}"
)
_KEYS = ("name", "id", "display_name", "password", "groups", "ssh_keys", "enabled")
_TRUTH = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class FileUser:
    """One entry of the users file.

    ``id`` is a UUID that never changes; ``password`` is an Argon2id hash from ``hash_password``,
    empty for an account that logs in by SSH key alone.
    """

    name: str
    id: str
    display_name: str = ""
    password: str = field(default="", repr=False)
    groups: tuple[str, ...] = ()
    ssh_keys: tuple[str, ...] = ()
    enabled: bool = True

    @property
    def account(self) -> Account:
        """What the directory tells about this user."""
        groups = {membership("file", group) for group in self.groups}
        return Account(
            id=self.id,
            name=self.name,
            display_name=self.display_name,
            memberships=frozenset(groups | {membership("user", self.name)}),
            enabled=self.enabled,
            ssh_keys=self.ssh_keys,
        )


@dataclass(frozen=True, slots=True)
class _Users:
    by_name: dict[str, FileUser]
    by_id: dict[str, FileUser]
    decoy: str
    seen: tuple[int, int, int]


class FileDirectory:
    """Accounts in a YAML file, see ``auth.directory.Directory`` for the contract.

    The file is read again when it was replaced or changed. When the new one is wrong, the users
    stay as they were and ``on_problem`` is told once what is wrong. Raises DirectoryConfigError
    when the file is wrong to begin with.
    """

    def __init__(
        self, path: Path, *, domain: str = "", on_problem: Callable[[str], None] = log.error
    ) -> None:
        self._path = path
        self._domain = domain
        self._on_problem = on_problem
        self._lock = threading.Lock()
        self._hashing = threading.BoundedSemaphore(CONCURRENT_HASHES)
        self._problem_seen: tuple[int, int, int] | None = None
        self._users = _read(path)

    def find(self, name: str) -> Account | None:
        """Return the account that logs in as ``name``; see the contract."""
        bare = without_domain(name, self._domain)
        user = self._current().by_name.get(fold(bare)) if acceptable_name(bare) else None
        return user.account if user else None

    def verify(self, account: Account | None, password: str) -> bool:
        """Return whether ``password`` is the account's; see the contract."""
        if not acceptable_password(password):
            return False
        users = self._current()
        user = users.by_id.get(account.id) if account else None
        expected = user.password if user else ""
        with self._hashing:
            matches = _matches(password, expected or users.decoy)
        return matches and bool(expected) and user is not None and user.enabled

    def refresh(self, principal_id: str) -> Account | None:
        """Return the account as it is now, None when it is gone; see the contract."""
        user = self._current().by_id.get(principal_id)
        return user.account if user else None

    def _current(self) -> _Users:
        with self._lock:
            try:
                seen = _signature(self._path.stat())
            except OSError:
                seen = (0, 0, 0)
            if seen not in {self._users.seen, self._problem_seen}:
                try:
                    self._users = _read(self._path)
                    self._problem_seen = None
                except DirectoryConfigError as error:
                    self._problem_seen = seen
                    self._on_problem(f"{error} The users stay as they were.")
            return self._users


def hash_password(password: str, random_bytes: Callable[[int], bytes] = secrets.token_bytes) -> str:
    """Return the Argon2id hash of ``password`` as a PHC string for the users file.

    Raises DirectoryConfigError for a password that no login would accept.
    """
    if not acceptable_password(password):
        raise DirectoryConfigError("The password is blank, too long, or holds a NUL; use another.")
    kdf = Argon2id(
        salt=random_bytes(_SALT_SIZE_BYTES),
        length=_HASH_SIZE_BYTES,
        iterations=ITERATIONS,
        lanes=LANES,
        memory_cost=MEMORY_KIB,
    )
    return kdf.derive_phc_encoded(password.encode("utf-8"))


def write_users(path: Path, entries: Iterable[FileUser]) -> None:
    """Replace the users file at ``path`` at once and durably, readable by its owner alone."""
    document = {
        "users": [
            {
                "name": user.name,
                "id": user.id,
                "display_name": user.display_name,
                **({"password": user.password} if user.password else {}),
                "groups": list(user.groups),
                "ssh_keys": list(user.ssh_keys),
                "enabled": user.enabled,
            }
            for user in entries
        ]
    }
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=FILE_LIMIT_BYTES)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode("utf-8"))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _matches(password: str, expected: str) -> bool:
    try:
        Argon2id.verify_phc_encoded(password.encode("utf-8"), expected)
    except InvalidKey:
        return False
    return True


def _signature(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_mtime_ns, status.st_ino, status.st_size


def _read(path: Path) -> _Users:
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            data = file.read(FILE_LIMIT_BYTES + 1)
    except OSError as error:
        raise DirectoryConfigError(
            f"{path}: the users file cannot be read ({error.strerror}); create it or mend its"
            " rights."
        ) from error
    if stat.S_IMODE(status.st_mode) & 0o026:
        raise DirectoryConfigError(
            f"{path}: others can read or change the users file; run chmod 640 on it."
        )
    if len(data) > FILE_LIMIT_BYTES:
        raise DirectoryConfigError(f"{path}: the users file is over {FILE_LIMIT_BYTES} bytes.")
    users = _Reader(path).users(data)
    return _Users(
        by_name={fold(user.name): user for user in users},
        by_id={user.id: user for user in users},
        decoy=_decoy(users),
        seen=_signature(status),
    )


def _decoy(users: Iterable[FileUser]) -> str:
    """Return a hash that no password has, and that costs what most of the users' hashes cost."""
    costs = Counter(found[1] for user in users if (found := _PHC.fullmatch(user.password)))
    usual = costs.most_common(1)
    cost = usual[0][0] if usual else f"$argon2id$v=19$m={MEMORY_KIB},t={ITERATIONS},p={LANES}"
    return f"{cost}${'A' * 22}${'A' * 43}"


class _NoAliasLoader(yaml.SafeLoader):
    """Refuses aliases, by which a small file grows without bound."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.events.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem="aliases are not allowed here", problem_mark=mark)
        return super().compose_node(parent, index)


class _Reader:
    """Reads the document's nodes, so that every complaint can name its line."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def users(self, data: bytes) -> list[FileUser]:
        """Return the entries; raises DirectoryConfigError naming the first line that is wrong."""
        try:
            root = yaml.compose(data.decode("utf-8"), Loader=_NoAliasLoader)
        except UnicodeDecodeError as error:
            raise DirectoryConfigError(f"{self._path}: the file is not UTF-8 text.") from error
        except yaml.YAMLError as error:
            # The text of the error quotes the file, which may hold a password hash.
            mark = getattr(error, "problem_mark", None)
            problem = getattr(error, "problem", None) or "it is not YAML"
            where = f"line {mark.line + 1}" if mark else "the file"
            raise DirectoryConfigError(f"{self._path}, {where}: {problem}; mend it.") from None
        except RecursionError:
            raise DirectoryConfigError(f"{self._path}: nested too deeply; flatten it.") from None
        if root is None:
            raise DirectoryConfigError(f"{self._path}: the file is empty; begin it with users:")
        found = dict(self._pairs(root, ("users",)))
        if "users" not in found:
            raise self._wrong(root, "there is no users list; begin the file with users:")
        users: list[FileUser] = []
        taken: set[str] = set()
        for node in self._items(found["users"]):
            user = self._user(node)
            for key, value in (("name", fold(user.name)), ("id", user.id)):
                if f"{key}={value}" in taken:
                    raise self._wrong(node, f"another user has this {key}; give each its own")
                taken.add(f"{key}={value}")
            users.append(user)
        return users

    def _user(self, node: yaml.Node) -> FileUser:
        given = dict(self._pairs(node, _KEYS))
        for key in ("name", "id"):
            if key not in given:
                raise self._wrong(node, f"a user has no {key}; add it")
        name = self._text(given["name"], "name")
        if not acceptable_name(name):
            raise self._wrong(given["name"], "no login name can look like this; use another")
        groups = [self._text(item, "group") for item in self._items(given.get("groups"))]
        if not all(fold(group) for group in groups):
            raise self._wrong(given["groups"], "a group has no name; remove it or name it")
        return FileUser(
            name=name,
            id=self._uuid(given["id"]),
            display_name=self._text(given.get("display_name"), "display_name"),
            password=self._hash(given.get("password")),
            groups=tuple(groups),
            ssh_keys=tuple(self._ssh_key(item) for item in self._items(given.get("ssh_keys"))),
            enabled=self._truth(given.get("enabled")),
        )

    def _wrong(self, node: yaml.Node, problem: str) -> DirectoryConfigError:
        return DirectoryConfigError(f"{self._path}, line {node.start_mark.line + 1}: {problem}.")

    def _pairs(self, node: yaml.Node, known: tuple[str, ...]) -> Iterator[tuple[str, yaml.Node]]:
        if not isinstance(node, yaml.MappingNode):
            raise self._wrong(node, f"expected keys and values; the keys are {', '.join(known)}")
        seen: set[str] = set()
        for key_node, value in node.value:
            key = self._text(key_node, "key")
            if key not in known:
                raise self._wrong(key_node, f"unknown key; the keys are {', '.join(known)}")
            if key in seen:
                raise self._wrong(key_node, f"{key} is given twice; keep one")
            seen.add(key)
            yield key, value

    def _items(self, node: yaml.Node | None) -> list[yaml.Node]:
        if node is None:
            return []
        if not isinstance(node, yaml.SequenceNode):
            raise self._wrong(node, "expected a list; write one item a line, each after a dash")
        items: list[yaml.Node] = node.value
        return items

    def _text(self, node: yaml.Node | None, what: str) -> str:
        if node is None:
            return ""
        if not isinstance(node, yaml.ScalarNode) or node.tag != "tag:yaml.org,2002:str":
            raise self._wrong(node, f"{what} must be text; put it in quotes")
        text: str = node.value
        return text

    def _uuid(self, node: yaml.Node) -> str:
        text = self._text(node, "id").lower()
        try:
            canonical = str(uuid.UUID(text))
        except ValueError:
            canonical = ""
        if canonical != text:
            raise self._wrong(node, "id must be a UUID; make one with uuidgen")
        return text

    def _hash(self, node: yaml.Node | None) -> str:
        text = self._text(node, "password")
        found = _PHC.fullmatch(text)
        if node is None:
            return ""
        if not found or int(found[2]) > 262_144 or int(found[3]) > 16 or int(found[4]) > 16:
            raise self._wrong(node, "password must be an Argon2id hash ($argon2id$v=19$...)")
        return text

    def _ssh_key(self, node: yaml.Node) -> str:
        key = ssh_key(self._text(node, "an SSH key"))
        if key is None:
            raise self._wrong(node, "not a public SSH key line without options (type base64)")
        return key

    def _truth(self, node: yaml.Node | None) -> bool:
        if node is None:
            return True
        value = _TRUTH.get(node.value) if isinstance(node, yaml.ScalarNode) else None
        if value is None or node.tag != "tag:yaml.org,2002:bool":
            raise self._wrong(node, "enabled must be true or false")
        return value

"""The contract of a directory: who exists, whether a password is theirs, what they belong to.

Holds the records, the protocol and the normalisation that every driver shares; no I/O and no
driver lives here. Imports only ``auth.errors``.
"""

from __future__ import annotations

import base64
import binascii
import random
import re
import threading
import time
import unicodedata
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from auth.errors import DirectoryConfigError

NAME_LIMIT_BYTES = 256
"""The longest login name, in UTF-8 bytes; anything longer is nobody's."""

PASSWORD_LIMIT_BYTES = 1024
"""The longest password, in UTF-8 bytes; anything longer is nobody's."""

SSH_KEY_LIMIT_CHARS = 16_384
"""The longest public key line that is read."""

VERIFY_REQUIRED = "verify-required "
"""What stands before a key that must have its user verified."""

_OPTIONS = frozenset(
    {
        VERIFY_REQUIRED.strip(),
        "restrict",
        "no-agent-forwarding",
        "no-port-forwarding",
        "no-pty",
        "no-user-rc",
        "no-x11-forwarding",
    }
)
"""Options of a key's line (sshd(8)) that are kept by everyone here, or that are looked at."""

PACE_SAMPLES = 64
"""How many recent durations ``Pace`` draws from."""

MembershipKind = Literal["ldap", "file", "user"]


@dataclass(frozen=True, slots=True)
class Account:
    """What a directory knows about one person or machine.

    ``id`` is the directory's immutable id (entryUUID, objectGUID) in lower case; ``name`` is the
    login name as the directory spells it. ``memberships`` come from ``membership`` and include
    the account's own ``user:`` membership. ``ssh_keys`` are lines as ``ssh_key`` returns them.
    """

    id: str
    name: str
    display_name: str
    memberships: frozenset[str]
    enabled: bool
    ssh_keys: tuple[str, ...]


class Directory(Protocol):
    """Where accounts come from. Every method is blocking and safe to call from many threads.

    Each method answers within the driver's stated timeouts. It raises DirectoryUnavailableError
    when no server answered by then, and DirectoryConfigError when the directory answered that it
    cannot be used as configured. Nothing is cached that could keep a disabled or removed account
    alive for more than a minute. No method logs or raises a name or a password.
    """

    def find(self, name: str) -> Account | None:
        r"""Return the account that logs in as ``name``, disabled ones too; None: nobody.

        Exactly one entry must match: none and several are both None, as is a name that
        ``acceptable_name`` refuses. Case and repeated spaces do not matter. ``DOMAIN\name`` means
        ``name`` only where the driver was configured with that domain. A miss takes as long as
        a hit.
        """

    def verify(self, account: Account | None, password: str) -> bool:
        """Return whether ``password`` is the one of ``account`` and the account is enabled.

        The directory is asked anew; the fields of ``account`` other than ``id`` are not trusted.
        None stands for an unknown user: it costs the same work and time and is always False. A
        password that ``acceptable_password`` refuses is False without the directory being asked.
        """

    def refresh(self, principal_id: str) -> Account | None:
        """Return the account whose immutable id is ``principal_id`` as it is now; None: gone."""


def acceptable_name(name: str) -> bool:
    """Return whether any account could have this login name.

    Refused: empty, over NAME_LIMIT_BYTES, spaces at either end, and characters without a glyph
    of their own (controls, NUL, zero-width, bidirectional marks, lone surrogates), which
    directories ignore when they compare and which would give one account many spellings.
    """
    if not 0 < len(name) <= NAME_LIMIT_BYTES or name != name.strip() or not name.isprintable():
        return False
    return len(name.encode("utf-8")) <= NAME_LIMIT_BYTES


def acceptable_password(password: str) -> bool:
    """Return whether any account could have this password.

    Refused: empty or blank (a simple bind with one succeeds as anonymous on many servers,
    RFC 4513 section 5.1.2), over PASSWORD_LIMIT_BYTES, a NUL, or text that has no UTF-8 form.
    """
    if not 0 < len(password) <= PASSWORD_LIMIT_BYTES or "\0" in password:
        return False
    try:
        encoded_size = len(password.encode("utf-8"))
    except UnicodeEncodeError:
        return False
    return encoded_size <= PASSWORD_LIMIT_BYTES and not password.isspace()


def without_domain(name: str, domain: str) -> str:
    r"""Return ``name`` less a leading ``DOMAIN\``, if ``domain`` is set and is that domain."""
    prefix, separator, rest = name.partition("\\")
    return rest if separator and domain and fold(prefix) == fold(domain) else name


def fold(text: str) -> str:
    """Return ``text`` as directories compare it: compatible forms, case and spacing made equal."""
    for _ in range(2):
        text = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(unicodedata.normalize("NFKC", text).split())


def membership(kind: MembershipKind, name: str) -> str:
    """Return the one spelling of a membership: ``kind:`` and the normalised name.

    ``ldap`` takes a group's DN, ``file`` a group and ``user`` a login name. Raises
    DirectoryConfigError when the name is empty or is not a DN.
    """
    if kind == "ldap":
        return f"ldap:{normal_dn(name)}"
    folded = fold(name)
    if not folded:
        raise DirectoryConfigError(f"A {kind} membership has no name; write the name to match.")
    return f"{kind}:{folded}"


_SPECIAL = ',+"\\<>;=#'
_ESCAPE = re.compile(r'((?:\\[0-9a-fA-F]{2})+)|\\([ ,+"\\<>;=#])|(["\\<>])')
_TYPE = re.compile(r"[a-z][a-z0-9-]*|[0-9]+(?:\.[0-9]+)*")
_SYNONYMS = {
    "2.5.4.3": "cn",
    "commonname": "cn",
    "2.5.4.6": "c",
    "countryname": "c",
    "2.5.4.7": "l",
    "localityname": "l",
    "2.5.4.8": "st",
    "stateorprovincename": "st",
    "2.5.4.10": "o",
    "organizationname": "o",
    "2.5.4.11": "ou",
    "organizationalunitname": "ou",
    "0.9.2342.19200300.100.1.1": "uid",
    "userid": "uid",
    "0.9.2342.19200300.100.1.25": "dc",
    "domaincomponent": "dc",
}


def normal_dn(dn: str) -> str:
    """Return the DN with types, case, spacing, escapes and multi-valued parts in one spelling.

    Two spellings of one DN (RFC 4514; semicolons as in RFC 2253) become equal; two DNs that a
    directory tells apart by more than case and spacing never do. The quoted values of RFC 2253 are
    not read. Raises DirectoryConfigError when ``dn`` is not a DN.
    """
    return ",".join(
        "+".join(sorted(_pair(pair) for pair in _split(part, "+"))) for part in _split(dn, ",;")
    )


def _split(text: str, separators: str) -> list[str]:
    pieces, start, index = [], 0, 0
    while index < len(text):
        if text[index] == "\\":
            index += 1
        elif text[index] in separators:
            pieces.append(text[start:index])
            start = index + 1
        index += 1
    pieces.append(text[start:])
    return pieces


def _pair(text: str) -> str:
    kind, equals, value = text.partition("=")
    kind = kind.strip().lower().removeprefix("oid.")
    if not equals or not _TYPE.fullmatch(kind):
        raise _not_a_dn()
    return f"{_SYNONYMS.get(kind, kind)}={_value(value.lstrip())}"


def _value(text: str) -> str:
    if text.startswith("#"):
        encoded = text.strip().lower()
        if not re.fullmatch(r"#(?:[0-9a-f]{2})+", encoded):
            raise _not_a_dn()
        return encoded
    try:
        value = fold(_ESCAPE.sub(_unescaped, text))
    except UnicodeDecodeError as error:
        raise _not_a_dn() from error
    if not value:
        raise _not_a_dn()
    return "".join("\\" + character if character in _SPECIAL else character for character in value)


def _unescaped(found: re.Match[str]) -> str:
    if found[1]:
        return bytes.fromhex(found[1].replace("\\", "")).decode("utf-8")
    if found[2]:
        return found[2]
    raise _not_a_dn()


def _not_a_dn() -> DirectoryConfigError:
    return DirectoryConfigError(
        "A group's name is not a DN; write it like cn=clinicians,ou=groups,dc=example,dc=org."
    )


def ssh_key(line: str) -> str | None:
    """Return ``"type base64"`` for a public key line as OpenSSH writes it, its comment dropped.

    Before a key that must have its user verified (a security key's PIN) stands VERIFY_REQUIRED.
    None when it is not such a line. Other options before the key (``from=``, ``command=``) also
    make it None, unless they only forbid what nobody may do here: they narrow what the key may do,
    and leaving them out would widen it.
    """
    if len(line) > SSH_KEY_LIMIT_CHARS:
        return None
    words, demand = line.strip(), ""
    options, _, rest = words.partition(" ")
    named = frozenset(options.lower().split(","))
    if named <= _OPTIONS:
        words, demand = rest.lstrip(), VERIFY_REQUIRED if VERIFY_REQUIRED.strip() in named else ""
    key = _plain_key(words)
    if key is None or (demand and not key.startswith("sk-")):
        return None
    return demand + key


def _plain_key(line: str) -> str | None:
    kind, _, rest = line.partition(" ")
    encoded = rest.lstrip().partition(" ")[0]
    try:
        blob = base64.b64decode(encoded, validate=True)
        named = kind.encode("ascii")
    except (binascii.Error, ValueError):
        return None
    # The blob names its own type (RFC 4253 section 6.6); a line whose two types differ is forged.
    return f"{kind} {encoded}" if named and blob.startswith(_counted(named)) else None


def _counted(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


class Pace:
    """Makes the answer for an unknown user take as long as a recent one for a known user.

    An attacker who times answers would otherwise learn which names exist, because a server
    does more for an entry that is there.
    """

    def __init__(
        self,
        limit_s: float,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._limit_s = limit_s
        self._monotonic = monotonic
        self._pause = pause
        self._choose = random.SystemRandom().choice
        self._lock = threading.Lock()
        self._samples_s: deque[float] = deque(maxlen=PACE_SAMPLES)

    def start(self) -> float:
        """Return the moment to hand to ``known`` or ``unknown``."""
        return self._monotonic()

    def known(self, started: float) -> None:
        """Remember how long the work for a known user took."""
        with self._lock:
            self._samples_s.append(min(self._monotonic() - started, self._limit_s))

    def unknown(self, started: float) -> None:
        """Wait until as much time has passed since ``started`` as one known user took."""
        with self._lock:
            target_s = self._choose(self._samples_s) if self._samples_s else 0.0
        left_s = target_s - (self._monotonic() - started)
        if left_s > 0:
            self._pause(left_s)

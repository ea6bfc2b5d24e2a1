"""The types of the configuration's fields: the scalar parsers, dressed for pydantic.

No rules of its own. Imports pydantic and ``gateway.config``'s problems and scalars.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from auth.chain import Chain
from auth.hours import Hours
from auth.policy import Network
from gateway.config import scalars
from gateway.config.problems import shortened
from gateway.config.scalars import ALL, Endpoint, wrong
from gateway.model import Action, Wire


@dataclass(frozen=True, slots=True)
class FromText:
    """Annotates a field whose value ``parse`` makes from a scalar's text."""

    parse: Callable[[str], object]
    example: str
    kinds: tuple[str, ...] = ("string",)

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Return a validator that refuses lists and mappings and hands text to ``parse``."""
        return core_schema.no_info_plain_validator_function(self._validate)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Return what an editor may accept here."""
        kinds = self.kinds[0] if len(self.kinds) == 1 else list(self.kinds)
        return {"type": kinds, "examples": [self.example]}

    def _validate(self, value: object) -> object:
        return self.parse(_text(value, self.example))


class OneOrMany:
    """Annotates a tuple that may be written as a list or as its only item."""

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Return the tuple's own validator behind one that makes a list of a single item."""
        return core_schema.no_info_before_validator_function(_listed, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Return the schema of the item, or of the list of such items."""
        array = handler(schema)
        return {"anyOf": [array["items"], array]}


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _text(value: object, example: str) -> str:
    if isinstance(value, str):
        return value
    shape = "nothing"
    if isinstance(value, list | dict):
        shape = "a list" if isinstance(value, list) else "a group of keys"
    raise wrong(f"{shape} stands here.", f"Write one value, such as {example!r}.")


def _path(value: object, info: ValidationInfo) -> Path:
    base: Any = info.context
    return scalars.parse_file_path(
        _text(value, "/etc/sealgate/file"), base if isinstance(base, Path) else Path()
    )


def _whole(lowest: int, highest: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        number = scalars.parse_whole(text)
        if not lowest <= number <= highest:
            raise wrong(f"{number} is out of range.", f"Write {lowest} to {highest}.")
        return number

    return parse


def _lasting(lowest: str, highest: str) -> Callable[[str], int]:
    low_s, high_s = scalars.parse_duration(lowest), scalars.parse_duration(highest)

    def parse(text: str) -> int:
        duration_s = scalars.parse_duration(text)
        if not low_s <= duration_s <= high_s:
            raise wrong(f"{shortened(text)} is out of range.", f"Write {lowest} to {highest}.")
        return duration_s

    return parse


def _line(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise wrong("is not a line of text.", "Write one line, without control characters.")
    return text


def _banner(text: str) -> str:
    if not all(character.isprintable() or character == "\n" for character in text):
        raise wrong("holds control characters.", "Write plain lines of text.")
    if len(text) > 4096:
        raise wrong("is too long.", "Write at most 4096 characters.")
    return text


def _credential(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}", text):
        remedy = "Use letters, digits, '-', '_' and '.', as in 'master.key'."
        raise wrong(f"{shortened(text)} cannot name a credential.", remedy)
    return text


def _attribute(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]*", text):
        raise wrong(f"{shortened(text)} is not an attribute.", "Write its name, as in 'uid'.")
    return text


def SearchFilter(placeholder: str, example: str) -> FromText:  # noqa: N802  reads as a type
    """Return the annotation of an LDAP filter that compares something with ``placeholder``."""

    def parse(text: str) -> str:
        wrapped = text.startswith("(") and text.endswith(")")
        if f"={placeholder}" not in text or not wrapped or text.count("(") != text.count(")"):
            raise wrong(f"{shortened(text)} is not such a filter.", f"Write one like '{example}'.")
        return text

    return FromText(parse, example)


def _positive_size(text: str) -> int:
    size_bytes = scalars.parse_size(text)
    if size_bytes == 0:
        raise wrong("a size of nothing lets nothing in.", "Write one like '500GiB', or leave out.")
    return size_bytes


_WIRES = (Wire.WEBDAV.value, Wire.SFTP.value)
_CHAINS = tuple(chain.value for chain in Chain)
_RIGHTS = (*(action.value for action in Action), ALL)

Line = Annotated[str, FromText(_line, "text")]
Banner = Annotated[str, FromText(_banner, "Authorised use only.")]
Flag = Annotated[bool, FromText(scalars.parse_flag, "true", ("boolean", "string"))]
Size = Annotated[int, FromText(_positive_size, "500GiB")]
CredentialName = Annotated[str, FromText(_credential, "master.key")]
AttributeName = Annotated[str, FromText(_attribute, "uid")]
DistinguishedName = Annotated[str, FromText(scalars.parse_dn, "ou=people,dc=example,dc=org")]
LdapServers = Annotated[
    tuple[Annotated[str, FromText(scalars.parse_ldap_server, "ldaps://ldap.example.org")], ...],
    Field(min_length=1),
    OneOrMany(),
]
Lines = Annotated[tuple[Line, ...], Field(min_length=1), OneOrMany()]
WholeNumber = Annotated[int, FromText(_whole(0, 2**31 - 1), "2", ("integer", "string"))]
Count = Annotated[int, FromText(_whole(0, 100_000), "30", ("integer", "string"))]
Workers = Annotated[int, FromText(_whole(1, 256), "4", ("integer", "string"))]
CheckpointRecords = Annotated[int, FromText(_whole(1, 1000), "1000", ("integer", "string"))]
Retention = Annotated[int, FromText(_lasting("0s", "36500d"), "90d")]
"""How long something is kept, in seconds; 0 is not at all."""
ScrubTime = Annotated[int, FromText(_lasting("1d", "365d"), "30d")]
SessionTime = Annotated[int, FromText(_lasting("1s", "30d"), "12h")]
LockTime = Annotated[int, FromText(_lasting("1m", "1d"), "1h")]
ShortTime = Annotated[int, FromText(_lasting("1s", "10m"), "30s")]
ServerTime = Annotated[int, FromText(_lasting("1s", "60s"), "5s")]
JoinTime = Annotated[int, FromText(_lasting("0s", "10m"), "60s")]
CheckpointTime = Annotated[int, FromText(_lasting("1s", "60s"), "60s")]
FilePath = Annotated[
    Path,
    PlainValidator(_path),
    WithJsonSchema({"type": "string", "examples": ["/etc/sealgate/file"]}),
]
PublicUrl = Annotated[str, FromText(scalars.parse_public_url, "https://files.example.org")]
Endpoints = Annotated[
    tuple[Annotated[Endpoint, FromText(scalars.parse_endpoint, "0.0.0.0:8443")], ...],
    Field(min_length=1),
    OneOrMany(),
]
Networks = Annotated[
    tuple[Annotated[Network, FromText(scalars.parse_network, "10.0.0.0/8")], ...],
    Field(min_length=1),
    OneOrMany(),
]
Spans = Annotated[
    tuple[
        Annotated[Hours, FromText(scalars.parse_hours, "Mon-Fri 06:00-20:00 Europe/Berlin")], ...
    ],
    Field(min_length=1),
    OneOrMany(),
]
FilePaths = Annotated[tuple[FilePath, ...], Field(min_length=1), OneOrMany()]
Rights = Annotated[
    tuple[Annotated[str, FromText(scalars.one_of(*_RIGHTS), "read")], ...],
    OneOrMany(),
]
Wires = Annotated[
    tuple[Annotated[str, FromText(scalars.one_of(*_WIRES), "webdav")], ...],
    Field(min_length=1),
    OneOrMany(),
]
Chains = Annotated[
    tuple[Annotated[str, FromText(scalars.one_of(*_CHAINS), "password+totp")], ...],
    Field(min_length=1),
    OneOrMany(),
]
LoginName = Annotated[str, FromText(scalars.parse_login_name, "alice")]
SessionCount = Annotated[int, FromText(_whole(1, 100_000), "50", ("integer", "string"))]
SshKeys = Annotated[
    tuple[Annotated[str, FromText(scalars.parse_ssh_key, "ssh-ed25519 AAAA...")], ...],
    Field(min_length=1),
    OneOrMany(),
]
AuthorityKey = Annotated[str, FromText(scalars.parse_authority_key, "ssh-ed25519 AAAA...")]
Serials = Annotated[
    tuple[Annotated[int, FromText(_whole(0, 2**64 - 1), "7", ("integer", "string"))], ...],
    OneOrMany(),
]
LdapGroups = Annotated[
    tuple[
        Annotated[
            str,
            FromText(scalars.parse_membership("ldap"), "cn=clinicians,ou=groups,dc=example,dc=org"),
        ],
        ...,
    ],
    OneOrMany(),
]
FileGroups = Annotated[
    tuple[Annotated[str, FromText(scalars.parse_membership("file"), "clinicians")], ...],
    OneOrMany(),
]
UserNames = Annotated[
    tuple[Annotated[str, FromText(scalars.parse_membership("user"), "alice")], ...],
    OneOrMany(),
]
Users = Annotated[UserNames, Field(min_length=1)]
"""Login names, one at least."""
Day = Annotated[date, FromText(scalars.parse_day, "2027-06-30")]
ExceptionName = Annotated[str, FromText(scalars.parse_exception_name, "ct-scanner")]
WeakerAlgorithms = Annotated[
    tuple[Annotated[str, FromText(scalars.parse_weaker, "legacy")], ...],
    Field(min_length=1),
    OneOrMany(),
]
ShareName = Annotated[str, FromText(scalars.parse_share_name, "radiology")]
GroupName = Annotated[str, FromText(scalars.parse_group_name, "clinicians")]
GroupNames = Annotated[tuple[GroupName, ...], Field(min_length=1), OneOrMany()]
PatternText = Annotated[str, FromText(scalars.parse_pattern, "/2019/**")]

"""The example documents everything, and everything in it is right."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, get_args, get_origin

import pytest
from pydantic import BaseModel

from auth.ldap import GroupLookup, LdapSettings
from auth.policy import Situation, decide
from gateway.config import (
    GatewayConfig,
    compile_policy,
    json_schema,
    load_config,
    parse_config,
    warnings,
)
from gateway.config.directory import LdapConfig
from gateway.model import Action, Principal, Wire
from gateway.paths import VirtualPath

EXAMPLE = Path(__file__).resolve().parents[2] / "config.example.yaml"


def models(kind: Any) -> Iterator[type[BaseModel]]:
    """Yield every model that a value of type ``kind`` may hold."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
        for field in kind.model_fields.values():
            yield from models(field.annotation)
    elif get_origin(kind) is Annotated:
        yield from models(get_args(kind)[0])
    elif kind is not NoneType:
        for part in get_args(kind):
            yield from models(part)


FIELDS = sorted(
    {
        (model.__name__, field.alias or name)
        for model in models(GatewayConfig)
        for name, field in model.model_fields.items()
    }
)


def test_example_is_valid_and_free_of_warnings() -> None:
    """What administrators copy must work as it stands."""
    assert warnings(load_config(EXAMPLE)) == ()


@pytest.mark.parametrize(("model", "key"), FIELDS)
def test_example_shows_every_key(model: str, key: str) -> None:
    """Each key stands in the example, commented out or not."""
    assert re.search(rf"(^|[\s#{{]){key}:( |$)", EXAMPLE.read_text("utf-8"), re.MULTILINE)


def test_every_key_is_described_for_editors() -> None:
    """The JSON Schema explains each key and refuses unknown ones, as the reader does."""
    schema = json.loads(json_schema())
    for definition in [schema, *schema["$defs"].values()]:
        assert definition["additionalProperties"] is False
        for name, field in definition["properties"].items():
            explained = field.get("description") or schema["$defs"].get(
                field.get("$ref", "").rpartition("/")[2], {}
            ).get("description")
            assert explained, name


def test_example_policy_does_what_its_comments_say() -> None:
    """A clinician at work reads; nobody reads 2019; a scanner drops and sees nothing."""
    policy = compile_policy(load_config(EXAMPLE))
    monday_noon_us = 1_748_858_400 * 1_000_000
    office = Situation(Wire.WEBDAV, "10.1.2.3", monday_noon_us)
    alice = Principal("1", "alice", memberships=frozenset({"user:alice"}))
    read = VirtualPath.parse("/archive/2020/x")
    assert decide(policy, alice, Action.READ, read, office).allowed
    denied = decide(policy, alice, Action.READ, VirtualPath.parse("/archive/2019/x"), office)
    assert denied.rule == "groups.clinicians.shares.archive.paths./2019/**.deny"
    scanner = Principal("2", "scanner", memberships=frozenset({"user:scanner"}))
    there = Situation(Wire.SFTP, "192.0.2.7", monday_noon_us)
    dropped = VirtualPath.parse("/inbox/x")
    assert decide(policy, scanner, Action.CREATE, dropped, there).allowed
    assert not decide(policy, scanner, Action.READ, dropped, there).allowed


def test_limits_reach_the_policy_and_its_revision() -> None:
    """A shorter lock timeout is another policy."""
    text = EXAMPLE.read_text("utf-8")
    assert text.count("lock_timeout: 1h") == 1
    hour = compile_policy(parse_config(text.encode(), EXAMPLE))
    short = text.replace("lock_timeout: 1h", "lock_timeout: 5m")
    minutes = compile_policy(parse_config(short.encode(), EXAMPLE))
    assert {group.lock_timeout_s for group in hour.groups} == {3600}
    assert {group.name: group.lock_timeout_s for group in minutes.groups}["clinicians"] == 300
    assert hour.revision != minutes.revision


def test_layout_of_the_file_does_not_change_the_revision() -> None:
    """Equal rules have an equal revision."""
    first, second = (compile_policy(load_config(EXAMPLE)).revision for _ in range(2))
    assert first == second
    assert len(first) == 16


def test_ldap_section_gives_the_drivers_settings() -> None:
    """Flavours fill in what is left out; what is written wins."""
    minimal = {"servers": ["ldaps://dc.example.org"], "base_dn": "dc=example,dc=org"}
    config = LdapConfig.model_validate(
        minimal | {"flavour": "active_directory", "ssh_key_attribute": "keys"}
    )
    settings = config.settings()
    assert settings.group_lookup is GroupLookup.TOKEN_GROUPS
    assert (settings.id_attribute, settings.disabled_bits) == ("objectGUID", 2)
    assert settings.ssh_key_attribute == "keys"
    own = LdapConfig.model_validate(
        minimal | {"disabled_attribute": "nsAccountLock", "group_lookup": "member_of"}
    ).settings("secret")
    assert (own.disabled_attribute, own.disabled_values) == ("nsAccountLock", ())
    assert own.group_lookup is GroupLookup.MEMBER_OF
    assert own.bind_password == "secret"


def test_ldap_section_has_every_setting_of_the_driver() -> None:
    """A setting that the driver gains must be reachable from the file."""
    assert set(LdapSettings.__dataclass_fields__) <= set(LdapConfig.model_fields)

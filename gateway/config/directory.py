"""The configuration's ``directory`` section: fields named as in ``auth.ldap.LdapSettings``.

Two flavours choose the defaults, so that a few lines are enough for OpenLDAP and for Active
Directory. Imports pydantic, the field types and the drivers' settings.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from auth.ldap import GroupLookup, LdapSettings
from gateway.config.fields import (
    AttributeName,
    DistinguishedName,
    FilePath,
    Flag,
    FromText,
    LdapServers,
    Line,
    Lines,
    SearchFilter,
    ServerTime,
    WholeNumber,
)
from gateway.config.scalars import one_of, wrong
from gateway.config.section import SecretSource, Section, exactly_one

_FLAVOURS = {
    "openldap": LdapSettings(
        servers=(),
        base_dn="",
        disabled_attribute="pwdAccountLockedTime",
        disabled_values=("000001010000Z",),
    ),
    "active_directory": LdapSettings(
        servers=(),
        base_dn="",
        user_filter="(&(objectCategory=person)(objectClass=user)(sAMAccountName={name}))",
        group_lookup=GroupLookup.TOKEN_GROUPS,
        id_attribute="objectGUID",
        name_attribute="sAMAccountName",
        display_attribute="displayName",
        disabled_attribute="userAccountControl",
        disabled_bits=2,
        expiry_attribute="accountExpires",
    ),
}
_LOOKUPS = tuple(lookup.value for lookup in GroupLookup)
_OWN_KEYS = frozenset({"flavour", "bind_password", "ca_file"})


class FileDirectoryConfig(Section):
    """A directory kept in one file, for small sites and trials."""

    users: FilePath
    """The file of users."""
    domain: Line | None = None
    """The Windows domain that users may write before their name (DOMAIN\\name)."""


class LdapConfig(Section):
    """An LDAP directory. What is left out comes from the flavour."""

    flavour: Annotated[
        Literal["openldap", "active_directory"],
        FromText(one_of("openldap", "active_directory"), "openldap"),
    ] = "openldap"
    """Whose defaults apply: openldap (389 Directory Server too) or active_directory."""
    servers: LdapServers
    """Addresses in order of preference: "ldaps://host", or "ldap://host" with start_tls."""
    start_tls: Flag = False
    """Whether to switch an ldap:// connection to TLS before anything is said."""
    ca_file: FilePath | None = None
    """The certificate authority of the servers, in PEM form; the system's when left out."""
    base_dn: DistinguishedName
    """Where users are searched."""
    bind_dn: DistinguishedName | None = None
    """The account that searches; anonymous when left out."""
    bind_password: SecretSource | None = None
    """Where the password of that account is."""
    domain: Line | None = None
    """The Windows domain that users may write before their name (DOMAIN\\name)."""
    user_filter: Annotated[str, SearchFilter("{name}", "(uid={name})")] | None = None
    """How a user is found; {name} stands for the login name."""
    group_base_dn: DistinguishedName | None = None
    """Where groups are searched; base_dn when left out."""
    group_filter: Annotated[str, SearchFilter("{dn}", "(member={dn})")] | None = None
    """How the groups of an entry are found; {dn} stands for the entry."""
    group_lookup: Annotated[str, FromText(one_of(*_LOOKUPS), "search")] | None = None
    """How groups are found: search, member_of, or token_groups (Active Directory)."""
    nested_groups: Flag = True
    """Whether members of a group inside a group count."""
    id_attribute: AttributeName | None = None
    """The attribute that never changes: entryUUID, objectGUID."""
    name_attribute: AttributeName | None = None
    """The attribute of the login name: uid, sAMAccountName."""
    display_attribute: AttributeName | None = None
    """The attribute of the name that people read: cn, displayName."""
    ssh_key_attribute: AttributeName | None = None
    """The attribute of a user's SSH public keys."""
    disabled_attribute: AttributeName | None = None
    """The attribute that marks a disabled account."""
    disabled_bits: WholeNumber | None = None
    """Bits of that attribute, any of which disables."""
    disabled_values: Lines | None = None
    """Values of that attribute, any of which disables, one or a list."""
    expiry_attribute: AttributeName | None = None
    """The attribute of the day on which an account expires."""
    connect_timeout_s: ServerTime = Field(default=3, alias="connect_timeout")
    """How long a server may take to be reached, at most "60s"."""
    receive_timeout_s: ServerTime = Field(default=5, alias="receive_timeout")
    """How long a server may take to answer, at most "60s"."""

    @model_validator(mode="after")
    def _binds_with_a_password(self) -> Self:
        if self.bind_dn is not None and self.bind_password is None:
            raise wrong("has 'bind_dn' without 'bind_password'.", "Add 'bind_password'.")
        if self.bind_dn is None and self.bind_password is not None:
            raise wrong("has 'bind_password' without 'bind_dn'.", "Add 'bind_dn'.")
        return self

    @model_validator(mode="after")
    def _encrypts(self) -> Self:
        plain = any(server.startswith("ldap://") for server in self.servers)
        if plain and not self.start_tls:
            remedy = "Write 'ldaps://...', or add 'start_tls: true'."
            raise wrong("has an ldap:// server, which would send passwords in the clear.", remedy)
        return self

    def settings(self, bind_password: str = "") -> LdapSettings:
        """Return the driver's settings, with the password that ``bind_password`` led to."""
        given: dict[str, Any] = {
            key: value
            for key in type(self).model_fields
            if key not in _OWN_KEYS and (value := getattr(self, key)) is not None
        }
        # The flavour's values or bits belong to its own attribute and mean nothing in another.
        if self.disabled_attribute is not None:
            given = {"disabled_bits": 0, "disabled_values": ()} | given
        if self.group_lookup is not None:
            given["group_lookup"] = GroupLookup(self.group_lookup)
        return dataclasses.replace(
            _FLAVOURS[self.flavour],
            bind_password=bind_password,
            ca_file="" if self.ca_file is None else str(self.ca_file),
            **given,
        )


class DirectoryConfig(Section):
    """Where users come from: exactly one of the two."""

    file: FileDirectoryConfig | None = None
    """A file of users."""
    ldap: LdapConfig | None = None
    """An LDAP directory."""

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        exactly_one(file=self.file, ldap=self.ldap)
        return self

"""The configuration as frozen models: one class a section, one documented field a key.

Only shapes, defaults and rules that one value can break by itself; what two values break together
is in ``checks``, and what the file system decides is in ``files``. Imports pydantic and the field
types.
"""

from __future__ import annotations

import json
import socket
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, PrivateAttr, model_validator

from gateway.config.directory import DirectoryConfig
from gateway.config.document import Document
from gateway.config.fields import (
    AuthorityKey,
    Chains,
    CheckpointRecords,
    CheckpointTime,
    Count,
    Endpoints,
    FileGroups,
    FilePath,
    FromText,
    GroupName,
    GroupNames,
    JoinTime,
    LdapGroups,
    Line,
    Lines,
    LockTime,
    LoginName,
    Networks,
    PatternText,
    PublicUrl,
    Retention,
    Rights,
    ScrubTime,
    Serials,
    SessionCount,
    SessionTime,
    ShareName,
    ShortTime,
    Size,
    Spans,
    SshKeys,
    UserNames,
    Wires,
    Workers,
)
from gateway.config.problems import Finding, Problem
from gateway.config.scalars import Endpoint, one_of, wrong
from gateway.config.section import SecretSource, Section
from gateway.config.sftp import SftpConfig
from gateway.config.storage import StorageConfig


def _all_defaults(value: object) -> object:
    """Read a key with nothing behind it as a section in which every key has its default."""
    return {} if value is None else value


class WebdavConfig(Section):
    """The WebDAV door (HTTPS only)."""

    listen: Endpoints = (Endpoint("0.0.0.0", 8443),)  # noqa: S104  a gateway serves its network
    """Addresses and ports to listen on, one or a list: "0.0.0.0:8443", "[::]:8443"."""
    certificate: FilePath
    """The TLS certificate with its chain, in PEM form."""
    private_key: FilePath
    """The private key of the certificate, in PEM form, readable by the gateway alone."""
    public_url: PublicUrl | None = None
    """The address that clients use, when a reverse proxy or another name stands in front."""
    workers: Workers | None = None
    """How many worker processes serve WebDAV; one for each processor core when left out."""

    def place_of(self, endpoint: Endpoint) -> str:
        """Return the key in the file under which ``endpoint`` stands."""
        assert endpoint in self.listen
        return "server.webdav.listen"


class ServerConfig(Section):
    """How the gateway is reached. At least one of ``webdav`` and ``sftp`` is there."""

    node: Line = Field(default_factory=socket.gethostname)
    """This machine's name in the audit trail; the host name when left out."""
    webdav: WebdavConfig | None = None
    """The WebDAV door; closed when left out."""
    sftp: SftpConfig | None = None
    """The SFTP door; closed when left out."""
    drain_timeout_s: ShortTime = Field(default=30, alias="drain_timeout")
    """How long running transfers may go on when the gateway is told to stop."""
    join_window_s: JoinTime = Field(default=60, alias="join_window")
    """How long the same password and code from the same address may open further SFTP
    connections of the same session; "0s" turns that off."""

    @model_validator(mode="after")
    def _has_a_door(self) -> Self:
        if self.webdav is None and self.sftp is None:
            raise wrong("has neither 'webdav' nor 'sftp'.", "Add one of them, or both.")
        return self


class KeysConfig(Section):
    """The key that all other keys are wrapped under."""

    master_key: SecretSource
    """Where the master key is; never inside the data folder."""


class VersionsConfig(Section):
    """How long replaced contents of a file are kept. Whichever bound comes first removes one."""

    keep: Count = 30
    """The most old versions of one file; 0 keeps none."""
    for_s: Retention = Field(default=7_776_000, alias="for")
    """The longest time that an old version is kept."""


class ShareConfig(Section):
    """One share."""

    quota_bytes: Size | None = Field(default=None, alias="quota")
    """The most that the share may hold, old versions and trash included; the disk's space when
    left out."""
    versions: VersionsConfig = VersionsConfig()
    """How long replaced contents are kept."""
    trash_s: Retention = Field(default=2_592_000, alias="trash")
    """How long deleted files can be brought back; "0s" deletes at once."""


class MembersConfig(Section):
    """Who belongs to a group; being named in one of the three ways is enough."""

    ldap: LdapGroups = ()
    """Distinguished names of LDAP groups, one or a list."""
    file: FileGroups = ()
    """Groups of the file directory, one or a list."""
    users: UserNames = ()
    """Login names, one or a list."""

    @model_validator(mode="after")
    def _names_someone(self) -> Self:
        if not (self.ldap or self.file or self.users):
            raise wrong("names nobody.", "Name members under 'ldap', 'file' or 'users'.")
        return self


class RightsConfig(Section):
    """Actions that are allowed and denied in one place."""

    allow: Rights = ()
    """Actions that are allowed here: list, read, create, write, delete, move, lock, restore,
    purge, or all."""
    deny: Rights = ()
    """Actions that are denied here, whatever this or any other group allows."""


class GrantConfig(RightsConfig):
    """What a group may and may not do in one share."""

    paths: dict[PatternText, RightsConfig] = Field(default_factory=dict)
    """What else is allowed or denied below some paths, by pattern ("/2019/**")."""


class GroupConfig(Section):
    """One group of the policy."""

    members: MembersConfig
    """Who belongs to the group."""
    shares: dict[ShareName, GrantConfig] = Field(default_factory=dict)
    """What members may and may not do, by share."""
    protocols: Wires | None = None
    """The protocols over which the group's rights hold: webdav, sftp. Both when left out; for a
    service group sftp alone."""
    idle_timeout_s: SessionTime = Field(default=900, alias="idle_timeout")
    """A session with nothing done for this long ends. The strictest of a user's groups wins."""
    session_timeout_s: SessionTime = Field(default=43_200, alias="session_timeout")
    """A session ends after this long, whatever is done. The strictest of a user's groups wins."""
    lock_timeout_s: LockTime = Field(default=3600, alias="lock_timeout")
    """A WebDAV lock runs out after this long unless its holder renews it, whatever the client asks
    for. The strictest of a user's groups wins."""
    second_factor: Annotated[
        Literal["required", "none"], FromText(one_of("required", "none"), "required")
    ] = "required"
    """"required": a one-time code. "none": a service group, which logs in by SSH key alone and
    only from ``networks``."""
    sftp_logins: Chains | None = None
    """The ways in over SFTP that members may use: password+totp, publickey+totp, publickey+lease.
    All three when left out; a service group has publickey. What all of a user's groups accept."""
    ssh_keys: dict[LoginName, SshKeys] = Field(default_factory=dict)
    """SSH public keys of members, by login name, one or a list; besides those of the directory."""
    max_sessions: SessionCount | None = None
    """The most sessions that a member may have open at a time: 50 when left out, 1,000 in a
    service group, whose connections have one each. The strictest of a user's groups wins."""
    scp: Annotated[
        Literal["allowed", "refused"] | None, FromText(one_of("allowed", "refused"), "refused")
    ] = None
    """Whether members may use scp's old protocol over SSH (``scp -O``). One group must allow it,
    and none may refuse it; where no group says anything it is refused."""
    networks: Networks | None = None
    """Where the group's rights hold, one network or a list; anywhere when left out."""
    hours: Spans | None = None
    """When the group's rights hold, one span or a list; always when left out."""

    @property
    def is_service(self) -> bool:
        """Whether the group is for machines, which log in by SSH key alone."""
        return self.second_factor == "none"


class UserCaConfig(Section):
    """An authority whose certificates stand for the SSH keys of users."""

    key: AuthorityKey
    """The authority's public key, the line of its .pub file."""
    groups: GroupNames | None = None
    """The groups whose members may use its certificates, one or a list; all when left out."""
    revoked_serials: Serials = ()
    """Serial numbers of certificates that are not accepted any more, one or a list."""
    revoked_key_ids: Lines | None = None
    """Key ids of certificates that are not accepted any more, one or a list."""


class AuditConfig(Section):
    """The audit trail."""

    anchor: FilePath | None = None
    """A file outside the data folder to which checkpoints are also appended, best on another
    machine's disk; without it, a rolled-back data folder cannot be told from a true one."""
    checkpoint_interval_s: CheckpointTime = Field(default=60, alias="checkpoint_interval")
    """The longest time between two signed checkpoints, at most "60s"."""
    checkpoint_records: CheckpointRecords = 1000
    """The most records between two signed checkpoints, at most 1000."""


class CareConfig(Section):
    """How a running gateway looks after what it stores."""

    scrub_cycle_s: ScrubTime = Field(default=2_592_000, alias="scrub_cycle")
    """Within what time everything that is stored is read and verified once, "1d" to "365d"."""
    scrub_rate_bytes: Size = Field(default=52_428_800, alias="scrub_rate")
    """The most that is read for that in a second: "50MiB"."""


class GatewayConfig(Section):
    """The whole configuration."""

    server: ServerConfig
    """How the gateway is reached."""
    storage: StorageConfig
    """Where everything is kept."""
    keys: KeysConfig
    """Where the master key comes from."""
    directory: DirectoryConfig
    """Where users come from."""
    shares: dict[ShareName, Annotated[ShareConfig, BeforeValidator(_all_defaults)]]
    """The shares, by name."""
    groups: dict[GroupName, GroupConfig]
    """The groups of the policy, by name."""
    user_cas: dict[GroupName, UserCaConfig] = Field(default_factory=dict)
    """Authorities that certify users' SSH keys, by name."""
    audit: Annotated[AuditConfig, BeforeValidator(_all_defaults)] = AuditConfig()
    """The audit trail."""
    care: Annotated[CareConfig, BeforeValidator(_all_defaults)] = CareConfig()
    """Care of what is stored."""
    _document: Document | None = PrivateAttr(default=None)

    @classmethod
    def from_document(cls, document: Document) -> GatewayConfig:
        """Return the configuration that ``document`` writes; it remembers where each key stands.

        Raises pydantic.ValidationError.
        """
        config = cls.model_validate(document.top, context=document.file.absolute().parent)
        config._document = document  # noqa: SLF001  its own
        return config

    def place(self, finding: Finding) -> Problem:
        """Return ``finding`` with its place in the file that this was read from."""
        assert self._document is not None
        return self._document.place(finding)


def json_schema() -> str:
    """Return the JSON Schema of the configuration, as JSON text, for editors."""
    return json.dumps(GatewayConfig.model_json_schema(by_alias=True), indent=2) + "\n"

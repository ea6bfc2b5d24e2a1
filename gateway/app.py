"""Wiring: from a configuration to a working gateway. The only place that names concrete drivers.

Imports everything below; nothing below imports this.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from auth.authenticator import Authenticator
from auth.directory import Directory
from auth.file import FileDirectory
from auth.ldap import LdapDirectory
from auth.lease import Leases
from auth.policy import Policy
from auth.session import Sessions
from auth.throttle import Throttle, ThrottleSettings, ThrottleState
from auth.totp import Seed, SeedStore, Totp
from backends.blobs import BlobStore
from backends.blobs.local import LocalBlobStore
from backends.catalog import marks
from backends.catalog.engine import Catalog
from backends.catalog.factors import SqlSeedStore, SqlThrottleStore
from backends.catalog.leases import SqlLeaseStore
from backends.catalog.sessions import SqlSessionStore
from backends.catalog.sqlite import CATALOG_FILE, open_catalog
from backends.errors import KeyUnavailableError, StorageUnavailableError
from backends.keyfile import MasterKeys
from backends.keyring import Mac, MasterKeySource, RecordCipher, derive_key
from backends.share import Shares, ShareSettings, system_key
from backends.vault import Vault
from gateway.audit.checkpoint import append_to_anchor, make, signing_key
from gateway.audit.journal import Journal
from gateway.config import GatewayConfig, compile_policy
from gateway.config.section import SecretSource
from gateway.login import Login
from gateway.model import Clock, system_clock
from gateway.monitor import Monitor
from gateway.passage import Surroundings

BLOBS = "blobs"


class PolicyInForce:
    """The policy that every door asks; a reload replaces it in one step."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    def __call__(self) -> Policy:
        """Return the policy in force."""
        return self._policy

    def replace(self, policy: Policy) -> None:
        """Put another policy in force, for living sessions too."""
        self._policy = policy


@dataclass(frozen=True, slots=True)
class Gateway:
    """Everything that one process works with; ``close`` it at the end."""

    config: GatewayConfig
    catalog: Catalog
    store: BlobStore
    vault: Vault
    journal: Journal
    audit_cipher: RecordCipher
    signing_cipher: RecordCipher
    directory: Directory
    seeds: SeedStore
    totp: Totp
    throttle: Throttle
    sessions: Sessions
    login: Login
    policy: PolicyInForce
    monitor: Monitor
    shares: Shares
    masters: MasterKeySource
    clock: Clock

    def reload(self, config: GatewayConfig) -> None:
        """Put the policy and the shares of ``config`` in force."""
        fresh = Shares(self.masters, share_settings(config), secrets.token_bytes)
        with self.catalog.begin() as tx:
            fresh.create_missing(tx, self.clock)
        self.vault.configure(share_settings(config))
        self.policy.replace(compile_policy(config))

    def signing_key(self) -> Ed25519PrivateKey:
        """Return the key that signs audit checkpoints."""
        with self.catalog.begin() as tx:
            return signing_key(tx, self.signing_cipher)

    def checkpoint(self) -> None:
        """Make a checkpoint over the audit trail and append it to the anchor; AnchorError."""
        with self.catalog.begin() as tx:
            make(tx, signing_key(tx, self.signing_cipher), self.clock())
        if self.config.audit.anchor is not None:
            with self.catalog.snapshot() as tx:
                append_to_anchor(tx, self.config.audit.anchor)

    def close(self) -> None:
        """Write what is held back and let go of everything."""
        self.journal.close()
        self.vault.close()
        self.catalog.close()


def read_master_keys(config: GatewayConfig) -> MasterKeys:
    """Return the keys of the master key file; KeyUnavailableError says what is wrong with it."""
    return MasterKeys(_secret_path(config.keys.master_key))


def open_gateway(
    config: GatewayConfig,
    *,
    clock: Clock = system_clock,
    masters: MasterKeySource | None = None,
    begin_thread: Callable[[], None] = lambda: None,
) -> Gateway:
    """Return the gateway that ``config`` describes, its data folder made on first use.

    ``masters`` takes the place of the master key that ``config`` names; ``begin_thread`` is as for
    ``Vault``. Raises SealgateError with a
    sentence for the administrator; nothing is created before the master key and the directory
    settings were found good.
    """
    if masters is None:
        masters = read_master_keys(config)
    directory = open_directory(config)
    catalog, store = open_storage(config)
    catalog.migrate()
    with catalog.begin() as tx:
        marks.require_restored(tx)
        system = system_key(tx, masters)
        shares = Shares(masters, share_settings(config), secrets.token_bytes)
        shares.create_missing(tx, clock)
    audit_cipher = RecordCipher(system, "audit")
    journal = Journal(catalog, audit_cipher, node=config.server.node, clock=clock)
    vault = Vault(
        shares, store, clock=clock, random_bytes=secrets.token_bytes, begin_thread=begin_thread
    )
    seeds = SqlSeedStore(RecordCipher(system, "totp"), Seed)
    totp = Totp(seeds, clock)
    throttle = Throttle(
        SqlThrottleStore(ThrottleState),
        clock,
        ThrottleSettings(),
        derive_key(system, "sealgate throttle"),
    )
    sessions = Sessions(SqlSessionStore(Mac(system, "session")))
    leases = Leases(SqlLeaseStore(Mac(system, "lease")))
    policy = PolicyInForce(compile_policy(config))
    authenticator = Authenticator(
        directory,
        totp,
        sessions,
        policy,
        leases=leases,
        binding_key=derive_key(system, "sealgate session binding"),
        join_window_s=config.server.join_window_s,
        clock=clock,
    )
    login = Login(authenticator, sessions, throttle, journal, catalog, leases=leases, clock=clock)
    monitor = Monitor(
        Surroundings(
            vault=vault,
            catalog=catalog,
            journal=journal,
            sessions=sessions,
            login=login,
            policy=policy,
            clock=clock,
        )
    )
    return Gateway(
        config=config,
        catalog=catalog,
        store=store,
        vault=vault,
        journal=journal,
        audit_cipher=audit_cipher,
        signing_cipher=RecordCipher(system, "audit signing"),
        directory=directory,
        seeds=seeds,
        totp=totp,
        throttle=throttle,
        sessions=sessions,
        login=login,
        policy=policy,
        monitor=monitor,
        shares=shares,
        masters=masters,
        clock=clock,
    )


def open_directory(config: GatewayConfig) -> Directory:
    """Return the directory's driver; DirectoryConfigError when its settings cannot be used."""
    if config.directory.file is not None:
        settings = config.directory.file
        return FileDirectory(settings.users, domain=settings.domain or "")
    ldap = config.directory.ldap
    assert ldap is not None
    return LdapDirectory(ldap.settings(_secret(ldap.bind_password)))


def catalog_path(config: GatewayConfig) -> Path:
    """Return where the file of an SQLite catalog lies."""
    return config.storage.data_dir / CATALOG_FILE


def has_data(config: GatewayConfig) -> bool:
    """Return whether there is a catalog already; asking makes nothing.

    Raises StorageUnavailableError when the database does not answer.
    """
    if config.storage.catalog is None:
        return catalog_path(config).exists()
    catalog = _open_catalog(config)
    try:
        return catalog.exists
    finally:
        catalog.close()


def no_data(config: GatewayConfig) -> str:
    """Return the sentence that says where there is no data yet."""
    place = config.storage.catalog or config.storage.data_dir
    key = "data_dir" if config.storage.catalog is None else "catalog"
    return f"There is no data in {place} yet. Start the gateway first, or correct storage.{key}."


def share_settings(config: GatewayConfig) -> dict[str, ShareSettings]:
    """Return what the vault needs to know of each share."""
    return {
        name: ShareSettings(
            name,
            quota_bytes=share.quota_bytes,
            versions_keep=share.versions.keep,
            versions_for_s=share.versions.for_s,
            trash_s=share.trash_s,
        )
        for name, share in config.shares.items()
    }


def open_storage(config: GatewayConfig) -> tuple[Catalog, BlobStore]:
    """Return the catalog and the blob store of ``config``; their folder is made, no tables are."""
    if config.storage.catalog is None or config.storage.blobs is None:
        _make_data_folder(config.storage.data_dir)
    catalog = _open_catalog(config)
    try:
        return catalog, open_blobs(config)
    except BaseException:
        catalog.close()
        raise


def _make_data_folder(data_dir: Path) -> None:
    try:
        data_dir.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise StorageUnavailableError(
            f"The data folder {data_dir} cannot be made ({error.strerror}). Make it, writable for "
            "this user alone, or change storage.data_dir."
        ) from error


def _open_catalog(config: GatewayConfig) -> Catalog:
    storage = config.storage
    if storage.catalog is None:
        return open_catalog(storage.data_dir)
    # The libraries of a driver that is not in use are not loaded.
    from backends.catalog import postgres  # noqa: PLC0415

    return postgres.open_catalog(
        postgres.PostgresSettings(
            host=storage.catalog.host,
            port=storage.catalog.port,
            user=storage.catalog.user,
            database=storage.catalog.database,
            sslmode=storage.catalog.sslmode,
            password=_secret(storage.catalog_password),
            ca_file=storage.catalog_ca_file,
        )
    )


def open_blobs(config: GatewayConfig) -> BlobStore:
    """Return where the segments of ``config`` lie."""
    storage = config.storage
    if storage.blobs is None:
        return LocalBlobStore.prepare(storage.data_dir / BLOBS)
    from backends.blobs.s3 import S3BlobStore  # noqa: PLC0415  as in _open_catalog
    from backends.blobs.s3_bucket import S3Settings  # noqa: PLC0415

    assert storage.s3 is not None
    return S3BlobStore.prepare(
        S3Settings(
            bucket=storage.blobs.bucket,
            prefix=storage.blobs.prefix,
            endpoint=storage.s3.endpoint,
            region=storage.s3.region,
            access_key_id=_secret(storage.s3.access_key),
            secret_access_key=_secret(storage.s3.secret_key),
            ca_file=storage.s3.ca_file,
        )
    )


def _secret(source: SecretSource | None) -> str:
    return "" if source is None else _secret_text(_secret_path(source))


def _secret_path(source: SecretSource) -> Path:
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    path = source.path(Path(folder) if folder else None)
    if path is None:
        raise KeyUnavailableError(
            f"systemd handed over no credential '{source.credential}'. Add "
            f"'LoadCredential={source.credential}:...' to the service."
        )
    return path


def _secret_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise KeyUnavailableError(f"The secret in {path} cannot be read.") from error

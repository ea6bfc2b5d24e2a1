"""The catalog's tables. ``migrations`` builds them; a test keeps the two alike.

Ids are 16 bytes. ``*_us`` are microseconds since 1970 UTC. Everything named ``*_sealed`` or
``*_wrapped`` is unreadable without the keyring (FORMAT.md section 6 lists what is left readable).
"""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData()

meta = sa.Table(
    "meta",
    metadata,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("value", sa.LargeBinary, nullable=False),
)

shares = sa.Table(
    "shares",
    metadata,
    sa.Column("id", sa.LargeBinary, primary_key=True),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    sa.Column("root_id", sa.LargeBinary, nullable=False),
    sa.Column("name_key_wrapped", sa.LargeBinary, nullable=False),
    sa.Column("epoch", sa.Integer, nullable=False),
    sa.Column("used_bytes", sa.BigInteger, nullable=False),
    sa.Column("node_count", sa.BigInteger, nullable=False),
    sa.Column("created_us", sa.BigInteger, nullable=False),
    sa.Column("state_sealed", sa.LargeBinary, nullable=False),
)

epochs = sa.Table(
    "epochs",
    metadata,
    sa.Column("share_id", sa.LargeBinary, primary_key=True),
    sa.Column("epoch", sa.Integer, primary_key=True),
    sa.Column("key_wrapped", sa.LargeBinary),
    sa.Column("created_us", sa.BigInteger, nullable=False),
    sa.Column("destroyed_us", sa.BigInteger),
)

nodes = sa.Table(
    "nodes",
    metadata,
    sa.Column("id", sa.LargeBinary, primary_key=True),
    sa.Column("share_id", sa.LargeBinary, nullable=False),
    sa.Column("parent_id", sa.LargeBinary, nullable=False),
    sa.Column("name_sealed", sa.LargeBinary, nullable=False),
    sa.Column("is_folder", sa.Boolean, nullable=False),
    sa.Column("version_id", sa.LargeBinary, nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("created_us", sa.BigInteger, nullable=False),
    sa.Column("modified_us", sa.BigInteger, nullable=False),
    sa.Column("created_by", sa.Text, nullable=False),
    sa.Column("deleted_us", sa.BigInteger),
    sa.Column("deleted_by", sa.Text),
    sa.Column("mac", sa.LargeBinary, nullable=False),
)
sa.Index(
    "nodes_by_name",
    nodes.c.parent_id,
    nodes.c.name_sealed,
    unique=True,
    sqlite_where=nodes.c.deleted_us.is_(None),
    postgresql_where=nodes.c.deleted_us.is_(None),
)

# For listings, which it gives in the order of the rows, and for what lies below trashed folders.
sa.Index("nodes_by_parent", nodes.c.parent_id)
sa.Index(
    "nodes_in_trash",
    nodes.c.share_id,
    nodes.c.deleted_us,
    sqlite_where=nodes.c.deleted_us.is_not(None),
    postgresql_where=nodes.c.deleted_us.is_not(None),
)

versions = sa.Table(
    "versions",
    metadata,
    sa.Column("id", sa.LargeBinary, primary_key=True),
    sa.Column("node_id", sa.LargeBinary, nullable=False),
    sa.Column("share_id", sa.LargeBinary, nullable=False),
    sa.Column("epoch", sa.Integer, nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("sha256_sealed", sa.LargeBinary),
    sa.Column("modified_us", sa.BigInteger, nullable=False),
    sa.Column("created_us", sa.BigInteger, nullable=False),
    sa.Column("author", sa.Text, nullable=False),
    sa.Column("inline_sealed", sa.LargeBinary),
    sa.Column("mac", sa.LargeBinary, nullable=False),
)

# Every upload asks for its file's versions, each with up to 16 KiB of content in its row: the index
# answers from itself.
sa.Index(
    "versions_dated",
    versions.c.node_id,
    versions.c.created_us,
    versions.c.id,
    versions.c.size_bytes,
    versions.c.mac,
)
sa.Index("versions_by_epoch", versions.c.share_id, versions.c.epoch)

extents = sa.Table(
    "extents",
    metadata,
    sa.Column("version_id", sa.LargeBinary, primary_key=True),
    sa.Column("block_start", sa.BigInteger, primary_key=True),
    sa.Column("block_count", sa.BigInteger, nullable=False),
    sa.Column("segment_id", sa.LargeBinary, nullable=False, index=True),
    sa.Column("chunk_start", sa.Integer, nullable=False),
)

segments = sa.Table(
    "segments",
    metadata,
    sa.Column("id", sa.LargeBinary, primary_key=True),
    sa.Column("share_id", sa.LargeBinary, nullable=False),
    sa.Column("epoch", sa.Integer, nullable=False),
    sa.Column("size_sealed_bytes", sa.BigInteger, nullable=False),
    sa.Column("created_us", sa.BigInteger, nullable=False),
    sa.Column("orphaned_us", sa.BigInteger, index=True),
    sa.Column("verified_us", sa.BigInteger, nullable=False, index=True),
)

sa.Index("segments_by_epoch", segments.c.share_id, segments.c.epoch)

quarantine = sa.Table(
    "quarantine",
    metadata,
    sa.Column("segment_id", sa.LargeBinary, primary_key=True),
    sa.Column("share_id", sa.LargeBinary, nullable=False),
    sa.Column("found_us", sa.BigInteger, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
)

vacated = sa.Table(
    "vacated",
    metadata,
    sa.Column("folder_id", sa.LargeBinary, primary_key=True),
    sa.Column("name_sealed", sa.LargeBinary, primary_key=True),
    sa.Column("node_id", sa.LargeBinary, nullable=False),
    sa.Column("version_id", sa.LargeBinary, nullable=False),
    sa.Column("principal_id", sa.Text, nullable=False),
    sa.Column("vacated_us", sa.BigInteger, nullable=False, index=True),
    sa.Column("mac", sa.LargeBinary, nullable=False),
)

unfinished = sa.Table(
    "unfinished",
    metadata,
    sa.Column("id", sa.LargeBinary, primary_key=True),
    sa.Column("share_id", sa.LargeBinary, nullable=False),
    sa.Column("folder_id", sa.LargeBinary, nullable=False),
    sa.Column("name_sealed", sa.LargeBinary, nullable=False),
    sa.Column("principal_id", sa.Text, nullable=False),
    sa.Column("base_id", sa.LargeBinary, nullable=False),
    sa.Column("version_id", sa.LargeBinary, nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("created_us", sa.BigInteger, nullable=False),
    sa.Column("modified_us", sa.BigInteger, nullable=False),
    sa.Column("expires_us", sa.BigInteger, nullable=False, index=True),
    sa.Column("mac", sa.LargeBinary, nullable=False),
)
sa.Index(
    "unfinished_by_name",
    unfinished.c.folder_id,
    unfinished.c.name_sealed,
    unfinished.c.principal_id,
    unique=True,
)

reservations = sa.Table(
    "reservations",
    metadata,
    sa.Column("id", sa.LargeBinary, primary_key=True),
    sa.Column("share_id", sa.LargeBinary, nullable=False, index=True),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("expires_us", sa.BigInteger, nullable=False, index=True),
)

properties = sa.Table(
    "properties",
    metadata,
    sa.Column("node_id", sa.LargeBinary, primary_key=True),
    sa.Column("properties_sealed", sa.LargeBinary, nullable=False),
)

locks = sa.Table(
    "locks",
    metadata,
    sa.Column("token", sa.Text, primary_key=True),
    sa.Column("node_id", sa.LargeBinary, nullable=False, index=True),
    sa.Column("exclusive", sa.Boolean, nullable=False),
    sa.Column("depth_infinity", sa.Boolean, nullable=False),
    sa.Column("principal_id", sa.Text, nullable=False),
    sa.Column("principal_name", sa.Text, nullable=False),
    sa.Column("owner_sealed", sa.LargeBinary, nullable=False),
    sa.Column("timeout_s", sa.Integer, nullable=False),
    sa.Column("expires_us", sa.BigInteger, nullable=False, index=True),
)

sa.Index("locks_by_principal", locks.c.principal_id, locks.c.expires_us)

sessions = sa.Table(
    "sessions",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("principal_id", sa.Text, nullable=False),
    sa.Column("principal", sa.Text, nullable=False),
    sa.Column("wire", sa.Text, nullable=False),
    sa.Column("client_address", sa.Text, nullable=False),
    sa.Column("client_software", sa.Text, nullable=False),
    sa.Column("factors", sa.Text, nullable=False),
    sa.Column("binding", sa.LargeBinary, unique=True),
    sa.Column("join_until_us", sa.BigInteger, nullable=False),
    sa.Column("connections", sa.Integer, nullable=False),
    sa.Column("opened_us", sa.BigInteger, nullable=False),
    sa.Column("last_active_us", sa.BigInteger, nullable=False),
    sa.Column("idle_timeout_s", sa.Integer, nullable=False),
    sa.Column("ends_us", sa.BigInteger, nullable=False),
    sa.Column("ended_us", sa.BigInteger, index=True),
    sa.Column("ended_reason", sa.Text),
    sa.Column("mac", sa.LargeBinary, nullable=False),
    sa.Column("lease_id", sa.Text, index=True),
)
sa.Index(
    "sessions_living",
    sessions.c.principal_id,
    sqlite_where=sessions.c.ended_us.is_(None),
    postgresql_where=sessions.c.ended_us.is_(None),
)

leases = sa.Table(
    "leases",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("principal_id", sa.Text, nullable=False),
    sa.Column("principal_name", sa.Text, nullable=False),
    sa.Column("client_address", sa.Text, nullable=False),
    sa.Column("opened_us", sa.BigInteger, nullable=False),
    sa.Column("idle_timeout_s", sa.Integer, nullable=False),
    sa.Column("ends_us", sa.BigInteger, nullable=False),
    sa.Column("mac", sa.LargeBinary, nullable=False),
    sa.UniqueConstraint("principal_id", "client_address"),
)

totp_seeds = sa.Table(
    "totp_seeds",
    metadata,
    sa.Column("principal_id", sa.Text, primary_key=True),
    sa.Column("seed_sealed", sa.LargeBinary, nullable=False),
    sa.Column("last_counter", sa.BigInteger, nullable=False),
    sa.Column("confirmed", sa.Boolean, nullable=False),
    sa.Column("created_us", sa.BigInteger, nullable=False),
)

throttles = sa.Table(
    "throttles",
    metadata,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("last_failure_us", sa.BigInteger, nullable=False, index=True),
)

journals = sa.Table(
    "journals",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("node", sa.Text, nullable=False),
    sa.Column("started_us", sa.BigInteger, nullable=False),
)

audit = sa.Table(
    "audit",
    metadata,
    sa.Column("journal", sa.Text, primary_key=True),
    sa.Column("seq", sa.BigInteger, primary_key=True),
    sa.Column("time_us", sa.BigInteger, nullable=False, index=True),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("detail_sealed", sa.LargeBinary, nullable=False),
    sa.Column("hash", sa.LargeBinary, nullable=False),
)

checkpoints = sa.Table(
    "checkpoints",
    metadata,
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("time_us", sa.BigInteger, nullable=False),
    sa.Column("line", sa.Text, nullable=False),
)

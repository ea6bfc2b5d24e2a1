"""The first catalog."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = None


def upgrade() -> None:
    """Make every table."""
    op.create_table(
        "audit",
        sa.Column("journal", sa.Text(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("time_us", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("detail_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("journal", "seq"),
    )
    op.create_index(op.f("ix_audit_time_us"), "audit", ["time_us"], unique=False)
    op.create_table(
        "checkpoints",
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("time_us", sa.BigInteger(), nullable=False),
        sa.Column("line", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number"),
    )
    op.create_table(
        "epochs",
        sa.Column("share_id", sa.LargeBinary(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("key_wrapped", sa.LargeBinary(), nullable=True),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("destroyed_us", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("share_id", "epoch"),
    )
    op.create_table(
        "extents",
        sa.Column("version_id", sa.LargeBinary(), nullable=False),
        sa.Column("block_start", sa.BigInteger(), nullable=False),
        sa.Column("block_count", sa.BigInteger(), nullable=False),
        sa.Column("segment_id", sa.LargeBinary(), nullable=False),
        sa.Column("chunk_start", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("version_id", "block_start"),
    )
    op.create_index(op.f("ix_extents_segment_id"), "extents", ["segment_id"], unique=False)
    op.create_table(
        "journals",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("started_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "locks",
        sa.Column("token", sa.Text(), nullable=False),
        sa.Column("node_id", sa.LargeBinary(), nullable=False),
        sa.Column("exclusive", sa.Boolean(), nullable=False),
        sa.Column("depth_infinity", sa.Boolean(), nullable=False),
        sa.Column("principal_id", sa.Text(), nullable=False),
        sa.Column("principal_name", sa.Text(), nullable=False),
        sa.Column("owner_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("timeout_s", sa.Integer(), nullable=False),
        sa.Column("expires_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("token"),
    )
    op.create_index(op.f("ix_locks_expires_us"), "locks", ["expires_us"], unique=False)
    op.create_index(op.f("ix_locks_node_id"), "locks", ["node_id"], unique=False)
    op.create_index("locks_by_principal", "locks", ["principal_id", "expires_us"], unique=False)
    op.create_table(
        "meta",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_table(
        "nodes",
        sa.Column("id", sa.LargeBinary(), nullable=False),
        sa.Column("share_id", sa.LargeBinary(), nullable=False),
        sa.Column("parent_id", sa.LargeBinary(), nullable=False),
        sa.Column("name_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("is_folder", sa.Boolean(), nullable=False),
        sa.Column("version_id", sa.LargeBinary(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("modified_us", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("deleted_us", sa.BigInteger(), nullable=True),
        sa.Column("deleted_by", sa.Text(), nullable=True),
        sa.Column("mac", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "nodes_by_name",
        "nodes",
        ["parent_id", "name_sealed"],
        unique=True,
        sqlite_where=sa.text("deleted_us IS NULL"),
        postgresql_where=sa.text("deleted_us IS NULL"),
    )
    op.create_index("nodes_by_parent", "nodes", ["parent_id"], unique=False)
    op.create_index(
        "nodes_in_trash",
        "nodes",
        ["share_id", "deleted_us"],
        unique=False,
        sqlite_where=sa.text("deleted_us IS NOT NULL"),
        postgresql_where=sa.text("deleted_us IS NOT NULL"),
    )
    op.create_table(
        "properties",
        sa.Column("node_id", sa.LargeBinary(), nullable=False),
        sa.Column("properties_sealed", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("node_id"),
    )
    op.create_table(
        "quarantine",
        sa.Column("segment_id", sa.LargeBinary(), nullable=False),
        sa.Column("share_id", sa.LargeBinary(), nullable=False),
        sa.Column("found_us", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("segment_id"),
    )
    op.create_table(
        "reservations",
        sa.Column("id", sa.LargeBinary(), nullable=False),
        sa.Column("share_id", sa.LargeBinary(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("expires_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        op.f("ix_reservations_expires_us"), "reservations", ["expires_us"], unique=False
    )
    op.create_index(op.f("ix_reservations_share_id"), "reservations", ["share_id"], unique=False)
    op.create_table(
        "segments",
        sa.Column("id", sa.LargeBinary(), nullable=False),
        sa.Column("share_id", sa.LargeBinary(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("size_sealed_bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("orphaned_us", sa.BigInteger(), nullable=True),
        sa.Column("verified_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_segments_orphaned_us"), "segments", ["orphaned_us"], unique=False)
    op.create_index(op.f("ix_segments_verified_us"), "segments", ["verified_us"], unique=False)
    op.create_index("segments_by_epoch", "segments", ["share_id", "epoch"], unique=False)
    op.create_table(
        "sessions",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("principal_id", sa.Text(), nullable=False),
        sa.Column("principal", sa.Text(), nullable=False),
        sa.Column("wire", sa.Text(), nullable=False),
        sa.Column("client_address", sa.Text(), nullable=False),
        sa.Column("client_software", sa.Text(), nullable=False),
        sa.Column("factors", sa.Text(), nullable=False),
        sa.Column("binding", sa.LargeBinary(), nullable=True),
        sa.Column("join_until_us", sa.BigInteger(), nullable=False),
        sa.Column("connections", sa.Integer(), nullable=False),
        sa.Column("opened_us", sa.BigInteger(), nullable=False),
        sa.Column("last_active_us", sa.BigInteger(), nullable=False),
        sa.Column("idle_timeout_s", sa.Integer(), nullable=False),
        sa.Column("ends_us", sa.BigInteger(), nullable=False),
        sa.Column("ended_us", sa.BigInteger(), nullable=True),
        sa.Column("ended_reason", sa.Text(), nullable=True),
        sa.Column("mac", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("binding"),
    )
    op.create_index(op.f("ix_sessions_ended_us"), "sessions", ["ended_us"], unique=False)
    op.create_table(
        "shares",
        sa.Column("id", sa.LargeBinary(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("root_id", sa.LargeBinary(), nullable=False),
        sa.Column("name_key_wrapped", sa.LargeBinary(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("used_bytes", sa.BigInteger(), nullable=False),
        sa.Column("node_count", sa.BigInteger(), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("state_sealed", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "throttles",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("last_failure_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_index(
        op.f("ix_throttles_last_failure_us"), "throttles", ["last_failure_us"], unique=False
    )
    op.create_table(
        "totp_seeds",
        sa.Column("principal_id", sa.Text(), nullable=False),
        sa.Column("seed_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("last_counter", sa.BigInteger(), nullable=False),
        sa.Column("confirmed", sa.Boolean(), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("principal_id"),
    )
    op.create_table(
        "unfinished",
        sa.Column("id", sa.LargeBinary(), nullable=False),
        sa.Column("share_id", sa.LargeBinary(), nullable=False),
        sa.Column("folder_id", sa.LargeBinary(), nullable=False),
        sa.Column("name_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("principal_id", sa.Text(), nullable=False),
        sa.Column("base_id", sa.LargeBinary(), nullable=False),
        sa.Column("version_id", sa.LargeBinary(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("modified_us", sa.BigInteger(), nullable=False),
        sa.Column("expires_us", sa.BigInteger(), nullable=False),
        sa.Column("mac", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_unfinished_expires_us"), "unfinished", ["expires_us"], unique=False)
    op.create_index(
        "unfinished_by_name",
        "unfinished",
        ["folder_id", "name_sealed", "principal_id"],
        unique=True,
    )
    op.create_table(
        "vacated",
        sa.Column("folder_id", sa.LargeBinary(), nullable=False),
        sa.Column("name_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("node_id", sa.LargeBinary(), nullable=False),
        sa.Column("version_id", sa.LargeBinary(), nullable=False),
        sa.Column("principal_id", sa.Text(), nullable=False),
        sa.Column("vacated_us", sa.BigInteger(), nullable=False),
        sa.Column("mac", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("folder_id", "name_sealed"),
    )
    op.create_index(op.f("ix_vacated_vacated_us"), "vacated", ["vacated_us"], unique=False)
    op.create_table(
        "versions",
        sa.Column("id", sa.LargeBinary(), nullable=False),
        sa.Column("node_id", sa.LargeBinary(), nullable=False),
        sa.Column("share_id", sa.LargeBinary(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256_sealed", sa.LargeBinary(), nullable=True),
        sa.Column("modified_us", sa.BigInteger(), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("inline_sealed", sa.LargeBinary(), nullable=True),
        sa.Column("mac", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_versions_node_id"), "versions", ["node_id"], unique=False)
    op.create_index("versions_by_epoch", "versions", ["share_id", "epoch"], unique=False)

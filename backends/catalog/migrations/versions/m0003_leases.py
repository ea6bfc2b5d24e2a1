"""Leases, which session belongs to which, and the living sessions of a principal."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_LIVING = sa.text("ended_us IS NULL")


def upgrade() -> None:
    """Add the table, the column and the indexes; sessions of before belong to no lease."""
    op.create_table(
        "leases",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("principal_id", sa.Text(), nullable=False),
        sa.Column("principal_name", sa.Text(), nullable=False),
        sa.Column("client_address", sa.Text(), nullable=False),
        sa.Column("opened_us", sa.BigInteger(), nullable=False),
        sa.Column("idle_timeout_s", sa.Integer(), nullable=False),
        sa.Column("ends_us", sa.BigInteger(), nullable=False),
        sa.Column("mac", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("principal_id", "client_address"),
    )
    op.add_column("sessions", sa.Column("lease_id", sa.Text(), nullable=True))
    op.create_index(op.f("ix_sessions_lease_id"), "sessions", ["lease_id"], unique=False)
    op.create_index(
        "sessions_living",
        "sessions",
        ["principal_id"],
        unique=False,
        sqlite_where=_LIVING,
        postgresql_where=_LIVING,
    )

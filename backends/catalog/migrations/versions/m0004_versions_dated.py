"""What retention asks of a file's versions, in one index: the contents in between stay unread."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Replace the index over the nodes of versions by one that answers from itself."""
    op.drop_index(op.f("ix_versions_node_id"), table_name="versions")
    op.create_index(
        "versions_dated",
        "versions",
        ["node_id", "created_us", "id", "size_bytes", "mac"],
        unique=False,
    )

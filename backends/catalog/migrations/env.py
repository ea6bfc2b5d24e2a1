"""Runs the migrations on the connection that ``backends.catalog.engine`` hands over."""

from __future__ import annotations

from alembic import context

from backends.catalog.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()

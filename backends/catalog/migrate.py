"""Runs Alembic over the catalog. Loaded only when there is something to migrate."""

from __future__ import annotations

from importlib import resources

import sqlalchemy as sa
from alembic import command
from alembic.config import Config


def upgrade(connection: sa.Connection) -> None:
    """Bring the tables behind ``connection`` up to the newest revision."""
    config = Config()
    scripts = resources.files("backends.catalog") / "migrations"
    config.set_main_option("script_location", str(scripts))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")

"""Runs Alembic over the catalog. Loaded only when there is something to migrate."""

from __future__ import annotations

from importlib import resources

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from backends.errors import StorageUnavailableError


def upgrade(connection: sa.Connection, found: str) -> None:
    """Bring the tables behind ``connection``, at revision ``found``, up to the newest one.

    Raises StorageUnavailableError for a catalog that this version does not know.
    """
    config = Config()
    scripts = resources.files("backends.catalog") / "migrations"
    config.set_main_option("script_location", str(scripts))
    config.attributes["connection"] = connection
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found and found not in known:
        raise StorageUnavailableError(
            f"The catalog has revision {found}, which this version of Sealgate does not know. "
            "Run the version that made it, or restore a backup that this one made."
        )
    command.upgrade(config, "head")

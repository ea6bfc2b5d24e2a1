"""Alembic's scripts for the catalog: one a schema change, never edited once released."""

from __future__ import annotations

REVISION = "0004"
"""The newest revision; a test compares it with what Alembic finds."""

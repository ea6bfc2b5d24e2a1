"""Alembic's scripts for the catalog: one a schema change, never edited once released."""

"""Backups: sealed copies of a whole gateway in a folder, and the way back.

``folder`` knows where things lie, ``manifest`` what a backup says of itself, ``making``,
``checking`` and ``restoring`` are the work. The master key is never part of a backup. FORMAT.md
section 13 is the specification.
"""

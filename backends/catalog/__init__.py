"""The SQL catalog: nodes, versions, keys, locks, sessions, audit. The only home of SQLAlchemy.

Each module holds the statements of one subject as functions over a ``Tx``; none decides anything.
"""

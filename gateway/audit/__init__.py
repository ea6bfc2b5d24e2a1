"""The audit trail: what a record holds, how records are chained, how a chain is verified.

``record`` is pure, ``journal`` writes, ``trail`` reads. Imports the catalog's statements and the
keyring; knows nothing of protocols or policy.
"""

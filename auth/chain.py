"""Which factors, in which order, let somebody in over SFTP.

Words only; policy says who may use which. Imports nothing.
"""

from __future__ import annotations

import enum


class Chain(enum.StrEnum):
    """The factors of one way in; ``docs/SIGNING-IN.md`` shows what a client sees of each."""

    PASSWORD_TOTP = "password+totp"  # noqa: S105  a word of the configuration, not a secret
    KEY_TOTP = "publickey+totp"
    KEY_LEASE = "publickey+lease"
    KEY = "publickey"


OF_PEOPLE = frozenset({Chain.PASSWORD_TOTP, Chain.KEY_TOTP, Chain.KEY_LEASE})
"""The ways in of people, who have a second factor; a service account has ``KEY`` alone."""

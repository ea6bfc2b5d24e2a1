"""The application log: one line an event on standard error, for the journal of the machine.

Never file names, user input or secrets: those belong, sealed, in the audit trail.
"""

from __future__ import annotations

import logging
import sys


def configure_logging(component: str) -> None:
    """Send this process's log to standard error, each line naming ``component``."""
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format=f"%(asctime)s %(levelname)s {component}: %(message)s",
        force=True,
    )
    # Alembic tells of each migration step, which nobody needs twice per worker.
    logging.getLogger("alembic").setLevel(logging.WARNING)

"""The audit trail's checkpoints and anchor, and whether the clock can be believed.

Imports the configuration and the catalog's checkpoints.
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Iterator
from pathlib import Path

from backends.catalog import checkpoints
from backends.catalog.engine import Catalog
from gateway.audit.record import iso_time
from gateway.config import GatewayConfig
from gateway.doctor.finding import Finding, ok, problem, warning
from gateway.doctor.listening import answers
from gateway.model import SECOND_US

TAIL_BYTES = 1 << 20
LATE_US = 300 * SECOND_US
"""How late the newest checkpoint of a running gateway may be before it is warned of."""
AHEAD_US = 5 * SECOND_US

_TIME_ERROR = 5
_TIMEX_BYTES = 512


def check_anchor(config: GatewayConfig, catalog: Catalog | None) -> Iterator[Finding]:
    """Yield whether the anchor is there, apart from the data, and names the newest checkpoint."""
    anchor = config.audit.anchor
    if anchor is None:
        message = "there is none: a data folder that was set back to an old copy would not show."
        yield warning("audit anchor", message, "Set audit.anchor, best to another machine's disk.")
        return
    subject = f"audit anchor {anchor}"
    if catalog is None:
        return
    with catalog.snapshot() as tx:
        newest = checkpoints.last(tx)
    if newest is None:
        yield ok(subject, "there is no checkpoint yet.")
        return
    anchored = last_number(anchor)
    if anchored > newest.number:
        message = f"knows checkpoint {anchored}, the catalog only {newest.number}: set back?"
        yield problem(subject, message, "Find out who restored the data; see docs/AUDIT.md.")
    elif anchored < newest.number - 1:
        message = f"ends at checkpoint {anchored}, the catalog has {newest.number}."
        yield problem(subject, message, "Let the gateway write there; its log says what fails.")
    elif _same_disk(anchor, config.storage.data_dir):
        message = "is up to date, and lies on the disk of the data it vouches for."
        yield warning(subject, message, "Move it to another disk, best of another machine.")
    else:
        yield ok(subject, f"is up to date, with checkpoint {anchored}.")


def last_number(anchor: Path) -> int:
    """Return the number of the last checkpoint in ``anchor``; 0 when there is none."""
    try:
        with anchor.open("rb") as file:
            file.seek(max(0, anchor.stat().st_size - TAIL_BYTES))
            lines = file.read().splitlines()
    except OSError:
        return 0
    for line in reversed(lines):
        try:
            return int(json.loads(line)["number"])
        except (ValueError, KeyError, TypeError):
            continue
    return 0


def _same_disk(anchor: Path, data_dir: Path) -> bool:
    try:
        return anchor.stat().st_dev == data_dir.stat().st_dev
    except OSError:
        return False


def check_times(config: GatewayConfig, catalog: Catalog | None, now_us: int) -> Iterator[Finding]:
    """Yield whether the clock agrees with what was recorded, and with others' clocks."""
    if catalog is not None:
        with catalog.snapshot() as tx:
            newest = checkpoints.last(tx)
        if newest is not None and newest.time_us > now_us + AHEAD_US:
            message = f"is before {iso_time(newest.time_us)}, when a checkpoint was made: set back?"
            yield problem("clock", message, "Set it right; codes and leases go by it.")
            return
        late = newest is not None and newest.time_us < now_us - LATE_US
        if newest is not None and late and answers(config):
            message = f"the newest checkpoint is of {iso_time(newest.time_us)}."
            yield warning("audit checkpoints", message, "Look at the gateway's log.")
    if synchronised():
        yield ok("clock", "is kept by a time server.")
    else:
        message = "the system does not say that a time server keeps it; one-time codes go by it."
        yield warning("clock", message, "Turn on chrony or systemd-timesyncd.")


def synchronised() -> bool:
    """Return whether the kernel counts its clock as kept in step (adjtimex(2))."""
    library = ctypes.CDLL(None, use_errno=True)
    state = library.adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    return 0 <= int(state) < _TIME_ERROR

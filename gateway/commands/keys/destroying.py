"""``sealgate keys destroy-share``: crypto-erasure of one share, with its proof."""

from __future__ import annotations

import argparse
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from backends.catalog import keys, remains
from backends.destruction import (
    Cleared,
    Destroyed,
    Opened,
    Samples,
    all_destroyed,
    clear,
    destroy,
    keys_that_open,
    samples_of,
    try_all,
)
from backends.epochs import uses_of
from backends.history import History
from backends.share import master_key
from gateway.app import Gateway
from gateway.commands.keys.place import (
    SQLITE,
    all_shares,
    chosen_shares,
    files_holding,
)
from gateway.commands.output import (
    DONE,
    PROBLEM,
    UsageError,
    administered,
    config_of,
    opened,
    print_json,
    say,
)
from gateway.config import GatewayConfig
from gateway.model import Transaction

DESTROY_SHARE = "keys_destroy_share"
CLEAR_SHARE = "keys_clear_share"


@dataclass(frozen=True, slots=True)
class Proof:
    """What was tried with a destroyed share, and what was found of its keys.

    ``opened_before`` None: an earlier run destroyed the keys. ``files`` None: they cannot be read.
    """

    opened_before: Opened | None
    tried_count: int
    opened_now: int
    key_count: int
    files: tuple[Path, ...] | None

    @property
    def holds(self) -> bool:
        """Whether nothing was found that opens the share."""
        return not (self.opened_now or self.key_count or self.files)


def run_destroy_share(arguments: argparse.Namespace) -> int:
    """Destroy the keys of a share that the configuration does not name, prove it, clear it away.

    Run again it goes on with what an earlier run left.
    """
    config = config_of(arguments)
    name = arguments.share
    if name in config.shares:
        raise UsageError(
            f"The configuration still names share '{name}': running gateways use it, and the next "
            "start would make it anew, empty. Take it out of the configuration, reload the "
            "gateway, and run this again."
        )
    with opened(arguments) as gateway:
        dialect = gateway.catalog.dialect
        with gateway.catalog.snapshot() as tx:
            earlier = [each for each in all_destroyed(tx) if each.name == name]
            row = keys.share_by_name(tx, name)
            if row is None and not earlier:
                chosen_shares(tx, [name])
        acts: list[tuple[Destroyed, Samples | None, Opened | None]] = [
            (each, None, None) for each in earlier
        ]
        if row is not None:
            _require_confirmed(gateway, arguments, row)
            acts.append(_destroyed(gateway, row))
    proofs = []
    for act, samples, before in acts:
        # Between two openings of the gateway: the files may only be read while it is closed.
        found = files_holding(config, act.pieces) if dialect == SQLITE else None
        with opened(arguments) as gateway:
            files = None if found is None else tuple(found)
            proof = _proof(gateway, act, samples, before, files)
            _say_proof(arguments, act, proof)
            proofs.append((proof, _cleared(gateway, act, proof)))
    return _end(arguments, config, proofs)


def _require_confirmed(gateway: Gateway, arguments: argparse.Namespace, row: keys.ShareRow) -> None:
    """Raise UsageError unless the share's name was given a second time."""
    if arguments.yes_destroy == row.name:
        return
    if arguments.yes_destroy or arguments.json:
        raise UsageError(f"Nothing was destroyed. Say --yes-destroy {row.name} to destroy it.")
    with gateway.catalog.snapshot() as tx:
        version_count = sum(use.version_count for use in uses_of(tx, row))
    sys.stderr.write(
        f"Share '{row.name}' holds {row.node_count} files and folders, {version_count} versions, "
        f"{row.used_bytes} bytes.\nNobody will ever read them again, with any key. "
        "Type the share's name to destroy it: "
    )
    sys.stderr.flush()
    if sys.stdin.readline().rstrip("\n") != row.name:
        raise UsageError("That is not its name. Nothing was destroyed.")


def _destroyed(gateway: Gateway, row: keys.ShareRow) -> tuple[Destroyed, Samples, Opened]:
    """Destroy the keys; return samples of what they sealed, and how many of these had opened."""
    with gateway.journal.begin() as tx:
        current = keys.share_by_id(tx, row.id)
        if current is None:
            raise UsageError(f"Share '{row.name}' was destroyed by somebody else.")
        samples = samples_of(tx, row.id, row.name)
        before = _try(gateway, tx, samples)
        uses = uses_of(tx, current)
        act = destroy(tx, current, gateway.clock())
        note = (
            f"{row.name} ({row.id.hex()}): {len(uses)} epochs, {current.node_count} nodes, "
            f"{sum(use.version_count for use in uses)} versions"
        )
        administered(gateway, tx, DESTROY_SHARE, note=note)
    return act, samples, before


def _try(gateway: Gateway, tx: Transaction, samples: Samples) -> Opened:
    """Try to open samples with what the catalog and the master key give, and nothing cached."""
    shares, store = all_shares(gateway, [samples.name]), gateway.store
    history = History(shares, store, clock=gateway.clock, random_bytes=secrets.token_bytes)
    return try_all(tx, shares, store, history, samples)


def _proof(
    gateway: Gateway,
    act: Destroyed,
    samples: Samples | None,
    before: Opened | None,
    files: tuple[Path, ...] | None,
) -> Proof:
    with gateway.catalog.snapshot() as tx:
        if samples is None:
            samples = samples_of(tx, act.share_id, act.name)
        master = master_key(tx, gateway.masters)
        return Proof(
            opened_before=before,
            tried_count=len(samples.versions) + len(samples.segments) + len(samples.nodes),
            opened_now=_try(gateway, tx, samples).total,
            key_count=keys_that_open(tx, master, act.share_id),
            files=files,
        )


def _cleared(gateway: Gateway, act: Destroyed, proof: Proof) -> Cleared:
    with tqdm(unit=" rows", disable=None, leave=False) as bar:

        def done(count: int) -> None:
            bar.update(count)

        cleared = clear(
            gateway.catalog, gateway.store, act.share_id, clock=gateway.clock, done=done
        )
    with gateway.journal.begin() as tx:
        if proof.holds:
            remains.forget_act(tx, act.share_id)
        result = "proven unreadable" if proof.holds else "NOT proven unreadable"
        administered(gateway, tx, CLEAR_SHARE, note=f"{act.name} ({act.share_id.hex()}): {result}")
    return cleared


def _say_proof(arguments: argparse.Namespace, act: Destroyed, proof: Proof) -> None:
    if arguments.json:
        return
    say(f"The keys of share '{act.name}' ({act.share_id.hex()}) are destroyed.")
    if proof.opened_before is None:
        say("That was done by an earlier run, which was cut off or could not prove it.")
    else:
        before = proof.opened_before
        say(
            f"Before, the master key opened {before.version_count} versions, "
            f"{before.segment_count} segments and {before.name_count} names that were tried."
        )
    say(f"Now it opens {proof.opened_now} of {proof.tried_count}.")
    say(f"Values in the catalog that it opens as a key of the share: {proof.key_count}.")
    if proof.files is None:
        say("The files of the database were not looked at: they, its write-ahead log and its")
        say("archives may hold the wrapped keys. Run VACUUM FULL on the tables epochs, shares and")
        say("meta, and let archived logs from before expire.")
    elif proof.files:
        for file in proof.files:
            say(f"A destroyed key is still in {file}.")
    else:
        say(f"None of the {len(act.pieces)} destroyed keys is in the files of the catalog.")


def _end(
    arguments: argparse.Namespace, config: GatewayConfig, proofs: list[tuple[Proof, Cleared]]
) -> int:
    proven = all(proof.holds for proof, _ in proofs)
    if arguments.json:
        print_json({"share": arguments.share, "proven": proven, "destroyed": [
            _described(proof, cleared) for proof, cleared in proofs
        ]})  # fmt: skip
        return DONE if proven else PROBLEM
    for _, cleared in proofs:
        say(
            f"Cleared away: {cleared.node_count} nodes, {cleared.version_count} versions, "
            f"{cleared.segment_count} segments."
        )
    say("Backups made before still hold the wrapped keys: whoever has one and the master key of")
    say("its time reads the share as it was. Destroy them, or let them expire. Then restart the")
    say("gateway, so that no process keeps a key in memory.")
    if proven:
        say("PROVEN: nothing that is left here opens the share.")
        return DONE
    say("NOT PROVEN. Delete the copies named above; where it is the catalog itself, stop the")
    say(f"gateway and run VACUUM on it ({config.storage.data_dir}). Then run this again.")
    return PROBLEM


def _described(proof: Proof, cleared: Cleared) -> dict[str, object]:
    return {
        "opened_before": None if proof.opened_before is None else proof.opened_before.total,
        "tried": proof.tried_count,
        "opened_now": proof.opened_now,
        "keys_that_open": proof.key_count,
        "found_in": None if proof.files is None else [str(file) for file in proof.files],
        "cleared_nodes": cleared.node_count,
        "cleared_versions": cleared.version_count,
        "cleared_segments": cleared.segment_count,
    }

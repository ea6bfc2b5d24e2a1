"""``sealgate totp enrol|status|remove``: the second factor of one user."""

from __future__ import annotations

import argparse
import io

import segno

from auth.directory import Account
from auth.totp import provisioning_uri
from gateway.app import Gateway
from gateway.commands.output import (
    DONE,
    PROBLEM,
    UsageError,
    administered,
    opened,
    print_json,
    say,
)

ISSUER = "Sealgate"

SEED_CHANGED = "seed-changed"
"""Why a lease ends that a code of the old seed earned."""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its options."""
    totp = commands.add_parser("totp", help="give users their one-time codes")
    kinds = totp.add_subparsers(dest="kind", required=True, metavar="enrol|status|remove")
    enrol = kinds.add_parser("enrol", help="make a new seed; an older one stops working")
    status = kinds.add_parser("status", help="show whether a user has a seed")
    remove = kinds.add_parser("remove", help="take the seed away; the user cannot log in then")
    for parser in (enrol, status, remove):
        parser.add_argument("user")
        parser.add_argument("-c", "--config", default="")
        parser.add_argument("--json", action="store_true")
    enrol.set_defaults(run=run_enrol)
    status.set_defaults(run=run_status)
    remove.set_defaults(run=run_remove)


def run_enrol(arguments: argparse.Namespace) -> int:
    """Make a new seed and print it once, with a QR code for the authenticator app."""
    with opened(arguments, fresh=True) as gateway:
        account = _account(gateway, arguments.user)
        with gateway.journal.begin() as tx:
            secret = gateway.totp.enrol(tx, account.id)
            administered(gateway, tx, "totp_enrol", principal_id=account.id)
        gateway.login.end_leases(account.id, SEED_CHANGED)
    uri = provisioning_uri(secret, account.name, ISSUER)
    if arguments.json:
        print_json({"user": account.name, "secret": secret, "uri": uri})
        return DONE
    print_qr(uri)
    say(f"{account.name}: scan this with an authenticator app, or type the key {secret}")
    say("It is not shown again.")
    return DONE


def run_status(arguments: argparse.Namespace) -> int:
    """Show whether the user has a seed."""
    with opened(arguments) as gateway:
        account = _account(gateway, arguments.user)
        with gateway.catalog.snapshot() as tx:
            enrolled = gateway.totp.enrolled(tx, account.id)
    if arguments.json:
        print_json({"user": account.name, "enrolled": enrolled})
    else:
        say(f"{account.name}: {'has a seed' if enrolled else 'has no seed'}")
    return DONE if enrolled else PROBLEM


def run_remove(arguments: argparse.Namespace) -> int:
    """Take the user's seed away."""
    with opened(arguments) as gateway:
        account = _account(gateway, arguments.user)
        with gateway.journal.begin() as tx:
            removed = gateway.seeds.remove(tx, account.id)
            administered(gateway, tx, "totp_remove", principal_id=account.id)
        gateway.login.end_leases(account.id, SEED_CHANGED)
    if arguments.json:
        print_json({"user": account.name, "removed": removed})
    else:
        say(f"{account.name}: {'seed removed' if removed else 'had no seed'}")
    return DONE if removed else PROBLEM


def print_qr(text: str) -> None:
    """Print ``text`` as a QR code for a terminal with any background."""
    drawn = io.StringIO()
    segno.make(text, error="l").terminal(drawn, compact=True, border=2)
    print(drawn.getvalue())  # noqa: T201  say() would escape the drawing


def _account(gateway: Gateway, name: str) -> Account:
    account = gateway.directory.find(name)
    if account is None:
        raise UsageError(f"The directory knows no user '{name}'.")
    return account

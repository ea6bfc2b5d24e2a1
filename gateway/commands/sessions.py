"""``sealgate sessions list|end``: who is logged in, and logging someone off."""

from __future__ import annotations

import argparse

from gateway.audit.record import iso_time
from gateway.commands.output import DONE, PROBLEM, administered, opened, print_json, say
from gateway.model import Outcome, Session

ENDED_BY_ADMIN = "ended-by-administrator"


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its options."""
    sessions = commands.add_parser("sessions", help="see who is logged in, log someone off")
    kinds = sessions.add_subparsers(dest="kind", required=True, metavar="list|end")
    listed = kinds.add_parser("list", help="show every living session")
    end = kinds.add_parser("end", help="end one session, or all of a user")
    end.add_argument("who", help="a session's id, or a user name")
    for parser in (listed, end):
        parser.add_argument("-c", "--config", default="")
        parser.add_argument("--json", action="store_true")
    listed.set_defaults(run=run_list)
    end.set_defaults(run=run_end)


def run_list(arguments: argparse.Namespace) -> int:
    """Show every living session."""
    with opened(arguments) as gateway:
        now_us = gateway.clock()
        with gateway.catalog.snapshot() as tx:
            living = [each for each in gateway.sessions.live(tx) if not each.over(now_us)]
    for session in living:
        if arguments.json:
            print_json(_described(session))
        else:
            say(
                f"{session.id}  {session.principal.name}  {session.wire.value}  "
                f"{session.client.address}  since {iso_time(session.opened_us)}  "
                f"active {iso_time(session.last_active_us)}"
            )
    return DONE


def run_end(arguments: argparse.Namespace) -> int:
    """End one session, or all of a user; every worker notices at the next operation.

    The lease by which its user could come back without a code ends with each.
    """
    with opened(arguments) as gateway:
        with gateway.catalog.snapshot() as tx:
            chosen = [
                session
                for session in gateway.sessions.live(tx)
                if arguments.who in {session.id, session.principal.name}
            ]
        for session in chosen:
            gateway.login.log_off(session, ENDED_BY_ADMIN, Outcome.EXPIRED)
        leases = gateway.login.end_leases(arguments.who, ENDED_BY_ADMIN)
        with gateway.journal.begin() as tx:
            administered(gateway, tx, "sessions_end", note=arguments.who)
    if arguments.json:
        print_json({"ended": [session.id for session in chosen]})
    else:
        say(f"{len(chosen)} sessions ended.")
        if leases:
            say(f"Leases that were left without a session: {leases} ended.")
    return DONE if chosen or leases else PROBLEM


def _described(session: Session) -> dict[str, object]:
    return {
        "session": session.id,
        "principal_id": session.principal.id,
        "principal_name": session.principal.name,
        "protocol": session.wire.value,
        "client_address": session.client.address,
        "factors": sorted(session.factors),
        "opened": iso_time(session.opened_us),
        "last_active": iso_time(session.last_active_us),
        "idle_timeout_s": session.idle_timeout_s,
        "ends": iso_time(session.ends_us),
    }

"""The command ``sealgate``: parses the command line and turns errors into exit statuses.

0 done, 1 found a problem, 2 wrong use or cannot start. The work is in ``gateway.commands``,
``gateway.supervisor`` and ``gateway.demo``.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

from gateway.commands import (
    audit,
    backup,
    care,
    config,
    doctor,
    keys,
    past,
    restore,
    sessions,
    totp,
)
from gateway.commands.output import DONE, WRONG_USE, config_path
from gateway.demo import Demo, DemoSettings
from gateway.errors import SealgateError
from gateway.log import configure_logging
from gateway.supervisor import Supervisor


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line ``arguments`` (those of the process when None); return the status."""
    parsed = _parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = parsed.run
    try:
        status = run(parsed)
        sys.stdout.flush()
        return status
    except SealgateError as error:
        sys.stderr.write(f"sealgate: {error}\n")
        return WRONG_USE
    except BrokenPipeError:
        # Whoever read the output has enough; without this, the interpreter complains at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sealgate",
        description="Encrypted-at-rest storage behind WebDAV and SFTP, with policy and audit.",
    )
    parser.add_argument("--version", action="version", version=f"sealgate {version('sealgate')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    serve = commands.add_parser("serve", help="run the gateway")
    serve.add_argument("-c", "--config", default="")
    serve.set_defaults(run=_serve)
    demo = commands.add_parser("demo", help="set up a trial gateway and run it")
    demo.add_argument("--dir", type=Path, default=Path("demo"))
    demo.add_argument("--host", default="127.0.0.1")
    demo.add_argument("--webdav-port", type=int, default=8443)
    demo.add_argument("--sftp-port", type=int, default=2022)
    demo.add_argument("--code", metavar="USER", default="", help="print a fresh code and end")
    demo.set_defaults(run=_demo)
    config.add_parsers(commands)
    care.add_parsers(commands)
    for subject in (audit, backup, doctor, keys, past, restore, sessions, totp):
        subject.add_parser(commands)
    return parser


def _serve(arguments: argparse.Namespace) -> int:
    configure_logging("supervisor")
    return Supervisor(config_path(arguments)).run()


def _demo(arguments: argparse.Namespace) -> int:
    demo = Demo(
        DemoSettings(
            folder=arguments.dir.absolute(),
            host=arguments.host,
            webdav_port=arguments.webdav_port,
            sftp_port=arguments.sftp_port,
        )
    )
    if arguments.code:
        return demo.print_code(arguments.code)
    configure_logging("supervisor")
    return demo.run()


if __name__ == "__main__":
    sys.exit(main())

"""What a client may be shown of an error. Imports the error tree and ``gateway.status``."""

from __future__ import annotations

import logging
import secrets
import traceback

import asyncssh
from asyncssh.packet import PacketDecodeError

from gateway.errors import SealgateError
from gateway.status import sftp_code

log = logging.getLogger(__name__)


def shown(error: Exception) -> asyncssh.SFTPError | PacketDecodeError:
    """Return the SFTPError or PacketDecodeError that a client is told of ``error``.

    The stock handler sends the text of any exception it does not know, which could tell a client
    about paths, keys or queries.
    """
    if isinstance(error, asyncssh.SFTPError | PacketDecodeError):
        return error
    if isinstance(error, SealgateError):
        return asyncssh.SFTPError(sftp_code(error), str(error))
    # Neither the reply nor the log carries the text: it may hold a file name.
    request = secrets.token_hex(4)
    where = "".join(traceback.format_tb(error.__traceback__))
    log.error("request %s failed with %s at\n%s", request, type(error).__name__, where)
    return asyncssh.SFTPFailure(f"Internal error; tell support: {request}.")

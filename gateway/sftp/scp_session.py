"""One channel on which scp's own protocol is spoken, from its start to its exit status.

No file operation lives here. Imports both halves of the protocol and the channel's wire.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, cast

import asyncssh

from gateway.errors import InvalidPathError, SealgateError
from gateway.sftp.scp import ScpCommand, ScpError, ScpWire
from gateway.sftp.scp_sink import ScpSink
from gateway.sftp.scp_source import ScpSource

if TYPE_CHECKING:
    from gateway.monitor import Door
    from gateway.sftp.connection import SftpConnection

log = logging.getLogger(__name__)


class ScpSession:
    """One scp command under way. It counts as one open file as long as it runs."""

    open_files = 1
    open_handles = 1

    def __init__(
        self,
        connection: SftpConnection,
        command: ScpCommand,
        door: Door,
        reader: asyncssh.SSHReader[bytes],
        writer: asyncssh.SSHWriter[bytes],
    ) -> None:
        self._connection = connection
        channel = cast("asyncssh.SSHServerChannel[bytes]", writer.channel)
        self._wire = ScpWire(
            reader, writer, connection.until_writable, lambda: not channel.is_closing()
        )
        half = ScpSink if command.to_server else ScpSource
        self._half: ScpSink | ScpSource = half(connection, command, door, self._wire)
        self._channel = channel

    async def run(self) -> None:
        """Serve the command and tell its exit status: 1 when anything was left out."""
        try:
            await self._serve()
        except (OSError, asyncssh.Error):
            # The connection is gone; what was under way was given up.
            self._wire.failed = True
        except Exception as error:  # noqa: BLE001  a listener
            log.error("an scp command failed with %s", type(error).__name__)
            self._wire.failed = True
        self._channel.exit(int(self._wire.failed))

    async def _serve(self) -> None:
        try:
            await self._half.run()
        except (ScpError, SealgateError) as error:
            self._wire.give_up(error)
            if isinstance(error, ScpError) and error.breach:
                await self._connection.record_refusal(f"scp: {error}")
            elif isinstance(error, InvalidPathError):
                # No node can have the name, so that the door was never asked.
                await self._connection.record_refusal("scp: bad name")

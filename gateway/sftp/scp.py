"""scp's own protocol (``scp -O``): which commands begin it, and what both directions speak.

It has no standard; this follows what OpenSSH's scp.c sends and takes. There is no shell: a command
is read, never run. Which files are sent or stored is decided in ``scp_source`` and ``scp_sink``.
Imports asyncssh's streams and the error tree.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import cast

import asyncssh

from gateway.errors import SealgateError

COMMAND_LIMIT_BYTES = 8192
"""The longest command that is read: a path and its quotes."""

LINE_LIMIT_BYTES = 1024
"""The longest line: a mode, a size and a name of 255 bytes, or an error message."""

BLOCK_BYTES = 256 * 1024
"""How much content is moved at once."""

GOOD, WARNING, FATAL = b"\0", b"\1", b"\2"

_BLANKS = " \t"
# A quoted part, an escaped letter, or letters that mean nothing to a shell.
_PART = re.compile(
    r"""'([^']*)' | "((?:[^"\\$`]|\\.)*)" | \\([^\n]) | ([^\s'"\\;&|<>()$`]+)""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPED = re.compile(r'\\([$`"\\])')
_FLAGS = re.compile(r"-[rpvqdtf]+")


class ScpError(Exception):
    """What ends a transfer.

    ``amid_content``: it comes where the other end counts bytes and reads no messages.
    ``breach``: the other end broke the protocol.
    """

    def __init__(self, what: str, *, amid_content: bool = False, breach: bool = False) -> None:
        super().__init__(what)
        self.amid_content = amid_content
        self.breach = breach


def breach(what: str) -> ScpError:
    """Return the error of an end that breaks the protocol."""
    return ScpError(f"protocol error: {what}", breach=True)


@dataclass(frozen=True, slots=True)
class ScpCommand:
    """A command that begins a transfer. ``path`` is as the client wrote it, without quotes.

    ``to_server``: files are sent here. ``into_folder``: the path must be a folder.
    """

    path: str
    to_server: bool
    recursive: bool
    times: bool
    into_folder: bool


def parse_command(raw: bytes) -> ScpCommand | None:
    """Return what an exec request asks of scp; None when it asks for anything else.

    Flags may stand together (libssh2 sends ``-pf``); quotes and backslashes are read as a shell
    reads them, and whatever a shell would expand or run is no command of ours. Wildcards are plain
    letters.
    """
    if len(raw) > COMMAND_LIMIT_BYTES:
        return None
    try:
        words = _words(raw.decode("utf-8"))
    except (ScpError, UnicodeDecodeError):
        return None
    if not words or words.pop(0) != "scp":
        return None
    flags = ""
    while words and words[0] != "--" and words[0].startswith("-"):
        if not _FLAGS.fullmatch(words[0]):
            return None
        flags += words.pop(0)[1:]
    if words and words[0] == "--":
        del words[0]
    if len(words) != 1 or not words[0] or ("t" in flags) is ("f" in flags):
        return None
    home = re.fullmatch(r"~(/.*)?", words[0], re.DOTALL)
    return ScpCommand(
        path=(home[1] or "/") if home else words[0],
        to_server="t" in flags,
        recursive="r" in flags,
        times="p" in flags,
        into_folder="d" in flags,
    )


def _words(command: str) -> list[str]:
    """Return a command's words; ScpError for what only a shell could make something of."""
    words: list[str] = []
    position, begun = 0, False
    while position < len(command):
        if command[position] in _BLANKS:
            position, begun = position + 1, False
            continue
        part = _PART.match(command, position)
        if part is None:
            raise ScpError("This is a command for a shell.")
        single, double, escaped, plain = part.groups()
        if double is not None:
            single = _ESCAPED.sub(r"\1", double)
        text = next(each for each in (single, escaped, plain) if each is not None)
        if begun:
            words[-1] += text
        else:
            words.append(text)
        position, begun = part.end(), True
    return words


def require_serving(*, draining: bool) -> None:
    """Raise ScpError when nothing new may begin, because the listener is stopping."""
    if draining:
        raise ScpError("The server is about to restart; connect again.")


class ScpWire:
    """Both directions of a channel. ``failed`` is set by whatever the exit status must tell."""

    def __init__(
        self,
        reader: asyncssh.SSHReader[bytes],
        writer: asyncssh.SSHWriter[bytes],
        until_writable: Callable[[], Awaitable[None]],
        is_connected: Callable[[], bool],
    ) -> None:
        self._is_connected = is_connected
        self._reader = reader
        self._writer = writer
        self._until_writable = until_writable
        self._held = bytearray()
        self.failed = False

    async def line(self) -> bytes:
        """Return the next line without its end; empty when the other end has said all.

        ScpError for one that is cut off or too long.
        """
        while b"\n" not in self._held:
            if len(self._held) > LINE_LIMIT_BYTES:
                raise breach("a line is too long")
            part = await self._reader.read(LINE_LIMIT_BYTES)
            if not part:
                if self._held:
                    raise breach("a line is cut off")
                return b""
            self._held += part
        line, _, rest = bytes(self._held).partition(b"\n")
        if len(line) > LINE_LIMIT_BYTES or not line:
            raise breach("a line is too long or empty")
        self._held = bytearray(rest)
        return line

    async def content(self, size_bytes: int) -> bytes:
        """Return exactly ``size_bytes`` of content; ScpError when they do not come."""
        data = bytes(self._held[:size_bytes])
        del self._held[:size_bytes]
        if len(data) == size_bytes:
            return data
        try:
            return data + await self._reader.readexactly(size_bytes - len(data))
        except EOFError as error:
            raise ScpError("The transfer was cut off.") from error

    async def end_of_content(self) -> bool:
        """Return whether the other end says that the content it sent is good.

        libssh2 (curl, PHP) closes its side instead of saying so; a lost connection is no such end.
        """
        if not self._held and not self._reader.at_eof():
            self._held += await self._reader.read(1)
        if not self._held:
            return self._is_connected()
        return await self.answer()

    async def answer(self) -> bool:
        """Return whether the other end goes along; ScpError when it gives up or is gone."""
        verdict = await self.content(1)
        if verdict == GOOD:
            return True
        self.failed = True
        # What it says is for the person at the other end, who has read it.
        await self.line()
        if verdict != WARNING:
            raise ScpError("The other end gave up.")
        return False

    async def send(self, data: bytes) -> None:
        """Send, and wait while the other end takes nothing."""
        self._writer.write(data)
        await self._writer.drain()
        await self._until_writable()

    async def good(self) -> None:
        """Say that it may go on."""
        await self.send(GOOD)

    async def warn(self, name: str, what: SealgateError | str) -> None:
        """Say that this one file or folder came to nothing."""
        self.failed = True
        await self.send(WARNING + _message(name, what))

    def give_up(self, error: ScpError | SealgateError) -> None:
        """Say that nothing more will come.

        Amid content the protocol has no room for words; there they go where a person sees them.
        """
        self.failed = True
        message = _message("", str(error))
        if isinstance(error, ScpError) and error.amid_content:
            channel = cast("asyncssh.SSHServerChannel[bytes]", self._writer.channel)
            channel.write_stderr(message)
        else:
            self._writer.write(FATAL + message)


def _message(name: str, what: SealgateError | str) -> bytes:
    text = f"scp: {name}: {what}" if name else f"scp: {what}"
    visible = "".join(letter if letter.isprintable() else "?" for letter in text)
    return visible.encode("utf-8", "replace")[: LINE_LIMIT_BYTES - 2] + b"\n"

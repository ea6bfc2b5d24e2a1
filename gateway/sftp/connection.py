"""One SSH connection: where a log-in succeeds or fails, and where everything but SFTP ends.

A subclass of asyncssh's connection (pinned by ``tests/sftp/test_stock.py``). No file
operation lives here. May import the door's types, the error trees and the shared nouns.
"""

from __future__ import annotations

import asyncio
import logging
import re
from typing import cast

import asyncssh
from asyncssh.connection import SSHServerConnectionOptions
from asyncssh.constants import DEFAULT_LANG
from asyncssh.misc import ChannelOpenError
from asyncssh.packet import String

from auth.errors import CODE_REASONS, LoginRefusedError, SessionLimitError
from gateway.errors import SealgateError
from gateway.model import SECOND_US, Attempt, Client, Session, Wire
from gateway.sftp.channel import SftpChannel, SftpChannelSession
from gateway.sftp.handler import FilesHandler
from gateway.sftp.login import LoginDialogue
from gateway.sftp.negotiation import NegotiatedConnection
from gateway.sftp.scp_session import ScpSession
from gateway.sftp.service import Service
from gateway.sftp.shown_key import algorithm_of, read, user_verified

log = logging.getLogger(__name__)

PARTING_S = 0.5
"""How long a client of a stopping listener has to take its last answer."""

_SOFTWARE_LIMIT = 100
_NOT_A_NAME = re.compile(r"^[^0-9A-Za-z]+")


class SftpConnection(NegotiatedConnection):
    """One client's connection; ``session`` is set before the client hears of success."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        options: SSHServerConnectionOptions,
        service: Service,
    ) -> None:
        super().__init__(loop, options, service.settings.algorithms, service.monitor.clock)
        self.service = service
        self.room = service.room
        self.session: Session | None = None
        self.handlers: dict[FilesHandler | ScpSession, asyncio.Task[None]] = {}
        self._attempts = 0
        self._refused_requests = 0
        self._refusals = 0
        self._key_queries = 0
        self._code_would_help = False
        self._watcher: asyncio.Task[None] | None = None
        self._parting: asyncio.TimerHandle | None = None
        self._writable = asyncio.Event()
        self._writable.set()

    # Life

    @property
    def client(self) -> Client:
        """The other end, as audit records name it."""
        version = str(self.get_extra_info("client_version", ""))
        software = version.removeprefix("SSH-2.0-").removeprefix("SSH-1.99-")
        clean = "".join(letter for letter in software if letter.isprintable())
        # What stands in brackets is ours to say: no client may look like one with an exception.
        plain = _NOT_A_NAME.sub("", clean)[:_SOFTWARE_LIMIT]
        return Client(self._peer_addr, f"{self.legacy_note} {plain}".strip())

    @property
    def draining(self) -> bool:
        """Whether the listener is stopping, so that nothing new may be opened."""
        return self.service.draining

    @property
    def open_handles(self) -> int:
        """How many files and folders the client has open, over all channels."""
        return sum(handler.open_handles for handler in self.handlers)

    @property
    def has_free_handle(self) -> bool:
        """Whether the client may open one more file or folder."""
        return self.open_handles < self.service.settings.max_handles_per_session

    @property
    def dialogue(self) -> LoginDialogue:
        """The log-in dialogue of this connection."""
        return cast(LoginDialogue, self._owner)

    def opened(self) -> None:
        """Join the head count, or hang up when it is full."""
        if not self.service.admit(self, self._peer_addr):
            self.abort()
        elif self._transport is not None:
            limit = self.service.settings.send_buffer_bytes
            self._transport.set_write_buffer_limits(high=limit)

    def lost(self) -> None:
        """Leave the head count; the session ends when the last channel has settled."""
        self._writable.set()
        if self._watcher is not None:
            self._watcher.cancel()
        if self._parting is not None:
            self._parting.cancel()
        self.service.gone(self)
        self.service.spawn(self._leave())

    async def _leave(self) -> None:
        if self.handlers:
            await asyncio.wait(set(self.handlers.values()))
        session, self.session = self.session, None
        if session is not None:
            await self.service.leave(session)

    def hang_up(self, reason: str, code: int = asyncssh.DISC_BY_APPLICATION) -> None:
        """Disconnect, telling the client why.

        The stock ``disconnect`` closes the channels first; OpenSSH's client is gone by then and
        shows no reason.
        """
        if self._transport is not None:
            self._send_disconnect(code, reason, DEFAULT_LANG)
            self._force_close(None)

    def request_answered(self) -> None:
        """Let go of a client whose transfers are over when the listener is stopping.

        A moment later: OpenSSH's client, told to go, drops what it was answered just before, and
        takes an upload that is stored for one that failed.
        """
        if self.draining and self._parting is None and not self._is_transferring:
            self._parting = self._loop.call_later(PARTING_S, self._part)

    def _part(self) -> None:
        self._parting = None
        if not self._is_transferring:
            self.hang_up("The server is about to restart; connect again.")

    @property
    def _is_transferring(self) -> bool:
        return any(handler.open_files for handler in self.handlers)

    # Back pressure: asyncssh ignores the transport's wish that nothing more be written

    def pause_writing(self) -> None:
        """Take nothing more from a client that does not take its replies."""
        self._writable.clear()
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on: the client has caught up."""
        self._writable.set()
        if self._transport is not None:
            self._transport.resume_reading()

    async def until_writable(self) -> None:
        """Wait until the client takes its replies again, or is gone."""
        await self._writable.wait()

    # Log-in

    async def reload_config(self) -> None:
        """Do nothing: no option depends on the user, and rereading costs strangers nothing."""

    async def validate_public_key(
        self, username: str, key_data: bytes, msg: bytes, signature: bytes
    ) -> bool:
        """Return whether the key is listed and, where ``msg`` is signed, the signature is good.

        The stock check takes any signature the library knows, SHA-1 too, and certificates that
        name nobody.
        """
        self._key_queries += 1
        if self._key_queries > self.service.settings.max_auth_requests:
            # A question that is cut short by the next one is never counted as refused.
            self._out_of_attempts()
            return False
        if msg and not self.takes_signature(algorithm_of(signature)):
            return False
        shown = read(key_data)
        if shown is None or not await self.dialogue.may_prove(username, shown):
            return False
        if not shown.is_vouched_for(self.offer.algorithms.signatures):
            return False
        if not msg:
            return True
        if not shown.proven_by(String(self._session_id) + msg, signature):
            return False
        self.dialogue.key_proven(username, shown, user_verified=user_verified(signature))
        return True

    async def send_userauth_success(self) -> None:
        """Ask the monitor, and send success only with a session in hand.

        Every method of authentication ends here, so none can let anyone in past the monitor.
        """
        auth = self._auth
        attempt = self.dialogue.take_attempt()
        if attempt is None:
            self.send_userauth_failure(partial_success=False)
            return
        self._attempts += 1
        if self._attempts > self.service.settings.max_attempts:
            self._out_of_attempts()
            return
        session = await self._log_in(attempt)
        if session is not None and not self._within_terms(attempt, session):
            session = None
        if self._auth is not auth or self._transport is None:
            # The client went on or away meanwhile: nobody may use what it was given.
            if session is not None:
                self.service.spawn(self.service.leave(session))
            return
        if session is None:
            self._fail(attempt)
            return
        self.session = session
        self.service.logged_in(self)
        await super().send_userauth_success()
        self._watcher = self.create_task(self._watch(session))

    def _within_terms(self, attempt: Attempt, session: Session) -> bool:
        """Return whether the session may use a connection with these algorithms; else leave it.

        One that was opened without weaker algorithms is not joined with them: its records would
        not tell.
        """
        ruling = self.rule_on(session.principal, signed=bool(attempt.ssh_key))
        joined_otherwise = session.client.software != attempt.client.software
        if ruling.allowed and not (ruling.rule and joined_otherwise):
            return True
        self.service.spawn(self._turn_away(session, ruling.rule))
        return False

    async def _turn_away(self, session: Session, rule: str) -> None:
        await self.record_refusal(rule, session)
        await self.service.leave(session)

    async def _log_in(self, attempt: Attempt) -> Session | None:
        """Return the session that the monitor opens or joins; None: refused."""
        self._code_would_help = False
        auth = self._auth
        wanted = lambda: self._auth is auth and self._transport is not None  # noqa: E731
        future = self._loop.create_task(self.service.log_in(attempt, wanted))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            self.service.spawn(self._disown(future))
            raise
        except SessionLimitError as error:
            # Nothing was wrong with who they are, so they may know what is.
            self.send_auth_banner(f"{error}\r\n")
            return None
        except LoginRefusedError as error:
            self._code_would_help = not attempt.code and error.reason.startswith(CODE_REASONS)
            return None
        except SealgateError as error:
            # No verdict on the user: say so, or they would doubt their password.
            log.warning("log-in impossible: %s", type(error).__name__)
            self.send_auth_banner(f"{error}\r\n")
            return None
        except Exception as error:  # noqa: BLE001  a listener; refused whatever went wrong
            log.error("log-in failed with %s", type(error).__name__)
            return None

    async def _disown(self, future: asyncio.Task[Session]) -> None:
        """End the session of a log-in that its client did not wait for."""
        try:
            session = await future
        except Exception:  # noqa: BLE001  refused: nothing to end
            return
        await self.service.leave(session)

    def _fail(self, attempt: Attempt) -> None:
        if attempt.ssh_key and self._code_would_help:
            self.dialogue.ask_for_code(attempt)
            self.send_userauth_failure(partial_success=True)
            return
        if self._attempts >= self.service.settings.max_attempts:
            # Without a failure before it: a client that goes on writing would not read why.
            self._out_of_attempts()
            return
        self.send_userauth_failure(partial_success=False)

    def send_userauth_failure(self, partial_success: bool) -> None:  # noqa: FBT001  the library's
        """Refuse, and hang up on a client that only asks and asks."""
        super().send_userauth_failure(partial_success)
        # paramiko asks for the service again before every further try; OpenSSH's server lets it.
        self._next_service = b"ssh-userauth"
        self._refused_requests += 1
        if self._refused_requests >= self.service.settings.max_auth_requests:
            self._out_of_attempts()

    def _out_of_attempts(self) -> None:
        reason = "Too many failed attempts; connect again."
        self.hang_up(reason, asyncssh.DISC_NO_MORE_AUTH_METHODS_AVAILABLE)

    # The idle clock

    async def _watch(self, session: Session) -> None:
        """Hang up when the session is over. The monitor keeps the time; this only asks."""
        service = self.service
        known_us = min(session.idle_deadline_us, session.ends_us)
        while self._transport is not None:
            try:
                deadline_us = await service.workers.door(service.monitor.deadline_us, session)
            except SealgateError:
                # The door refuses too as long as the store does not answer.
                deadline_us = known_us
            now_us = service.monitor.clock()
            if deadline_us is None or deadline_us <= now_us:
                await self._sign_off(session, known_us)
                return
            known_us = deadline_us
            remaining_s = (deadline_us - now_us) / SECOND_US
            await asyncio.sleep(min(remaining_s, service.settings.watch_interval_s))

    async def _sign_off(self, session: Session, deadline_us: int) -> None:
        now_us = self.service.monitor.clock()
        if now_us >= session.ends_us:
            why, told = "absolute", "Signed off: the session has reached its longest duration."
        elif now_us >= deadline_us:
            minutes, seconds = divmod(session.idle_timeout_s, 60)
            span = f"{session.idle_timeout_s} seconds" if seconds else f"{minutes} minutes"
            why, told = "idle", f"Signed off after {span} without activity."
        else:
            self.hang_up("Signed off: the session has been ended. Sign in again.")
            return
        try:
            await self.service.workers.door(self.service.monitor.expire, session, why)
        finally:
            self.hang_up(f"{told} Sign in again.")

    # Everything but SFTP

    def refuse(self, what: str) -> bool:
        """Have a refusal recorded, and return False. Who insists is hung up on."""
        self._refusals += 1
        if self._refusals > self.service.settings.max_refusals:
            self.hang_up("This server serves SFTP only.")
        else:
            self.service.spawn(self.record_refusal(what))
        return False

    async def record_refusal(self, what: str, session: Session | None = None) -> None:
        """Have it recorded that ``what`` was refused before the door was asked."""
        service = self.service
        try:
            await service.workers.door(
                service.monitor.refused, self.client, Wire.SFTP, what, session or self.session
            )
        except Exception as error:  # noqa: BLE001  it stays refused, recorded or not
            log.error("recording a refusal failed with %s", type(error).__name__)

    async def attach_x11_listener(self, *_: object, **__: object) -> None:
        """Refuse to forward a display."""
        self.refuse("x11")

    async def create_agent_listener(self) -> bool:
        """Refuse to forward an agent."""
        return self.refuse("agent")

    def open_channel(self) -> tuple[SftpChannel, SftpChannelSession]:
        """Return a new channel and its session; raises ChannelOpenError when there are many."""
        if self.session is None or len(self._channels) >= self.service.settings.max_channels:
            raise ChannelOpenError(asyncssh.OPEN_RESOURCE_SHORTAGE, "Too many channels are open.")
        channel = SftpChannel(
            self, self._loop, False, False, False, 0, 0, None, "strict",  # noqa: FBT003
            self._window, self._max_pktsize,
        )  # fmt: skip
        return channel, SftpChannelSession(self)

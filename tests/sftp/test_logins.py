"""Who gets in over SSH: passwords with codes, prompts, keys, and what is refused."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace

import asyncssh
import paramiko
import pytest
from asyncssh.packet import Boolean, String

from gateway.sftp.login import CODE_PROMPT, PASSWORD_PROMPT
from gateway.sftp.shown_key import key_line
from tests.sftp.conftest import LIMIT_S, ORDINARY, Listener
from tests.sftp.fake_door import CODE, PASSWORD
from tests.support.users import until


class Prompted(asyncssh.SSHClient):
    """A client that answers prompts from a list and keeps what it was asked."""

    def __init__(self, answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []
        self.banners: list[str] = []

    def auth_banner_received(self, msg: str, lang: str) -> None:
        self.banners.append(msg)

    def kbdint_auth_requested(self) -> str | None:
        return "" if self.answers else None

    def kbdint_challenge_received(
        self, name: str, instructions: str, lang: str, prompts: Sequence[tuple[str, bool]]
    ) -> list[str]:
        self.asked += [prompt for prompt, _ in prompts]
        assert not any(echo for _, echo in prompts)
        return [self.answers.pop(0) for _ in prompts]


async def _list(conn: asyncssh.SSHClientConnection) -> None:
    async with conn, conn.start_sftp_client() as sftp:
        await sftp.stat("/share")


def _prompted(listener: Listener, answers: Sequence[str], **options: object) -> Prompted:
    client = Prompted(answers)

    async def go() -> None:
        await _list(
            await listener.connect(
                client_factory=lambda: client,
                **{
                    "client_keys": [],
                    "preferred_auth": "keyboard-interactive",
                    **options,
                },
            )
        )

    asyncio.run(go())
    return client


def test_password_and_code_in_one_secret_log_in(listener: Listener) -> None:
    """The password method takes the password with its six digits."""

    async def go() -> None:
        await _list(await listener.connect_by_password())

    asyncio.run(go())
    (attempt,) = listener.monitor.attempts
    assert (attempt.secret, attempt.password, attempt.code) == (PASSWORD + CODE, "", "")
    assert attempt.client.address == "127.0.0.1"
    assert attempt.client.software.startswith("AsyncSSH")


@pytest.mark.parametrize("secret", [PASSWORD, PASSWORD + "000000", CODE, ""])
def test_wrong_secrets_are_refused_alike(listener: Listener, secret: str) -> None:
    """Nothing tells which part was wrong, and no session comes of it."""

    async def go() -> None:
        with pytest.raises(asyncssh.PermissionDenied):
            await listener.connect_by_password(secret)

    asyncio.run(go())
    assert listener.monitor.sessions == {}


def test_prompts_ask_for_the_password_and_then_the_code(listener: Listener) -> None:
    """Two prompts, one after the other, neither echoed."""
    client = _prompted(listener, [PASSWORD, CODE])
    assert client.asked == [PASSWORD_PROMPT, CODE_PROMPT]
    (attempt,) = listener.monitor.attempts
    assert (attempt.secret, attempt.password, attempt.code) == ("", PASSWORD, CODE)


@pytest.mark.parametrize("answers", [["wrong", CODE], [PASSWORD, "000000"]])
def test_the_code_is_asked_for_after_a_wrong_password_too(
    listener: Listener, answers: list[str]
) -> None:
    """An attacker learns nothing from the prompts."""
    client = Prompted(answers)

    async def go() -> None:
        with pytest.raises(asyncssh.PermissionDenied):
            await listener.connect(
                client_factory=lambda: client,
                client_keys=[],
                preferred_auth="keyboard-interactive",
            )

    asyncio.run(go())
    assert client.asked == [PASSWORD_PROMPT, CODE_PROMPT]
    assert len(listener.monitor.attempts) == 1


def test_paramiko_logs_in_by_prompts(listener: Listener) -> None:
    """Another client's reading of RFC 4256 agrees with ours."""
    with contextlib.closing(socket.create_connection(("127.0.0.1", listener.port))) as sock:
        transport = paramiko.Transport(sock)
        transport.start_client(timeout=LIMIT_S)
        answers = [PASSWORD, CODE]
        transport.auth_interactive(
            "alice", lambda _title, _text, prompts: [answers.pop(0) for _ in prompts]
        )
        sftp = paramiko.SFTPClient.from_transport(transport)
        assert sftp is not None
        with sftp.open("/share/a", "w") as file:
            file.write(b"12345")
        assert sftp.stat("/share/a").st_size == 5
        transport.close()
        transport.join(LIMIT_S)


def test_a_listed_key_logs_in_once_its_signature_is_verified(listener: Listener) -> None:
    """The attempt carries the key; it is the only attempt."""

    async def go() -> None:
        await _list(await listener.connect())

    asyncio.run(go())
    (attempt,) = listener.monitor.attempts
    assert attempt.ssh_key == listener.monitor.keys["alice"]
    assert attempt.secret == attempt.password == attempt.code == ""


def test_a_key_whose_log_in_the_monitor_refuses_stays_out(listener: Listener) -> None:
    """A verified signature is not enough."""
    listener.monitor.key_may_log_in = lambda *_: True  # type: ignore[method-assign]
    listener.monitor.keys.clear()

    async def go() -> None:
        with pytest.raises(asyncssh.PermissionDenied):
            await listener.connect()

    asyncio.run(go())
    assert len(listener.monitor.attempts) == 1
    assert listener.monitor.sessions == {}


class _Unproven(asyncssh.SSHKeyPair):
    """A key pair that claims another's public key and signs with its own."""

    _key_type = "unproven"

    def __init__(self, claimed: bytes, real: asyncssh.SSHKey, algorithm: bytes) -> None:
        super().__init__(algorithm, algorithm, (algorithm,), (), claimed, None)
        self._real = real

    def sign(self, data: bytes) -> bytes:
        return self._real.sign(data, self.sig_algorithm)


def test_a_key_that_is_shown_but_not_proven_never_logs_in(listener: Listener) -> None:
    """Listed public keys are public: the query is answered, and a false signature refused."""
    listed = asyncssh.read_private_key(listener.user_key)
    other = asyncssh.generate_private_key("ssh-ed25519")

    async def go() -> None:
        pair = _Unproven(listed.public_data, other, b"ssh-ed25519")
        with pytest.raises(asyncssh.PermissionDenied):
            await listener.connect(client_keys=[pair])

    asyncio.run(go())
    assert listener.monitor.queries
    assert listener.monitor.attempts == []


def test_sha1_signatures_prove_nothing(listener: Listener) -> None:
    """An RSA key is fine, but ssh-rsa, its SHA-1 signature, is not; the library takes it."""
    key = asyncssh.generate_private_key("ssh-rsa", key_size=2048)
    listener.monitor.keys["alice"] = key_line(key)

    async def go() -> None:
        await _list(await listener.connect(client_keys=[key]))
        listener.monitor.attempts.clear()
        with pytest.raises(asyncssh.PermissionDenied):
            await listener.connect(client_keys=[_Unproven(key.public_data, key, b"ssh-rsa")])

    asyncio.run(go())
    assert listener.monitor.attempts == []


def test_a_key_may_need_a_code_which_is_asked_for_on_the_same_connection(
    listener: Listener,
) -> None:
    """The key counts as the first factor (partial success); then only a code may follow."""
    listener.monitor.key_needs_code = True
    client = _prompted(
        listener,
        [CODE],
        client_keys=[str(listener.user_key)],
        preferred_auth="publickey,keyboard-interactive",
    )
    assert client.asked == [CODE_PROMPT]
    assert [bool(attempt.ssh_key) for attempt in listener.monitor.attempts] == [True, True]
    assert listener.monitor.attempts[-1].code == CODE


def test_another_name_forgets_the_proven_key(listener: Listener) -> None:
    """A key proven as alice must not become bob's first factor."""
    listener.monitor.key_needs_code = True
    key = paramiko.Ed25519Key.from_private_key_file(str(listener.user_key))
    with contextlib.closing(socket.create_connection(("127.0.0.1", listener.port))) as sock:
        transport = paramiko.Transport(sock)
        transport.start_client(timeout=LIMIT_S)
        assert transport.auth_publickey("alice", key) == ["keyboard-interactive"]
        asked: list[str] = []

        def answer(_title: str, _text: str, prompts: list[tuple[str, bool]]) -> list[str]:
            asked.extend(prompt.strip() for prompt, _ in prompts)
            return [CODE for _ in prompts]

        with pytest.raises(paramiko.AuthenticationException):
            transport.auth_interactive("bob", answer)
        transport.close()
        transport.join(LIMIT_S)
    assert asked[0] == PASSWORD_PROMPT.strip()
    assert listener.monitor.attempts[-1].ssh_key == ""


def test_another_name_is_asked_for_its_own_keys(listener: Listener) -> None:
    """That alice may sign with a key says nothing of bob."""
    listener.monitor.key_needs_code = True
    key = paramiko.Ed25519Key.from_private_key_file(str(listener.user_key))
    with contextlib.closing(socket.create_connection(("127.0.0.1", listener.port))) as sock:
        transport = paramiko.Transport(sock)
        transport.start_client(timeout=LIMIT_S)
        assert transport.auth_publickey("alice", key) == ["keyboard-interactive"]
        with pytest.raises(paramiko.AuthenticationException):
            transport.auth_publickey("bob", key)
        transport.close()
        transport.join(LIMIT_S)
    assert [attempt.name for attempt in listener.monitor.attempts] == ["alice"]


def test_attempts_are_bounded(start: Callable[..., Listener]) -> None:
    """After a few wrong passwords the connection is over."""
    listener = start(replace(ORDINARY, max_attempts=3))

    class Guessing(asyncssh.SSHClient):
        tries = 0

        def password_auth_requested(self) -> str:
            self.tries += 1
            return f"guess {self.tries}"

    client = Guessing()

    async def go() -> None:
        with pytest.raises(asyncssh.DisconnectError) as caught:
            await listener.connect(
                client_factory=lambda: client, client_keys=[], preferred_auth="password"
            )
        assert "Too many failed attempts" in str(caught.value)

    asyncio.run(go())
    assert len(listener.monitor.attempts) == 3


def test_log_in_takes_no_longer_than_its_time_out(start: Callable[..., Listener]) -> None:
    """A client that says nothing is hung up on."""
    listener = start(replace(ORDINARY, login_timeout_s=0.2))
    with socket.create_connection(("127.0.0.1", listener.port), timeout=LIMIT_S) as sock:
        heard = b""
        while chunk := sock.recv(4096):
            heard += chunk
    assert heard.startswith(b"SSH-2.0-Sealgate\r\n")
    assert listener.server is not None
    until(lambda: listener.server and not listener.server.connection_count, "it is forgotten")


def test_an_abandoned_log_in_leaves_no_session(listener: Listener) -> None:
    """A client that goes while the monitor still decides is logged off when it has decided."""
    listener.monitor.login_gate.clear()

    async def go() -> None:
        task = asyncio.ensure_future(listener.connect_by_password())
        await asyncio.wait([task], timeout=0.5)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(go())
    until(
        lambda: listener.server is not None and listener.server.connection_count == 0,
        "the connection is gone",
    )
    listener.monitor.login_gate.set()
    until(lambda: listener.monitor.ended == [("s1", "disconnected")], "the session is ended")


def test_the_banner_is_shown_once(start: Callable[..., Listener]) -> None:
    """The configured banner comes before the log-in."""
    client = _prompted(start(replace(ORDINARY, banner="Authorised use only.")), [PASSWORD, CODE])
    assert client.banners == ["Authorised use only.\r\n"]


def test_idle_strangers_make_room_for_others(start: Callable[..., Listener]) -> None:
    """At the cap, the oldest connection that never logged in is dropped."""
    listener = start(replace(ORDINARY, max_pending_logins=5))
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(socket.create_connection(("127.0.0.1", listener.port)))

        async def go() -> None:
            await _list(await listener.connect())

        asyncio.run(go())
        assert listener.server is not None
        assert listener.server.connection_count <= 6


def test_who_is_typing_a_code_is_not_displaced_by_a_flood(start: Callable[..., Listener]) -> None:
    """Strangers that have said nothing go first, however new they are."""
    listener = start(replace(ORDINARY, max_pending_logins=5))
    with contextlib.ExitStack() as stack:
        sock = stack.enter_context(socket.create_connection(("127.0.0.1", listener.port)))
        transport = paramiko.Transport(sock)
        transport.start_client(timeout=LIMIT_S)
        answers = [PASSWORD, CODE]

        def answer(_title: str, _text: str, prompts: list[tuple[str, bool]]) -> list[str]:
            for _ in range(10):
                stack.enter_context(socket.create_connection(("127.0.0.1", listener.port)))
            assert listener.server is not None
            until(lambda: listener.server and listener.server.connection_count <= 5, "some go")
            return [answers.pop(0) for _ in prompts]

        assert transport.auth_interactive("alice", answer) == []
        transport.close()
        transport.join(LIMIT_S)


def test_only_modern_algorithms_are_offered(listener: Listener) -> None:
    """What a client sees is AES-GCM, SHA-2, and no compression."""
    with socket.create_connection(("127.0.0.1", listener.port), timeout=LIMIT_S) as sock:
        sock.sendall(b"SSH-2.0-Test\r\n")
        stream = sock.makefile("rb")
        assert stream.readline() == b"SSH-2.0-Sealgate\r\n"
        heard = stream.read(int.from_bytes(stream.read(4), "big"))
        stream.close()
    for weak in (b"sha1", b"umac", b"ssh-rsa", b"cbc", b"-ctr", b"chacha", b"zlib", b"gss", b"md5"):
        assert weak not in heard
    for good in (b"aes256-gcm@openssh.com", b"curve25519-sha256", b"kex-strict-s-v00@openssh.com"):
        assert good in heard


def test_a_request_to_change_the_password_is_refused(listener: Listener) -> None:
    """The password method's change request logs nobody in."""

    async def go() -> None:
        conn_made: list[asyncssh.SSHClientConnection] = []

        class Raw(asyncssh.SSHClient):
            def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
                conn_made.append(conn)

            def password_auth_requested(self) -> str:
                conn = conn_made[0]
                body = Boolean(True) + String(PASSWORD + CODE) + String("new")
                conn.create_task(conn.send_userauth_request(b"password", body))
                return "wrong"

        with pytest.raises((asyncssh.Error, OSError)):
            await listener.connect(client_factory=Raw, client_keys=[], preferred_auth="password")

    asyncio.run(go())
    assert listener.monitor.sessions == {}


def test_one_address_cannot_take_all_log_in_threads(start: Callable[..., Listener]) -> None:
    """While some of its log-ins are being decided, the others of an address wait in line."""
    listener = start(replace(ORDINARY, logins_per_address=2))
    listener.monitor.login_gate.clear()

    async def go() -> None:
        tasks = [asyncio.ensure_future(listener.connect_by_password()) for _ in range(6)]
        await asyncio.to_thread(
            until, lambda: listener.monitor.waiting == 2, "two are being decided"
        )
        listener.monitor.login_gate.set()
        for conn in await asyncio.gather(*tasks):
            conn.abort()

    asyncio.run(go())
    assert listener.monitor.most_waiting == 2
    assert len(listener.monitor.attempts) == 6

"""What asyncssh itself does, where this front end overrides it: each override has its reason.

When one of these fails after an update of asyncssh, read the override that it guards again.
"""

from __future__ import annotations

import asyncio
import inspect
from pathlib import Path

import asyncssh
import pytest
from asyncssh import connection, sftp
from asyncssh.channel import SSHServerChannel
from asyncssh.connection import SSHServerConnection
from asyncssh.constants import MSG_KEXINIT
from asyncssh.sftp import SFTPServerHandler

from gateway.sftp.channel import SftpChannel
from gateway.sftp.connection import SftpConnection
from gateway.sftp.files import VirtualFiles
from gateway.sftp.handler import FilesHandler
from gateway.sftp.login import LoginDialogue
from gateway.sftp.negotiation import NegotiatedConnection


def _public_methods(of: type) -> set[str]:
    return {
        name
        for name, member in vars(of).items()
        if inspect.isfunction(member) and not name.startswith("_")
    }


def test_no_file_operation_is_inherited() -> None:
    """An inherited method would act on the host's own file system."""
    assert len(_public_methods(asyncssh.SFTPServer)) >= 32
    assert _public_methods(asyncssh.SFTPServer) <= set(vars(VirtualFiles))


def test_the_host_is_named_nowhere() -> None:
    """The overrides never fall back on what they override."""
    source = inspect.getsource(VirtualFiles)
    assert source.count("super()") == 1
    assert "import os" not in inspect.getsource(inspect.getmodule(VirtualFiles))  # type: ignore[arg-type]


def test_overridden_methods_still_exist_in_the_library() -> None:
    """A renamed hook would silently turn an override into dead code."""
    for ours, theirs in (
        (FilesHandler, SFTPServerHandler),
        (SftpConnection, SSHServerConnection),
        (SftpChannel, SSHServerChannel),
    ):
        for name, member in vars(ours).items():
            if inspect.isfunction(member) and name.startswith("_process_"):
                assert hasattr(theirs, name), name
    for name in ("send_userauth_success", "send_userauth_failure", "validate_public_key"):
        assert name in vars(SftpConnection)
        assert inspect.isfunction(getattr(SSHServerConnection, name))
    for name in ("attach_x11_listener", "create_agent_listener", "reload_config"):
        assert name in vars(SftpConnection)
        assert inspect.iscoroutinefunction(getattr(SSHServerConnection, name))
    for name in ("_cleanup", "run", "recv_packet", "_get_next_handle"):
        assert hasattr(SFTPServerHandler, name)
    assert "owner.session_requested()" in inspect.getsource(
        SSHServerConnection._process_session_open
    )


def test_every_log_in_hook_of_the_library_is_answered() -> None:
    """A hook that the dialogue left alone would answer as the library thinks fit."""
    theirs = {name for name in _public_methods(asyncssh.SSHServer) if "auth" in name}
    left = theirs - set(vars(LoginDialogue)) - {"host_based_auth_supported", "auth_completed"}
    assert left == set()


def test_stock_sends_success_without_asking_twice() -> None:
    """All methods end in send_userauth_success: that is where the monitor is asked."""
    auth_source = inspect.getsource(asyncssh.auth)
    assert auth_source.count("MSG_USERAUTH_SUCCESS") == 0
    assert auth_source.count("send_userauth_success") == 1
    assert inspect.getsource(connection).count("send_packet(MSG_USERAUTH_SUCCESS)") == 1


def test_stock_verifies_keys_before_it_asks_for_success() -> None:
    """The listed-key hook runs before the signature is verified, so it must not log in."""
    source = inspect.getsource(SSHServerConnection.validate_public_key)
    assert source.index("_validate_client_public_key") < source.index("key.verify")


def test_stock_closes_files_alike_on_close_and_on_loss() -> None:
    """So a clean close has to be told apart in _process_close."""
    for place in (SFTPServerHandler._process_close, SFTPServerHandler._cleanup):
        assert "_server.close(file_obj)" in inspect.getsource(place)


def test_stock_tells_clients_what_went_wrong_inside() -> None:
    """So unknown errors are caught before the stock handler sees them."""
    assert "Uncaught exception: {exc}" in inspect.getsource(SFTPServerHandler._process_packet)


def test_stock_never_waits_for_the_client() -> None:
    """So replies are drained here."""
    assert "drain" not in inspect.getsource(sftp.SFTPHandler)
    assert "Do nothing" in inspect.getsource(connection.SSHConnection.pause_writing)


def test_stock_offers_extensions_that_reach_the_host() -> None:
    """So the list of extensions is our own, and the table of handlers is an allow-list."""
    stock = {name for name, _ in SFTPServerHandler._extensions}
    assert b"ranges@asyncssh.com" in stock
    ours = {name for name, _ in FilesHandler._extensions}
    assert b"ranges@asyncssh.com" not in ours
    served = {name for name in FilesHandler._packet_handlers if isinstance(name, bytes)}
    assert ours == served


def test_stock_algorithms_include_weak_ones(host_key: Path) -> None:
    """So the lists are our own."""

    async def go() -> bytes:
        listening = await asyncssh.listen("127.0.0.1", 0, server_host_keys=[str(host_key)])
        reader, writer = await asyncio.open_connection("127.0.0.1", listening.get_port())
        writer.write(b"SSH-2.0-Test\r\n")
        heard = await reader.readuntil(b"hmac-sha1")
        writer.close()
        await writer.wait_closed()
        listening.close()
        await listening.wait_closed()
        return heard

    assert b"umac-64" in asyncio.run(go())


def test_stock_takes_sha1_signatures_of_users() -> None:
    """So the signature's algorithm is checked first."""
    key = asyncssh.generate_private_key("ssh-rsa", key_size=2048)
    assert key.convert_to_public().verify(b"data", key.sign(b"data", b"ssh-rsa"))


def test_stock_notes_the_agreed_signature_on_the_shared_host_key() -> None:
    """So each connection chooses a copy; and ``ssh-rsa`` itself is never set at all."""
    source = inspect.getsource(SSHServerConnection.choose_server_host_key)
    assert "keypair.set_sig_algorithm(alg)" in source
    assert "if alg != keypair.algorithm" in source


def test_what_negotiation_overrides_still_exists() -> None:
    """The attributes that it sets are those from which a KEXINIT is made and answered."""
    for name in (
        "choose_server_host_key", "send_newkeys", "connection_made",
        "_send_kexinit", "_process_kexinit", "_cleanup",
    ):  # fmt: skip
        assert name in vars(NegotiatedConnection)
        assert inspect.isfunction(getattr(SSHServerConnection, name))
    theirs = SSHServerConnection._packet_handlers
    assert theirs[MSG_KEXINIT] is connection.SSHConnection._process_kexinit
    assert set(NegotiatedConnection._packet_handlers) == set(theirs)
    # A KEXINIT that is held back counts as sent: the answer to the client's comes before this.
    assert "if self._kexinit_sent:" in inspect.getsource(theirs[MSG_KEXINIT])
    sent = inspect.getsource(connection.SSHConnection._send_kexinit)
    answered = inspect.getsource(connection.SSHConnection._process_kexinit)
    for attribute in ("_kex_algs", "_enc_algs", "_mac_algs"):
        assert f"self.{attribute}" in sent
        assert f"self.{attribute}" in answered
    assert "self._server_host_key_algs" in sent


def test_stock_precedes_packets_with_empty_ones() -> None:
    """So MSG_IGNORE is dropped before it is encrypted."""
    assert "self.send_packet(MSG_IGNORE" in inspect.getsource(connection.SSHConnection.send_packet)


@pytest.mark.parametrize("name", ["_process_pty_req_request", "_process_exec_request"])
def test_stock_channel_requests_keep_their_names(name: str) -> None:
    """They are looked up by name."""
    assert callable(getattr(SSHServerChannel, name))


def test_stock_makes_a_timer_whenever_something_arrives() -> None:
    """Ours only notes the time; it must still be told of what arrives, and be called back."""
    assert "_reset_keepalive_timer()" in inspect.getsource(SSHServerConnection._recv_data)
    stock = inspect.getsource(SSHServerConnection._set_keepalive_timer)
    assert "self._keepalive_timer_callback" in stock
    assert "self._keepalive_interval" in stock

"""The short way of channel data: the same bytes as the library's, and no rule left out."""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import asyncssh
import pytest
from asyncssh.constants import MSG_GLOBAL_REQUEST, MSG_IGNORE
from asyncssh.encryption import GCMEncryption
from asyncssh.packet import Boolean, SSHPacket, String
from asyncssh.session import DataType

from gateway.sftp.algorithms import ListenerAlgorithms
from gateway.sftp.connection import SftpConnection
from gateway.sftp.inbox import Inbox
from gateway.sftp.packets import PacketCipher
from gateway.sftp.transport import PacketTransport
from tests.sftp.conftest import ORDINARY, Listener
from tests.sftp.test_openssh import _arguments, _run
from tests.support.users import until

KEY, IV = bytes(range(32)), bytes(range(100, 112))


def _stock() -> GCMEncryption:
    return GCMEncryption.new("aes256-gcm", KEY, IV)


@pytest.mark.parametrize("iv", [IV, IV[:4] + b"\xff" * 8])
def test_packets_are_sealed_as_the_library_seals_them(iv: bytes) -> None:
    """One cipher object a key gives the same packets, past the end of the counter too."""
    stock = GCMEncryption.new("aes256-gcm", KEY, iv)
    ours = PacketCipher(GCMEncryption.new("aes256-gcm", KEY, iv))
    other = PacketCipher(GCMEncryption.new("aes256-gcm", KEY, iv))
    reader = PacketCipher(GCMEncryption.new("aes256-gcm", KEY, iv))
    for number in range(5):
        plain = os.urandom(16 + 32 * number)
        header = len(plain).to_bytes(4, "big")
        expected = b"".join(stock.encrypt_packet(number, header, plain))
        assert b"".join(ours.encrypt_packet(number, header, plain)) == expected
        room = bytearray(len(plain) + 16)
        other.seal_into(memoryview(header), memoryview(plain), memoryview(room))
        assert header + room == expected
        assert reader.peek(memoryview(expected)) == plain
        reader.accept()


def test_a_peek_does_not_go_on() -> None:
    """What the short way does not take, the library opens."""
    header = (16).to_bytes(4, "big")
    sealed = b"".join(_stock().encrypt_packet(0, header, bytes(16)))
    cipher = PacketCipher(_stock())
    assert cipher.peek(memoryview(sealed)) == bytes(16)
    assert cipher.decrypt_packet(0, sealed[:16], sealed[16:-16], 4, sealed[-16:]) == bytes(16)
    assert cipher.decrypt_packet(1, sealed[:16], sealed[16:-16], 4, sealed[-16:]) is None


def test_a_damaged_packet_opens_neither_way() -> None:
    """Each byte is covered by the tag, the length too."""
    header = (16).to_bytes(4, "big")
    sealed = b"".join(_stock().encrypt_packet(0, header, bytes(16)))
    for position in range(len(sealed)):
        bad = bytes(each ^ (at == position) for at, each in enumerate(sealed))
        cipher = PacketCipher(_stock())
        assert cipher.peek(memoryview(bad)) is None
        assert cipher.decrypt_packet(0, bad[:16], bad[16:-16], 4, bad[-16:]) is None


async def _cut_off(listener: Listener, spoil: Callable[[Any, Any], None]) -> None:
    """Return when the server has hung up on a logged-in client that does what ``spoil`` does."""
    async with await listener.connect() as conn, conn.start_sftp_client() as sftp:
        await sftp.listdir("/share")
        handler: Any = sftp._handler
        spoil(conn, handler._writer.channel)
        await asyncio.wait_for(conn.wait_closed(), 30)


def _wrong_length(conn: Any, channel: Any) -> None:
    conn.send_packet(94, struct.pack(">II", channel._send_chan, 5), b"1234")


def _trailing(conn: Any, channel: Any) -> None:
    conn.send_packet(94, struct.pack(">II", channel._send_chan, 3), b"1234")


def _unknown_channel(conn: Any, _channel: Any) -> None:
    conn.send_packet(94, struct.pack(">II", 4711, 4), b"1234")


def _after_eof(conn: Any, channel: Any) -> None:
    conn.send_packet(96, struct.pack(">I", channel._send_chan))
    conn.send_packet(94, struct.pack(">II", channel._send_chan, 4), b"1234")


@pytest.mark.parametrize("spoil", [_wrong_length, _trailing, _unknown_channel, _after_eof])
def test_data_that_breaks_a_rule_ends_the_connection(
    listener: Listener, spoil: Callable[[Any, Any], None]
) -> None:
    """The short way takes sound data alone; the library judges the rest as ever."""
    asyncio.run(_cut_off(listener, spoil))


@pytest.mark.parametrize("rekey", ["1M", "300K", "default 1s"])
def test_keys_change_in_the_middle_of_transfers(
    listener: Listener, tmp_path: Path, rekey: str
) -> None:
    """Nothing is lost, doubled or sealed under the wrong key while OpenSSH changes keys."""
    content = os.urandom(6_000_003)
    (tmp_path / "up").write_bytes(content)
    batch = tmp_path / "batch"
    batch.write_text("put up /share/a\nget /share/a down\n")
    options = [f"-oRekeyLimit={rekey}", *_arguments(listener, tmp_path, "publickey")]
    done = _run(["sftp", "-q", "-b", str(batch), *options, "alice@127.0.0.1"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert listener.monitor.content("/share/a") == content
    assert (tmp_path / "down").read_bytes() == content


@pytest.mark.parametrize("seed", range(4))
def test_what_arrives_may_be_cut_anywhere(
    listener: Listener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Data behind a packet that changes the key, or takes its time, waits for it."""
    random, receive, late = Random(seed), SftpConnection.data_received, bytearray()

    def cut(self: SftpConnection, data: bytes, datatype: DataType = None) -> None:
        late.extend(data)
        while late and random.random() < 0.9:
            size = random.choice([1, 3, 17, 300, 5_000, 70_000, len(late)])
            piece = bytes(late[:size])
            del late[:size]
            receive(self, piece, datatype)
        if late:
            self._loop.call_soon(self.data_received, b"", datatype)

    monkeypatch.setattr(SftpConnection, "data_received", cut)
    content = random.randbytes(2_000_003)
    (tmp_path / "up").write_bytes(content)
    batch = tmp_path / "batch"
    batch.write_text("put up /share/a\nls /share\nget /share/a down\n")
    options = ["-oRekeyLimit=300K", *_arguments(listener, tmp_path, "publickey")]
    done = _run(["sftp", "-q", "-b", str(batch), *options, "alice@127.0.0.1"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert listener.monitor.content("/share/a") == content
    assert (tmp_path / "down").read_bytes() == content


def test_data_waits_for_a_packet_that_takes_its_time(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when that one was cut, and what follows it arrived with its rest."""
    order, held = [], bytearray()
    receive, process, feed = (
        SftpConnection.data_received,
        SftpConnection.process_packet,
        Inbox.feed,
    )
    holding = False

    def hold(self: SftpConnection, data: bytes, datatype: DataType = None) -> None:
        if holding:
            held.extend(data)
        else:
            receive(self, data, datatype)

    def slow(self: SftpConnection, pkttype: int, pktid: int, packet: SSHPacket) -> object:
        done = process(self, pkttype, pktid, packet)

        async def later() -> None:
            await asyncio.sleep(0.3)
            order.append("request")

        return later() if pkttype == MSG_GLOBAL_REQUEST and holding else done

    def fed(self: Inbox, data: memoryview) -> None:
        if holding:
            order.append("data")
        feed(self, data)

    monkeypatch.setattr(SftpConnection, "data_received", hold)
    monkeypatch.setattr(SftpConnection, "process_packet", slow)
    monkeypatch.setattr(Inbox, "feed", fed)

    async def release(server: Any) -> None:
        receive(server, bytes(held[:20]))
        receive(server, bytes(held[20:]))

    async def go() -> None:
        nonlocal holding
        async with await listener.connect() as conn, conn.start_sftp_client() as sftp:
            await sftp.stat("/share")
            (server,) = listener.server._service.connections  # type: ignore[union-attr]
            send, holding = conn.send_packet, True
            # The library's client sends an empty packet before each; then data is never the next.
            quiet = lambda kind, *parts, **more: kind != MSG_IGNORE and send(kind, *parts, **more)  # noqa: E731
            monkeypatch.setattr(conn, "send_packet", quiet)
            conn.send_packet(MSG_GLOBAL_REQUEST, String("nothing"), Boolean(False))
            stat = asyncio.create_task(sftp.stat("/share"))
            await asyncio.to_thread(until, lambda: len(held) > 80, "both packets arrived")
            listener.run(release(server))
            await asyncio.to_thread(until, lambda: len(order) == 2, "both were dealt with")
            holding = False
            await stat

    asyncio.run(go())
    assert order == ["request", "data"]


@pytest.mark.parametrize("size", [1, 4096, 32_000, 262_144])
def test_requests_of_any_size_bring_the_same_bytes(
    listener: Listener, tmp_path: Path, size: int
) -> None:
    """One packet of SSH may hold many requests, and one request may need many packets."""
    content = os.urandom(400 if size == 1 else 1_500_001)
    (tmp_path / "up").write_bytes(content)
    batch = tmp_path / "batch"
    batch.write_text("put up /share/a\nget /share/a down\n")
    options = ["-B", str(min(size, 261_120)), *_arguments(listener, tmp_path, "publickey")]
    done = _run(["sftp", "-q", "-b", str(batch), *options, "alice@127.0.0.1"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "down").read_bytes() == content


def test_without_gcm_the_library_moves_the_packets(start: Callable[..., Listener]) -> None:
    """A legacy listener serves CTR: same content, the long way."""
    legacy = ListenerAlgorithms(legacy_ends_us=1 << 62)
    listener = start(replace(ORDINARY, algorithms=legacy))
    content = os.urandom(500_001)

    async def go() -> None:
        async with (
            await listener.connect(encryption_algs=["aes256-ctr"]) as conn,
            conn.start_sftp_client() as sftp,
        ):
            async with sftp.open("/share/a", "wb") as file:
                await file.write(content)
            async with sftp.open("/share/a", "rb") as file:
                data: Any = await file.read()
                assert data == content

    asyncio.run(go())


def test_replies_keep_the_order_of_mixed_requests(listener: Listener) -> None:
    """Reads and writes that are sent without waiting see each other in the order sent."""

    async def go() -> None:
        async with await listener.connect() as conn, conn.start_sftp_client() as sftp:
            handler = sftp._handler
            assert handler is not None
            flags = asyncssh.FXF_READ | asyncssh.FXF_WRITE | asyncssh.FXF_CREAT
            handle = await handler.open(b"/share/a", flags, asyncssh.SFTPAttrs())
            sent: list[asyncio.Future[Any]] = []
            for round_ in range(30):
                data = bytes([round_]) * 1000
                sent.append(asyncio.ensure_future(handler.write(handle, 0, data)))
                sent.append(asyncio.ensure_future(handler.read(handle, 0, 1000)))
                sent.append(asyncio.ensure_future(handler.read(handle, 5000, 10)))
            answers: list[Any] = await asyncio.gather(*sent, return_exceptions=True)
            for round_ in range(30):
                written, read, beyond = answers[3 * round_ : 3 * round_ + 3]
                assert not isinstance(written, Exception)
                assert read[0] == bytes([round_]) * 1000
                assert isinstance(beyond, asyncssh.SFTPEOFError)
            await handler.close(handle)

    asyncio.run(go())


def test_a_failure_among_pipelined_requests_is_its_own(listener: Listener) -> None:
    """One bad handle spoils neither the requests before it nor those after it."""
    listener.monitor.put("/share/a", bytes(range(100)))

    async def go() -> None:
        async with await listener.connect() as conn, conn.start_sftp_client() as sftp:
            handler = sftp._handler
            assert handler is not None
            handle = await handler.open(b"/share/a", asyncssh.FXF_READ, asyncssh.SFTPAttrs())
            handles = [handle, b"none", handle, handle, b"", handle]
            sent = [asyncio.ensure_future(handler.read(each, 0, 10)) for each in handles]
            answers: list[Any] = await asyncio.gather(*sent, return_exceptions=True)
            for each, answer in zip(handles, answers, strict=True):
                if each == handle:
                    assert answer[0] == bytes(range(10))
                else:
                    assert isinstance(answer, asyncssh.SFTPError)

    asyncio.run(go())


def test_the_library_still_has_what_the_short_way_leans_on() -> None:
    """A renamed private attribute would turn the short way off, or worse."""
    connection = asyncssh.connection.SSHServerConnection
    for name in ("_recv_pkthdr", "send_newkeys", "send_packet", "_recv_data"):
        assert callable(getattr(connection, name))
    cipher = _stock()._cipher
    assert (cipher._key, cipher._iv) == (KEY, IV)
    source = Path(asyncssh.connection.__file__).read_text("utf-8")
    for name in (
        "self._recv_handler = self._recv_pkthdr",
        "self._next_recv_encryption = next_enc_cs",
        "self._send_encryption = next_enc_sc",
        "self._rekey_bytes_sent += pktlen",
        "self._send_seq = (seq + 1) & 0xffffffff",
        "self._recv_seq = (seq + 1) & 0xffffffff",
        "if self._pktlen > self._max_recv_pktlen:",
        "self._inpbuf += data",
    ):
        assert name in source, name
    assert issubclass(PacketTransport, connection)


def _padded_beyond_itself(conn: Any, channel: Any) -> None:
    body = struct.pack(">BBII", 200, 94, channel._send_chan, 14) + bytes(102)
    header = struct.pack(">I", len(body))
    sealed = b"".join(conn._send_encryption.encrypt_packet(0, header, body))
    conn._transport.write(sealed)


def test_padding_longer_than_its_packet_ends_the_connection(listener: Listener) -> None:
    """A length that points behind the packet's beginning is no length."""
    asyncio.run(_cut_off(listener, _padded_beyond_itself))

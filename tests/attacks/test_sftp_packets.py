"""Hostile framing of SFTP against the running gateway, and clients that do not take their answers."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from tests.attacks.sftp_support import (
    ATTRS,
    BAD_MESSAGE,
    CLOSE,
    FOR_READING,
    INIT,
    MKDIR,
    NEW,
    NO_ATTRS,
    OK,
    OPEN,
    READ,
    STAT,
    STATUS,
    UNSUPPORTED,
    WRITE,
    Attacker,
    Tap,
    channel_on,
    long,
    packet,
    text,
    word,
)
from tests.attacks.support import Target

READ_LIMIT_BYTES = 256 * 1024
HELLO = word(5) + bytes([INIT]) + word(3)


@pytest.fixture(scope="module")
def attacker(target: Target) -> Iterator[Attacker]:
    """The scanner, and at the end the gateway is well."""
    attacker = Attacker(target)
    yield attacker
    attacker.healthy()


@pytest.mark.parametrize(
    "raw",
    [
        word(0),
        word(1) + b"\x11",
        word(4) + b"\x11\0\0\0",
        word(300 * 1024) + b"x",
        word(2**31) + b"x" * 100,
        word(2**32 - 1),
    ],
)
def test_a_length_that_cannot_be_ends_its_channel_alone(attacker: Attacker, raw: bytes) -> None:
    """Before the first packet and after it; what the length promises is not waited for."""
    before_mib = attacker.peak_mib()
    with attacker.transport() as transport:
        neighbour = channel_on(transport)
        for opening in (b"", HELLO):
            broken = channel_on(transport, opening)
            if opening:
                broken.receive()
            broken.send(raw)
            assert broken.ended()
            assert neighbour.ask(STAT, text("/scans")).kind == ATTRS
    assert attacker.peak_mib() < before_mib + 20


@pytest.mark.parametrize(
    "opening",
    [
        packet(STAT, 1, text("/scans")),
        word(1) + bytes([INIT]),
        *(word(5) + bytes([INIT]) + word(version) for version in (0, 2)),
    ],
)
def test_nothing_is_served_before_the_version(attacker: Attacker, opening: bytes) -> None:
    """A request instead of it, half of it, or one too old ends the channel without an answer."""
    with attacker.transport() as transport:
        assert channel_on(transport, opening).ended()
        assert channel_on(transport).ask(STAT, text("/scans")).kind == ATTRS


@pytest.mark.parametrize("opening", [b"", b"\0", HELLO[:4], HELLO[:7]])
def test_a_channel_that_closes_early_takes_no_other_along(
    attacker: Attacker, opening: bytes
) -> None:
    """An end before the version was said is an end of that channel only."""
    with attacker.transport() as transport:
        neighbour = channel_on(transport)
        early = channel_on(transport, opening)
        early.channel.shutdown_write()
        early.ended()
        assert neighbour.ask(STAT, text("/scans")).kind == ATTRS


def test_a_truncated_packet_stores_nothing(attacker: Attacker) -> None:
    """The end of the wire within a WRITE: the file keeps what it was, and no reply is invented."""
    path = f"/scans/{uuid.uuid4().hex[:12]}"
    with attacker.transport() as transport:
        client = channel_on(transport)
        client.put(path, b"content")
        handle = client.open(path, NEW).handle
        client.send(packet(WRITE, 9, text(handle), long(0), text(b"x" * 1000))[:-1])
        client.channel.shutdown_write()
        assert client.ended()
        assert channel_on(transport).get(path) == b"content"


def test_fields_that_end_early_are_bad_messages(attacker: Attacker) -> None:
    """Every request cut at every byte, or one byte too long: one reply each, and on it goes."""
    path = f"/scans/{uuid.uuid4().hex[:12]}"
    with attacker.client() as client:
        client.put(path, b"content")
        for kind, body in (
            (OPEN, text(path) + word(FOR_READING) + NO_ATTRS),
            (READ, text(bytes(4)) + long(0) + word(1)),
            (MKDIR, text(path) + NO_ATTRS),
            (STAT, text(path)),
            (STAT, word(2**32 - 1) + path.encode()),
        ):
            for cut in (*range(len(body)), len(body) + 1):
                answer = client.ask(kind, (body + b"\0")[:cut])
                assert (answer.kind, answer.code) == (STATUS, BAD_MESSAGE)
        for kind in (0, INIT, 2, 21, 100, 101, 201, 255):
            assert client.ask(kind, text(path)).code == UNSUPPORTED
        assert client.get(path) == b"content"


@pytest.mark.parametrize("window_bytes", [64 * 1024, 2**31 - 1])
def test_reads_without_taking_the_answers_cost_a_few_buffers(
    attacker: Attacker, window_bytes: int
) -> None:
    """Two thousand reads of 256 KiB, whatever the window: the worker's memory stays flat."""
    path = f"/scans/{uuid.uuid4().hex[:12]}"
    tap = Tap(attacker.gateway.sftp_port)
    with attacker.transport(tap) as transport:
        client = channel_on(transport, window_bytes=window_bytes)
        handle = client.open(path, NEW).handle
        block = bytes(READ_LIMIT_BYTES)
        for part in range(4):
            request = (text(handle), long(part * len(block)), text(block))
            assert client.ask(WRITE, *request).code == OK
        assert client.ask(CLOSE, text(handle)).code == OK
        handle = client.open(path, FOR_READING).handle
        before_mib = attacker.resident_mib()
        tap.paused.set()
        for number in range(2000):
            request = (text(handle), long(number % 4 * len(block)), word(2**32 - 1))
            client.send(packet(READ, number, *request))
        attacker.settled()
        assert attacker.resident_mib() < before_mib + 40
        with attacker.client() as other:
            assert len(other.get(path)) == 65536

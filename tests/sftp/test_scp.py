"""scp's own protocol byte by byte against the fake door: what a sound end says, and a hostile one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import asyncssh
import pytest

from auth.policy import Decision
from backends.errors import IntegrityError, QuotaExceededError
from gateway.sftp import scp, scp_sink
from tests.sftp.conftest import LIMIT_S, Listener
from tests.support.users import until

WHEN_S = 1_500_000_000
TIMES = f"T{WHEN_S} 0 {WHEN_S} 0\n".encode()


class End:
    """The client's end of one command."""

    def __init__(self, process: asyncssh.SSHClientProcess[bytes]) -> None:
        self.process = process

    async def say(self, *parts: bytes) -> None:
        self.process.stdin.write(b"".join(parts))

    async def hear(self, expected: bytes) -> None:
        reading = self.process.stdout.readexactly(len(expected))
        found = await asyncio.wait_for(reading, LIMIT_S)
        assert found == expected

    async def line(self) -> bytes:
        return await asyncio.wait_for(self.process.stdout.readline(), LIMIT_S)

    async def end(self) -> int | None:
        """Say no more; return the exit status."""
        self.process.stdin.write_eof()
        done = await asyncio.wait_for(self.process.wait(), LIMIT_S)
        return done.exit_status


def talk(listener: Listener, command: str, scene: Callable[[End], Awaitable[None]]) -> int | None:
    """Play ``scene`` as the client of ``command``; return the exit status."""
    listener.monitor.scp = Decision(allowed=True, rule="groups.staff.scp")

    status: list[int | None] = []

    async def go() -> None:
        async with await listener.connect() as conn:
            end = End(await conn.create_process(command, encoding=None))
            await scene(end)
            status.append(await end.end())

    asyncio.run(go())
    return status[0]


# Receiving


def test_a_file_is_received_with_its_time(listener: Listener) -> None:
    """Acknowledged step by step, stored at its end."""

    async def scene(end: End) -> None:
        await end.hear(b"\0")
        await end.say(TIMES)
        await end.hear(b"\0")
        await end.say(b"C0644 5 name\n")
        await end.hear(b"\0")
        await end.say(b"hello", b"\0")
        await end.hear(b"\0")

    assert talk(listener, "scp -p -t /share/a", scene) == 0
    assert listener.monitor.content("/share/a") == b"hello"
    node = listener.monitor.tree[next(path for path in listener.monitor.tree if path.name == "a")]
    assert node.modified_us == WHEN_S * 1_000_000


def test_a_tree_is_received_whoever_waits(listener: Listener) -> None:
    """Folders in folders, an empty file, and a client that sends all at once."""

    async def scene(end: End) -> None:
        await end.say(
            b"D0755 0 tree\n",
            b"C0644 3 a b\nabc\0",
            b"D0755 0 deep\n",
            b"C0600 0 empty\n\0",
            b"E\n",
            "C0644 1 grün\nx\0".encode(),
            b"E\n",
        )
        await end.hear(b"\0" * 11)

    assert talk(listener, "scp -r -t /share", scene) == 0
    assert listener.monitor.content("/share/tree/a b") == b"abc"
    assert listener.monitor.content("/share/tree/deep/empty") == b""
    assert listener.monitor.content("/share/tree/grün") == b"x"


def test_a_folder_that_is_there_is_filled(listener: Listener) -> None:
    """And gets its time at its end."""
    listener.monitor.put("/share/tree", None)

    async def scene(end: End) -> None:
        await end.say(TIMES, b"D0755 0 tree\n", b"C0644 1 a\nx\0", b"E\n")
        await end.hear(b"\0" * 6)

    assert talk(listener, "scp -rp -t /share", scene) == 0
    assert listener.monitor.content("/share/tree/a") == b"x"


@pytest.mark.parametrize(
    "line",
    [
        b"C0644 1 ../a\n",
        b"C0644 1 ..\n",
        b"C0644 1 .\n",
        b"C0644 1 /share/a\n",
        b"C0644 1 a/b\n",
        b"C0644 1 a\x1b[2J\n",
        b"C0644 1 a\tb\n",
        b"C0644 1 \xff\n",
        b"C0644 1 \n",
        b"C0644 1\n",
        b"C644 1 a\n",
        b"C0844 1 a\n",
        b"C0644 -1 a\n",
        b"C0644 +1 a\n",
        b"C0644 0x1 a\n",
        b"C0644 1_0 a\n",
        b"C0644  1 a\n",
        b"C0644 99999999999999999999 a\n",
        b"C0644 " + "１".encode() + b" a\n",
        b"T1 0 1\n",
        b"Tx 0 1 0\n",
        b"T-1 0 1 0\n",
        b"D0755 0 folder\n",
        b"E\n",
        b"X\n",
        b"\n",
        b"exit\n",
        b"a" * (scp.LINE_LIMIT_BYTES + 1) + b"\n",
        b"a" * 100_000,
    ],
)
def test_a_line_that_breaks_the_protocol_ends_it(listener: Listener, line: bytes) -> None:
    """Nothing is stored, whatever name it was, and the breach is recorded."""
    before = set(listener.monitor.tree)

    async def scene(end: End) -> None:
        await end.hear(b"\0")
        await end.say(line)
        assert (await end.line()).startswith(b"\2scp: protocol error: ")

    assert talk(listener, "scp -t /share", scene) == 1
    assert set(listener.monitor.tree) == before
    until(lambda: listener.monitor.refusals, "the breach is recorded")
    assert listener.monitor.refusals[0][0].startswith("scp: protocol error: ")


def test_a_name_that_no_node_can_have_is_left_out(listener: Listener) -> None:
    """The others are taken."""

    async def scene(end: End) -> None:
        await end.hear(b"\0")
        await end.say(b"C0644 1 a\\b\n")
        assert (await end.line()).startswith(b"\1scp: a\\b: ")
        await end.say(b"C0644 1 b\nx\0")
        await end.hear(b"\0\0")

    assert talk(listener, "scp -t /share", scene) == 1
    assert listener.monitor.content("/share/b") == b"x"
    assert [what for what, _, _ in listener.monitor.refusals] == ["scp: bad name"]


@pytest.mark.parametrize("sent", [b"", b"hel"])
def test_what_is_cut_off_is_never_stored(listener: Listener, sent: bytes) -> None:
    """The old content stays."""
    listener.monitor.put("/share/a", b"old")

    async def scene(end: End) -> None:
        await end.hear(b"\0")
        await end.say(b"C0644 5 a\n")
        await end.hear(b"\0")
        await end.say(sent)

    assert talk(listener, "scp -t /share/a", scene) == 1
    assert listener.monitor.content("/share/a") == b"old"
    assert ("abort", "disconnected") in listener.monitor.events
    assert listener.monitor.open_writers == 0


def test_an_end_that_closes_instead_of_a_last_word_is_taken(listener: Listener) -> None:
    """As libssh2 ends an upload: all that was announced has come, and its side is closed."""

    async def scene(end: End) -> None:
        await end.say(b"C0644 5 a\n", b"hello")
        await end.hear(b"\0\0")

    assert talk(listener, "scp -t /share/a", scene) == 0
    assert listener.monitor.content("/share/a") == b"hello"


@pytest.mark.parametrize("size_bytes", [600_000, 1_000_000])
def test_a_lost_connection_stores_nothing(listener: Listener, size_bytes: int) -> None:
    """Not even where only the last word is missing; and scp cannot go on with it later."""
    listener.monitor.scp = Decision(allowed=True, rule="groups.staff.scp")

    async def go() -> None:
        conn = await listener.connect()
        end = End(await conn.create_process("scp -t /share/a", encoding=None))
        await end.say(b"C0644 1000000 a\n", bytes(size_bytes))
        await end.hear(b"\0\0")
        written, arrived = ("write", "/share/a"), size_bytes // scp.BLOCK_BYTES
        await asyncio.to_thread(
            until, lambda: listener.monitor.events.count(written) >= arrived, "it has arrived"
        )
        conn.abort()

    asyncio.run(go())
    until(lambda: ("abort", "disconnected") in listener.monitor.events, "it is given up")
    assert listener.monitor.content("/share/a") is None


def test_content_that_its_sender_could_not_read_is_not_stored(listener: Listener) -> None:
    """It fills what it announced with anything, and then says so."""

    async def scene(end: End) -> None:
        await end.say(b"C0644 5 a\n", b"\0\0\0\0\0", b"\1scp: a: Input/output error\n")
        await end.hear(b"\0\0")
        assert b"could not read it" in await end.line()

    assert talk(listener, "scp -t /share", scene) == 1
    assert listener.monitor.content("/share/a") is None


def test_a_file_that_cannot_be_stored_is_told_and_the_next_one_taken(listener: Listener) -> None:
    """Its content is taken to its end, so that the sender hears why."""

    def fault(operation: str) -> None:
        if operation == "write":
            listener.monitor.fault = lambda _: None
            raise QuotaExceededError("The share is full.")

    listener.monitor.fault = fault

    async def scene(end: End) -> None:
        await end.say(b"C0644 600000 a\n", bytes(600_000), b"\0")
        await end.hear(b"\0\0")
        assert await end.line() == b"\1scp: a: The share is full.\n"
        await end.say(b"C0644 1 b\nx\0")
        await end.hear(b"\0\0")

    assert talk(listener, "scp -t /share", scene) == 1
    assert listener.monitor.content("/share/a") is None
    assert listener.monitor.content("/share/b") == b"x"


def test_a_large_file_that_cannot_be_stored_is_not_taken_to_its_end(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason goes where a person sees it."""
    monkeypatch.setattr(scp_sink, "UNWANTED_LIMIT_BYTES", 1_000_000)

    def fault(operation: str) -> None:
        if operation == "write":
            raise QuotaExceededError("The share is full.")

    listener.monitor.fault = fault

    async def scene(end: End) -> None:
        await end.say(b"C0644 9000000 a\n", bytes(400_000))
        told = await asyncio.wait_for(end.process.stderr.readline(), LIMIT_S)
        assert told == b"scp: The share is full.\n"

    assert talk(listener, "scp -t /share", scene) == 1
    assert listener.monitor.content("/share/a") is None


@pytest.mark.parametrize("direction", ["-t", "-f"])
def test_a_path_that_no_node_can_have_is_refused_and_recorded(
    listener: Listener, direction: str
) -> None:
    """It never reaches the door."""

    async def scene(end: End) -> None:
        await end.say(b"\0")
        assert b"backslash" in await end.line()

    assert talk(listener, rf"scp {direction} '/share/a\b'", scene) == 1
    until(lambda: listener.monitor.refusals, "it is recorded")
    assert [what for what, _, _ in listener.monitor.refusals] == ["scp: bad name"]


def test_a_target_that_must_be_a_folder_is_one(listener: Listener) -> None:
    """Several files never become one."""
    listener.monitor.put("/share/a", b"old")

    async def scene(end: End) -> None:
        assert await end.line() == b"\2scp: /share/a: Not a folder\n"

    assert talk(listener, "scp -d -t /share/a", scene) == 1


# Sending


def test_a_tree_is_sent_with_its_times(listener: Listener) -> None:
    """Each entry once the one before was taken."""
    listener.monitor.put("/share/tree", None)
    listener.monitor.put("/share/tree/a", b"hello")
    stamp = f"T{listener.monitor.clock() // 1_000_000} 0 ".encode()

    async def scene(end: End) -> None:
        await end.say(b"\0")
        assert (await end.line()).startswith(stamp)
        await end.say(b"\0")
        assert await end.line() == b"D0700 0 tree\n"
        await end.say(b"\0")
        assert (await end.line()).startswith(stamp)
        await end.say(b"\0")
        assert await end.line() == b"C0600 5 a\n"
        await end.say(b"\0")
        await end.hear(b"hello\0")
        await end.say(b"\0")
        assert await end.line() == b"E\n"
        await end.say(b"\0")

    assert talk(listener, "scp -rp -f /share/tree", scene) == 0


def test_what_the_client_does_not_take_is_left_out(listener: Listener) -> None:
    """A file, or a folder with all that is in it; the rest follows."""
    for name in ("a", "f/x", "z"):
        listener.monitor.put(f"/share/{name}", b"x")
    listener.monitor.put("/share/f", None)

    async def scene(end: End) -> None:
        await end.say(b"\0")
        assert await end.line() == b"D0700 0 share\n"
        await end.say(b"\0")
        assert await end.line() == b"C0600 1 a\n"
        await end.say(b"\1scp: no room for a\n")
        assert await end.line() == b"D0700 0 f\n"
        await end.say(b"\1scp: no room for f\n")
        assert await end.line() == b"C0600 1 z\n"
        await end.say(b"\0")
        await end.hear(b"x\0")
        await end.say(b"\0")
        assert await end.line() == b"E\n"
        await end.say(b"\0")

    assert talk(listener, "scp -r -f /share", scene) == 1
    assert listener.monitor.events.count(("close", "cut")) == 1


@pytest.mark.parametrize(
    "answer", [b"\2gone\n", b"", b"nonsense\n", b"\1", b"\1" + b"a" * 5000, b"\1\n"]
)
def test_a_client_that_gives_up_or_talks_nonsense_ends_it(
    listener: Listener, answer: bytes
) -> None:
    """The reader is closed as cut off, and nothing more is sent."""
    listener.monitor.put("/share/a", b"hello")

    async def scene(end: End) -> None:
        await end.say(b"\0")
        assert await end.line() == b"C0600 5 a\n"
        await end.say(answer)

    assert talk(listener, "scp -f /share/a", scene) == 1
    assert listener.monitor.events[-1] == ("close", "cut")


def test_content_that_cannot_be_read_is_not_made_up(listener: Listener) -> None:
    """The client counts bytes and must not count others as the file's."""
    listener.monitor.put("/share/a", bytes(600_000))
    reads = iter([False, True])

    def fault(operation: str) -> None:
        if operation == "read" and next(reads):
            raise IntegrityError("The content is damaged.")

    listener.monitor.fault = fault

    async def scene(end: End) -> None:
        await end.say(b"\0")
        await end.line()
        await end.say(b"\0")
        found = await asyncio.wait_for(end.process.stdout.read(), LIMIT_S)
        assert len(found) < 600_000
        assert await end.process.stderr.read() == b"scp: The content is damaged.\n"

    assert talk(listener, "scp -f /share/a", scene) == 1
    assert listener.monitor.events[-1] == ("close", "cut")


def test_a_name_that_scp_cannot_say_is_left_out(listener: Listener) -> None:
    """A line has no room for another."""
    listener.monitor.put("/share/a\nC0600 3 b", b"x")

    async def scene(end: End) -> None:
        await end.say(b"\0")
        assert await end.line() == b"D0700 0 share\n"
        await end.say(b"\0")
        assert b"cannot send this name" in await end.line()
        assert await end.line() == b"E\n"
        await end.say(b"\0")

    assert talk(listener, "scp -r -f /share", scene) == 1


@pytest.mark.parametrize("path", ["/share", "/none", "/", "/share/none/x"])
def test_what_cannot_be_sent_is_told(listener: Listener, path: str) -> None:
    """A folder without -r, and what is not there."""

    async def scene(end: End) -> None:
        await end.say(b"\0")
        assert (await end.line()).startswith(b"\1scp: ")

    assert talk(listener, f"scp -f {path}", scene) == 1


# Where it is not allowed


@pytest.mark.parametrize("rule", ["default-deny", "groups.staff.scp"])
def test_it_is_refused_and_recorded_where_policy_does_not_allow_it(
    listener: Listener, rule: str
) -> None:
    """With the rule that refuses it."""
    listener.monitor.scp = Decision(allowed=False, rule=rule)

    async def go() -> None:
        async with await listener.connect() as conn:
            with pytest.raises(asyncssh.ChannelOpenError):
                await conn.create_process("scp -t /share", encoding=None)

    asyncio.run(go())
    until(lambda: listener.monitor.refusals, "the refusal is recorded")
    assert [what for what, _, _ in listener.monitor.refusals] == [f"exec scp: {rule}"]


@pytest.mark.parametrize("command", ["id", "scp -t /share; id", "scp -t a b"])
def test_other_commands_are_refused_where_scp_is_allowed(listener: Listener, command: str) -> None:
    """As ever."""
    listener.monitor.scp = Decision(allowed=True, rule="groups.staff.scp")

    async def go() -> None:
        async with await listener.connect() as conn:
            with pytest.raises(asyncssh.ChannelOpenError):
                await conn.create_process(command, encoding=None)

    asyncio.run(go())
    until(lambda: listener.monitor.refusals, "the refusal is recorded")
    assert [what for what, _, _ in listener.monitor.refusals] == ["exec"]


def test_draining_lets_a_file_finish_and_takes_no_other(listener: Listener) -> None:
    """The client is told, and the connection ends with the command."""

    async def scene(end: End) -> None:
        await end.say(b"C0644 5 a\nhel")
        await end.hear(b"\0\0")
        server = listener.server
        assert server is not None
        draining = asyncio.run_coroutine_threadsafe(server.drain(LIMIT_S), listener.loop)
        await asyncio.to_thread(until, lambda: server._service.draining, "it drains")
        await end.say(b"lo\0")
        await end.hear(b"\0")
        await end.say(b"C0644 1 b\n")
        assert b"about to restart" in await end.line()
        await asyncio.wrap_future(draining)

    talk(listener, "scp -t /share", scene)
    assert listener.monitor.content("/share/a") == b"hello"
    assert listener.monitor.content("/share/b") is None

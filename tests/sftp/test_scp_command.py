"""Which commands begin a transfer by scp's own protocol: few, and none that a shell must read."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.sftp.scp import COMMAND_LIMIT_BYTES, ScpCommand, parse_command

LETTERS = st.characters(exclude_categories=["Cs"])


@pytest.mark.parametrize(
    ("command", "path"),
    [
        (b"scp -t /share/a", "/share/a"),
        (b"scp -v -r -p -d -t -- /share/a", "/share/a"),
        (b"scp -t -- -a", "-a"),
        (b"scp -qrpdt '/a b'", "/a b"),
        (rb'scp -t "/a \$x \"y\" \n"', '/a $x "y" \\n'),
        (rb"scp  -t   /a\ b\'c", "/a b'c"),
        (b"scp -t '/it'\\''s'", "/it's"),
        (b"scp -t /a/*.txt", "/a/*.txt"),
        (b"scp -t ~", "/"),
        (b"scp -t ~/a", "/a"),
        (b"scp -t .", "."),
        ("scp -t /grün".encode(), "/grün"),
    ],
)
def test_commands_are_read_as_clients_write_them(command: bytes, path: str) -> None:
    """OpenSSH sends paths as they were typed; WinSCP, libssh2 and PuTTY quote, each its own way."""
    found = parse_command(command)
    assert found is not None
    assert (found.path, found.to_server) == (path, True)


def test_flags_say_what_is_wanted() -> None:
    """Each by itself or together."""
    assert parse_command(b"scp -f a") == ScpCommand("a", False, False, False, False)
    for together in (b"scp -rpdt a", b"scp -r -p -d -t a", b"scp -v -rp -dt a"):
        assert parse_command(together) == ScpCommand("a", True, True, True, True)


@pytest.mark.parametrize(
    "command",
    [
        b"",
        b"scp",
        b"scp -t",
        b"scp -t ''",
        b"scp -t --",
        b"scp a",
        b"scp -r a",
        b"scp -tf a",
        b"scp -t -f a",
        b"scp -t a b",
        b"scp -t -x",
        b"scp -t a -r",
        b"scp -S /bin/sh -t a",
        b"scp -oProxyCommand=id -t a",
        b"scp --to a",
        b"scpx -t a",
        b"/usr/bin/scp -t a",
        b"SCP -t a",
        b"env scp -t a",
        b"scp -t a; id",
        b"scp -t a;id",
        b"scp -t a&&id",
        b"scp -t a|id",
        b"scp -t a>b",
        b"scp -t <a",
        b"scp -t $(id)",
        b'scp -t "$(id)"',
        b"scp -t $HOME",
        b"scp -t `id`",
        b'scp -t "`id`"',
        b"scp -t a\nid",
        b"scp -t a\\\nb",
        b"scp -t 'a",
        b'scp -t "a',
        b"scp -t a\\",
        b"scp -t \xff",
        b"scp -t " + b"a" * COMMAND_LIMIT_BYTES,
        b"id",
        b"sftp-server",
    ],
)
def test_nothing_else_is_a_command(command: bytes) -> None:
    """No shell, no second command, no expansion, no unknown flag, exactly one path."""
    assert parse_command(command) is None


@given(st.text(LETTERS, min_size=1, max_size=50))
def test_a_quoted_path_is_itself(path: str) -> None:
    """Whatever is in it, as Python quotes for a shell."""
    found = parse_command(f"scp -t -- {shlex.quote(path)}".encode())
    assert found is not None
    if not path.startswith("~"):
        assert found.path == path


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    """Nothing raises."""
    parse_command(b"scp -t " + raw)
    parse_command(raw)

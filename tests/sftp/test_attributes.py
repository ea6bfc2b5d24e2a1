"""How nodes and space look to SFTP clients."""

from __future__ import annotations

import asyncssh
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.model import SECOND_US, Entry, Kind, NodeInfo, Usage
from gateway.paths import VirtualPath
from gateway.sftp.attributes import (
    encoded_names,
    long_name,
    modified_us,
    node_attributes,
    space_attributes,
)

NOV_21_2025_US = 1_763_755_200 * SECOND_US


def _file(modified_us: int = NOV_21_2025_US, size_bytes: int = 7) -> asyncssh.SFTPAttrs:
    path = VirtualPath(("share", "a"))
    return node_attributes(
        NodeInfo(path, Kind.FILE, size_bytes=size_bytes, modified_us=modified_us)
    )


def test_long_names_read_like_ls() -> None:
    """Clients like psftp print them as they are."""
    line = long_name(b"a b", _file(), "alice", NOV_21_2025_US + SECOND_US)
    assert line == b"-rw-------    1 alice    sealgate            7 Nov 21 20:00 a b"


@pytest.mark.parametrize("days", [-1, 183, 4000])
def test_long_names_show_the_year_of_old_and_future_files(days: int) -> None:
    """As ls does beyond half a year."""
    line = long_name(b"a", _file(), "alice", NOV_21_2025_US + days * 86400 * SECOND_US)
    assert line.endswith(b"Nov 21  2025 a")


def test_folders_have_folder_modes() -> None:
    """Type bits are set: clients tell folders by them."""
    attrs = node_attributes(NodeInfo(VirtualPath(("share",)), Kind.FOLDER))
    assert attrs.permissions == 0o40700
    assert attrs.size == 0
    assert long_name(b"x", attrs, "a b\tc", 0).startswith(b"drwx------    1 a_b_c ")


def test_long_names_show_no_control_characters() -> None:
    """One line each, and nothing that a terminal would obey; other letters are as they are."""
    line = long_name("grün\n\x1b[2J\x7f€".encode(), _file(), "alice", NOV_21_2025_US)
    assert line.endswith("grün??[2J?€".encode())


@given(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.integers(0, 2**63 - 1),
    st.integers(0, 2**50),
)
def test_entries_are_encoded_as_the_library_would(
    name: str, is_folder: bool, when_us: int, size_bytes: int, now_us: int
) -> None:
    """Byte by byte, whatever their names, sizes and times."""
    entry = Entry(name, is_folder, "", "", size_bytes, 0, when_us)
    attrs, raw = node_attributes(entry), name.encode()
    expected = asyncssh.SFTPName(raw, long_name(raw, attrs, "alice", now_us), attrs).encode(3)
    assert list(encoded_names([entry], "alice", now_us)) == [expected]


@given(st.integers(-(2**70), 2**70), st.integers(0, 2**63 - 1))
def test_attributes_always_fit_the_wire(when_us: int, size_bytes: int) -> None:
    """Version 3 has 32 bits for a time: whatever the door says is encoded and decoded."""
    attrs = _file(when_us, size_bytes)
    decoded = asyncssh.SFTPAttrs.decode(asyncssh.packet.SSHPacket(attrs.encode(3)), 3)
    assert (decoded.size, decoded.mtime) == (size_bytes, attrs.mtime)


def test_times_are_set_only_when_given() -> None:
    """Sub-seconds of later protocols count too."""
    assert modified_us(asyncssh.SFTPAttrs()) is None
    assert modified_us(asyncssh.SFTPAttrs(atime=1, mtime=2)) == 2_000_000
    assert modified_us(asyncssh.SFTPAttrs(mtime=2, mtime_ns=3_000)) == 2_000_003


@pytest.mark.parametrize(
    ("quota", "free"), [(None, 100), (8192 * 4096, 100), (60 * 4096, 10), (1 * 4096, 0)]
)
def test_free_space_is_what_both_quota_and_disk_leave(quota: int | None, free: int) -> None:
    """An overdrawn quota leaves nothing, not a negative number."""
    found = space_attributes(Usage(50 * 4096, 100 * 4096, quota, 3))
    assert found.bavail == found.bfree == free
    assert found.blocks == 50 + free

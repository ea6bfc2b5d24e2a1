"""What open flags mean, for every combination."""

from __future__ import annotations

import asyncssh
from asyncssh.constants import ACE4_READ_DATA, ACE4_WRITE_DATA
from hypothesis import given
from hypothesis import strategies as st

from gateway.sftp.opening import plan_open, plan_open56

FLAGS = {
    "READ": asyncssh.FXF_READ,
    "WRITE": asyncssh.FXF_WRITE,
    "APPEND": asyncssh.FXF_APPEND,
    "CREAT": asyncssh.FXF_CREAT,
    "TRUNC": asyncssh.FXF_TRUNC,
    "EXCL": asyncssh.FXF_EXCL,
}


@given(st.sets(st.sampled_from(sorted(FLAGS))), st.integers(0, 2**26 - 1))
def test_flags_map_to_the_doors_words(names: set[str], unknown: int) -> None:
    """Each word depends on its own flags alone, and unknown bits on none."""
    plan = plan_open(sum(FLAGS[name] for name in names) | unknown << 6)
    assert plan.write is ("WRITE" in names)
    assert plan.read is ("READ" in names or "WRITE" not in names)
    assert plan.create is ("CREAT" in names)
    assert plan.replace is not ({"CREAT", "EXCL"} <= names)
    assert plan.keep is ("TRUNC" not in names)
    assert plan.append is ({"WRITE", "APPEND"} <= names)
    assert plan.needs_writer is bool(names & {"WRITE", "CREAT", "TRUNC"})


@given(st.integers(0, 2**32 - 1))
def test_nothing_is_opened_for_nothing(pflags: int) -> None:
    """Every open may at least read or write, and only a writer appends."""
    plan = plan_open(pflags)
    assert plan.read or plan.write
    assert plan.write or not plan.append


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_later_protocols_mean_the_same(access: int, flags: int) -> None:
    """The dispositions of protocol 5 and 6 are combinations of the old flags."""
    plan = plan_open56(access, flags)
    disposition = flags & 7
    assert plan.create is (disposition in {0, 1, 3})
    assert plan.replace is (disposition != 0)
    assert plan.keep is (disposition not in {1, 4})
    assert plan.write is bool(access & (ACE4_WRITE_DATA | 4) or flags & 8)
    assert plan.read is (bool(access & ACE4_READ_DATA) or not plan.write)

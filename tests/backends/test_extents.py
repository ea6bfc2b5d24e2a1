"""The extent map against a plain dictionary from block to chunk."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from backends.extents import Extent, ExtentMap

BLOCKS = 40
IDS = (b"a" * 16, b"b" * 16, b"c" * 16)
EXTENTS = st.builds(
    Extent, st.integers(0, 30), st.integers(1, 10), st.sampled_from(IDS), st.integers(0, 50)
)
STEPS = st.lists(st.one_of(EXTENTS, st.integers(0, BLOCKS)), max_size=25)
Model = dict[int, tuple[bytes, int]]


def lookup(extents: ExtentMap, block: int) -> tuple[bytes, int] | None:
    found = extents.find(block)
    if found is None:
        return None
    return found.segment_id, found.chunk_start + block - found.block_start


def applied(step: Extent | int, extents: ExtentMap, model: Model) -> None:
    if isinstance(step, Extent):
        extents.put(step)
        for index in range(step.block_count):
            model[step.block_start + index] = (step.segment_id, step.chunk_start + index)
    else:
        extents.truncate(step)
        for block in [block for block in model if block >= step]:
            del model[block]


@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_the_map_agrees_with_a_table_of_blocks(steps: list[Extent | int]) -> None:
    """After any puts and truncates every block lies where the table says, or is a hole."""
    extents, model = ExtentMap(), Model()
    for step in steps:
        applied(step, extents, model)
        assert [lookup(extents, block) for block in range(BLOCKS + 1)] == [
            model.get(block) for block in range(BLOCKS + 1)
        ]
    listed = list(extents)
    assert len(extents) == len(listed)
    assert all(one.block_end <= two.block_start for one, two in pairwise(listed))
    assert extents.segment_ids() == {segment_id for segment_id, _ in model.values()}
    assert sum(extent.block_count for extent in listed) == len(model)


@settings(max_examples=100, deadline=None)
@given(STEPS)
def test_a_map_made_from_its_own_extents_is_the_same(steps: list[Extent | int]) -> None:
    """What the catalog keeps of a map is all of it."""
    extents, model = ExtentMap(), Model()
    for step in steps:
        applied(step, extents, model)
    again = ExtentMap(tuple(extents))
    assert list(again) == list(extents)
    assert [lookup(again, block) for block in range(BLOCKS)] == [
        model.get(block) for block in range(BLOCKS)
    ]


def test_blocks_written_in_order_become_one_extent() -> None:
    """A sequential upload costs one extent a segment."""
    extents = ExtentMap()
    for block in range(256):
        extents.put(Extent(block, 1, IDS[0], block))
    assert list(extents) == [Extent(0, 256, IDS[0], 0)]


def test_blocks_rewritten_in_order_become_one_extent() -> None:
    """Rewriting the middle of a file costs three extents, not one for each block."""
    extents = ExtentMap((Extent(0, 100, IDS[0], 0),))
    for index in range(50):
        extents.put(Extent(20 + index, 1, IDS[1], index))
    assert list(extents) == [
        Extent(0, 20, IDS[0], 0),
        Extent(20, 50, IDS[1], 0),
        Extent(70, 30, IDS[0], 70),
    ]


def test_neighbours_in_the_file_alone_are_not_joined() -> None:
    """Chunks that do not follow each other in the segment stay separate extents."""
    extents = ExtentMap()
    extents.put(Extent(0, 1, IDS[0], 5))
    extents.put(Extent(1, 1, IDS[0], 4))
    extents.put(Extent(2, 1, IDS[1], 5))
    assert len(extents) == 3


def test_blocks_near_the_largest_file_are_found() -> None:
    """64 TiB is 2³⁰ blocks."""
    extents = ExtentMap()
    extents.put(Extent((1 << 30) - 1, 1, IDS[0], 0))
    assert extents.find((1 << 30) - 1) is not None
    assert extents.find((1 << 30) - 2) is None
    assert extents.find(1 << 30) is None

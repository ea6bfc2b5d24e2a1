"""scp's own protocol against hostile bytes: those known, and those made of them and their words."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz import seeds
from tests.fuzz.mutation import mutated
from tests.fuzz.scp import SCP_PARSERS

EXAMPLES = 100
KNOWN = {name: seeds.known(name) for name in SCP_PARSERS}


@pytest.mark.parametrize("name", SCP_PARSERS)
def test_every_known_input_is_answered(name: str) -> None:
    """What was worth keeping once."""
    assert KNOWN[name]
    for data in KNOWN[name].values():
        SCP_PARSERS[name](data)


@pytest.mark.parametrize("name", SCP_PARSERS)
def test_any_words_in_any_order_are_answered(name: str) -> None:
    """Sound ones, broken ones and pieces of them, behind an opening that leads far."""
    parser = SCP_PARSERS[name]

    @settings(max_examples=EXAMPLES, deadline=None, database=None)
    @given(
        st.sampled_from(parser.grammar.openings),
        st.lists(
            st.one_of(st.sampled_from(parser.grammar.words), st.binary(max_size=9)), max_size=20
        ),
    )
    def check(opening: bytes, words: list[bytes]) -> None:
        parser(opening + b"".join(words))

    check()


@pytest.mark.parametrize("name", SCP_PARSERS)
def test_known_inputs_a_little_changed_are_answered(name: str) -> None:
    """A few mutations of each."""
    parser, pool = SCP_PARSERS[name], list(KNOWN[name].values())

    @settings(max_examples=EXAMPLES, deadline=None, database=None)
    @given(st.integers(0, 2**32 - 1))
    def check(seed: int) -> None:
        chance = random.Random(seed)
        parser(mutated(chance, chance.choice(pool), parser.grammar.words, pool))

    check()

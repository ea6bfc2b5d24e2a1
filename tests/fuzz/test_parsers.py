"""The parsers of the WebDAV front end against hostile input; ``campaign.py`` goes on for longer."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz import seeds
from tests.fuzz.mutation import mutated
from tests.fuzz.targets import PARSERS

EXAMPLES = 60
HEADER_BYTES = 60_000
KNOWN = {name: seeds.known(name) for name in PARSERS}


@pytest.mark.parametrize("name", PARSERS)
def test_every_known_input_is_answered(name: str) -> None:
    """What was worth keeping once, crashers of earlier campaigns among it."""
    assert KNOWN[name]
    for data in KNOWN[name].values():
        PARSERS[name](data)


@pytest.mark.parametrize("name", PARSERS)
def test_any_words_of_the_grammar_are_answered(name: str) -> None:
    """In any order, behind an opening that leads the parser far."""
    parser = PARSERS[name]

    @settings(max_examples=EXAMPLES, deadline=None, database=None)
    @given(
        st.sampled_from(parser.grammar.openings),
        st.lists(
            st.one_of(st.sampled_from(parser.grammar.words), st.binary(max_size=3)), max_size=30
        ),
    )
    def check(opening: bytes, words: list[bytes]) -> None:
        parser(opening + b"".join(words))

    check()


@pytest.mark.parametrize("name", PARSERS)
def test_any_bytes_are_answered(name: str) -> None:
    """Without knowing any grammar."""
    parser = PARSERS[name]

    @settings(max_examples=EXAMPLES, deadline=None, database=None)
    @given(st.binary(max_size=200))
    def check(data: bytes) -> None:
        parser(data)

    check()


@pytest.mark.parametrize("name", PARSERS)
def test_known_inputs_a_little_changed_are_answered(name: str) -> None:
    """A few mutations of each."""
    parser, pool = PARSERS[name], list(KNOWN[name].values())

    @settings(max_examples=EXAMPLES, deadline=None, database=None)
    @given(st.integers(0, 2**32 - 1))
    def check(seed: int) -> None:
        chance = random.Random(seed)
        parser(mutated(chance, chance.choice(pool), parser.grammar.words, pool))

    check()


@pytest.mark.parametrize("name", PARSERS)
def test_repetition_costs_no_more_than_its_length(name: str) -> None:
    """60 kB of any word, behind any opening, with another word at its end."""
    parser = PARSERS[name]
    for number, word in enumerate(parser.grammar.words):
        opening = parser.grammar.openings[number % len(parser.grammar.openings)]
        many = word * (HEADER_BYTES // len(word))
        for other in (b"", parser.grammar.words[number - 1]):
            parser(opening + many + other)

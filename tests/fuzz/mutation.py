"""Making new inputs from known ones: pure functions of a random generator.

Imports nothing from the project.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Final

SIZE_LIMIT_BYTES: Final = 70_000
"""A little more than a head may be."""

Mutation = Callable[[random.Random, bytes, Sequence[bytes], Sequence[bytes]], bytes]
"""Returns another input: from the data, the words of its grammar, and all known inputs."""


def mutated(
    chance: random.Random, data: bytes, words: Sequence[bytes], known: Sequence[bytes]
) -> bytes:
    """Return ``data`` after a few mutations, at most SIZE_LIMIT_BYTES of it."""
    for _ in range(1 + min(chance.getrandbits(4), chance.getrandbits(4))):
        data = chance.choice(_MUTATIONS)(chance, data, words, known)[:SIZE_LIMIT_BYTES]
    return data


def composed(chance: random.Random, words: Sequence[bytes], openings: Sequence[bytes]) -> bytes:
    """Return an input made of the words of a grammar behind one of its openings."""
    return chance.choice(openings) + b"".join(chance.choices(words, k=chance.randint(0, 40)))


def _place(chance: random.Random, data: bytes) -> int:
    return chance.randint(0, len(data))


def _span(chance: random.Random, data: bytes) -> slice:
    first = _place(chance, data)
    return slice(first, first + chance.randint(1, 1 + len(data) // (1 << chance.randint(0, 6))))


def _flip(chance: random.Random, data: bytes, *_: Sequence[bytes]) -> bytes:
    if not data:
        return data
    position = chance.randrange(len(data))
    changed = bytes([data[position] ^ 1 << chance.randrange(8)])
    return data[:position] + changed + data[position + 1 :]


def _replace(chance: random.Random, data: bytes, *_: Sequence[bytes]) -> bytes:
    position = _place(chance, data)
    return data[:position] + chance.randbytes(1) + data[position + 1 :]


def _insert(chance: random.Random, data: bytes, words: Sequence[bytes], _: object) -> bytes:
    position = _place(chance, data)
    return data[:position] + chance.choice(words) + data[position:]


def _put_over(chance: random.Random, data: bytes, words: Sequence[bytes], _: object) -> bytes:
    span = _span(chance, data)
    return data[: span.start] + chance.choice(words) + data[span.stop :]


def _delete(chance: random.Random, data: bytes, *_: Sequence[bytes]) -> bytes:
    span = _span(chance, data)
    return data[: span.start] + data[span.stop :]


def _repeat(chance: random.Random, data: bytes, *_: Sequence[bytes]) -> bytes:
    span = _span(chance, data)
    times = 2 if chance.getrandbits(3) else 1 << chance.randint(2, 16)
    part = data[span]
    times = min(times, 1 + SIZE_LIMIT_BYTES // (1 + len(part)))
    return data[: span.stop] + part * times + data[span.stop :]


def _move(chance: random.Random, data: bytes, *_: Sequence[bytes]) -> bytes:
    span = _span(chance, data)
    part, rest = data[span], data[: span.start] + data[span.stop :]
    position = _place(chance, rest)
    return rest[:position] + part + rest[position:]


def _cross(chance: random.Random, data: bytes, _: Sequence[bytes], known: Sequence[bytes]) -> bytes:
    other = chance.choice(known)
    return data[: _place(chance, data)] + other[_place(chance, other) :]


def _cut(chance: random.Random, data: bytes, *_: Sequence[bytes]) -> bytes:
    return data[: _place(chance, data)]


def _change_case(chance: random.Random, data: bytes, *_: Sequence[bytes]) -> bytes:
    span = _span(chance, data)
    return data[: span.start] + data[span].swapcase() + data[span.stop :]


_MUTATIONS: Final[tuple[Mutation, ...]] = (
    _flip,
    _replace,
    _insert,
    _insert,
    _put_over,
    _delete,
    _repeat,
    _move,
    _cross,
    _cut,
    _change_case,
)

"""Path patterns: what they cover, what they refuse, and that no name makes them slow."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auth.pattern import Pattern, part_matches
from gateway.errors import InvalidPathError

PARTS = st.sampled_from(["a", "b", "ab", "*", "a*", "*b", "a*b", "**"])
NAMES = st.lists(st.sampled_from(["a", "b", "ab", "aab"]), max_size=4).map(tuple)


@pytest.mark.parametrize(
    ("pattern", "path", "covered"),
    [
        ("/", "", True),
        ("/", "a", False),
        ("/**", "", True),
        ("/**", "a/b/c", True),
        ("/2019/**", "2019", True),
        ("/2019/**", "2019/a/b", True),
        ("/2019/**", "2018", False),
        ("/2019/**", "", False),
        ("/2019/**", "2019x", False),
        ("/2019", "2019/a", False),
        ("/2019/*", "2019", False),
        ("/2019/*", "2019/a", True),
        ("/2019/*", "2019/a/b", False),
        ("/2019/*/**", "2019", False),
        ("/2019/*/**", "2019/a/b", True),
        ("/**/secret", "secret", True),
        ("/**/secret", "a/b/secret", True),
        ("/**/secret", "a/secret/b", False),
        ("/*.pdf", "x.pdf", True),
        ("/*.pdf", "x.pdf.exe", False),
        ("/a*b*c", "aXbYc", True),
        ("/a*b*c", "aXYc", False),
        ("/a*a", "a", False),
        ("/caf\u00e9", "cafe\u0301", False),
        ("/cafe\u0301", "caf\u00e9", True),
        ("/A", "a", False),
        ("/a?", "ab", False),
        ("/[ab]", "a", False),
        ("/.*", "anything", False),
    ],
)
def test_pattern_covers_what_it_says(pattern: str, path: str, *, covered: bool) -> None:
    """Names arrive NFC-normalised; every character but the stars stands for itself."""
    names = tuple(path.split("/")) if path else ()
    assert Pattern.parse(pattern).covers(names) is covered


@pytest.mark.parametrize(
    "text", ["", "a", "a/b", "/a/", "//", "/a//b", "/..", "/a/./b", "/a**", "/***", "/\0", "/a\\b"]
)
def test_what_no_name_can_match_is_refused(text: str) -> None:
    """A pattern that could never hold is a mistake of whoever wrote it."""
    with pytest.raises(InvalidPathError):
        Pattern.parse(text)


def test_pattern_deeper_than_any_path_is_refused() -> None:
    """The depth limit of paths is that of patterns."""
    with pytest.raises(InvalidPathError):
        Pattern.parse("/a" * 129)


def as_regex(parts: tuple[str, ...]) -> str:
    """Write the pattern a second way: for the short names of these tests regexes are safe."""
    text = ""
    for part in parts:
        if part == "**":
            text += "(?:/[^/]+)*"
        else:
            text += "/" + "[^/]*".join(re.escape(piece) for piece in part.split("*"))
    return text


@given(st.lists(PARTS, min_size=1, max_size=5), NAMES)
def test_matching_agrees_with_an_independent_reading(
    parts: list[str], names: tuple[str, ...]
) -> None:
    """The same question answered by a regular expression has the same answer."""
    pattern = Pattern.parse("/" + "/".join(parts))
    path = "".join(f"/{name}" for name in names)
    expected = re.fullmatch(as_regex(tuple(parts)), path) is not None
    assert pattern.covers(names) is expected


@given(st.lists(PARTS, min_size=1, max_size=4), NAMES, NAMES)
def test_undivided_means_that_all_below_is_as_the_node_itself(
    parts: list[str], names: tuple[str, ...], below: tuple[str, ...]
) -> None:
    """``divides`` may say True in vain, but never False in vain."""
    pattern = Pattern.parse("/" + "/".join(parts))
    if not pattern.divides(names):
        assert pattern.covers(names + below) is pattern.covers(names)


def test_hostile_names_and_patterns_stay_cheap() -> None:
    """What would take a backtracking matcher for ever is bounded by parts times names."""
    assert not part_matches("*a" * 120 + "b", "a" * 255)
    pattern = Pattern.parse("/" + "/".join(["**", "*a*a*a*b"] * 60))
    assert not pattern.covers(("a" * 255,) * 127)

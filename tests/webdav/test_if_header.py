"""The If header of WebDAV."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.webdav.if_header import (
    RESOURCE_LIMIT,
    ResourceState,
    holds,
    parse_if,
    submitted_tokens,
)
from gateway.webdav.messages import HttpError

STATE = ResourceState(frozenset({"urn:a"}), '"v1"')
OTHER = ResourceState(frozenset({"urn:b"}), '"v2"')


def result(value: str) -> bool:
    return holds(parse_if(value), lambda url: OTHER if url == "/other" else STATE)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("(<urn:a>)", True),
        ("(<urn:b>)", False),
        ('(["v1"])', True),
        ('(["v2"])', False),
        ('(<urn:a> ["v1"])', True),
        ('(<urn:a> ["v2"])', False),
        ('(<urn:b>) (["v1"])', True),
        ("(Not <urn:b>)", True),
        ("(not <urn:a>)", False),
        ("(Not <DAV:no-lock>)", True),
        ("(<DAV:no-lock>)", False),
        ("</other> (<urn:b>)", True),
        ("</other> (<urn:a>)", False),
        ("</mine> (<urn:b>) </other> (<urn:b>)", True),
        ("</mine> (<urn:b>) (<urn:a>)", True),
        ("(<urn:a>)(<urn:b>)", True),
        ("</a(b)> (<urn:a>)", True),
    ],
)
def test_lists_are_ored_and_conditions_anded(value: str, expected: bool) -> None:
    """RFC 4918 section 10.4: tagged or not, with Not, tokens and entity tags."""
    assert result(value) is expected


@pytest.mark.parametrize(
    "value",
    [
        "",
        "()",
        "(Not)",
        "(Not Not <urn:a>)",
        "<urn:a>",
        "</a> </b> (<urn:a>)",
        "</a> (<urn:a>) </b>",
        "(<urn:a>) </a> (<urn:b>)",
        "(<urn:a>",
        "(<urn:a)",
        "(urn:a)",
        "(<>)",
        "([])",
        "(<a<b>)",
        "x(<urn:a>)",
        "(" * 100,
    ],
)
def test_a_malformed_header_is_refused(value: str) -> None:
    """A condition that cannot be read is not taken to hold."""
    with pytest.raises(HttpError) as caught:
        parse_if(value)
    assert caught.value.status == 400


def test_a_header_names_no_more_resources_than_its_limit() -> None:
    """Each of them costs a look-up at the door; naming one twice costs one."""
    named = "".join(f"</{number}> (<urn:a>) " for number in range(RESOURCE_LIMIT))
    assert len(parse_if(named)) == RESOURCE_LIMIT
    assert len(parse_if(f"{named}</0> (<urn:b>)")) == RESOURCE_LIMIT + 1
    with pytest.raises(HttpError):
        parse_if(f"{named}</more> (<urn:a>)")


def test_every_token_counts_as_submitted() -> None:
    """Also those under Not and in lists that do not hold (section 10.4.1)."""
    lists = parse_if('</a> (<urn:a> ["x"]) (Not <urn:b>)')
    assert submitted_tokens(lists) == {"urn:a", "urn:b"}


@pytest.mark.parametrize("unit", ["<", "(", "[", "(<", "<a>", "(<a>", "Not ", "(<a> Not ", " "])
def test_a_hostile_header_costs_microseconds(unit: str) -> None:
    """Sixty kilobytes of any of it: wsgidav's own parser took 12.5 s for the first."""
    began = time.process_time()
    with pytest.raises(HttpError):
        parse_if(unit * (60_000 // len(unit)))
    assert time.process_time() - began < 2


@given(st.text(alphabet='<>()[]"Not ab:', max_size=60))
def test_no_text_does_more_than_be_refused(value: str) -> None:
    """Whatever comes, the answer is lists that can be evaluated, or an HttpError."""
    try:
        lists = parse_if(value)
    except HttpError:
        return
    assert lists
    assert holds(lists, lambda _: STATE) in {True, False}

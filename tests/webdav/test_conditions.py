"""Preconditions and dates of RFC 9110."""

from __future__ import annotations

import datetime as dt
import time
from dataclasses import dataclass
from email.utils import formatdate

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.webdav.conditions import (
    NO_PRECONDITIONS,
    Representation,
    Verdict,
    http_date,
    judge,
    parse_entity_tags,
    parse_http_date,
    parse_preconditions,
)
from gateway.webdav.messages import HttpError

NOW_S = 1_700_000_000
HERE = Representation(exists=True, etag='"v1"', modified_s=NOW_S)
FOLDER = Representation(exists=True)
ABSENT = Representation(exists=False)
GO, WHOLE, SAME, FAILED = (
    Verdict.PROCEED,
    Verdict.WHOLE,
    Verdict.NOT_MODIFIED,
    Verdict.FAILED,
)


def judged(headers: dict[str, str], current: Representation, method: str) -> Verdict:
    return judge(parse_preconditions(headers, NOW_S), current, method)


@pytest.mark.parametrize(
    ("headers", "current", "reading", "changing"),
    [
        ({}, HERE, GO, GO),
        ({"if-match": '"v1"'}, HERE, GO, GO),
        ({"if-match": '"v0", "v1"'}, HERE, GO, GO),
        ({"if-match": '"v0"'}, HERE, FAILED, FAILED),
        ({"if-match": 'W/"v1"'}, HERE, FAILED, FAILED),
        ({"if-match": ""}, HERE, FAILED, FAILED),
        ({"if-match": "*"}, HERE, GO, GO),
        ({"if-match": "*"}, ABSENT, FAILED, FAILED),
        ({"if-match": "*"}, FOLDER, GO, GO),
        ({"if-match": '"v1"'}, FOLDER, FAILED, FAILED),
        ({"if-none-match": '"v1"'}, HERE, SAME, FAILED),
        ({"if-none-match": 'W/"v1"'}, HERE, SAME, FAILED),
        ({"if-none-match": '"v0"'}, HERE, GO, GO),
        ({"if-none-match": ""}, HERE, GO, GO),
        ({"if-none-match": "*"}, HERE, SAME, FAILED),
        ({"if-none-match": "*"}, FOLDER, SAME, FAILED),
        ({"if-none-match": "*"}, ABSENT, GO, GO),
        ({"if-modified-since": http_date(NOW_S)}, HERE, SAME, GO),
        ({"if-modified-since": http_date(NOW_S - 1)}, HERE, GO, GO),
        ({"if-modified-since": http_date(NOW_S + 9)}, HERE, SAME, GO),
        ({"if-modified-since": http_date(NOW_S)}, FOLDER, GO, GO),
        ({"if-modified-since": "yesterday"}, HERE, GO, GO),
        ({"if-modified-since": f"{http_date(NOW_S)}, {http_date(NOW_S)}"}, HERE, GO, GO),
        ({"if-unmodified-since": http_date(NOW_S)}, HERE, GO, GO),
        ({"if-unmodified-since": http_date(NOW_S - 1)}, HERE, FAILED, FAILED),
        ({"if-unmodified-since": http_date(NOW_S - 1)}, FOLDER, GO, GO),
        ({"if-unmodified-since": http_date(NOW_S - 1)}, ABSENT, GO, GO),
        ({"if-unmodified-since": "-1"}, HERE, GO, GO),
        (
            {"if-none-match": '"v0"', "if-modified-since": http_date(NOW_S)},
            HERE,
            GO,
            GO,
        ),
        (
            {"if-match": '"v1"', "if-unmodified-since": http_date(NOW_S - 9)},
            HERE,
            GO,
            GO,
        ),
        ({"if-match": '"v0"', "if-none-match": '"v1"'}, HERE, FAILED, FAILED),
    ],
)
def test_conditions_in_the_order_of_the_standard(
    headers: dict[str, str], current: Representation, reading: Verdict, changing: Verdict
) -> None:
    """Each condition alone, and which of two counts."""
    for method in ("GET", "HEAD"):
        assert judged(headers, current, method) is reading
    for method in ("PUT", "DELETE", "MOVE", "COPY", "MKCOL", "PROPPATCH", "LOCK"):
        assert judged(headers, current, method) is changing


@pytest.mark.parametrize(
    ("value", "verdict"),
    [
        ('"v1"', GO),
        ('"v0"', WHOLE),
        ('W/"v1"', WHOLE),
        ("*", WHOLE),
        ('"v0", "v1"', WHOLE),
        ("nonsense", WHOLE),
        ("", WHOLE),
        (http_date(NOW_S), WHOLE),
    ],
)
def test_if_range_holds_for_the_same_strong_tag_only(value: str, verdict: Verdict) -> None:
    """A weak tag, another tag, a list and a date (no strong validator here): send the whole."""
    assert judged({"if-range": value}, HERE, "GET") is verdict
    assert judged({"if-range": value}, HERE, "HEAD") is GO
    assert judged({"if-range": value}, HERE, "PUT") is GO


# The same rules once more, as RFC 9110 sections 13.1 and 13.2.2 put them, over what a client meant
# and not over what it wrote.


@dataclass(frozen=True, slots=True)
class Tag:
    opaque: str
    weak: bool = False

    def __str__(self) -> str:
        return f'{"W/" if self.weak else ""}"{self.opaque}"'


ANY = "*"
Meant = list[Tag] | str | None
"""Tags, ``*``, or no such header."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a client means; a date is seconds, or a text that is no date, or not sent."""

    if_match: Meant
    if_none_match: Meant
    if_modified_since: int | str | None
    if_unmodified_since: int | str | None
    if_range: Tag | int | None

    def headers(self) -> dict[str, str]:
        values = {
            "if-match": _list(self.if_match),
            "if-none-match": _list(self.if_none_match),
            "if-modified-since": _dated(self.if_modified_since),
            "if-unmodified-since": _dated(self.if_unmodified_since),
            "if-range": _dated(self.if_range) if isinstance(self.if_range, int) else self.if_range,
        }
        return {name: str(value) for name, value in values.items() if value is not None}


def _list(tags: Meant) -> str | None:
    return ", ".join(map(str, tags)) if isinstance(tags, list) else tags


def _dated(value: int | str | None) -> str | None:
    return http_date(value) if isinstance(value, int) else value


def by_the_book(asked: Asked, current: Representation, method: str) -> Verdict:
    """Return what RFC 9110 section 13.2.2 says, step by step."""
    own = Tag(current.etag.strip('"')) if current.etag else None
    # Step 1, by 13.1.1: "*" is true if there is a current representation; the comparison is strong.
    if asked.if_match is not None:
        if asked.if_match == ANY:
            true = current.exists
        else:
            true = own is not None and any(
                not tag.weak and tag.opaque == own.opaque
                for tag in asked.if_match
                if isinstance(tag, Tag)
            )
        if not true:
            return Verdict.FAILED
    # Step 2, by 13.1.4: ignored when it is no date or the resource has no modification date.
    elif (
        isinstance(asked.if_unmodified_since, int)
        and current.modified_s is not None
        and not current.modified_s <= asked.if_unmodified_since
    ):
        return Verdict.FAILED
    # Step 3, by 13.1.2: "*" is false if there is a current representation; weak comparison.
    if asked.if_none_match is not None:
        if asked.if_none_match == ANY:
            true = not current.exists
        else:
            true = own is None or all(
                tag.opaque != own.opaque for tag in asked.if_none_match if isinstance(tag, Tag)
            )
        if not true:
            return Verdict.NOT_MODIFIED if method in {"GET", "HEAD"} else Verdict.FAILED
    # Step 4, by 13.1.3.
    elif (
        method in {"GET", "HEAD"}
        and isinstance(asked.if_modified_since, int)
        and current.modified_s is not None
        and current.modified_s <= asked.if_modified_since
    ):
        return Verdict.NOT_MODIFIED
    # Step 5, by 13.1.5: a tag by the strong comparison; a date only if it is a strong validator,
    # which no date of this server is.
    if method == "GET" and asked.if_range is not None:
        strong = isinstance(asked.if_range, Tag) and not asked.if_range.weak
        if not (strong and own == asked.if_range):
            return Verdict.WHOLE
    return Verdict.PROCEED


OPAQUE = st.sampled_from(["", "a", "b", "a,b", "*", "W/", "\xe9"])
TAGS = st.builds(Tag, OPAQUE, st.booleans())
LISTS = st.none() | st.just(ANY) | st.lists(TAGS, max_size=3)
DATES = st.none() | st.integers(NOW_S - 2, NOW_S + 2) | st.sampled_from(["", "0", "Tue", "*"])
REPRESENTATIONS = st.one_of(
    st.just(ABSENT),
    st.just(FOLDER),
    st.builds(
        lambda opaque, modified_s: Representation(
            exists=True, etag=f'"{opaque}"', modified_s=modified_s
        ),
        OPAQUE,
        st.integers(NOW_S - 2, NOW_S + 2),
    ),
)


@given(
    st.builds(Asked, LISTS, LISTS, DATES, DATES, st.none() | TAGS | st.just(NOW_S)),
    REPRESENTATIONS,
    st.sampled_from(["GET", "HEAD", "PUT", "DELETE", "COPY", "PROPPATCH"]),
)
def test_the_verdict_is_that_of_the_standard(
    asked: Asked, current: Representation, method: str
) -> None:
    """Whatever a client combines, what the evaluator says is what a plain reading says."""
    assert judged(asked.headers(), current, method) is by_the_book(asked, current, method)


def test_no_conditions_are_none() -> None:
    """A request without any, or with dates that are none, has nothing to judge."""
    assert parse_preconditions({"host": "x"}, NOW_S) == NO_PRECONDITIONS
    assert parse_preconditions({"if-modified-since": "x"}, NOW_S) == NO_PRECONDITIONS
    assert not parse_preconditions({"if-range": '"v1"'}, NOW_S).given
    assert parse_preconditions({"if-match": "*"}, NOW_S).given


@pytest.mark.parametrize("value", ["v1", '"v1" "v2"', '"v1', "**", '"a",b', '*, "a"', 'w/"a"'])
def test_a_malformed_list_of_tags_is_refused(value: str) -> None:
    """A precondition that cannot be read is not taken to hold."""
    for name in ("if-match", "if-none-match"):
        with pytest.raises(HttpError) as caught:
            parse_preconditions({name: value}, NOW_S)
        assert caught.value.status == 400


@given(st.lists(TAGS, max_size=4), st.sampled_from([",", ", ", " ,\t", ",,", ", ,"]))
def test_a_list_of_tags_is_read_however_it_is_spaced(tags: list[Tag], comma: str) -> None:
    """RFC 9110 section 5.6.1.2: empty elements are skipped; a comma may stand inside a tag."""
    found = parse_entity_tags(comma.join(map(str, tags)))
    assert (found.every, found.tags) == (False, frozenset(map(str, tags)))


def test_a_hostile_list_of_tags_costs_linear_time() -> None:
    """Sixty kilobytes of quotes are done in a moment."""
    began = time.thread_time()
    with pytest.raises(HttpError):
        parse_entity_tags('"' * 60_001)
    parse_entity_tags("," * 60_000)
    assert time.thread_time() - began < 3


@given(st.integers(-60_000_000_000, 250_000_000_000))
def test_dates_are_written_as_the_library_does_and_read_back(seconds: int) -> None:
    """IMF-fixdate both ways, from the year 68 on."""
    text = http_date(seconds)
    assert text == formatdate(seconds, usegmt=True)
    assert parse_http_date(text) == seconds


@given(st.integers(220_924_800, 1_793_491_200))
def test_the_obsolete_date_forms_are_read(wanted: int) -> None:
    """RFC 9110 section 5.6.7 obliges recipients to."""
    moment = dt.datetime.fromtimestamp(wanted, dt.UTC)
    now_s = int(dt.datetime(2026, 11, 22, tzinfo=dt.UTC).timestamp())
    assert parse_http_date(f"{moment:%A, %d-%b-%y %H:%M:%S} GMT", now_s) == wanted
    assert parse_http_date(f"{moment:%a %b} {moment.day:2} {moment:%H:%M:%S %Y}") == wanted


@pytest.mark.parametrize(
    ("text", "year"),
    [
        ("Sunday, 22-Nov-76 00:00:00 GMT", 2076),
        ("Sunday, 22-Nov-76 00:00:01 GMT", 1976),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 1994),
        ("Sunday, 06-Nov-26 08:49:37 GMT", 2026),
        ("Sunday, 06-Nov-00 08:49:37 GMT", 2000),
    ],
)
def test_a_year_of_two_digits_is_at_most_fifty_years_ahead(text: str, year: int) -> None:
    """RFC 9110 section 5.6.7; without knowing the present it is no date."""
    now_s = int(dt.datetime(2026, 11, 22, tzinfo=dt.UTC).timestamp())
    found = parse_http_date(text, now_s)
    assert found is not None
    assert dt.datetime.fromtimestamp(found, dt.UTC).year == year
    assert parse_http_date(text) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Sat, 31 Dec 2016 23:59:60 GMT", 1_483_228_800),
        ("Sat, 31 Dec 2016 23:59:61 GMT", None),
        ("Sun, 30 Feb 2020 00:00:00 GMT", None),
        ("Sun, 00 Jan 2020 00:00:00 GMT", None),
        ("Sun, 01 Jan 2020 24:00:00 GMT", None),
        ("Sun, 01 Jan 2020 00:60:00 GMT", None),
        ("Sun, 01 Jan 0000 00:00:00 GMT", None),
        ("Sun, 06 Nov 1994 08:49:37 UTC", None),
        ("Sun, 06 Nov 1994 08:49:37 +0100", None),
        ("sun, 06 nov 1994 08:49:37 gmt", None),
        ("Sun, 6 Nov 1994 08:49:37 GMT", None),
        ("Sun, \u0660\u0666 Nov 1994 08:49:37 GMT", None),
        ("1994-11-06T08:49:37Z", None),
        ("784111777", None),
    ],
)
def test_what_is_no_date_of_the_grammar_is_none(text: str, expected: int | None) -> None:
    """Days that no calendar has, other zones, other cases, other digits; a leap second is one."""
    assert parse_http_date(text, NOW_S) == expected


@given(st.text(max_size=40))
@example("Sun, 06 Nov 1994 08:49:37 GMT\n")
def test_no_text_breaks_the_date_parser(text: str) -> None:
    """What is no date is None."""
    assert parse_http_date(text, NOW_S) is None

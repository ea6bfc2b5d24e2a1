"""XML bodies: what is asked, and what must not be parsed."""

from __future__ import annotations

import time

import pytest

from gateway.model import PropertyName
from gateway.webdav.messages import HttpError
from gateway.webdav.xml_body import (
    ELEMENT_COUNT_LIMIT,
    ELEMENT_DEPTH_LIMIT,
    Wanted,
    empty_element,
    escape,
    parse_propfind,
    parse_xml,
)

ETAG = PropertyName("DAV:", "getetag")
OWN = PropertyName("urn:x", "own")

LAUGHS = b"""<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;&a;&a;">
<!ENTITY c "&b;&b;&b;&b;&b;">]><D:propfind xmlns:D="DAV:"><D:prop><D:x>&c;</D:x></D:prop>
</D:propfind>"""
EXTERNAL = b"""<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>
<D:propfind xmlns:D="DAV:"><D:prop><D:x>&x;</D:x></D:prop></D:propfind>"""
BARE_DTD = b'<!DOCTYPE a SYSTEM "http://127.0.0.1:1/a.dtd"><a/>'


@pytest.mark.parametrize("body", [LAUGHS, EXTERNAL, BARE_DTD])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_dtd_is_refused_in_any_encoding(body: bytes, encoding: str) -> None:
    """Entity bombs and external entities end at the DTD, also where it is not ASCII."""
    began = time.process_time()
    with pytest.raises(HttpError) as caught:
        parse_xml(body.decode().encode(encoding))
    assert caught.value.status == 400
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    "body",
    [
        b"<a",
        b"text",
        b"<a></b>",
        b"<b:a/>",
        b'<a xmlns:b=""/>',
        b"\xff\xfe\x00",
        b'<?xml version="1.0" encoding="utf-7"?><a/>',
        b'<?xml version="1.0" encoding="nonsense"?><a/>',
        b"<a>&undefined;</a>",
        b"<a>\x00</a>",
    ],
)
def test_what_is_not_well_formed_is_refused(body: bytes) -> None:
    """Broken XML, undeclared prefixes and unknown encodings are a 400, never a crash."""
    with pytest.raises(HttpError) as caught:
        parse_xml(body)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "body",
    [
        b"<a>" + b"<b/>" * ELEMENT_COUNT_LIMIT + b"</a>",
        b"<a>" * (ELEMENT_DEPTH_LIMIT + 1),
        b"<a>" * 300_000,
        ("<a>" + "<b/>" * 50_000 + "</a>").encode("utf-16"),
    ],
)
def test_a_body_is_never_a_large_tree(body: bytes) -> None:
    """A megabyte of small elements would take a hundred times as much to keep."""
    began = time.process_time()
    with pytest.raises(HttpError) as caught:
        parse_xml(body)
    assert caught.value.status == 413
    assert time.process_time() - began < 2


def test_a_tree_within_the_limits_is_read() -> None:
    """Up to the last element and level."""
    wide = b"<a>" + b"<b/>" * (ELEMENT_COUNT_LIMIT - 1) + b"</a>"
    assert len(parse_xml(wide)) == ELEMENT_COUNT_LIMIT - 1
    parse_xml(b"<a>" * ELEMENT_DEPTH_LIMIT + b"</a>" * ELEMENT_DEPTH_LIMIT)


@pytest.mark.parametrize(
    "body",
    [
        b'<?xml version="1.0"' + b" " * 1000 + b'encoding="cp1252"?><a/>',
        b'<?xml version="1.0"\nencoding\t=\r\n"cp850"?><a/>',
        b"<?xml version='1.0' encoding='windows-1252'?><a/>",
        b'<?xml version="1.0" encoding=""?><a/>',
        b'\xef\xbb\xbf<?xml version="1.0" encoding="iso-8859-1"?><a>\xc3\xa9</a>',
    ],
)
def test_an_encoding_is_not_hidden(body: bytes) -> None:
    """Wherever it is declared: two parsers read some bodies, and know different encodings."""
    with pytest.raises(HttpError) as caught:
        parse_xml(body)
    assert caught.value.status == 400


def ask(inner: str) -> Wanted:
    text = f'<D:propfind xmlns:D="DAV:" xmlns:x="urn:x">{inner}</D:propfind>'
    return parse_propfind(text.encode())


def test_the_four_questions_of_propfind() -> None:
    """An empty body, allprop, allprop with include, propname and prop."""
    assert parse_propfind(b"") == Wanted(every=True)
    assert ask("<D:allprop/>") == Wanted(every=True)
    assert ask("<D:allprop/><D:include><x:own/></D:include>") == Wanted(every=True, names=(OWN,))
    assert ask("<D:propname/>") == Wanted(names_only=True)
    assert ask("<D:prop><D:getetag/><x:own/><D:getetag/></D:prop>") == Wanted(names=(ETAG, OWN))


@pytest.mark.parametrize("inner", ["", "<D:allprop/><D:propname/>", "<D:prop/><D:allprop/>"])
def test_a_propfind_asks_one_question(inner: str) -> None:
    """None and two are refused."""
    with pytest.raises(HttpError):
        ask(inner)


def test_utf_16_is_read() -> None:
    """RFC 4918 section 8.2 obliges servers to read UTF-16."""
    text = '<?xml version="1.0" encoding="utf-16"?><D:propfind xmlns:D="DAV:"><D:propname/></D:propfind>'
    assert parse_propfind(text.encode("utf-16")).names_only


def test_too_many_names_are_refused() -> None:
    """The number of properties in one question is bounded."""
    with pytest.raises(HttpError) as caught:
        ask("<D:prop>" + "".join(f"<x:p{number}/>" for number in range(501)) + "</D:prop>")
    assert caught.value.status == 413


def test_text_is_escaped_and_unwritable_characters_replaced() -> None:
    """A name with markup or control characters cannot break out of its element."""
    assert escape('<a & "b">\x01') == "&lt;a &amp; &quot;b&quot;&gt;\ufffd"


def test_empty_elements_keep_their_namespace() -> None:
    """DAV: in the house prefix, others declared in place, none left bare."""
    assert empty_element(ETAG) == "<D:getetag/>"
    assert empty_element(OWN) == '<x:own xmlns:x="urn:x"/>'
    assert empty_element(PropertyName("", "own")) == "<own/>"

"""What inputs of each parser are made of: the words of its grammar, right and wrong ones.

Imports nothing from the project.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Grammar:
    """Words, and openings behind which they lead a parser somewhere."""

    words: tuple[bytes, ...]
    openings: tuple[bytes, ...] = (b"",)


LOCKINFO: Final = (
    b'<D:lockinfo xmlns:D="DAV:"><D:lockscope><D:exclusive/></D:lockscope><D:locktype><D:write/>'
    b"</D:locktype></D:lockinfo>"
)
"""The body of a LOCK."""


def _words(text: str) -> tuple[bytes, ...]:
    return (*(word.encode("latin-1") for word in text.split(" ")), b" ")


_HEAD_WORDS: Final = (
    *_words(
        "GET PUT OPTIONS HTTP/1.1 HTTP/1.0 / * http://localhost Host: localhost Content-Length: "
        "Transfer-Encoding: chunked Expect: 100-continue Connection: close Authorization: Depth: "
        "0 5 -1 +5 0x5 0_5 , : ; _ \x00 \x7f \xff \t"
    ),
    b"\r\n",
    b"\r\n\r\n",
    b"\r",
    b"\n",
    b"\r\n ",
    b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"PUT /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello",
    b"PUT /a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
)
_GET: Final = b"GET /a HTTP/1.1\r\nHost: localhost\r\n"
_PUT: Final = b"PUT /a HTTP/1.1\r\nHost: localhost\r\n"
_CHUNKED: Final = b"Transfer-Encoding: chunked\r\n\r\n"
_PATH_WORDS: Final = _words(
    "/ // . .. %2e %2E %2F %5C \\ %00 %25 %3F %23 ? # ; % %zz %C3%BC \xc3\xbc %C0%AF %ED%A0%80 a share "
    "http:// https:// localhost LOCALHOST :443 :80 files.example.org @ [::1] " + "n" * 255
)
_XML_WORDS: Final = (
    *_words(
        "<D:propfind </D:propfind> <D:prop> </D:prop> <D:allprop/> <D:propname/> <D:include> "
        "<D:propertyupdate <D:set> <D:remove> <D:lockinfo <D:owner> <D:href> <D:exclusive/> "
        '<D:shared/> <D:write/> xmlns:D="DAV:" xmlns="" xmlns:D="" xml:lang="de" <a> </a> <a/> '
        "<!DOCTYPE <!ENTITY &a; &lt; &#0; &#xFFFF; &#60; <![CDATA[ ]]> <!-- --> <? ?> > < \" ' = / : "
        "\xef\xbb\xbf \xff\xfe \xfe\xff \x00 \xff encoding= utf-16 utf-7 iso-8859-1 standalone="
    ),
    b'<?xml version="1.0" encoding="utf-8"?>',
    b'<?xml version="1.1"?>',
)

_XML_OPENINGS: Final = (
    b"",
    b'<?xml version="1.0" ',
    b'<D:propfind xmlns:D="DAV:"><D:prop>',
    b'<D:propertyupdate xmlns:D="DAV:"><D:set><D:prop>',
    LOCKINFO.removesuffix(b"</D:lockinfo>") + b"<D:owner>",
)

GRAMMARS: Final[Mapping[str, Grammar]] = {
    "request_head": Grammar(_HEAD_WORDS, (b"", _GET, _PUT)),
    "request_reader": Grammar(
        _HEAD_WORDS,
        (b"", _GET, _PUT, _PUT + b"Content-Length: 9\r\n\r\n", _PUT + _CHUNKED),
    ),
    "chunked_body": Grammar(
        (*_words("0 5 5;a=b -5 0x5 0_5 fffffffffffffff hello T: a"), b"\r\n", b"\n", b"\r\n\r\n"),
        (b"", b"5\r\nhello\r\n", b"0\r\n"),
    ),
    "if_header": Grammar(
        _words('< > ( ) [ ] " Not not <urn:a> </share/a> ["v"] (<urn:a>) DAV:no-lock \t'),
        (b"", b"(", b"</share/a> (", b"(<urn:a>) ("),
    ),
    "range_header": Grammar(
        _words("bytes= Bytes= , - 0 1 9 0- -0 -1 5-2 0-9223372036854775808 \t \xb2"),
        (b"", b"bytes=", b"bytes=0-1,"),
    ),
    "preconditions": Grammar(
        (
            *_words(
                '"v" W/ " , * Sun Sunday Nov Feb 22 31 2026 26 00 99 : - GMT \t \xe9 0000 9999'
            ),
            b"Sun, 22 Nov 2026 03:46:00 GMT",
            b"Sunday, 22-Nov-26 03:46:00 GMT",
            b"Sun Nov 22 03:46:00 2026",
        ),
        (b"", b'"a", ', b"Sun, "),
    ),
    "authorization": Grammar(
        _words("Basic basic Digest YWxpY2U6eA== YWxpY2U= OnAA = == Og== /w== AA== ! \t \xe9"),
        (b"", b"Basic "),
    ),
    "destination": Grammar(_PATH_WORDS, (b"", b"/share/", b"https://localhost/")),
    "request_target": Grammar(_PATH_WORDS, (b"", b"/", b"/share/")),
    "depth": Grammar(_words("0 1 2 infinity INFINITY , noroot \t \xb9")),
    "timeout": Grammar(
        _words("Second- second- Infinite infinite , 0 7 4294967295 99999999999 - + \xb2 \t x"),
        (b"", b"Second-", b"Infinite,"),
    ),
    "xml": Grammar(_XML_WORDS, _XML_OPENINGS),
    "xml_methods": Grammar(_XML_WORDS, _XML_OPENINGS),
}
"""Every grammar by the name of its parser."""

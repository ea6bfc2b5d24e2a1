"""What a LOCK asks for: its body and its Timeout header."""

from __future__ import annotations

import pytest

from gateway.webdav.lock import INFINITE_S, parse_lockinfo, wanted_timeout_s
from gateway.webdav.messages import HttpError
from tests.webdav.office import INFO


@pytest.mark.parametrize(
    "body",
    [
        "<a/>",
        '<D:lockinfo xmlns:D="DAV:"/>',
        INFO.format(scope="odd", owner=""),
        INFO.format(scope="shared/><D:exclusive", owner=""),
        '<D:lockinfo xmlns:D="DAV:"><D:lockscope><D:exclusive/></D:lockscope></D:lockinfo>',
        INFO.format(scope="exclusive", owner="").replace("write", "read"),
        "<!DOCTYPE a><a/>",
        '<!DOCTYPE a [<!ENTITY b "c">]>' + INFO.format(scope="shared", owner="&b;"),
        "<D:lockinfo",
        "lock please",
    ],
)
def test_a_bad_lockinfo_is_refused(body: str) -> None:
    """What is no request for one write lock locks nothing."""
    with pytest.raises(HttpError) as caught:
        parse_lockinfo(body.encode())
    assert caught.value.status == 400


def test_what_is_unknown_in_a_lockinfo_is_ignored() -> None:
    """RFC 4918 section 17: elements that a later version may bring, comments, instructions."""
    body = (
        '<?xml version="1.0" encoding="utf-8"?><!-- a --><D:lockinfo xmlns:D="DAV:" xmlns:x="urn:x">'
        "<x:new/><!-- b --><?pi?><D:lockscope><x:weak/><D:shared/></D:lockscope>"
        "<D:later/><D:locktype><D:write/></D:locktype></D:lockinfo>"
    )
    assert parse_lockinfo(body.encode()) == parse_lockinfo(
        INFO.format(scope="shared", owner="").encode()
    )


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("Second-60", 60),
        ("second-60", 60),
        (" Second-60 , Infinite", 60),
        ("Infinite", INFINITE_S),
        ("Infinite, Second-4100000000", INFINITE_S),
        ("Extended, Second-77", 77),
        ("Second-0, Second-5", 5),
        ("Second-0000000000000000060", 60),
        ("Second-99999999999999999999", INFINITE_S),
        ("Second-" + "9" * 60_000, INFINITE_S),
        ("Second-" + "0" * 60_000, None),
        ("Second-0", None),
        ("Second--5", None),
        ("Second-1.5", None),
        ("Second-٣", None),
        ("nonsense", None),
        (",,,", None),
        ("", None),
    ],
)
def test_a_timeout_header_is_a_list_of_wishes(value: str, seconds: int | None) -> None:
    """The first that means anything counts (section 10.7), whatever nonsense stands around it."""
    assert wanted_timeout_s(value) == seconds

"""Names made to deceive whoever reads the trail: one line a record, nothing that a screen obeys."""

from __future__ import annotations

import json

import pytest

from auth.errors import LoginRefusedError
from gateway.audit import trail
from gateway.commands.audit import _for_people
from gateway.commands.output import print_json, say
from gateway.model import Attempt, Client, Wire
from gateway.monitor import Door
from tests.door.support import OFFICE, Gate, get, put

HOSTILE = {
    "newline": "a\nb",
    "carriage return": "a\rb",
    "forged record": 'a"}\n{"action":"login","outcome":"ok"',
    "ansi": "a\x1b[2Kb\x1b]0;title\x07",
    "eight-bit ansi": "a\x9b2Kb",
    "next line": "a\x85b",
    "line separator": "a\u2028b\u2029c",
    "form feeds": "a\x0b\x0c\x1c\x1d\x1eb",
    "bidi": "a\u202egpj.exe",
    "zero width": "a\u200b\ufeffb",
    "quotes": "a\"b'c`d",
    "json": '{"path": "other"}',
    "emoji": "a\U0001f9bbb",
    "delete": "a\x7fb",
}
every_name = pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
# What a login name may hold beside what a file name may: bytes that were no UTF-8, and NUL.
every_login = pytest.mark.parametrize(
    "name",
    [*HOSTILE.values(), "a\udc80b", "a\0b", "x" * 100_000],
    ids=[*HOSTILE, "surrogate", "NUL", "long"],
)


def check_output(text: str) -> None:
    """Check that what was printed is one line that no terminal and no reader takes for more."""
    assert text.endswith("\n")
    line = text.removesuffix("\n")
    assert line.splitlines() == [line]
    assert line.isprintable()


@every_name
def test_a_hostile_file_name_is_one_record_on_one_line(
    gate: Gate, alice: Door, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the export and for people; the name itself is told exactly."""
    put(alice, f"/radiology/{name}")
    assert get(alice, f"/radiology/{name}") == b"content"
    lines = gate.records()
    assert trail.verify_lines(lines) == (3, [])
    assert {line["path"] for line in lines} == {f"/radiology/{name}"}
    capsys.readouterr()
    for line in lines:
        say(_for_people(line))
        check_output(capsys.readouterr().out)
        print_json(line)
        printed = capsys.readouterr().out
        check_output(printed)
        assert json.loads(printed) == line


@every_login
def test_a_hostile_login_name_is_one_record_on_one_line(
    gate: Gate, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever was typed is recorded, up to a limit, and can be exported."""
    client = Client(OFFICE, "agent " + name[:1000])
    with pytest.raises(LoginRefusedError):
        gate.monitor.login(Attempt(name, Wire.WEBDAV, client, secret="secret123456"))
    (line,) = gate.records()
    assert line["login_name"] == name[:256]
    assert trail.verify_lines([line]) == (1, [])
    capsys.readouterr()
    say(_for_people(line))
    check_output(capsys.readouterr().out)
    print_json(line)
    printed = capsys.readouterr().out
    printed.encode("utf-8")
    check_output(printed)
    assert json.loads(printed) == line

"""``check-config`` says everything that is wrong; ``policy explain`` says who may do what."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from gateway.model import Action
from tests.commands.conftest import Sealgate


@pytest.fixture
def text(sealgate: Sealgate) -> Iterator[str]:
    """The text of the good configuration, which is back in its file after the test."""
    good = sealgate.gateway.config.read_text()
    yield good
    sealgate.gateway.write_text(good)


def test_good_configuration(sealgate: Sealgate) -> None:
    """A configuration without problems is called good, and the status is 0."""
    done = sealgate("check-config")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{sealgate.gateway.config} is good.\n"
    assert sealgate.parsed("check-config") == {"problems": [], "warnings": []}


def test_every_problem_is_named_with_its_line(sealgate: Sealgate, text: str) -> None:
    """Two mistakes are two lines, each with place, key and remedy; the status is 1."""
    wrong = text.replace("idle_timeout", "idle_timout", 1).replace("node: demo", "nod: demo")
    sealgate.gateway.write_text(wrong)
    lines = wrong.splitlines()
    places = [
        next(number for number, line in enumerate(lines, start=1) if word in line)
        for word in ("nod:", "idle_timout:")
    ]
    problems = sealgate.parsed("check-config", status=1)["problems"]
    assert [problem["line"] for problem in problems] == places
    assert [problem["key"] for problem in problems] == [
        "server.nod",
        "groups.clinicians.idle_timout",
    ]
    assert problems[1]["message"] == "unknown key."
    assert problems[1]["remedy"] == "Did you mean 'idle_timeout'?"
    assert set(problems[0]) == {"file", "line", "column", "key", "message", "remedy"}
    done = sealgate("check-config")
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 2
    assert f"{sealgate.gateway.config}:{places[0]}:" in done.stdout


def test_missing_files_are_problems(sealgate: Sealgate, text: str) -> None:
    """What the configuration names and is not there is a problem too."""
    sealgate.gateway.write_text(text.replace("keys/tls.crt", "keys/none.crt"))
    (problem,) = sealgate.parsed("check-config", status=1)["problems"]
    assert problem["key"] == "server.webdav.certificate"


def test_keys_that_do_not_open_are_problems(sealgate: Sealgate, text: str) -> None:
    """A certificate that is none is found before the gateway is started with it."""
    sealgate.gateway.write_text(text.replace("keys/tls.crt", "ca.pem"))
    (problem,) = sealgate.parsed("check-config", status=1)["problems"]
    assert problem["key"] == "server.webdav.certificate"


def test_warnings_do_not_fail(sealgate: Sealgate, text: str) -> None:
    """What is odd but usable is a warning, and the status stays 0."""
    sealgate.gateway.write_config(lambda config: config["shares"].update(unused={}))
    (caution,) = sealgate.parsed("check-config")["warnings"]
    assert caution["key"] == "shares.unused"
    done = sealgate("check-config")
    assert done.returncode == 0
    assert done.stdout.startswith("warning: ")


def test_configuration_that_is_not_there_is_a_problem(sealgate: Sealgate, text: str) -> None:
    """A file that cannot be read is reported like any other problem."""
    sealgate.gateway.config.unlink()
    (problem,) = sealgate.parsed("check-config", status=1)["problems"]
    assert "cannot be read" in problem["message"]


def test_schema_is_json(sealgate: Sealgate) -> None:
    """The schema for editors is JSON that they can read, one value over many lines."""
    done = sealgate("check-config", "--schema")
    schema = json.loads(done.stdout)
    assert set(schema["properties"]) >= {"server", "storage", "keys", "directory", "shares"}
    assert done.stdout.count("\n") > 10


def test_explain_says_what_is_allowed_and_by_which_rule(sealgate: Sealgate) -> None:
    """Every action is answered with the rule that decides it."""
    explained = sealgate.parsed("policy", "explain", "bob", "/radiology/a")
    assert set(explained) == {"user", "path", "admitted", "limits", "decisions", "scp"}
    assert explained["limits"]["lock_timeout_s"] == 3600
    assert explained["scp"] == {"allowed": False, "rule": "default-deny"}
    assert (explained["user"], explained["path"], explained["admitted"]) == (
        "bob",
        "/radiology/a",
        True,
    )
    decisions = explained["decisions"]
    assert set(decisions) == {action.value for action in Action}
    assert decisions["read"]["allowed"] is True
    assert decisions["write"]["allowed"] is False
    assert "billing" in decisions["read"]["rule"]
    done = sealgate("policy", "explain", "bob", "/radiology/a")
    assert "yes  read" in done.stdout
    assert "no   write" in done.stdout
    assert done.stdout.startswith(
        "bob: groups billing; idle 900 s, session 43200 s, lock 3600 s, code required"
    )


def test_explain_knows_the_address_and_the_protocol(sealgate: Sealgate) -> None:
    """Someone who would not be let in from there is told so."""
    arguments = ("policy", "explain", "scanner", "/scans/a", "--protocol", "sftp")
    assert sealgate.parsed(*arguments)["admitted"] is True
    outside = sealgate.parsed(*arguments, "--address", "192.0.2.1")
    assert outside["admitted"] is False
    assert not any(each["allowed"] for each in outside["decisions"].values())
    done = sealgate(*arguments, "--address", "192.0.2.1")
    assert done.stdout.startswith("scanner is not let in: ")


@pytest.mark.parametrize("arguments", [("nobody", "/radiology"), ("alice", "no/slash")])
def test_explain_of_what_does_not_exist_is_wrong_use(
    sealgate: Sealgate, arguments: tuple[str, str]
) -> None:
    """An unknown user and an impossible path are told in one sentence, with status 2."""
    done = sealgate("policy", "explain", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1

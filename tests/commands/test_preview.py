"""``policy preview`` says what another file would change, and everything wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.commands.conftest import Sealgate


@pytest.fixture
def draft(sealgate: Sealgate, tmp_path: Path) -> Callable[..., str]:
    """Return a function that writes a changed copy of the configuration elsewhere."""

    def write(change: Callable[[dict[str, Any]], object] = lambda _config: None) -> str:
        config = yaml.safe_load(sealgate.gateway.config.read_text())
        change(config)
        path = tmp_path / "draft.yaml"
        path.write_text(yaml.safe_dump(config, sort_keys=False))
        return str(path)

    return write


def test_the_same_file_changes_nothing(sealgate: Sealgate, draft: Callable[..., str]) -> None:
    """Its paths start from where the configuration stands, wherever the draft lies."""
    file = draft()
    assert sealgate.parsed("policy", "preview", file) == {
        "problems": [],
        "shares": [],
        "groups": [],
        "users": [],
        "users_unknown": "",
        "needs_restart": "",
    }
    done = sealgate("policy", "preview", file)
    assert (done.returncode, done.stdout) == (0, "Nobody's rights or limits change.\n")


def test_changes_are_told_for_groups_and_for_users(
    sealgate: Sealgate, draft: Callable[..., str]
) -> None:
    """Who is concerned is found in the directory."""

    def change(config: dict[str, Any]) -> None:
        config["groups"]["billing"]["shares"]["radiology"]["allow"] = ["list", "delete"]
        config["groups"]["billing"]["idle_timeout"] = "5m"
        config["shares"]["radiology"]["quota"] = "1GiB"

    file = draft(change)
    found = sealgate.parsed("policy", "preview", file)
    place = "groups.billing.shares.radiology"
    assert {"place": place, "gained": ["delete"], "lost": ["read"]}.items() <= next(
        each for each in found["groups"] if each["place"] == place
    ).items()
    assert {each["place"].partition(":")[0] for each in found["users"]} == {"bob"}
    assert found["shares"][0]["key"] == "quota"
    told = sealgate("policy", "preview", file).stdout
    assert "bob: radiology: gains delete; loses read" in told
    assert "bob idle_timeout: 900 s -> 300 s" in told


def test_a_wrong_file_is_refused_with_every_line(
    sealgate: Sealgate, draft: Callable[..., str]
) -> None:
    """Under its own name, and with status 1; so is one whose files are not there."""

    def change(config: dict[str, Any]) -> None:
        config["groups"]["billing"]["idle_timout"] = "5m"
        config["groups"]["clinicians"]["hours"] = "always"

    file = draft(change)
    problems = sealgate.parsed("policy", "preview", file, status=1)["problems"]
    assert [each["key"] for each in problems] == [
        "groups.clinicians.hours",
        "groups.billing.idle_timout",
    ]
    assert {each["file"] for each in problems} == {file}
    done = sealgate("policy", "preview", file)
    assert (done.returncode, len(done.stdout.splitlines())) == (1, 2)
    lost = draft(lambda config: config["server"]["webdav"].update(certificate="none.pem"))
    (problem,) = sealgate.parsed("policy", "preview", lost, status=1)["problems"]
    assert (problem["file"], problem["key"]) == (lost, "server.webdav.certificate")
    missing = sealgate.parsed("policy", "preview", f"{file}.none", status=1)["problems"]
    assert "cannot be read" in missing[0]["message"]


def test_what_needs_a_restart_is_told(sealgate: Sealgate, draft: Callable[..., str]) -> None:
    """A reload would refuse it."""
    file = draft(
        lambda config: config["server"]["sftp"].update(algorithms="modern", banner="hello")
    )
    assert (
        "server.sftp needs a restart" in sealgate.parsed("policy", "preview", file)["needs_restart"]
    )


def test_a_user_that_no_file_names_can_be_asked_for(
    sealgate: Sealgate, draft: Callable[..., str]
) -> None:
    """One who is not there changes nothing; a directory that fails is told."""
    file = draft(lambda config: config["groups"]["billing"].update(idle_timeout="5m"))
    found = sealgate.parsed("policy", "preview", file, "--user", "nobody", "--user", "bob")
    assert [each["place"] for each in found["users"]] == ["bob"]

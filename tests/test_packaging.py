"""What is shipped: the wheel, the declared dependencies, the scripts and the systemd unit."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
PACKAGES = ("gateway", "auth", "backends")
PYPROJECT = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
UNIT = PROJECT / "systemd" / "sealgate.service"

# Ten times what "systemd-analyze security" calls the overall exposure; 0 is best, 100 worst.
EXPOSURE_LIMIT = 20


def run(*command: str | Path, **more: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # type: ignore[call-overload,no-any-return]
        command, capture_output=True, text=True, timeout=120, check=False, cwd=PROJECT, **more
    )


def requirement_name(requirement: str) -> str:
    """Return the normalised name at the head of a requirement (PEP 503)."""
    name = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert name is not None
    return re.sub(r"[-_.]+", "-", name.group()).lower()


def shipped_files() -> set[str]:
    """Return every file of the packages that is not made by running them."""
    return {
        file.relative_to(PROJECT).as_posix()
        for package in PACKAGES
        for file in (PROJECT / package).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }


def imported_packages() -> Iterator[tuple[str, str]]:
    """Yield (file, top-level package) for every import in the project's packages."""
    for name in sorted(shipped_files()):
        if not name.endswith(".py"):
            continue
        for node in ast.walk(ast.parse((PROJECT / name).read_text("utf-8"), name)):
            if isinstance(node, ast.Import):
                yield from ((name, alias.name.split(".")[0]) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield name, node.module.split(".")[0]


def test_wheel_holds_every_file_of_the_packages(tmp_path: Path) -> None:
    """The wheel has all modules, migrations and documents, the command and the licence."""
    done = run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        info = f"sealgate-{PYPROJECT['version']}.dist-info"
        entry_points = archive.read(f"{info}/entry_points.txt").decode()
    assert shipped_files() - names == set()
    assert {name.split("/")[0] for name in names} == {*PACKAGES, info}
    assert "sealgate = gateway.cli:main" in entry_points
    assert f"{info}/licenses/LICENSE" in names


def test_every_import_is_a_declared_dependency() -> None:
    """No module imports a package that only happens to be installed."""
    declared = {requirement_name(one) for one in PYPROJECT["dependencies"]}
    for extra, requirements in PYPROJECT["optional-dependencies"].items():
        if extra != "test":
            declared |= {requirement_name(one) for one in requirements}
    homes = importlib.metadata.packages_distributions()
    undeclared = {
        f"{file} imports {package}"
        for file, package in imported_packages()
        if package not in sys.stdlib_module_names and package not in PACKAGES
        if not {requirement_name(home) for home in homes.get(package, [package])} & declared
    }
    assert undeclared == set()


def test_constraints_pin_every_dependency_exactly() -> None:
    """Each dependency has one exact version, and no line says where to fetch it."""
    lines = (PROJECT / "requirements" / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.+!]*", pin) for pin in pins)
    wanted = list(PYPROJECT["dependencies"])
    for requirements in PYPROJECT["optional-dependencies"].values():
        wanted += requirements
    pinned = {requirement_name(pin) for pin in pins}
    assert {requirement_name(one) for one in wanted} - pinned == set()
    assert len(pins) == len(pinned)


@pytest.mark.parametrize("script", sorted((PROJECT / "scripts").glob("*.sh")), ids=lambda p: p.name)
def test_scripts_are_executable_and_strict(script: Path) -> None:
    """Every script parses, may be run, and stops at the first error."""
    assert os.access(script, os.X_OK)
    assert "\nset -euo pipefail\n" in script.read_text()
    assert run("bash", "-n", script).returncode == 0


def test_ci_runs_the_tests_of_the_readme() -> None:
    """CI runs "make test", which ends with pytest, so that its summary is the last thing said."""
    assert "make test" in (PROJECT / ".ci" / "run").read_text()
    assert os.access(PROJECT / ".ci" / "run", os.X_OK)
    readme = (PROJECT / "README.md").read_text()
    assert "make demo" in readme
    assert "make test" in readme
    plan = run("make", "--no-print-directory", "--dry-run", "test")
    assert plan.returncode == 0, plan.stderr
    assert "-m pytest" in plan.stdout.splitlines()[-1]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_missing_package_is_named_to_who_cannot_install_it() -> None:
    """Without root the installer ends with one sentence that holds the command to run."""
    script = (PROJECT / "scripts" / "apt-install.sh").read_text()
    done = subprocess.run(
        ["bash", "-s", "--", "no-such-package-here"],
        input=script,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        user=65534,
        cwd="/",
    )
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "sealgate: these packages are needed. Run: sudo apt-get install no-such-package-here"
    ]


@pytest.fixture
def checkable_unit(tmp_path: Path) -> Path:
    """The unit with a program that is there in place of the one an installation puts there."""
    copy = tmp_path / "sealgate.service"
    copy.write_text(UNIT.read_text().replace("/usr/bin/sealgate", "/bin/true"))
    return copy


def test_unit_verifies(checkable_unit: Path) -> None:
    """No setting of the unit is unknown to systemd or contradicts another."""
    done = run("systemd-analyze", "verify", "--man=no", checkable_unit)
    assert (done.returncode, done.stderr) == (0, "")


def test_unit_is_hardened(checkable_unit: Path) -> None:
    """The unit's exposure, as systemd scores it, stays below the limit."""
    options = ("--offline=true", f"--threshold={EXPOSURE_LIMIT}", "--no-pager")
    done = run("systemd-analyze", "security", *options, checkable_unit)
    assert done.returncode == 0, done.stdout


def test_unit_hands_over_the_key_and_stops_gently() -> None:
    """The key comes as a credential; stopping drains before it kills."""
    settings = dict(
        line.split("=", 1) for line in UNIT.read_text().splitlines() if re.match(r"[A-Z]\w+=", line)
    )
    assert settings["Type"] == "notify"
    assert settings["LoadCredential"].startswith("master.key:")
    assert settings["KillMode"] == "mixed"
    assert settings["ExecReload"].endswith("-HUP $MAINPID")
    assert settings["ExecStart"].split()[1] == "serve"

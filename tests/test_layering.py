"""The layers of docs and DESIGN section 2, enforced by reading the imports of every module.

Imports are read from the syntax tree, so that those inside functions, under TYPE_CHECKING and
through ``importlib.import_module("...")`` count too. A module that no layer names is an error:
whoever adds one decides where it belongs.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
PACKAGES = ("gateway", "auth", "backends")

# Lowest first. An entry covers the module of that name and everything below it.
LAYERS: tuple[tuple[str, ...], ...] = (
    (
        "gateway.addresses",
        "gateway.errors",
        "gateway.paths",
        "gateway.model",
        "backends.errors",
        "auth.errors",
    ),
    (
        "auth.chain",
        "auth.directory",
        "auth.file",
        "auth.hours",
        "auth.ldap",
        "auth.pattern",
        "auth.throttle",
        "auth.totp",
        "backends.blobs",
        "backends.catalog",
        "backends.extents",
        "backends.keyfile",
        "backends.keyring",
        "backends.memo",
        "backends.segment",
        "backends.shamir",
    ),
    (
        "auth.authenticator",
        "auth.lease",
        "auth.limits",
        "auth.policy",
        "auth.session",
        "auth.ssh_key",
        "backends.content",
        "backends.copies",
        "backends.backup",
        "backends.destruction",
        "backends.draft",
        "backends.epochs",
        "backends.reseal",
        "backends.scrub",
        "backends.segment_writer",
        "backends.strand",
        "backends.gc",
        "backends.history",
        "backends.ledger",
        "backends.properties",
        "backends.share",
        "backends.unfinished",
        "backends.tunnel",
        "backends.room",
        "backends.rotation",
        "backends.past",
        "backends.vault",
    ),
    ("gateway.audit", "gateway.status"),
    (
        "gateway.handles",
        "gateway.locking",
        "gateway.login",
        "gateway.monitor",
        "gateway.open_file",
        "gateway.operations",
        "gateway.passage",
        "gateway.turnstile",
        "gateway.staging",
        "gateway.upload",
    ),
    ("gateway.portal", "gateway.sftp", "gateway.webdav"),
    (
        "gateway.app",
        "gateway.care",
        "gateway.cli",
        "gateway.commands",
        "gateway.config",
        "gateway.control",
        "gateway.demo",
        "gateway.demo_keys",
        "gateway.doctor",
        "gateway.front_sftp",
        "gateway.front_webdav",
        "gateway.janitor",
        "gateway.listening",
        "gateway.log",
        "gateway.people",
        "gateway.preview",
        "gateway.starting",
        "gateway.supervisor",
        "gateway.worker",
    ),
)
FRONT_ENDS = LAYERS[5]
WIRING = LAYERS[6]

# What only the wiring may name: everything between works against their protocols.
DRIVERS = (
    "auth.file",
    "auth.ldap",
    "backends.blobs.",
    "backends.catalog.postgres",
    "backends.catalog.sqlite",
)

# What seals at rest, and what opens and seals SSH's own packets.
AEAD_HOMES = ("backends.keyring", "backends.segment", "gateway.sftp.packets")

# Third-party package -> where it may be imported.
FENCES = {
    "alembic": ("backends.catalog",),
    "asyncssh": ("gateway.sftp",),
    "cheroot": ("gateway.webdav",),
    "cryptography.hazmat.primitives.ciphers": AEAD_HOMES,
    "cryptography.hazmat.primitives.keywrap": ("backends.keyring",),
    "ldap3": ("auth.ldap",),
    "obstore": ("backends.blobs",),
    "psycopg": ("backends.catalog",),
    "pyotp": ("auth.totp",),
    "shamir_mnemonic": ("backends.shamir",),
    "sqlalchemy": ("backends.catalog",),
    "wsgidav": ("gateway.webdav",),
}
AEAD_NAMES = frozenset({"AESCCM", "AESGCM", "AESGCMSIV", "AESOCB3", "AESSIV", "ChaCha20Poly1305"})


@dataclass(frozen=True, slots=True)
class Import:
    """One import: which module imports what, at which line."""

    module: str
    target: str
    line: int

    def breach(self, rule: str) -> str:
        return f"{self.module}:{self.line} imports {self.target}: {rule}"


def covers(entry: str, module: str) -> bool:
    """Return whether ``entry`` names ``module`` or a package above it."""
    return module == entry or module.startswith(entry if entry.endswith(".") else entry + ".")


def under(entries: tuple[str, ...], module: str) -> bool:
    return any(covers(entry, module) for entry in entries)


def layer_of(module: str) -> int | None:
    """Return the number of the module's layer; None when no layer names it."""
    if module in PACKAGES:
        return 0
    for number, entries in enumerate(LAYERS):
        if under(entries, module):
            return number
    return None


def modules_in(root: Path) -> dict[str, Path]:
    """Return the project's modules below ``root``: dotted name -> file."""
    found = {}
    for package in PACKAGES:
        for file in sorted((root / package).rglob("*.py")):
            parts = file.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def imports_of(module: str, file: Path, known: frozenset[str]) -> Iterator[Import]:
    """Yield every import in ``file``, wherever in the module it stands."""
    package = module.split(".") if file.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(ast.parse(file.read_text("utf-8"), str(file))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(module, alias.name, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{source}.{alias.name}"
                is_module = inner in known or any(covers(fence, inner) for fence in FENCES)
                yield Import(module, inner if is_module else source, node.lineno)
        elif isinstance(node, ast.Call) and node.args:
            function = ast.unparse(node.func).rpartition(".")[2]
            first = node.args[0]
            if function in {"import_module", "__import__"} and isinstance(first, ast.Constant):
                yield Import(module, str(first.value), node.lineno)


def breaches_of(found: Import) -> Iterator[str]:
    """Yield one sentence for each rule that the import breaks."""
    module, target = found.module, found.target
    for fence, homes in FENCES.items():
        if covers(fence, target) and not under(homes, module):
            yield found.breach(f"only {' and '.join(homes)} may")
    if target.split(".")[0] not in PACKAGES:
        return
    own, other = layer_of(module), layer_of(target)
    if own is None or other is None:
        return  # reported as a module without a layer
    package, target_package = module.split(".")[0], target.split(".")[0]
    if other > own:
        yield found.breach(f"layer {own} must not import layer {other}")
    elif other == own and own > 0 and package != target_package:
        yield found.breach("packages of one layer must not import each other")
    if {package, target_package} == {"auth", "backends"}:
        yield found.breach("auth and backends must not import each other")
    if module not in PACKAGES and under(FRONT_ENDS, module):
        if under(FRONT_ENDS, target) and module.split(".")[1] != target.split(".")[1]:
            yield found.breach("front ends must not import each other")
        if target_package != "gateway" and target.split(".")[1:] != ["errors"]:
            yield found.breach("a front end goes through the door, not past it")
    if under(DRIVERS, target) and not under((*WIRING, *DRIVERS), module):
        yield found.breach("only the wiring names a driver")


def aead_breaches(module: str, file: Path) -> Iterator[str]:
    """Yield a sentence for each use of an AEAD by name outside the two modules that may."""
    if under(AEAD_HOMES, module):
        return
    for node in ast.walk(ast.parse(file.read_text("utf-8"), str(file))):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.alias(name=name):
                if name in AEAD_NAMES:
                    yield f"{module}:{node.lineno} uses {name}: only {' and '.join(AEAD_HOMES)} may"


def check(root: Path) -> list[str]:
    """Return one sentence for each breach of the layering in the tree at ``root``."""
    modules = modules_in(root)
    known = frozenset(modules)
    breaches = []
    for module, file in modules.items():
        if layer_of(module) is None:
            breaches.append(f"{module} belongs to no layer: name it in tests/test_layering.py")
        for found in imports_of(module, file, known):
            breaches.extend(breaches_of(found))
        breaches.extend(aead_breaches(module, file))
    return breaches


def test_every_import_goes_down_and_stays_inside_its_fence() -> None:
    """No module of the project breaks a rule of the layering."""
    breaches = check(PROJECT)
    assert not breaches, "\n" + "\n".join(breaches)


def test_the_project_has_modules_to_check() -> None:
    """The check above did look at all three packages."""
    modules = modules_in(PROJECT)
    assert all(package in modules for package in PACKAGES)
    assert len(modules) > 10


BAD_TREES = {
    "upward import": (
        {"gateway/paths.py": "from gateway.monitor import Monitor\n", "gateway/monitor.py": ""},
        "layer 0 must not import layer 4",
    ),
    "upward import inside a function": (
        {
            "backends/segment.py": "def seal():\n    import backends.vault\n",
            "backends/vault.py": "",
        },
        "layer 1 must not import layer 2",
    ),
    "upward import for types only": (
        {
            "auth/totp.py": "import typing\nif typing.TYPE_CHECKING:\n    from auth import policy\n",
            "auth/policy.py": "",
        },
        "layer 1 must not import layer 2",
    ),
    "relative upward import": (
        {"auth/totp.py": "from . import policy\n", "auth/policy.py": ""},
        "layer 1 must not import layer 2",
    ),
    "relative import two levels up": (
        {"gateway/sftp/files.py": "from ..webdav import dav\n", "gateway/webdav/dav.py": ""},
        "front ends must not import each other",
    ),
    "import by name": (
        {"gateway/status.py": "import importlib\nimportlib.import_module('gateway.app')\n"},
        "layer 3 must not import layer 6",
    ),
    "front end to front end": (
        {"gateway/webdav/dav.py": "import gateway.sftp.files\n", "gateway/sftp/files.py": ""},
        "front ends must not import each other",
    ),
    "front end past the door": (
        {"gateway/sftp/files.py": "from backends.vault import Vault\n", "backends/vault.py": ""},
        "goes through the door",
    ),
    "auth to backends": (
        {"auth/session.py": "from backends.keyring import Keyring\n", "backends/keyring.py": ""},
        "auth and backends must not import each other",
    ),
    "backends to auth": (
        {"backends/vault.py": "import auth.directory\n", "auth/directory.py": ""},
        "auth and backends must not import each other",
    ),
    "driver named below the wiring": (
        {
            "backends/vault.py": "from backends.blobs.local import L\n",
            "backends/blobs/local.py": "",
        },
        "only the wiring names a driver",
    ),
    "directory driver named below the wiring": (
        {"auth/authenticator.py": "from auth.ldap import Directory\n", "auth/ldap.py": ""},
        "only the wiring names a driver",
    ),
    "web library outside its fence": (
        {"gateway/app.py": "import wsgidav.util\n"},
        "gateway.webdav",
    ),
    "server library outside its fence": ({"gateway/app.py": "from cheroot import wsgi\n"}, "may"),
    "SSH library outside its fence": ({"gateway/demo.py": "import asyncssh\n"}, "gateway.sftp may"),
    "LDAP library outside its fence": ({"auth/directory.py": "import ldap3\n"}, "auth.ldap may"),
    "OTP library outside its fence": ({"gateway/demo.py": "import pyotp\n"}, "auth.totp may"),
    "SQL outside its fence": ({"auth/throttle.py": "import sqlalchemy as sa\n"}, "catalog may"),
    "migrations outside their fence": ({"gateway/cli.py": "import alembic\n"}, "catalog may"),
    "object store outside its fence": ({"backends/vault.py": "import obstore\n"}, "blobs may"),
    "cipher outside its fence": (
        {"auth/totp.py": "from cryptography.hazmat.primitives.ciphers.aead import AESGCM\n"},
        "uses AESGCM",
    ),
    "cipher by attribute": ({"gateway/audit.py": "def f(m):\n    m.AESSIV(b'')\n"}, "uses AESSIV"),
    "cipher package by from": (
        {"gateway/audit.py": "from cryptography.hazmat.primitives import ciphers\n"},
        "gateway.sftp.packets may",
    ),
    "module without a layer": ({"gateway/helpers.py": ""}, "belongs to no layer"),
    "package without a layer": ({"backends/extra/__init__.py": ""}, "belongs to no layer"),
}


def make_tree(root: Path, files: dict[str, str]) -> None:
    for package in PACKAGES:
        (root / package).mkdir()
        (root / package / "__init__.py").touch()
    for name, text in files.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text)


@pytest.mark.parametrize("case", BAD_TREES)
def test_a_breach_is_found(case: str, tmp_path: Path) -> None:
    """Each rule's made-up breach is reported, by that rule."""
    files, sentence = BAD_TREES[case]
    make_tree(tmp_path, files)
    breaches = check(tmp_path)
    assert any(sentence in breach for breach in breaches), breaches


def test_what_the_layers_allow_is_not_reported(tmp_path: Path) -> None:
    """Downward imports, siblings of one package and fenced libraries at home all pass."""
    files = {
        "gateway/errors.py": "",
        "auth/errors.py": "from gateway.errors import SealgateError\n",
        "auth/ldap.py": "import ldap3\nfrom ldap3.core import exceptions\n",
        "auth/policy.py": "",
        "auth/authenticator.py": "from auth import policy\nfrom auth.errors import AuthError\n",
        "backends/blobs/__init__.py": "",
        "backends/blobs/local.py": "from backends.blobs import BlobStore\n",
        "backends/segment.py": (
            "from cryptography.hazmat.primitives.ciphers.aead import AESGCM\nAESGCM(b'')\n"
        ),
        "backends/vault.py": "from backends.blobs import BlobStore\nimport backends.segment\n",
        "gateway/monitor.py": "from backends.vault import Vault\nfrom gateway import errors\n",
        "gateway/sftp/files.py": "import asyncssh\nfrom .names import x\nimport backends.errors\n",
        "gateway/sftp/names.py": "from gateway.monitor import Monitor\n",
        "gateway/app.py": "import auth.ldap, backends.blobs.local, gateway.sftp, json\n",
    }
    make_tree(tmp_path, files)
    assert check(tmp_path) == []

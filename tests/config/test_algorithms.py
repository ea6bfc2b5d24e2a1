"""The keys of ``server.sftp`` that open weaker algorithms: every mistake, and what they mean."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from gateway.config import (
    ConfigError,
    GatewayConfig,
    Problem,
    check_files,
    parse_config,
    warnings,
)
from gateway.config.host_keys import kind_of
from gateway.config.scalars import Endpoint
from gateway.config.sftp import SftpConfig, end_of
from gateway.model import SECOND_US
from gateway.sftp.algorithms import FIPS, LEGACY, MODERN

TEXT = """\
server:
  sftp:
    host_keys: host_key
    legacy: {listen: "10.9.0.1:2222", until: 2027-06-30, reason: "old"}
    exceptions:
      ct:
        networks: 192.0.2.7
        users: scanner
        algorithms: [legacy, ssh-rsa]
        until: 2027-06-30
        reason: "older"
storage: {data_dir: data}
keys: {master_key: {file: master.key}}
directory: {file: {users: users.yaml}}
shares: {files: }
groups:
  staff:
    members: {file: staff}
    shares: {files: {allow: read}}
"""
NOW_US = int(datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp()) * SECOND_US


def parse(text: str, now_us: int = NOW_US, source: Path = Path("/x/c.yaml")) -> GatewayConfig:
    return parse_config(text.encode(), source, clock=lambda: now_us)


def sftp_of(config: GatewayConfig) -> SftpConfig:
    assert config.server.sftp is not None
    return config.server.sftp


def changed(old: str, new: str) -> str:
    assert TEXT.count(old) == 1
    return TEXT.replace(old, new)


def the_problem(text: str) -> Problem:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    (problem,) = caught.value.problems
    assert problem.remedy
    return problem


MISTAKES = [
    (changed("host_keys: host_key", "host_keys: k\n    algorithms: fisp"), 4, "not known", "fips"),
    (
        changed("host_keys: host_key", "host_keys: k\n    algorithms: legacy"),
        4,
        "not known",
        "modern",
    ),
    (changed('listen: "10.9.0.1:2222", ', ""), 4, "missing", "listen"),
    (changed(', reason: "old"', ""), 4, "missing", "Why"),
    (changed(", until: 2027-06-30, ", ", "), 4, "missing", "last day"),
    (changed('"10.9.0.1:2222"', '"0.0.0.0:2022"'), 4, "taken by", "another port"),
    (changed('reason: "old"', 'reason: ""'), 4, "line of text", "one line"),
    (changed("ct:", "'c t':"), 6, "cannot name an exception", "letters"),
    (changed("networks: 192.0.2.7\n", "networks: 0.0.0.0/0\n"), 7, "every address", "machines"),
    (changed("networks: 192.0.2.7\n", "networks: ['10.0.0.1', '::/0']\n"), 7, "every", "machines"),
    (changed("networks: 192.0.2.7\n", "networks: scanner.example.org\n"), 7, "network", "range"),
    (changed("        networks: 192.0.2.7\n", ""), 6, "missing", "addresses"),
    (changed("        users: scanner\n", ""), 6, "missing", "login names"),
    (changed("users: scanner", "users: []"), 8, "empty list", "at least one"),
    (changed("        algorithms: [legacy, ssh-rsa]\n", ""), 6, "missing", "legacy"),
    (changed("[legacy, ssh-rsa]", "[]"), 9, "empty list", "at least one"),
    (changed("[legacy, ssh-rsa]", "[ssh-rss]"), 9, "not known", "ssh-rsa"),
    (changed("[legacy, ssh-rsa]", "aes128-cbc"), 9, "CBC", "aes128-ctr"),
    (changed("[legacy, ssh-rsa]", "ssh-dss"), 9, "DSA", "Known"),
    (changed("[legacy, ssh-rsa]", "hmac-md5"), 9, "MD5", "Known"),
    (changed("[legacy, ssh-rsa]", "diffie-hellman-group1-sha1"), 9, "1024 bits", "Known"),
    (changed("[legacy, ssh-rsa]", "chacha20-poly1305@openssh.com"), 9, "twice", "Known"),
    (changed("        until: 2027-06-30\n", ""), 6, "missing", "last day"),
    (
        changed("        until: 2027-06-30\n", "        until: 30.06.2027\n"),
        10,
        "not a day",
        "2027",
    ),
    (
        changed("        until: 2027-06-30\n", "        until: 2027-02-30\n"),
        10,
        "not a day",
        "2027",
    ),
    (
        changed("        until: 2027-06-30\n", "        until: 2028-11-23\n"),
        10,
        "two",
        "2028-11-22",
    ),
    (changed(", until: 2027-06-30, ", ", until: 2099-01-01, "), 4, "two years", "2028-11-22"),
    (changed('        reason: "older"\n', ""), 6, "missing", "Why"),
    (changed("users: scanner", "user: scanner\n        users: scanner"), 8, "unknown key", "users"),
]


@pytest.mark.parametrize(("text", "line", "word", "remedy"), MISTAKES)
def test_a_mistake_is_named_with_its_line_and_remedy(
    text: str, line: int, word: str, remedy: str
) -> None:
    """One mistake makes one problem."""
    problem = the_problem(text)
    assert (problem.line, word in problem.message, remedy in problem.remedy) == (
        line,
        True,
        True,
    ), str(problem)


def test_nothing_weaker_is_open_by_itself() -> None:
    """Without the keys there is one profile and no exception."""
    lines = TEXT.splitlines(keepends=True)
    bare = sftp_of(parse("".join(lines[:3] + lines[11:])))
    assert [str(each) for each in bare.listen] == ["0.0.0.0:2022"]
    offer = bare.offered_at(bare.listen[0]).offer("192.0.2.7", NOW_US)
    assert offer.algorithms == MODERN


def test_only_the_legacy_listener_is_legacy() -> None:
    """Each listener has its own offer, the legacy one up to the end of its last day in UTC."""
    sftp = sftp_of(parse(TEXT))
    assert [str(each) for each in sftp.listen] == ["0.0.0.0:2022", "10.9.0.1:2222"]
    ordinary, legacy = (sftp.offered_at(each) for each in sftp.listen)
    assert ordinary.offer("10.0.0.1", NOW_US).algorithms == MODERN
    assert legacy.offer("10.0.0.1", NOW_US).algorithms == MODERN.extended(LEGACY)
    end_us = end_of(sftp.legacy.until) if sftp.legacy is not None else 0
    assert datetime.fromtimestamp(end_us / SECOND_US, UTC) == datetime(2027, 7, 1, tzinfo=UTC)
    assert legacy.offer("10.0.0.1", end_us - 1).algorithms == MODERN.extended(LEGACY)
    assert legacy.offer("10.0.0.1", end_us).algorithms == MODERN


def test_the_exception_holds_what_the_file_says() -> None:
    """``legacy`` stands for a list, users for memberships."""
    (exception,) = sftp_of(parse(TEXT)).offered_at(Endpoint("0.0.0.0", 2022)).exceptions
    assert exception.algorithms == {*LEGACY, "ssh-rsa"}
    assert exception.members == {"user:scanner"}
    assert exception.place == "server.sftp.exceptions.ct"


def test_what_has_ended_is_warned_of() -> None:
    """It has no effect, and the file says otherwise; while it lives there is nothing to say."""
    config = parse(TEXT)
    end_us = sftp_of(config).exceptions["ct"].ends_us
    assert not warnings(config, clock=lambda: end_us - 1)
    found = warnings(config, clock=lambda: end_us)
    assert [(each.line, each.key) for each in found] == [
        (4, "server.sftp.legacy"),
        (6, "server.sftp.exceptions.ct"),
    ]
    assert all("ended on 2027-06-30" in each.message for each in found)


def test_what_was_good_stays_good() -> None:
    """A worker that starts after the end of an exception must still read the file."""
    sftp = sftp_of(parse(TEXT, now_us=NOW_US + 10 * 365 * 86_400 * SECOND_US))
    assert sftp.offered_at(sftp.listen[0]).profile == MODERN


def _written(
    path: Path, key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
) -> None:
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    path.chmod(0o600)


MAKERS: dict[str, Callable[[], ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey]] = {
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "ecdsa": lambda: ec.generate_private_key(ec.SECP384R1()),
}


@pytest.mark.parametrize(
    ("kind", "profile", "usable"),
    [
        ("ed25519", "modern", True),
        ("ecdsa", "modern", True),
        ("ed25519", "fips", False),
        ("ecdsa", "fips", True),
    ],
)
def test_some_host_key_must_suit_the_profile(
    tmp_path: Path, kind: str, profile: str, *, usable: bool
) -> None:
    """Otherwise no client at all could connect, and only its log would say why."""
    _written(tmp_path / "host_key", MAKERS[kind]())
    for name in ("users.yaml", "master.key"):
        (tmp_path / name).touch(mode=0o600)
    (tmp_path / "data").mkdir(mode=0o700)
    text = changed("host_keys: host_key", f"host_keys: host_key\n    algorithms: {profile}")
    found = check_files(parse(text, source=tmp_path / "c.yaml"))
    assert [problem.key for problem in found] == ([] if usable else ["server.sftp.host_keys"])
    assert usable or "ssh-keygen -t ecdsa" in found[0].remedy


def test_kinds_of_host_keys_are_told(tmp_path: Path) -> None:
    """Name, size and signatures; what is no key has no kind."""
    _written(tmp_path / "rsa", rsa.generate_private_key(65537, 2048))
    _written(tmp_path / "ecdsa", MAKERS["ecdsa"]())
    (tmp_path / "none").write_text("x")
    kinds = [kind_of(tmp_path / name) for name in ("rsa", "ecdsa", "none", "missing")]
    assert [kind and (kind.name, kind.size_bits) for kind in kinds] == [
        ("RSA", 2048),
        ("ECDSA", 384),
        None,
        None,
    ]
    assert not FIPS.names & {"ssh-ed25519", "curve25519-sha256"}

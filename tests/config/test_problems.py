"""Everything that can be wrong with a configuration: its place, its words, all at once."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from gateway.config import ConfigError, GatewayConfig, Problem, parse_config, warnings
from gateway.config.document import SIZE_LIMIT_BYTES

GOOD = """\
server:
  sftp: {host_keys: host_key}
storage: {data_dir: data}
keys: {master_key: {file: master.key}}
directory: {file: {users: users.yaml}}
shares:
  files:
groups:
  staff:
    members: {file: staff}
    shares:
      files: {allow: [list, read]}
"""


def parse(text: str) -> GatewayConfig:
    return parse_config(text.encode(), Path("/etc/x/config.yaml"))


def problems(text: str | bytes) -> tuple[Problem, ...]:
    raw = text.encode() if isinstance(text, str) else text
    with pytest.raises(ConfigError) as caught:
        parse_config(raw, Path("/etc/x/config.yaml"))
    return caught.value.problems


def the_problem(text: str | bytes) -> Problem:
    found = problems(text)
    assert len(found) == 1, [str(problem) for problem in found]
    assert found[0].message
    assert found[0].remedy
    return found[0]


def changed(old: str, new: str) -> str:
    assert GOOD.count(old) == 1
    return GOOD.replace(old, new)


def test_small_file_is_enough() -> None:
    """Everything that can have a default has one; paths start from the file's folder."""
    config = parse(GOOD)
    assert config.storage.data_dir == Path("/etc/x/data")
    assert config.shares["files"].versions.keep == 30
    assert config.shares["files"].versions.for_s == 90 * 86_400
    assert config.groups["staff"].idle_timeout_s == 900
    assert config.audit.checkpoint_interval_s == 60
    assert config.server.sftp is not None
    assert str(config.server.sftp.listen[0]) == "0.0.0.0:2022"
    assert config.server.sftp.login_timeout_s == 30


def test_problem_reads_as_one_line() -> None:
    """File, line, column, key, what is wrong, what would be right."""
    problem = the_problem(
        changed("members: {file: staff}", "members: {file: staff}\n    idle_timout: 1m")
    )
    assert str(problem) == (
        "/etc/x/config.yaml:11:5: groups.staff.idle_timout: unknown key."
        " Did you mean 'idle_timeout'?"
    )


SYNTAX = [
    ("", 1, 1, "empty"),
    ("  \n \n", 1, 1, "empty"),
    ("# nothing\n", 1, 1, "empty"),
    ("server:\n\tsftp: 1\n", 2, 1, "tab"),
    ("server: {a: 1\nb: [", 2, 0, "not YAML"),
    ("server: 'open\n", 2, 0, "not YAML"),
    ("- a\n- b\n", 1, 1, "section"),
    ("just text\n", 1, 1, "section"),
    (GOOD + "---\nserver: 1\n", 13, 1, "second document"),
    ("a: " + "[" * 20 + "]" * 20, 1, 19, "nested"),
    ("server:\n  ? [a]\n  : b\n", 2, 5, "plain name"),
    ("a: b\x07\n", 1, 5, "control character"),
    ('a: "\\UFFFFFFFF"\n', 1, 0, "not YAML"),
    ("%YAML " + "9" * 5000 + ".1\n---\na: b\n", 1, 0, "not YAML"),
    (b"a: 1\nb: caf\xe9\n", 2, 7, "UTF-8"),
    ("a: 1\n".encode("utf-16"), 1, 1, "UTF-8"),
    (b"#" * (SIZE_LIMIT_BYTES + 1), 1, 1, "1 MiB"),
    ("a: [" + "b," * 60_000 + "]", 1, 0, "50,000"),
]


@pytest.mark.parametrize(("text", "line", "column", "word"), SYNTAX)
def test_what_is_not_a_document_is_refused_in_place(
    text: str | bytes, line: int, column: int, word: str
) -> None:
    """Reading stops there, with one problem and no traceback."""
    problem = the_problem(text)
    assert problem.line == line
    assert column in {0, problem.column}
    assert word in problem.message


YAML_TRICKS = [
    (changed("files: {allow", "files: &x {allow"), 12, 14, "anchor"),
    (changed("[list, read]", "*x"), 12, 22, "anchor"),
    (changed("file: staff", "file: !!str staff"), 10, 21, "tag"),
    (changed("users: users.yaml", "users: !!python/name:os.system x"), 5, 27, "tag"),
    (changed("  staff:\n", "  staff: {members: {file: x}}\n  staff:\n"), 10, 3, "line 9"),
    (GOOD + "shares: {}\n", 13, 1, "line 6"),
    (changed("  files:\n", "  files:\n  caf\u00e9:\n  cafe\u0301:\n"), 9, 3, "line 8"),
    (changed("storage:", "? ''\n: b\nstorage:"), 3, 3, "empty"),
    (
        changed("storage: {data_dir: data}", "storage: {<<: {data_dir: x}, data_dir: data}"),
        3,
        11,
        "unknown",
    ),
]


@pytest.mark.parametrize(("text", "line", "column", "word"), YAML_TRICKS)
def test_what_yaml_can_do_and_a_configuration_must_not(
    text: str, line: int, column: int, word: str
) -> None:
    """Anchors, aliases, tags, merges and repeated keys have one problem each, where they stand."""
    problem = the_problem(text)
    assert (problem.line, problem.column) == (line, column)
    assert word in problem.message


def test_alias_bomb_is_never_unfolded() -> None:
    """Each alias is a problem of its own and stands for nothing."""
    layers = "".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]\n" for n in range(1, 10))
    found = problems("l0: &l0 [x]\n" + layers)
    assert sum("refers to an anchor" in problem.message for problem in found) == 81


def test_words_of_yaml_1_1_stay_words() -> None:
    """The word no is a name, 22:22 is no number, and leading zeros do not mean octal."""
    text = changed(
        "  staff:\n    members: {file: staff}", "  no:\n    members: {file: on, users: 0o7}"
    )
    assert parse(text).groups["no"].members.file == ("on",)
    assert parse(text).groups["no"].members.users == ("0o7",)
    assert parse(GOOD + "audit: {checkpoint_records: 010}\n").audit.checkpoint_records == 10
    assert "whole number" in the_problem(GOOD + "audit: {checkpoint_records: 2:20}\n").message


def blob(kind: str) -> str:
    """Return the line of a key of that type, as far as its text tells."""
    named = len(kind).to_bytes(4, "big") + kind.encode()
    return f"{kind} {base64.b64encode(named + bytes(32)).decode()}"


KEY = blob("ssh-ed25519")
SK = blob("sk-ssh-ed25519@openssh.com")
DSS = blob("ssh-dss")
CERTIFICATE = blob("ssh-ed25519-cert-v01@openssh.com")


def group(lines: str) -> str:
    return GOOD + "".join(f"    {line}\n" for line in lines.splitlines())


SCALARS = [
    (group("idle_timeout: 10"), 13, 19, "not a duration"),
    (group("idle_timeout: 0s"), 13, 19, "out of range"),
    (group("idle_timeout: 31d"), 13, 19, "out of range"),
    (group("idle_timeout: [1m]"), 13, 19, "a list stands here"),
    (group("idle_timeout: {a: b}"), 13, 19, "a group of keys"),
    (group("idle_timeout:"), 13, 18, "no value"),
    (group("lock_timeout: 59s"), 13, 19, "out of range"),
    (group("lock_timeout: 25h"), 13, 19, "out of range"),
    (group("lock_timeout: infinite"), 13, 19, "not a duration"),
    (group("scp: yes"), 13, 10, "not known"),
    (group("scp: [allowed]"), 13, 10, "a list stands here"),
    (group("scp:"), 13, 9, "no value"),
    (group("sftp_logins: []"), 13, 18, "empty list"),
    (group("sftp_logins: password"), 13, 18, "not known"),
    (group("sftp_logins: [publickey+totp, publickey+password]"), 13, 35, "not known"),
    (group("sftp_logins:"), 13, 17, "no value"),
    (group("max_sessions: 0"), 13, 19, "out of range"),
    (group("max_sessions: many"), 13, 19, "not a whole number"),
    (group("ssh_keys: ssh-ed25519"), 13, 15, "keys of its own"),
    (group("ssh_keys: {alice: []}"), 13, 23, "empty list"),
    (group("ssh_keys: {' a': 'x'}"), 13, 16, "no login name"),
    (group("ssh_keys: {alice: ssh-ed25519 AAAA}"), 13, 23, "no public SSH key"),
    (group(f"ssh_keys:\n  alice: [{KEY},\n    x]"), 15, 9, "no public SSH key"),
    (group(f"ssh_keys: {{alice: 'from=10.0.0.1 {KEY}'}}"), 13, 23, "no public SSH key"),
    (group(f"ssh_keys: {{alice: verify-required {KEY}}}"), 13, 23, "no public SSH key"),
    (group("ssh_keys: {alice: '-----BEGIN OPENSSH PRIVATE KEY-----'}"), 13, 23, "private key"),
    (group(f"ssh_keys: {{alice: {DSS}}}"), 13, 23, "not accepted"),
    (group(f"ssh_keys: {{alice: {CERTIFICATE}}}"), 13, 23, "is a certificate"),
    (f"{GOOD}user_cas: {{a: {{}}}}\n", 13, 12, "is missing"),
    (f"{GOOD}user_cas: {{a b: {{key: {KEY}}}}}\n", 13, 12, "cannot name a group"),
    (f"{GOOD}user_cas: {{a: {{key: x}}}}\n", 13, 21, "no public SSH key"),
    (f"{GOOD}user_cas: {{a: {{key: verify-required {SK}}}}}\n", 13, 21, "option before"),
    (f"{GOOD}user_cas: {{a: {{key: {KEY}, revoked_serials: [-1]}}}}\n", 13, 0, "whole number"),
    (group("networks:"), 13, 14, "no value"),
    (group("networks: []"), 13, 15, "empty list"),
    (group("networks: [10.0.0.0/8,\n  10.0.0.1/8]"), 14, 7, "beyond its prefix"),
    (group("networks: [10.0.0.0/33]"), 13, 16, "not a network"),
    (group("networks: localhost"), 13, 15, "not a network"),
    (group("networks: {a: b}"), 13, 15, "needs a list"),
    (group("hours: Mon-Fri 6-20"), 13, 12, "not a span"),
    (group("hours: Mon-Fry 06:00-20:00 UTC"), 13, 12, "not a day"),
    (group("hours: Mon 06:00-24:01 UTC"), 13, 12, "not a time"),
    (group("hours: Mon 06:60-07:00 UTC"), 13, 12, "not a time"),
    (group("hours: Mon 06:00-06:00 UTC"), 13, 12, "ends when it begins"),
    (group("hours: Mon 24:00-06:00 UTC"), 13, 12, "ends when it begins"),
    (group("hours: Mon 06:00-20:00 Europe/Berln"), 13, 12, "time zone"),
    (group("hours: Mon 06:00-20:00 ../../etc/passwd"), 13, 12, "time zone"),
    (group("protocols: [webdav, ftp]"), 13, 25, "not known"),
    (group("protocols: []"), 13, 16, "empty list"),
    (group("second_factor: optional"), 13, 20, "not known"),
    (changed("[list, read]", "[list, reed]"), 12, 29, "not known"),
    (
        changed("allow: [list, read]", "allow: [list, read], paths: {2019: {deny: read}}"),
        12,
        44,
        "path pattern",
    ),
    (changed("{file: staff}", "{}"), 10, 14, "names nobody"),
    (changed("{file: staff}", "{file: []}"), 10, 14, "names nobody"),
    (changed("{file: staff}", "staff"), 10, 14, "keys of its own"),
    (changed("{file: staff}", "{file: staff, ldap: staff}"), 10, 34, "names nobody"),
    (changed("    members: {file: staff}\n", ""), 9, 3, "is missing"),
    (changed("  staff:", "  a.b:"), 9, 3, "cannot name a group"),
    (changed("  files:\n", "  files:\n  .x:\n"), 8, 3, "cannot name a share"),
    (changed("  files:\n", "  files:\n  a/b:\n"), 8, 3, "cannot name a share"),
    (changed("  files:\n", '  files:\n  "a\\u202eb":\n'), 8, 3, "cannot name a share"),
    (changed("  files:\n", "  files:\n  " + "a" * 65 + ":\n"), 8, 3, "too long"),
    (changed("  files:\n", "  files: {quota: 5 gigs}\n"), 7, 18, "not a size"),
    (changed("  files:\n", "  files: {quota: 0}\n"), 7, 18, "nothing"),
    (changed("  files:\n", "  files: {quota: -5GB}\n"), 7, 18, "not a size"),
    (changed("  files:\n", "  files: {quota: }\n"), 7, 17, "no value"),
    (changed("  files:\n", "  files: {versions: {keep: many}}\n"), 7, 28, "whole number"),
    (changed("  files:\n", "  files: {version: {keep: 1}}\n"), 7, 11, "unknown key"),
    (changed("  files:\n", "  files: [a]\n"), 7, 10, "keys of its own"),
    (changed("{host_keys: host_key}", "{host_keys: []}"), 2, 21, "empty list"),
    (changed("{host_keys: host_key}", "{host_keys: ''}"), 2, 21, "not a path"),
    (changed("  sftp: {host_keys: host_key}", "  join_window: 0s"), 2, 3, "neither 'webdav' nor"),
    (
        changed("{host_keys: host_key}", "{host_keys: k, listen: host:22}"),
        2,
        32,
        "address to listen",
    ),
    (
        changed("{host_keys: host_key}", "{host_keys: k, listen: '::1:22'}"),
        2,
        32,
        "address to listen",
    ),
    (changed("{host_keys: host_key}", "{host_keys: k, listen: '1.2.3.4:0'}"), 2, 32, "not a port"),
    (changed("{host_keys: host_key}", "{host_keys: k, workers: 0}"), 2, 33, "out of range"),
    (changed("{host_keys: host_key}", '{host_keys: k, banner: "a\\e"}'), 2, 32, "control"),
    (
        changed(
            "{host_keys: host_key}",
            "{host_keys: k}\n  webdav: {certificate: c, private_key: k, public_url: http://x}",
        ),
        3,
        56,
        "URL",
    ),
    (changed("{file: master.key}", "{file: a, credential: b}"), 4, 20, "'file' and 'credential'"),
    (changed("{file: master.key}", "{}"), 4, 20, "neither"),
    (changed("{file: master.key}", "{credential: ../x}"), 4, 33, "credential"),
    (changed("storage: {data_dir: data}\n", ""), 1, 1, "is missing"),
    (changed("{host_keys: host_key}", '{host_keys: "\\ud800"}'), 2, 21, "half of a character"),
    (changed("{host_keys: host_key}", "{host_keys: k}\n  node: ' '"), 3, 9, "line of text"),
    (
        changed("{host_keys: host_key}", f"{{host_keys: k, banner: {'x' * 5000}}}"),
        2,
        32,
        "too long",
    ),
    (GOOD + "adit: {}\n", 13, 1, "unknown key"),
    (GOOD + "audit: {checkpoint_interval: 2m}\n", 13, 30, "out of range"),
]


@pytest.mark.parametrize(("text", "line", "column", "word"), SCALARS)
def test_wrong_value_is_refused_in_place(text: str, line: int, column: int, word: str) -> None:
    """One mistake makes one problem, with the line and column of the mistake."""
    problem = the_problem(text)
    assert word in problem.message
    assert problem.line == line
    assert column in {0, problem.column}


LDAP = "directory: {ldap: {servers: 'ldaps://a', base_dn: 'dc=a'%s}}"


def ldap(more: str, *, servers: str = "ldaps://a") -> str:
    text = changed("directory: {file: {users: users.yaml}}", LDAP % more)
    return text.replace("{file: staff}", "{ldap: 'cn=x'}").replace("ldaps://a", servers)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (ldap("", servers="ldap://a"), "in the clear"),
        (ldap("", servers="http://a"), "LDAP server"),
        (ldap("", servers="ldaps://u@a"), "more than host"),
        (ldap("", servers="ldaps://a:99999"), "LDAP server"),
        (ldap(", bind_dn: 'cn=b'"), "without 'bind_password'"),
        (ldap(", bind_password: {file: p}"), "without 'bind_dn'"),
        (ldap(", start_tls: yes"), "neither true nor false"),
        (ldap(", user_filter: '(uid=alice)'"), "filter"),
        (ldap(", user_filter: '(uid={name}'"), "filter"),
        (ldap("", servers="ldaps://[a"), "LDAP server"),
        (ldap(", id_attribute: 'a=b'"), "attribute"),
        (ldap(", group_base_dn: groups"), "distinguished name"),
        (ldap(", group_lookup: magic"), "not known"),
        (ldap(", connect_timeout: 2m"), "out of range"),
        (ldap(", flavour: samba"), "not known"),
        (ldap("}, file: {users: u"), "'file' and 'ldap'"),
    ],
)
def test_wrong_ldap_setting_is_refused(text: str, word: str) -> None:
    """Each on the directory's line."""
    problem = the_problem(text)
    assert problem.line == 5
    assert word in problem.message


BESIDE = """\
  other:
    members: {}
    sftp_logins: {}
"""

CROSS = [
    (changed("      files: {allow", "      flies: {allow"), 12, 7, "no such share"),
    (changed("[list, read]", "[list, read], deny: [read]"), 12, 42, "denies what"),
    (changed("[list, read]", "[list, read], deny: all"), 12, 42, "denies everything"),
    (changed("{allow: [list, read]}", "{}"), 12, 7, "neither allows"),
    (changed("[list, read]", "[list], paths: {/a/**: {}}"), 12, 38, "neither allows"),
    (group("idle_timeout: 2h\nsession_timeout: 1h"), 13, 19, "longer than"),
    (group("session_timeout: 1m"), 13, 22, "longer than"),
    (group("second_factor: none"), 13, 20, "needs 'networks'"),
    (group("second_factor: none\nnetworks: 0.0.0.0/0"), 14, 15, "every address"),
    (group("second_factor: none\nnetworks: 10.0.0.1\nprotocols: [webdav]"), 15, 16, "SSH key"),
    (
        group("second_factor: none\nnetworks: 10.0.0.1\nsftp_logins: publickey+totp"),
        15,
        18,
        "alone",
    ),
    (group("sftp_logins: [publickey, password+totp]"), 13, 18, "no way in for people"),
    (group("sftp_logins: password+totp\nprotocols: webdav"), 13, 18, "leaves out"),
    (
        group("sftp_logins: password+totp") + BESIDE.format("{file: STAFF}", "publickey+totp"),
        16,
        18,
        "no way in common with 'staff'",
    ),
    (
        changed("{file: staff}", "{users: alice}") + f"    ssh_keys: {{alcie: {KEY}}}\n",
        13,
        16,
        "not a member",
    ),
    (group(f"ssh_keys: {{alice: {KEY}, ALICE: {KEY}}}"), 13, 101, "same login name"),
    (f"{GOOD}user_cas: {{a: {{key: {KEY}}}, b: {{key: {KEY}}}}}\n", 13, 109, "of 'a' too"),
    (f"{GOOD}user_cas: {{a: {{key: {KEY}, groups: stuff}}}}\n", 13, 107, "no group 'stuff'"),
    (changed("{file: staff}", "{ldap: 'cn=x'}"), 10, 15, "not 'ldap'"),
    (changed("  files:\n", "  files:\n  Files:\n"), 8, 3, "by case"),
    (changed("file: master.key", "file: data/master.key"), 4, 27, "inside storage.data_dir"),
    (changed("file: master.key", "file: x/../data/k"), 4, 27, "inside storage.data_dir"),
    (GOOD + "audit: {anchor: data/anchor}\n", 13, 17, "inside storage.data_dir"),
    (
        changed(
            "{host_keys: host_key}",
            "{host_keys: k}\n  webdav: {certificate: c, private_key: k, listen: 127.0.0.1:2022}",
        ),
        2,
        3,
        "is taken by",
    ),
]


@pytest.mark.parametrize(("text", "line", "column", "word"), CROSS)
def test_values_that_break_each_other_are_refused(
    text: str, line: int, column: int, word: str
) -> None:
    """What is right alone and wrong together has its place too."""
    problem = the_problem(text)
    assert word in problem.message
    assert (problem.line, problem.column) == (line, column)


def test_all_problems_come_at_once_in_order_of_line() -> None:
    """A repeated key, a wrong value, an unknown key and a crossed rule do not hide each other."""
    text = changed("{data_dir: data}", "{data_dir: data, x: 1}")
    text = text.replace("  files:\n", "  files: {quota: big}\n  files:\n")
    text += "    second_factor: none\n  other:\n    members: {users: [a]}\n    hours: never\n"
    found = problems(text)
    assert [problem.line for problem in found] == [3, 7, 8, 14, 17]


def test_remedy_names_the_nearest_known_word() -> None:
    """For keys, for values and for names of shares."""
    assert "'read'" in the_problem(changed("[list, read]", "[list, raed]")).remedy
    assert "'files'" in the_problem(changed("      files: {", "      flies: {")).remedy
    assert "'10.0.0.0/8'" in the_problem(group("networks: 10.0.0.1/8")).remedy
    assert "'audit'" in the_problem(GOOD + "adit: {}\n").remedy
    far = the_problem(GOOD + "zzz: {}\n").remedy
    known = "audit, care, directory, groups, keys, server, shares, storage, user_cas"
    assert far == f"Known here: {known}."


def test_missing_key_is_explained() -> None:
    """The remedy says what the key is for."""
    problem = the_problem(changed("storage: {data_dir: data}", "storage: {}"))
    assert problem.key == "storage.data_dir"
    assert problem.remedy.startswith("Add 'data_dir': The folder")


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("https://a.example", True),
        ("https://a.example:8443/", True),
        ("https://a.example/dav", False),
        ("https://u@a.example", False),
        ("https://a.example:x", False),
        ("https://[a", False),
        ("ftp://a.example", False),
    ],
)
def test_public_url_is_scheme_host_and_port(url: str, *, good: bool) -> None:
    """Nothing else can stand before the paths that clients send."""
    text = changed(
        "{host_keys: host_key}",
        f"{{host_keys: k}}\n  webdav: {{certificate: c, private_key: k, public_url: '{url}'}}",
    )
    if good:
        webdav = parse(text).server.webdav
        assert webdav is not None
        assert webdav.public_url == url.removesuffix("/")
    else:
        assert "URL" in the_problem(text).message


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [("500GiB", 500 * 2**30), ("10 MB", 10**7), ("4096", 4096), ("7B", 7), ("2TiB", 2 * 2**40)],
)
def test_size_has_decimal_and_binary_units(text: str, size_bytes: int) -> None:
    """GB counts in thousands, GiB in 1024s."""
    assert parse(changed("  files:\n", f"  files: {{quota: {text}}}\n")).shares[
        "files"
    ].quota_bytes == (size_bytes)


WARNED = [
    (changed("  files:\n", "  files:\n  other:\n"), 8, "no group names"),
    (group("protocols: webdav"), 9, "never applies"),
    (changed("[list, read]", "[list], paths: {/secret: {deny: all}}"), 12, "lies below"),
    (changed("[list, read]", "[list], paths: {'/a?/**': {deny: all}}"), 12, "for themselves"),
]


@pytest.mark.parametrize(("text", "line", "word"), WARNED)
def test_what_looks_unmeant_is_warned_of(text: str, line: int, word: str) -> None:
    """A warning has the form of a problem and refuses nothing."""
    (warning,) = warnings(parse(text))
    assert warning.line == line
    assert word in warning.message
    assert warnings(parse(GOOD)) == ()


def test_leases_that_no_code_can_open_are_warned_of() -> None:
    """Over WebDAV a code can be given, so that there it may be meant."""
    both = group("sftp_logins: publickey+lease")
    assert warnings(parse(both)) == ()
    (warning,) = warnings(parse(both + "    protocols: sftp\n"))
    assert (warning.line, warning.column) == (13, 18)
    assert "no code" in warning.message

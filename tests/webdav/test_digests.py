"""Digest fields of RFC 9530."""

from __future__ import annotations

import base64
import hashlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.webdav.digests import Announced, DigestMismatchError, repr_digest, wanted
from gateway.webdav.messages import HttpError

DATA = b"some content"


def field(algorithm: str, data: bytes = DATA) -> str:
    name = algorithm.replace("-", "")
    return f"{algorithm}=:{base64.b64encode(hashlib.new(name, data).digest()).decode()}:"


def mismatch(headers: dict[str, str], data: bytes = DATA) -> str:
    """Return which header ``data`` does not match, "" for none."""
    announced = Announced(headers)
    for start in range(0, len(data), 5):
        announced.update(memoryview(data)[start : start + 5])
    try:
        announced.check()
    except DigestMismatchError as error:
        return str(error).partition("match its ")[2].partition(";")[0]
    return ""


def test_the_stored_digest_is_written_as_the_standard_does() -> None:
    """The value for a known text is that of the standard's own tools."""
    known = "X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE="
    assert repr_digest(hashlib.sha256(b'{"hello": "world"}\n').hexdigest()) == (
        "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"
    )
    assert repr_digest(hashlib.sha256(b'{"hello": "world"}').hexdigest()) == f"sha-256=:{known}:"


@pytest.mark.parametrize("name", ["repr-digest", "content-digest"])
@pytest.mark.parametrize("algorithm", ["sha-256", "sha-512"])
def test_what_is_announced_must_come(name: str, algorithm: str) -> None:
    """Both headers and both active algorithms; another body is noticed, and the empty one."""
    headers = {name: field(algorithm)}
    assert mismatch(headers) == ""
    for other in (b"", b"other", DATA + b"x", DATA[:-1]):
        assert mismatch(headers, other).lower() == name
    assert mismatch({name: field(algorithm, b"")}, b"") == ""


def test_every_digest_must_match() -> None:
    """One that is right does not make up for one that is wrong, in one header or in two."""
    wrong = field("sha-512", b"other")
    assert mismatch({"repr-digest": f"{field('sha-256')}, {wrong}"}) == "Repr-Digest"
    assert mismatch({"repr-digest": field("sha-256"), "content-digest": wrong}) == "Content-Digest"


@pytest.mark.parametrize(
    "value",
    [
        "md5=:AAAAAAAAAAAAAAAAAAAAAA==:",
        "sha=:AAAA:, unixsum=:AA==:, crc32c=:AAAA:, adler=:AAAA:",
        'new-hash=5, other, third=?0, fourth="a, b\\"", fifth=token;a=1; b',
        "",
    ],
)
def test_algorithms_that_prove_nothing_are_ignored(value: str) -> None:
    """Deprecated and unknown ones neither hold nor fail; beside them SHA-256 still counts."""
    assert mismatch({"repr-digest": value}) == ""
    both = f"{value}, {field('sha-256')};note=1" if value else field("sha-256")
    assert mismatch({"repr-digest": both}) == ""
    assert mismatch({"repr-digest": both}, b"other") == "Repr-Digest"


def test_of_a_repeated_algorithm_the_last_counts() -> None:
    """As structured fields have it (RFC 9651 section 4.2.2)."""
    value = f"{field('sha-256', b'other')}, {field('sha-256')}"
    assert mismatch({"repr-digest": value}) == ""


@pytest.mark.parametrize(
    "value",
    [
        "sha-256",
        "sha-256=",
        "sha-256=abc",
        'sha-256="abc"',
        "sha-256=:abc",
        "sha-256=:a:",
        "sha-256=:=AAA:",
        "sha-256=:A-_A:",
        "sha-256=:AAAA: sha-512=:AAAA:",
        "sha-256=:AAAA:,",
        ",sha-256=:AAAA:",
        "SHA-256=:AAAA:",
        "sha-256=(:AAAA:)",
        "=:AAAA:",
        "sha-256=:AAAA:;",
        "\xe9",
    ],
)
def test_a_malformed_digest_is_refused(value: str) -> None:
    """It must not pass for checked."""
    for name in ("repr-digest", "content-digest"):
        with pytest.raises(HttpError) as caught:
            Announced({name: value})
        assert caught.value.status == 400


def test_a_digest_of_another_length_matches_nothing() -> None:
    """A cut or empty hash is no hash."""
    cut = base64.b64encode(hashlib.sha256(DATA).digest()[:16]).decode()
    assert mismatch({"repr-digest": f"sha-256=:{cut}:"}) == "Repr-Digest"
    assert mismatch({"repr-digest": "sha-256=::"}) == "Repr-Digest"


@given(st.binary(max_size=100), st.binary(max_size=100))
def test_only_the_same_bytes_match(sent: bytes, announced: bytes) -> None:
    """A digest holds for what it was made of and for nothing else."""
    value = repr_digest(hashlib.sha256(announced).hexdigest())
    assert (mismatch({"repr-digest": value}, sent) == "") is (sent == announced)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, True),
        ("", True),
        ("sha-256=10", True),
        ("sha-512=3, sha-256=10, unixsum=0", True),
        ("sha-512=10", True),
        ("sha-256=0", False),
        ("sha-256=0, sha-512=1", False),
        ("nonsense (", True),
    ],
)
def test_a_client_may_ask_not_to_be_told(value: str | None, *, expected: bool) -> None:
    """Want-Repr-Digest is a hint: only a plain no to SHA-256 changes anything."""
    assert wanted(value) is expected


def test_a_hostile_digest_costs_linear_time() -> None:
    """Sixty kilobytes of anything are done in a moment."""
    began = time.thread_time()
    for piece in ("a,", ";", "a;", '"', 'a="\\', ":", " ", "a=:A", "a ; "):
        for value in (piece * (60_000 // len(piece)), "a" + piece * (60_000 // len(piece))):
            wanted(value)
    assert time.thread_time() - began < 3

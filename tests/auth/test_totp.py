"""One-time codes: each is accepted once, near its time, and only as six ASCII digits."""

from __future__ import annotations

import base64
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auth.totp import (
    STEP_S,
    CodeVerdict,
    Totp,
    current_code,
    provisioning_uri,
    split_secret,
)
from gateway.model import SECOND_US
from tests.auth.memory import FixedClock, MemorySeedStore, MemoryTransaction

TX = MemoryTransaction()
ALICE = "0f2f1a52-9f6e-4d8b-8d4e-6a1b2c3d4e01"


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def totp(clock: FixedClock) -> Totp:
    return Totp(MemorySeedStore(), clock, lambda size: bytes(range(size)))


def test_the_codes_are_those_of_rfc_6238() -> None:
    """Appendix B's SHA-1 vectors, of whose eight digits six are used."""
    secret = base64.b32encode(b"12345678901234567890").decode()
    vectors = {59: "287082", 1111111109: "081804", 1234567890: "005924", 20000000000: "353130"}
    assert {at: current_code(secret, at * SECOND_US) for at in vectors} == vectors


def test_a_right_code_is_accepted_once(totp: Totp, clock: FixedClock) -> None:
    """The second use of a code is a replay, also after its step has passed."""
    code = current_code(totp.enrol(TX, ALICE), clock())
    assert totp.accept(TX, ALICE, code) is CodeVerdict.OK
    assert totp.accept(TX, ALICE, code) is CodeVerdict.REPLAYED
    clock.forward(STEP_S)
    assert totp.accept(TX, ALICE, code) is CodeVerdict.REPLAYED


def test_an_older_code_is_refused_after_a_newer_one(totp: Totp, clock: FixedClock) -> None:
    """Accepting a code burns those of all earlier steps."""
    secret = totp.enrol(TX, ALICE)
    older = current_code(secret, clock() - STEP_S * SECOND_US)
    assert totp.accept(TX, ALICE, current_code(secret, clock())) is CodeVerdict.OK
    assert totp.accept(TX, ALICE, older) is CodeVerdict.REPLAYED


@pytest.mark.parametrize(
    ("steps", "verdict"),
    [
        (-2, CodeVerdict.WRONG),
        (-1, CodeVerdict.OK),
        (0, CodeVerdict.OK),
        (1, CodeVerdict.OK),
        (2, CodeVerdict.WRONG),
    ],
)
def test_the_window_is_one_step_to_either_side(
    totp: Totp, clock: FixedClock, steps: int, verdict: CodeVerdict
) -> None:
    """A skewed clock is forgiven by 30 seconds and no more."""
    secret = totp.enrol(TX, ALICE)
    code = current_code(secret, clock() + steps * STEP_S * SECOND_US)
    assert totp.accept(TX, ALICE, code) is verdict


@pytest.mark.parametrize("code", ["", "12345", "1234567", "12345a", " 12345", "-12345", "12345\n"])
def test_what_is_not_six_digits_is_wrong(totp: Totp, code: str) -> None:
    """Anything but six digits is wrong without being compared."""
    totp.enrol(TX, ALICE)
    assert totp.accept(TX, ALICE, code) is CodeVerdict.WRONG


def test_full_width_digits_are_wrong(totp: Totp, clock: FixedClock) -> None:
    """The right code in full-width digits, which pyotp itself would accept, is wrong."""
    code = current_code(totp.enrol(TX, ALICE), clock())
    wide = "".join(chr(ord(digit) + 0xFEE0) for digit in code)
    assert totp.accept(TX, ALICE, wide) is CodeVerdict.WRONG
    assert totp.accept(TX, ALICE, code) is CodeVerdict.OK


def test_without_a_seed_every_code_is_refused(totp: Totp) -> None:
    """A principal without a seed has no code, not even the decoy's."""
    assert totp.accept(TX, ALICE, "123456") is CodeVerdict.NOT_ENROLLED
    assert not totp.enrolled(TX, ALICE)


def test_a_seed_counts_from_enrolment_and_is_confirmed_by_its_first_code(
    clock: FixedClock,
) -> None:
    """Between enrolment and first code the password alone must already not do."""
    store = MemorySeedStore()
    totp = Totp(store, clock)
    secret = totp.enrol(TX, ALICE)
    assert totp.enrolled(TX, ALICE)
    assert not store.seeds[ALICE].confirmed
    totp.accept(TX, ALICE, current_code(secret, clock()))
    assert store.seeds[ALICE].confirmed


def test_one_code_at_once_is_accepted_once(totp: Totp, clock: FixedClock) -> None:
    """Of eight simultaneous uses of a code exactly one gets in."""
    code = current_code(totp.enrol(TX, ALICE), clock())
    barrier = threading.Barrier(8)
    verdicts: list[CodeVerdict] = []

    def use() -> None:
        barrier.wait()
        verdicts.append(totp.accept(TX, ALICE, code))

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(verdicts) == [CodeVerdict.OK] + [CodeVerdict.REPLAYED] * 7


def test_a_secret_has_160_bits_from_the_source_given(totp: Totp) -> None:
    """The secret is base32 of twenty bytes of the injected randomness."""
    assert base64.b32decode(totp.enrol(TX, ALICE)) == bytes(range(20))


def test_a_secret_is_not_shown_by_repr(clock: FixedClock) -> None:
    """A seed that ends up in a log line does not give its secret away."""
    store = MemorySeedStore()
    secret = Totp(store, clock).enrol(TX, ALICE)
    assert secret not in repr(store.seeds[ALICE])


def test_the_provisioning_uri_escapes_name_and_issuer() -> None:
    """Names cannot add parameters to the URI."""
    uri = provisioning_uri("A" * 32, "al&ice?x=1", "Seal gate")
    assert (
        uri == f"otpauth://totp/Seal%20gate:al%26ice%3Fx%3D1?secret={'A' * 32}&issuer=Seal%20gate"
    )


@given(password=st.text(min_size=1), code=st.from_regex(r"\A[0-9]{6}\Z"))
def test_split_undoes_joining(password: str, code: str) -> None:
    """Whatever the password ends in, the last six digits are the code."""
    assert split_secret(password + code) == (password, code)


@given(secret=st.text())
def test_split_never_invents(secret: str) -> None:
    """The parts are always the secret itself, and the code six ASCII digits."""
    parts = split_secret(secret)
    if parts is not None:
        assert "".join(parts) == secret
        assert parts[0]
        assert len(parts[1]) == 6
        assert set(parts[1]) <= set("0123456789")


@pytest.mark.parametrize("secret", ["", "12345", "123456", "password", "pw12345", "pw12345٦"])
def test_split_refuses_what_has_no_password_or_no_code(secret: str) -> None:
    """A code alone, a password alone and other scripts' digits are not both."""
    assert split_secret(secret) is None

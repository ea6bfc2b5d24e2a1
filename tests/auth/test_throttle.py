"""Throttling: guessers wait longer and longer, and nobody else does."""

from __future__ import annotations

import pytest

from auth.throttle import Throttle, ThrottleSettings, client_network
from gateway.model import SECOND_US
from tests.auth.memory import FixedClock, MemoryThrottleStore, MemoryTransaction

TX = MemoryTransaction()
HERE, NEIGHBOUR, ELSEWHERE = "192.0.2.10", "192.0.2.77", "198.51.100.1"


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def store() -> MemoryThrottleStore:
    return MemoryThrottleStore()


@pytest.fixture
def throttle(store: MemoryThrottleStore, clock: FixedClock) -> Throttle:
    return Throttle(store, clock, ThrottleSettings(), b"k" * 32)


def fail(throttle: Throttle, times: int, name: str = "alice", address: str = HERE) -> None:
    for _ in range(times):
        throttle.failed(TX, name, address)


def test_the_first_failures_are_free(throttle: Throttle) -> None:
    """Four failures cost nothing; the fifth brings the first second."""
    fail(throttle, 4)
    assert throttle.wait_us(TX, "alice", HERE) == 0
    fail(throttle, 1)
    assert throttle.wait_us(TX, "alice", HERE) == SECOND_US


def test_the_delay_doubles_up_to_a_minute(throttle: Throttle) -> None:
    """1, 2, 4 ... 32, 60, 60 seconds, for however many failures."""
    fail(throttle, 4)
    seen = []
    for _ in range(60):
        fail(throttle, 1)
        seen.append(throttle.wait_us(TX, "alice", HERE) // SECOND_US)
    assert seen[:8] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert set(seen[8:]) == {60}


def test_the_delay_passes(throttle: Throttle, clock: FixedClock) -> None:
    """After the delay the next try goes on."""
    fail(throttle, 6)
    clock.forward(1.5)
    assert throttle.wait_us(TX, "alice", HERE) == SECOND_US // 2
    clock.forward(0.5)
    assert throttle.wait_us(TX, "alice", HERE) == 0


def test_an_attacker_elsewhere_does_not_lock_the_user_out(throttle: Throttle) -> None:
    """However often others fail as alice, alice from her own network goes on."""
    for network in range(200):
        fail(throttle, 5, address=f"198.51.{network}.1")
    assert throttle.wait_us(TX, "alice", HERE) == 0
    assert throttle.wait_us(TX, "alice", "198.51.7.200") > 0


def test_one_network_trying_many_names_is_slowed(throttle: Throttle) -> None:
    """Fifty failures over many names slow the whole network, and only it."""
    for number in range(50):
        fail(throttle, 1, name=f"user{number}", address=f"192.0.2.{number}")
    assert throttle.wait_us(TX, "somebody", NEIGHBOUR) == SECOND_US
    assert throttle.wait_us(TX, "somebody", ELSEWHERE) == 0


def test_success_forgets_the_account_but_not_the_network(throttle: Throttle) -> None:
    """An attacker cannot reset the network's count with an account of their own."""
    fail(throttle, 50)
    throttle.succeeded(TX, "alice", HERE)
    assert throttle.wait_us(TX, "alice", HERE) == SECOND_US
    fail(throttle, 4, address=ELSEWHERE)
    throttle.succeeded(TX, "alice", ELSEWHERE)
    fail(throttle, 4, address=ELSEWHERE)
    assert throttle.wait_us(TX, "alice", ELSEWHERE) == 0


def test_failures_are_forgotten_after_a_quarter_of_an_hour(
    throttle: Throttle, clock: FixedClock, store: MemoryThrottleStore
) -> None:
    """Old failures neither delay nor count, and the janitor drops them."""
    fail(throttle, 20)
    clock.forward(15 * 60)
    assert throttle.wait_us(TX, "alice", HERE) == 0
    fail(throttle, 4)
    assert throttle.wait_us(TX, "alice", HERE) == 0
    clock.forward(15 * 60 + 1)
    throttle.forget(TX)
    assert store.states == {}


def test_a_clock_set_back_does_not_lengthen_the_wait(throttle: Throttle, clock: FixedClock) -> None:
    """The wait is never longer than the delay itself."""
    fail(throttle, 5)
    clock.forward(-3600)
    assert throttle.wait_us(TX, "alice", HERE) == SECOND_US


@pytest.mark.parametrize("spelling", ["ALICE", " alice", "alice ", "CORP\\Alice", "\uff41lice"])
def test_spellings_of_a_name_share_one_count(throttle: Throttle, spelling: str) -> None:
    """Another case, spacing, width or domain is no fresh account."""
    fail(throttle, 5)
    assert throttle.wait_us(TX, spelling, NEIGHBOUR) > 0


def test_stored_keys_do_not_hold_the_name_or_address(
    throttle: Throttle, store: MemoryThrottleStore
) -> None:
    """What is stored is keyed hashes: people type passwords as names."""
    fail(throttle, 1, name="hunter2")
    assert len(store.states) == 2
    assert all(len(key) == 64 and set(key) <= set("0123456789abcdef") for key in store.states)
    other = MemoryThrottleStore()
    fail(Throttle(other, FixedClock(), ThrottleSettings(), b"q" * 32), 1, name="hunter2")
    assert store.states.keys().isdisjoint(other.states)


def test_a_short_key_is_refused(store: MemoryThrottleStore, clock: FixedClock) -> None:
    """A guessable key would make the hashes readable."""
    with pytest.raises(ValueError, match="16 bytes"):
        Throttle(store, clock, ThrottleSettings(), b"short")


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.77", "192.0.2.0/24"),
        ("::ffff:192.0.2.77", "192.0.2.0/24"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("127.0.0.1", "127.0.0.0/24"),
        ("not an address", "not an address"),
    ],
)
def test_networks(address: str, network: str) -> None:
    """IPv4 counts by /24 also inside IPv6, IPv6 by /64, loopback like any other."""
    assert client_network(address) == network


def test_hostile_names_are_counted(throttle: Throttle) -> None:
    """Lone surrogates, NULs and a megabyte are names like any other."""
    for name in ("\udc80", "a\0b", "x" * 1_000_000, ""):
        fail(throttle, 5, name=name, address=f"203.0.{len(name) % 250}.1")
        assert throttle.wait_us(TX, name, f"203.0.{len(name) % 250}.1") > 0

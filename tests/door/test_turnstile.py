"""Undecided logins are bounded: for one account one at a time, and few from one address."""

from __future__ import annotations

import contextlib
import threading

import pytest

from auth.errors import LoginBusyError
from gateway.turnstile import ADDRESS_LIMIT, TOTAL_LIMIT, Turnstile

LIMIT_S = 10


def test_one_address_cannot_take_every_place() -> None:
    """Beyond its limit an address is told to come back, and others still get through."""
    turnstile = Turnstile()
    with contextlib.ExitStack() as held:
        for number in range(ADDRESS_LIMIT):
            held.enter_context(turnstile.passing(f"user{number}", "10.0.0.1"))
        with pytest.raises(LoginBusyError), turnstile.passing("one more", "10.0.0.1"):
            pass
        with turnstile.passing("someone", "10.0.0.2"):
            pass
    with turnstile.passing("one more", "10.0.0.1"):
        pass


def test_all_addresses_together_are_bounded() -> None:
    """However many addresses a flood comes from, threads are left for those signed in."""
    turnstile = Turnstile()
    with contextlib.ExitStack() as held:
        for number in range(TOTAL_LIMIT):
            held.enter_context(turnstile.passing("user", f"10.0.0.{number}"))
        with pytest.raises(LoginBusyError), turnstile.passing("user", "10.0.1.1"):
            pass


def test_logins_for_one_account_wait_for_each_other() -> None:
    """Parallel guesses are judged one after the other, each knowing of the failure before."""
    turnstile = Turnstile()
    inside: list[int] = []
    most: list[int] = []
    lock = threading.Lock()

    def log_in(number: int) -> None:
        with turnstile.passing("alice", "10.0.0.1"):
            with lock:
                inside.append(number)
                most.append(len(inside))
            with lock:
                inside.remove(number)

    threads = [threading.Thread(target=log_in, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
    assert most == [1] * 8

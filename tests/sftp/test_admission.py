"""Which strangers stay when there are many, and that a newcomer always comes in."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.sftp.admission import Admission

HERE, THERE, ELSEWHERE = "192.0.2.1", "192.0.2.2", "198.51.100.9"


def filled(*addresses: str, limit: int = 4, address_limit: int = 3) -> Admission[int]:
    """Return an admission that has let one stranger after the other in; they are numbers."""
    admission: Admission[int] = Admission(limit, address_limit)
    for number, address in enumerate(addresses):
        assert admission.admit(number, address) is None
    return admission


def test_an_address_displaces_its_own_oldest_beyond_its_bound() -> None:
    """Though there is room for others."""
    admission = filled(THERE, HERE, HERE, HERE, limit=10)
    assert admission.admit(9, HERE) == 1
    assert len(admission) == 4


def test_beyond_the_bound_of_all_the_busiest_address_makes_room() -> None:
    """Not the newcomer's, nor the one that has waited longest."""
    admission = filled(THERE, HERE, HERE, ELSEWHERE)
    assert admission.admit(9, THERE) == 1


def test_who_has_begun_to_log_in_stays_before_who_is_silent() -> None:
    """A person types a code for a while; a flood says nothing."""
    admission = filled(HERE, HERE, HERE, THERE)
    admission.begun(0)
    assert admission.admit(9, ELSEWHERE) == 1
    assert admission.admit(10, ELSEWHERE) == 2


def test_when_all_have_begun_the_oldest_goes() -> None:
    """It has had the most time."""
    admission = filled(HERE, HERE, HERE)
    for number in range(3):
        admission.begun(number)
    assert admission.admit(9, HERE) == 0


def test_among_equals_the_oldest_goes() -> None:
    """A flood from as many addresses as there are places."""
    admission = filled("a", "b", "c", "d")
    assert [admission.admit(9, "e"), admission.admit(10, "f")] == [0, 1]


def test_who_left_counts_no_more() -> None:
    """Gone or logged in; saying so twice does no harm, nor saying something afterwards."""
    admission = filled(HERE, HERE, HERE)
    admission.leave(1)
    admission.leave(1)
    admission.begun(1)
    assert admission.admit(9, HERE) is None
    assert admission.admit(10, HERE) == 0


def test_an_ipv6_network_is_one_address() -> None:
    """Everybody has 2**64 of them; an IPv4 address is the same in either spelling."""
    admission = filled("2001:db8::1", "2001:db8::2", "2001:db8::3%eth0")
    assert admission.admit(9, "2001:db8::ffff") == 0
    assert admission.admit(10, "2001:db8:0:1::1") is None
    mapped = filled(HERE, f"::ffff:{HERE}", HERE)
    assert mapped.admit(9, HERE) == 0


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.sampled_from(["come", "begin", "go"]))))
def test_nobody_else_is_displaced_by_a_flood(steps: list[tuple[str, str]]) -> None:
    """The bounds hold, newcomers stay, and an address with one stranger keeps it."""
    admission: Admission[int] = Admission(6, 4)
    waiting: dict[int, str] = {}
    for number, (address, step) in enumerate(steps):
        if step == "come":
            victim = admission.admit(number, address)
            if victim is not None:
                assert waiting.pop(victim) in waiting.values()
            waiting[number] = address
        elif waiting:
            chosen = min(waiting)
            if step == "go":
                waiting.pop(chosen)
                admission.leave(chosen)
            else:
                admission.begun(chosen)
        assert len(admission) == len(waiting) <= 6
        assert all(list(waiting.values()).count(one) <= 4 for one in waiting.values())

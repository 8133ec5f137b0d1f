"""Limits: never more than so many in any stretch of so long, and never fewer than there is room for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamer.alertconfig import LimitConfig
from streamer.alerts.delivery.limits import Limits, Window

STEPS = st.lists(st.integers(0, 40), max_size=200)


@given(most=st.integers(1, 8), per_ns=st.integers(1, 100), steps=STEPS)
def test_no_stretch_holds_more(most: int, per_ns: int, steps: list[int]) -> None:
    """Taking whenever there is room, no stretch of that length has more; and where there is none, one has as many."""
    window, taken, now_ns = Window(LimitConfig(most=most, per_ns=per_ns)), list[int](), 0
    for step in steps:
        now_ns += step
        within = sum(one > now_ns - per_ns for one in taken)
        room_ns = window.room_ns(now_ns)
        assert (room_ns <= now_ns) == (within < most)
        if room_ns <= now_ns:
            window.take(now_ns)
            taken.append(now_ns)
        else:
            assert sum(one > room_ns - per_ns for one in taken) < most, "then there is room"
            assert sum(one > room_ns - 1 - per_ns for one in taken) == most, "and not before"


def limits(receiver: int | None, rule: int | None) -> Limits:
    def of(most: int | None) -> LimitConfig | None:
        return None if most is None else LimitConfig(most=most, per_ns=100)

    return Limits({"ops": of(receiver), "mail": of(receiver)}, {"glass": of(rule), "fire": None})


def test_without_limits_there_is_always_room() -> None:
    """A receiver and a rule without limits, and ones that no limit is known for, take any number."""
    free = limits(None, None)
    for _ in range(100):
        assert free.room_ns("ops", "glass", 5) == free.room_ns("who", "what", 5) == 5
        free.take("ops", ["glass"], 5)


def test_both_limits_hold() -> None:
    """A delivery needs room at its receiver and of its rule there; other rules and receivers have their own."""
    both = limits(3, 2)
    both.take("ops", ["glass"], 10)
    both.take("ops", ["glass"], 20)
    assert both.room_ns("ops", "glass", 30) == 110
    assert both.room_ns("ops", "fire", 30) == both.room_ns("mail", "glass", 30) == 30
    both.take("ops", ["fire"], 30)
    assert both.room_ns("ops", "fire", 40) == 110


def test_a_summary_counts_once_and_for_each_rule() -> None:
    """What tells of several rules is one to the receiver, and one of each rule."""
    both = limits(2, 1)
    both.take("ops", ["glass", "fire"], 10)
    assert both.room_ns("ops", "glass", 20) == 110
    assert both.room_ns("ops", "fire", 20) == 20


def test_what_went_out_counts_under_new_limits() -> None:
    """Limits that change keep the past: a lower one is exceeded at once, a higher one has room for the rest."""
    both = limits(3, None)
    for now_ns in (10, 20, 30):
        both.take("ops", ["glass"], now_ns)
    both.change({"ops": LimitConfig(most=1, per_ns=50)}, {})
    assert both.room_ns("ops", "glass", 31) == 80
    both.change({"ops": LimitConfig(most=2, per_ns=50)}, {})
    assert both.room_ns("ops", "glass", 31) == 31
    assert both.longest_ns() == 50


def test_none_is_longest_without_limits() -> None:
    """The longest stretch is 0 where nothing is limited."""
    assert limits(None, None).longest_ns() == 0

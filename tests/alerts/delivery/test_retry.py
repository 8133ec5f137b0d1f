"""Retries: when a delivery is tried again, when it is given up, and how a receiver that fails is treated."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.alerts.delivery.retry import FRESH_NS, GIVEN_UP_NS, LONGEST_NS, Health, asked_ns, next_try_ns, pause_ns
from streamer.clock import NS_PER_S

LUCK = st.floats(0, 1, exclude_max=True)


@given(luck=LUCK)
def test_the_first_pauses_are_fixed(luck: float) -> None:
    """After 1, 5 and 30 s, whatever the luck."""
    assert [pause_ns(failures, luck) for failures in (1, 2, 3)] == [1 * NS_PER_S, 5 * NS_PER_S, 30 * NS_PER_S]


@given(failures=st.integers(3, 5000), lucks=st.tuples(LUCK, LUCK))
def test_pauses_grow_to_an_hour(failures: int, lucks: tuple[float, float]) -> None:
    """Each pause is longer than the one before whatever the luck, until it is within a quarter of the longest."""
    before, after = (pause_ns(failures + more, luck) for more, luck in enumerate(lucks))
    assert before < after <= LONGEST_NS or after >= 0.75 * LONGEST_NS


def test_luck_spreads_pauses() -> None:
    """The fourth pause is a minute, a quarter longer or shorter by luck."""
    assert [pause_ns(4, luck) / NS_PER_S for luck in (0.0, 0.5, 0.999999)] == pytest.approx([45, 60, 75], abs=0.001)


@given(luck=LUCK, after_s=st.none() | st.floats(-10, 1e6))
def test_every_delivery_is_given_up_a_day_after_it_began(luck: float, after_s: float | None) -> None:
    """Tried again and again it ends, with its last try a day after it began, not before and not after."""
    now_ns, failures, tries = 7, 0, list[int]()
    while True:
        tries.append(now_ns)
        failures += 1
        next_ns = next_try_ns(failures, 7, now_ns, after_s, luck)
        if next_ns is None:
            break
        assert next_ns > now_ns
        now_ns = next_ns
    assert tries[-1] == 7 + GIVEN_UP_NS
    assert len(tries) < 60


def test_one_that_waited_for_its_turn_too_long_is_tried_once() -> None:
    """Over a day old at its first try it has no second."""
    assert next_try_ns(1, 0, GIVEN_UP_NS + 1, None, 0.5) is None


def test_a_pause_that_was_asked_for_is_kept_within_bounds() -> None:
    """The longer of the two pauses counts; beyond an hour, below zero or no number asks for nothing sensible."""
    assert next_try_ns(1, 0, 0, 20.0, 0.5) == 20 * NS_PER_S
    assert next_try_ns(3, 0, 0, 20.0, 0.5) == 30 * NS_PER_S
    assert asked_ns(1e9) == asked_ns(math.inf) == LONGEST_NS
    assert asked_ns(None) == asked_ns(-5) == asked_ns(math.nan) == 0


def test_a_healthy_receiver_is_free() -> None:
    """Before any failure, and after a success, it may be asked at once."""
    health = Health()
    assert health.free_ns(fresh=False) == 0 and not health.failing
    health.failed(0, 10, 5.0, 0.5)
    health.took()
    assert health.free_ns(fresh=False) == 0 and not health.failing


def test_failures_of_different_deliveries_add_up() -> None:
    """Each failure lengthens the pause, but those that were under way together count as one."""
    health = Health()
    for _ in range(8):
        health.failed(0, 10, None, 0.5)
    assert health.free_ns(fresh=False) == 10 + 1 * NS_PER_S
    health.failed(2 * NS_PER_S, 2 * NS_PER_S, None, 0.5)
    assert health.free_ns(fresh=False) == 7 * NS_PER_S


def test_one_that_was_never_tried_asks_sooner() -> None:
    """In a long outage a new delivery asks 30 s after the last failure, or after the pause that the receiver named."""
    health, now_ns = Health(), 0
    for _ in range(10):
        now_ns = max(now_ns, health.free_ns(fresh=False))
        health.failed(now_ns, now_ns, None, 0.5)
    assert health.free_ns(fresh=False) - now_ns == LONGEST_NS
    assert health.free_ns(fresh=True) - now_ns == FRESH_NS
    health.failed(now_ns, now_ns, 120.0, 0.5)
    assert health.free_ns(fresh=True) - now_ns == 120 * NS_PER_S


def test_an_outage_is_more_than_a_failure_or_two() -> None:
    """A success ends an outage only after three failures in a row."""
    health = Health()
    for failures, ended in ((1, False), (2, False), (3, True), (1, False)):
        for number in range(failures):
            health.failed(number, number, None, 0.5)
        assert health.took() is ended

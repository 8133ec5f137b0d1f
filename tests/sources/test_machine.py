"""The states of a source: every transition, its patience, and its retries."""

from __future__ import annotations

from itertools import pairwise
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.media import SourceState
from streamer.sources.machine import TRANSITIONS, Action, Machine, Policy, Signal

S = 1_000_000_000
MS = 1_000_000


def connected(chance: float = 0.5, policy: Policy | None = None) -> Machine:
    """A machine whose first connection was opened at 0."""
    machine = Machine(policy or Policy(), 0, lambda: chance)
    assert machine.tick(0) == (None, Action.CONNECT)
    return machine


def test_every_state_but_ended_answers_every_signal_that_can_reach_it() -> None:
    """The table names a next state for each signal in each state; silence alone needs media to come before it."""
    for state in get_args(SourceState):
        for signal in Signal:
            expected = state != "ended" and (signal is not Signal.SILENT or state in ("live", "stalled"))
            assert ((state, signal) in TRANSITIONS) is expected, (state, signal)


def test_first_media_make_it_live() -> None:
    """A source is connecting until its first media, then live; further media change nothing."""
    machine = connected()
    assert machine.state == "connecting"
    change = machine.media(300 * MS)
    assert change is not None and (change.state, change.reason, change.at_ns) == ("live", None, 300 * MS)
    assert machine.media(340 * MS) is None


def test_a_stall_is_told_after_a_second_and_a_half_without_media() -> None:
    """Live turns to stalled 1.5 s after the newest media, not before, and back with the next."""
    machine = connected()
    machine.media(S)
    assert machine.next_ns == 2500 * MS
    assert machine.tick(2499 * MS) == (None, None)
    change, action = machine.tick(2500 * MS)
    assert change is not None and change.state == "stalled" and "1.5 s" in str(change.reason)
    assert action is None
    back = machine.media(3 * S)
    assert back is not None and (back.state, back.reason) == ("live", None)


def test_a_long_silence_ends_the_connection() -> None:
    """5 s after the newest media a stalled source gives its connection up and plans another."""
    machine = connected()
    machine.media(0)
    machine.tick(1500 * MS)
    assert machine.tick(4999 * MS) == (None, None)
    change, action = machine.tick(5 * S)
    assert change is not None and change.state == "reconnecting"
    assert action is Action.ABANDON
    assert machine.next_ns is not None and 5250 * MS <= machine.next_ns <= 6 * S


def test_a_camera_of_one_picture_a_second_does_not_stall_between_pictures() -> None:
    """The pause that a camera always keeps is no stall; three such pauses are."""
    machine = connected()
    for second in range(10):
        machine.media(second * S)
        due_ns = machine.next_ns
        assert due_ns is not None
        assert second == 0 or machine.tick(second * S + 2 * S) == (None, None)
    assert machine.tick(12 * S)[0] is not None


def test_a_connection_without_media_is_given_up() -> None:
    """No media within the connect timeout: lost, and tried again."""
    machine = connected()
    assert machine.tick(9_999 * MS) == (None, None)
    change, action = machine.tick(10 * S)
    assert change is not None and (change.state, action) == ("reconnecting", Action.ABANDON)


@given(st.lists(st.floats(0, 0.999), min_size=1, max_size=30))
def test_retries_come_between_a_quarter_second_and_one(chances: list[float]) -> None:
    """However the dice fall, each pause is within [0.25 s, 1 s], and the first at most 0.75 s."""
    draws = iter(chances)
    machine = Machine(Policy(), 0, lambda: next(draws))
    now_ns = 0
    for attempt in range(len(chances)):
        assert machine.tick(now_ns)[1] is Action.CONNECT
        machine.lost(now_ns, "connection refused")
        assert machine.next_ns is not None
        pause_ns = machine.next_ns - now_ns
        assert 250 * MS <= pause_ns <= (S if attempt else 750 * MS)
        now_ns = machine.next_ns


def test_pauses_grow_and_begin_anew_after_health() -> None:
    """Pauses grow while a camera is away; after 5 s of health the next is short again."""
    machine = connected(chance=0.999)
    pauses, now_ns = [], 0
    for _ in range(4):
        machine.lost(now_ns, "cut")
        assert machine.next_ns is not None
        pauses.append(machine.next_ns - now_ns)
        now_ns = machine.next_ns
        machine.tick(now_ns)
    assert all(later >= earlier for earlier, later in pairwise(pauses)) and pauses[-1] > pauses[0]
    for _ in range(60):
        machine.media(now_ns)
        now_ns += 100 * MS
    machine.lost(now_ns, "cut")
    assert machine.next_ns == now_ns + pauses[0]


def test_media_for_a_moment_are_no_health() -> None:
    """A camera that sends a little and dies again is not hammered: pauses go on growing."""
    machine = connected(chance=0.999)
    machine.lost(0, "cut")
    first_ns = machine.next_ns
    assert first_ns is not None
    machine.tick(first_ns)
    machine.media(first_ns)
    machine.lost(first_ns, "cut")
    assert machine.next_ns is not None and machine.next_ns - first_ns > first_ns


def test_a_refusal_fails_and_is_retried_slowly() -> None:
    """What can't heal by itself fails, says why, and is tried again every 30 s."""
    machine = connected()
    change = machine.refused(S, "404: no such path")
    assert change is not None and (change.state, change.reason) == ("failed", "404: no such path")
    assert machine.next_ns == 31 * S
    assert machine.tick(31 * S) == (None, Action.CONNECT)
    assert machine.state == "failed"
    assert machine.refused(32 * S, "404: no such path") is None
    assert machine.next_ns == 62 * S
    machine.tick(62 * S)
    healed = machine.media(63 * S)
    assert healed is not None and healed.state == "live"


def test_a_camera_that_was_healthy_is_forgiven_refusals_for_a_while() -> None:
    """A camera that starts up may not know its paths yet: for 30 s after its last media it is only reconnecting."""
    machine = connected()
    machine.media(S)
    machine.lost(2 * S, "cut")
    machine.tick(3 * S)
    change = machine.refused(3 * S, "404: no such path")
    assert change is not None and change.state == "reconnecting"
    assert machine.next_ns is not None and machine.next_ns <= 4 * S
    machine.tick(40 * S)
    change = machine.refused(40 * S, "404: no such path")
    assert change is not None and change.state == "failed"


def test_an_end_is_final() -> None:
    """After its end a source does nothing more."""
    machine = connected()
    machine.media(0)
    change = machine.finished(S)
    assert change is not None and change.state == "ended"
    assert machine.next_ns is None
    assert machine.tick(1000 * S) == (None, None)


EVENTS = st.lists(st.tuples(st.sampled_from(["media", "lost", "refused", "tick"]), st.integers(0, 7 * S)), max_size=80)


@given(EVENTS)
def test_it_never_hangs(events: list[tuple[str, int]]) -> None:
    """Whatever happens: there is always a next time to act, and acting then moves it on or connects."""
    machine, now_ns = Machine(Policy(), 0, lambda: 0.5), 0
    open_connection = False
    for kind, later_ns in events:
        now_ns += later_ns
        if kind == "media" and open_connection:
            machine.media(now_ns)
        elif kind in ("lost", "refused") and open_connection:
            open_connection = False
            getattr(machine, kind)(now_ns, "why")
        due_ns = machine.next_ns
        assert due_ns is not None
        if kind == "tick":
            now_ns = max(now_ns, due_ns)
            before = (machine.state, due_ns)
            change, action = machine.tick(now_ns)
            assert change is not None or action is not None or (machine.state, machine.next_ns) != before
            if action is not None:
                assert open_connection is (action is Action.ABANDON)
                open_connection = action is Action.CONNECT


@pytest.mark.parametrize("gap_ms", [100, 1_000, 3_000, 8_000])
def test_a_stall_always_comes_before_the_end_of_the_connection(gap_ms: int) -> None:
    """However slow the camera, the silence that ends a connection is longer than a stall."""
    machine = connected()
    for index in range(5):
        machine.media(index * gap_ms * MS)
    assert machine.stall_ns < machine.silence_ns


# -- a source that waits to be called ----------------------------------------------------------------------------------


def awaiting() -> Machine:
    return Machine(Policy(), 0, lambda: 0.5, awaits=True)


def test_a_source_that_waits_makes_no_attempts_and_has_no_timeout() -> None:
    """It is connecting, says what it waits for, and neither connects nor gives up, however long it takes."""
    machine = awaiting()
    assert (machine.state, machine.reason) == ("connecting", "waits for a publisher")
    assert machine.tick(10**6 * S) == (None, None)
    assert machine.next_ns is not None and machine.next_ns > 10**6 * S


def test_who_was_answered_has_ten_seconds_to_send() -> None:
    """Counted from the answer; after that the attempt is given up, and the source waits for another."""
    machine = awaiting()
    machine.opened(1000 * S)
    assert machine.next_ns == 1010 * S and machine.tick(1009 * S) == (None, None)
    change, action = machine.tick(1010 * S)
    assert change is not None and (change.state, action) == ("reconnecting", Action.ABANDON)
    assert machine.tick(10**6 * S) == (None, None)


def test_a_publisher_that_left_is_followed_by_the_next() -> None:
    """Live, then reconnecting with the reason and no attempts, then live again with the next."""
    machine = awaiting()
    machine.opened(0)
    assert machine.media(S) is not None and machine.state == "live"
    change = machine.lost(2 * S, "the publisher left")
    assert change is not None and (change.state, change.reason) == ("reconnecting", "the publisher left")
    assert machine.tick(10**6 * S) == (None, None)
    machine.opened(10**6 * S)
    assert machine.media(10**6 * S + S) is not None and machine.state == "live"


def test_a_publisher_may_pause_for_longer_than_a_camera() -> None:
    """Stalled after 1.5 s of silence as a camera is, and given up after 30 s instead of 5."""
    machine = awaiting()
    machine.opened(0)
    machine.media(S)
    change, _ = machine.tick(2500 * MS)
    assert change is not None and change.state == "stalled"
    assert machine.tick(30 * S) == (None, None)
    change, action = machine.tick(31 * S)
    assert change is not None and (change.state, action) == ("reconnecting", Action.ABANDON)

"""The ladder is climbed a part of the streams at a time, least weighty first, and left slowly, without swinging."""

from __future__ import annotations

import itertools

from streamer.scheduling.ladder import DEAFEST, STEPS, Ladder, LadderPolicy
from tests.builders import MS, S

POLICY = LadderPolicy()


def ladder(*weights: float) -> Ladder:
    target = Ladder()
    for index, weight in enumerate(weights):
        target.put(f"s{index}", weight)
    return target


def climbed(target: Ladder, now_ns: int, times: int) -> int:
    """Strain it until it has been climbed so often; returns the time after."""
    while times:
        times -= target.strain(now_ns)
        now_ns += 10 * MS
    return now_ns


def calm(target: Ladder, from_ns: int, seconds: float, busy: float = 0.3) -> int:
    """Tick twice a second; returns the time after."""
    end_ns = from_ns + int(seconds * S)
    while from_ns < end_ns:
        from_ns += S // 2
        target.tick(from_ns, busy)
    return from_ns


def test_a_part_of_the_streams_climbs_at_a_time() -> None:
    """Each climb takes a quarter of the streams one step up, and nobody two before all have one."""
    target = ladder(*[1.0] * 8)
    now_ns = climbed(target, 0, 1)
    assert sorted(target.levels.values()) == [0] * 6 + [1] * 2
    now_ns = climbed(target, now_ns, 3)
    assert set(target.levels.values()) == {1}
    climbed(target, now_ns, 8)
    assert set(target.levels.values()) == {len(STEPS)} and target.is_exhausted


def test_a_climb_is_given_time_to_tell() -> None:
    """However often it is strained, a tenth of a second lies between two climbs."""
    target = ladder(*[1.0] * 100)
    for now_ns in range(0, S, MS):
        target.strain(now_ns)
    assert target.climbs == 10


def test_the_least_weighty_lose_first_and_get_back_last() -> None:
    """At each step streams of small weight come first on the way up, those of great weight on the way down."""
    target = ladder(5.0, 1.0, 1.0, 3.0)
    now_ns = climbed(target, 0, 2)
    assert target.levels == {"s0": 0, "s1": 1, "s2": 1, "s3": 0}
    now_ns = climbed(target, now_ns, 2)
    assert set(target.levels.values()) == {1}
    calm(target, now_ns, 4.5)
    assert target.levels == {"s0": 0, "s1": 1, "s2": 1, "s3": 1}


def test_it_is_left_when_calm_has_lasted() -> None:
    """From the top all streams are back at level 0 after 4 s of calm and 24 strides of 1 s, and none before these 4."""
    target = ladder(*[1.0] * 8)
    now_ns = climbed(target, 0, 12)
    now_ns = calm(target, now_ns, 3.5)
    assert target.is_exhausted
    calm(target, now_ns, 30)
    assert set(target.levels.values()) == {0} and target.descents == 24


def test_a_busy_engine_keeps_it_where_it_is() -> None:
    """With less than 15 % of the engine's time to spare nothing is taken back, even where that time comes in beats."""
    target = ladder(*[1.0] * 4)
    now_ns = climbed(target, 0, 4)
    for beat in range(100):
        target.tick(now_ns := now_ns + S // 2, 0.75 if beat % 2 else 1.0)
    assert target.descents == 0


def test_beats_that_leave_enough_to_spare_are_calm() -> None:
    """Work that comes in beats of a second is judged by what it takes on the average."""
    target = ladder(*[1.0] * 4)
    now_ns = climbed(target, 0, 4)
    for beat in range(100):
        target.tick(now_ns := now_ns + S // 2, 0.6 if beat % 2 else 0.9)
    assert set(target.levels.values()) == {0}


def test_a_disturbance_ends_calm_without_a_climb() -> None:
    """A window that was shed (by a hung engine, say) keeps the ladder from being left, and does not climb it."""
    target = ladder(*[1.0] * 4)
    now_ns = climbed(target, 0, 4)
    for _ in range(40):
        target.disturb(now_ns := now_ns + S // 2)
        target.tick(now_ns, 0.0)
    assert (target.climbs, target.descents) == (4, 0)


def relapses(target: Ladder, now_ns: int, seconds: float, busy: float) -> tuple[int, list[int]]:
    """A load that is too much for anything less than where it stands: strained after each descent. Returns the time
    after, and when each descent was."""
    end_ns, found = now_ns + int(seconds * S), []
    while now_ns < end_ns:
        now_ns += S // 2
        if target.tick(now_ns, busy):
            found.append(now_ns)
            target.strain(now_ns + S // 4)
    return now_ns, found


def test_descents_that_were_too_early_come_ever_more_rarely() -> None:
    """Each wait after a relapse is twice as long as the one before, up to 64 s; at a constant load it stays at that."""
    target = ladder(*[1.0] * 4)
    now_ns = climbed(target, 0, 4)
    _, descents = relapses(target, now_ns, 600, busy=0.5)
    waits = [(later - earlier) / S for earlier, later in itertools.pairwise(descents)]
    assert waits[:4] == [8.5, 16.5, 32.5, 64.5] and set(waits[4:]) == {64.5}


def test_after_relapses_it_is_left_quickly_once_the_load_falls() -> None:
    """When the engine has clearly less to do than when a descent failed, the long wait is over: all are back soon."""
    target = ladder(*[1.0] * 4)
    now_ns = climbed(target, 0, 4)
    now_ns, _ = relapses(target, now_ns, 300, busy=0.8)
    raised = sum(target.levels.values())
    assert raised > 0
    calm(target, now_ns, 30, busy=0.2)
    assert set(target.levels.values()) == {0}


def test_a_new_stream_starts_where_the_others_mostly_are() -> None:
    """It takes nothing from those that gave something up; changing its weight does not move it."""
    target = ladder(*[1.0] * 4)
    climbed(target, 0, 6)
    target.put("new", 1.0)
    assert target.level("new") == 2
    target.put("new", 4.0)
    assert target.level("new") == 2 and target.weight("new") == 4.0
    target.remove("new")
    assert target.level("new") == 0 and target.weight("new") == 1.0


def test_an_empty_ladder_can_be_strained() -> None:
    """Without streams nothing moves."""
    target = Ladder()
    assert not target.strain(0) and not target.tick(10 * S, 0.0) and target.moves == 0


def test_speech_goes_first_and_comes_back_last() -> None:
    """Where somebody listens, four climbs leave out listening before anything of a stream is left out; in calm the
    streams have theirs back before it, and all of it comes back."""
    target = ladder(*[1.0] * 4)
    target.listen(True)
    now_ns = climbed(target, 0, DEAFEST)
    assert target.listen(True) == DEAFEST and set(target.levels.values()) == {0}
    now_ns = climbed(target, now_ns, 2)
    assert sorted(target.levels.values()) == [0, 0, 1, 1] and target.deaf == DEAFEST
    seen = []
    while target.deaf or any(target.levels.values()):
        now_ns = calm(target, now_ns, 0.5)
        seen.append((sum(target.levels.values()), target.deaf))
    assert all(deaf == DEAFEST for raised, deaf in seen if raised) and seen[-1] == (0, 0)


def test_who_hears_nobody_gives_nothing_up() -> None:
    """Without a stream that listens the ladder is as it was, and what was left out of listening is forgotten."""
    target = ladder(*[1.0] * 4)
    target.listen(True)
    now_ns = climbed(target, 0, 2)
    assert target.listen(False) == 0
    climbed(target, now_ns, 1)
    assert sorted(target.levels.values()) == [0, 0, 0, 1]

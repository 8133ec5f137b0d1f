"""What the scheduler and its ladder keep to, whatever cameras and machine do: searched for in simulated time.

Every simulation also checks at each moment what must never be (`Trace.faults`): a window with two outcomes or none,
labels after deadline less reserve, a window shed later or sooner than its time, an engine that idles although a window
could be answered in time by the scheduler's own expectation, a batch that is said to be less work than it is, a queue
past its bound.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from streamer.media import Work
from tests.builders import S
from tests.scheduling.simulation import COSTS, Camera, Machine, Scenario, Simulation, Trace

Drawn = TypeVar("Drawn")

depths = pytest.mark.parametrize(
    "depth",
    [
        pytest.param(1, id="short"),
        pytest.param(20, id="long", marks=[pytest.mark.prove, pytest.mark.timeout(1500)]),
    ],
)


def for_all(strategy: st.SearchStrategy[Drawn], check: Callable[[Drawn], None], count: int, depth: int) -> None:
    """`check` holds for so many drawn ones; the short form draws the same ones each time. What fails is shown as it was
    drawn: to look for the smallest that fails would take minutes."""
    settled = settings(
        max_examples=count * depth,
        deadline=None,
        derandomize=depth == 1,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )

    def checked(drawn: Drawn) -> None:
        note(repr(drawn))
        check(drawn)

    settled(given(strategy)(checked))()


def run(scenario: Scenario) -> Trace:
    trace = Simulation(scenario).run()
    assert not trace.faults, trace.faults[:5]
    return trace


# -- what is drawn ---------------------------------------------------------------------------------------------------


@st.composite
def cameras(draw: st.DrawFn, most: int, seconds: float) -> tuple[Camera, ...]:
    """Some that come and go, in step or not, with jitter and stalls, with and without sound, of different weights."""
    in_step = draw(st.booleans())
    leave = draw(st.booleans())
    found = []
    for number in range(draw(st.integers(1, most))):
        begins = draw(st.floats(0, seconds / 2)) if leave else 0.0
        found.append(
            Camera(
                name=f"s{number:03}",
                phase_ms=0 if in_step else draw(st.integers(0, 499)),
                weight=draw(st.sampled_from([0.5, 1, 1, 1, 3])),
                pictures_a_second=draw(st.sampled_from([2, 2, 4])),
                sound=draw(st.booleans()),
                jitter_ms=draw(st.sampled_from([0, 20, 150])),
                stall_every=draw(st.sampled_from([0, 0, 2, 4])),
                from_s=begins,
                until_s=draw(st.floats(begins + 1, seconds)) if leave else 1e6,
            )
        )
    return tuple(found)


@st.composite
def freezes(draw: st.DrawFn, seconds: float) -> tuple[tuple[float, int], ...]:
    """None, or some, in the order of time and apart."""
    found, at = [], 0.0
    for pause, for_ms in draw(st.lists(st.tuples(st.floats(0.1, 4), st.integers(70, 900)), max_size=3)):
        at += pause
        if at < seconds:
            found.append((at, for_ms))
        at += for_ms / 1000
    return tuple(found)


@st.composite
def machines(draw: st.DrawFn, seconds: float) -> Machine:
    """Fast and slow, even and noisy, with a time of three times as slow, a hung batch, failures, little memory."""
    at = st.floats(0, seconds)
    slow = ((draw(at), seconds, 3.0),) if draw(st.booleans()) else ()
    fails = draw(st.lists(st.tuples(at, st.floats(0.01, 2), st.booleans()), max_size=2))
    return Machine(
        factor=draw(st.sampled_from([0.05, 0.5, 1.0, 1.0, 3.0])),
        noise=draw(st.sampled_from([0.0, 0.1, 1.0])),
        slow=slow,
        hang=draw(st.one_of(st.none(), st.tuples(at, st.floats(0.1, 5)))),
        fails=tuple((from_s, from_s + for_s, memory) for from_s, for_s, memory in fails),
        poison=draw(st.sampled_from([None, None, "s000"])),
        memory=draw(st.sampled_from([1, 2, 1000, 1000])),
        freezes=draw(freezes(seconds)),
    )


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    """Anything at all, for 8 s."""
    seconds = 8.0
    later = draw(st.lists(st.tuples(st.floats(0, seconds), st.integers(5, 330)), max_size=4))
    return Scenario(
        cameras=draw(cameras(40, seconds)),
        seconds=seconds,
        bound_ms=draw(st.integers(200, 2000)),
        machine=draw(machines(seconds)),
        reserve_ms=((0.0, draw(st.integers(5, 60))), *sorted(later)),
        max_windows=draw(st.sampled_from([1, 4, 8, 64])),
        leaving=draw(st.booleans()),
        seed=draw(st.integers(0, 1 << 16)),
    )


def alike(count: int, **changes: object) -> tuple[Camera, ...]:
    """So many equal cameras, spread over the hop."""
    return tuple(replace(Camera(f"s{i:03}", phase_ms=500 * i // count), **changes) for i in range(count))  # type: ignore[arg-type]


@st.composite
def loaded(
    draw: st.DrawFn,
    least: float,
    most: float,
    *,
    level: int = 0,
    seconds: float = 30.0,
    fewest: int = 8,
    most_streams: int = 40,
) -> Scenario:
    """Equal cameras, `fewest` to `most_streams`, that take a part of the engine's time between `least` and `most` at a
    level of the ladder, on a machine as fast or slow as that needs."""
    count, load = draw(st.integers(fewest, most_streams)), draw(st.floats(least, most))
    members = alike(count, sound=draw(st.booleans()), pictures_a_second=draw(st.sampled_from([2, 4])))
    base = Scenario(members, seconds, seed=draw(st.integers(0, 1 << 16)))
    noise = draw(st.sampled_from([0.0, 0.2]))
    return replace(base, machine=Machine(factor=load / base.load(level) / (1 + noise / 2), noise=noise))


# -- the promise -----------------------------------------------------------------------------------------------------


@depths
def test_exactly_one_outcome_in_time_whatever_happens(depth: int) -> None:
    """With bursts, jitter, stalls, streams that come and go, slow, hung and failing batches, want of memory and a
    reserve that jumps, nothing that must never be ever is."""
    for_all(scenarios(), lambda scenario: run(scenario) and None, 70, depth)


@st.composite
def easy(draw: st.DrawFn) -> Scenario:
    """A load clearly below capacity: of the time no more than 85 % is needed, and three windows of every stream one
    after the other take less than a window that closed as late as it may has left, by the model as well: until batches
    were seen, that is all the scheduler knows."""
    scenario = Scenario(
        cameras=draw(cameras(40, 10.0)),
        seconds=10.0,
        bound_ms=draw(st.integers(200, 2000)),
        machine=Machine(factor=draw(st.sampled_from([0.02, 0.1, 0.5, 1.0]))),
        max_windows=draw(st.sampled_from([1, 4, 64])),
        seed=draw(st.integers(0, 1 << 16)),
    )
    factor, kept = scenario.machine.factor, scenario.cameras
    left_ns = scenario.bound_ms * 1e6 * 0.55 - scenario.reserve_ns(0)
    while len(kept) > 1 and (replace(scenario, cameras=kept).load() > 0.85 or _thrice(kept) > left_ns):
        kept = kept[:-1]
    if _thrice(kept) * factor > left_ns:
        kept, factor = (Camera("s000"),), 0.5
    return replace(scenario, cameras=kept, machine=Machine(factor=factor))


def _thrice(members: tuple[Camera, ...]) -> int:
    most = [COSTS.of(Work(1, camera.pictures_a_second // 2, 2 * camera.sound)) for camera in members]
    return 3 * sum(most)


@depths
def test_nothing_is_shed_or_degraded_below_capacity(depth: int) -> None:
    """With constant batch times and a load clearly below capacity every window is answered with all its work done,
    however late cameras' media come."""

    def check(scenario: Scenario) -> None:
        trace = run(scenario)
        assert len(trace.of("ok")) == len(trace.submitted)

    for_all(easy(), check, 50, depth)


@depths
def test_one_stream_that_cannot_be_computed_costs_its_neighbours_nothing(depth: int) -> None:
    """The windows of a stream that makes every batch fail are shed as `engine`, and all others are answered."""

    def check(drawn: tuple[Scenario, int]) -> None:
        scenario, memory = drawn
        trace = run(replace(scenario, machine=replace(scenario.machine, poison="s003", memory=memory)))
        shares = trace.shares()
        assert shares.pop("s003") == 0.0 and set(shares.values()) == {1.0}
        assert {found.reason for found in trace.of("shed")} == {"engine"}

    for_all(st.tuples(loaded(0.1, 0.4, seconds=8), st.sampled_from([1, 2, 1000])), check, 15, depth)


# -- fairness --------------------------------------------------------------------------------------------------------


@depths
def test_equal_streams_get_equal_shares(depth: int) -> None:
    """At twice what can be done with everything left out, and more, no stream is answered more than 1.2 times as often
    as another, and each at least once in 6 s."""

    def check(scenario: Scenario) -> None:
        trace = run(scenario)
        counts = trace.answers(from_s=10).values()
        # Give or take one answer: of few, one more is a large part.
        assert max(counts) - 1 <= 1.2 * (min(counts) + 1), counts
        for begins in range(15, int(scenario.seconds) - 6):
            assert min(trace.answers(begins, begins + 6).values()) > 0, begins

    for_all(loaded(2.0, 3.0, level=3, seconds=45, fewest=16), check, 12, depth)


@depths
def test_weights_divide_what_there_is(depth: int) -> None:
    """Under overload streams are answered in proportion to their weights, within a fifth; but for those that have all
    their windows answered for less than that."""

    def check(drawn: tuple[Scenario, list[int]]) -> None:
        scenario, weights = drawn
        members = tuple(replace(c, weight=weights[i % len(weights)]) for i, c in enumerate(scenario.cameras))
        trace = run(replace(scenario, cameras=members))
        shares, counts = trace.shares(from_s=10), trace.answers(from_s=10)
        short = [camera for camera in members if shares[camera.name] < 0.95]
        # Give or take one answer, as above.
        least = min((counts[camera.name] + 1) / camera.weight for camera in short)
        assert max((counts[camera.name] - 1) / camera.weight for camera in members) <= 1.2 * least, counts
        assert min(counts.values()) > 0, counts

    weights = st.lists(st.sampled_from([1, 2, 4]), min_size=2, max_size=3)
    for_all(st.tuples(loaded(2.0, 3.0, level=3, seconds=45, fewest=16), weights), check, 12, depth)


@depths
def test_turns_stay_even_over_short_times_and_through_freezes(depth: int) -> None:
    """Under four to eight times what can be done, with batches that vary and a process that stands still now and then,
    no stream is ever answered more than four times more often than another, in 5 s or in all: nobody's turns are ever
    more than two ahead of anybody's, at the beginning of that time and at its end."""

    def check(drawn: tuple[Scenario, tuple[tuple[float, int], ...]]) -> None:
        scenario, frozen = drawn
        trace = run(replace(scenario, machine=replace(scenario.machine, freezes=frozen)))
        for begins, ends in [(2.0, scenario.seconds), *((begins, begins + 5.0) for begins in range(2, 11))]:
            counts = trace.answers(begins, ends).values()
            assert max(counts) - min(counts) <= 4, (begins, counts)

    crowds = loaded(1.3, 3.0, level=3, seconds=15, fewest=100, most_streams=240)
    for_all(st.tuples(crowds, freezes(15.0)), check, 3, depth)


@depths
def test_a_freeze_costs_no_more_than_its_own_time(depth: int) -> None:
    """At up to 80 % of capacity, what is captured from 2 s after the process stood still is answered again, all of it,
    and nothing is shed that was not due within the freeze or a second after it."""

    def check(drawn: tuple[Scenario, float, int]) -> None:
        scenario, at_s, for_ms = drawn
        machine = replace(scenario.machine, freezes=((at_s, for_ms),))
        trace = run(replace(scenario, machine=machine))
        over_s = at_s + for_ms / 1000
        assert not trace.of("shed", to_s=at_s - 1) and not trace.of("shed", from_s=over_s + 1)

    lengths = st.integers(70, 900)
    for_all(st.tuples(loaded(0.2, 0.8, seconds=15), st.floats(4, 9), lengths), check, 12, depth)


# -- the ladder ------------------------------------------------------------------------------------------------------


@depths
def test_work_is_left_out_before_windows_are_shed(depth: int) -> None:
    """An overload that the ladder can absorb sheds nothing once it has been climbed (10 s), and where half of the
    pictures are enough to leave out, nobody loses all."""

    def check(scenario: Scenario) -> None:
        trace = run(scenario)
        assert not trace.of("shed", from_s=10)
        assert scenario.load() < 1.15 or trace.of("degraded", from_s=10)
        if scenario.load(1) < 0.8:
            assert trace.top(0, scenario.seconds) < 3

    for_all(loaded(0.4, 0.8, level=3).filter(lambda scenario: scenario.load() > 1), check, 20, depth)


@depths
def test_the_ladder_does_not_swing_at_a_constant_load(depth: int) -> None:
    """In the second and third minute of a constant load, whatever it is, it moves at most eight times a minute, and
    sheds nothing that it could have helped by staying where it was."""

    def check(scenario: Scenario) -> None:
        trace = run(scenario)
        assert trace.moves_in(60, 120) <= 8 and trace.moves_in(120, 180) <= 8, trace.moves
        assert scenario.load(3) > 0.8 or not trace.of("shed", from_s=60)

    for_all(loaded(0.5, 2.5, seconds=180), check, 4, depth)


@depths
def test_the_ladder_is_left_when_the_load_falls(depth: int) -> None:
    """Whatever the overload was, 45 s after the load has fallen to less than half of capacity all work is done again,
    for every stream."""

    def check(scenario: Scenario) -> None:
        kept = max(1, int(len(scenario.cameras) * 0.4 / max(scenario.load(), 0.4)))
        members = tuple(replace(c, until_s=30.0) if i >= kept else c for i, c in enumerate(scenario.cameras))
        trace = run(replace(scenario, cameras=members, leaving=True, seconds=80.0))
        assert trace.top(15, 30) > 0
        assert trace.top(75, 80) == 0
        assert not trace.of("degraded", from_s=78) and not trace.of("shed", from_s=32)

    for_all(loaded(1.2, 5.0), check, 8, depth)


@depths
def test_one_slow_batch_does_not_climb_the_ladder(depth: int) -> None:
    """A single batch of up to 0.9 s at a load of up to 80 % costs at most one step for half of the streams, and ten
    seconds later everything is answered."""

    def check(drawn: tuple[Scenario, float]) -> None:
        scenario, hiccup_s = drawn
        trace = run(replace(scenario, machine=replace(scenario.machine, hang=(10.0, hiccup_s))))
        assert trace.top(0, 40) <= 1 and trace.height(0, 40) <= 0.5, trace.moves
        assert not trace.of("shed", from_s=20) and not trace.of("shed", to_s=8)

    for_all(st.tuples(loaded(0.2, 0.8), st.floats(0.1, 0.9)), check, 15, depth)


@depths
def test_labels_come_again_when_a_hung_batch_ends(depth: int) -> None:
    """After a batch that hung for seconds, in which all is shed, windows are answered; and all of them again from 2 s
    after it, although nothing was encoded meanwhile of what they reach back to."""

    def check(drawn: tuple[Scenario, float]) -> None:
        scenario, hung_s = drawn
        trace = run(replace(scenario, machine=replace(scenario.machine, hang=(5.0, hung_s))))
        over_s = max(batch.started_ns for batch in trace.batches if batch.started_ns < 5.2 * S) / S + hung_s
        assert not trace.of("shed", from_s=over_s + 2)
        assert trace.answers(from_s=over_s - 0.5, to_s=over_s + 2).total()
        assert trace.of("shed", from_s=5.5, to_s=over_s - 1)

    for_all(st.tuples(loaded(0.2, 0.6, seconds=20), st.floats(3, 8)), check, 12, depth)


@depths
def test_a_machine_that_becomes_three_times_as_slow_sheds_little(depth: int) -> None:
    """Where the ladder can absorb it, less than one window in five of the next five seconds is shed, and none after
    these."""

    def check(scenario: Scenario) -> None:
        trace = run(replace(scenario, machine=replace(scenario.machine, slow=((10.0, 1e6, 3.0),))))
        assert not trace.of("shed", to_s=9) and not trace.of("shed", from_s=15)
        due = len(scenario.cameras) * 10
        assert len(trace.of("shed")) <= due / 5

    for_all(loaded(0.2, 0.25, level=3, seconds=20).filter(lambda scenario: scenario.load() < 0.8), check, 12, depth)

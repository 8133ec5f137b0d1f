"""One person is one track: walking, crossing, hidden for a moment, gone and back, and what only flickers is nobody."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.people.track import Track, Tracker, _best_pairs, presence_of
from tests.people.bodies import LYING, STEP_NS, Body, sighting

SETTINGS = settings(deadline=None, derandomize=True)


def followed(pictures: list[list[Body]]) -> tuple[Tracker, list[list[Track]]]:
    """The people after each picture, half a second apart."""
    tracker, after = Tracker(), []
    for index, bodies in enumerate(pictures):
        tracker.see(sighting(index, index * STEP_NS, bodies))
        after.append(tracker.people)
    return tracker, after


def test_a_walk_across_the_picture_is_one_track() -> None:
    """Somebody who covers most of their height between sightings, so that boxes share nothing, keeps their number."""
    _, after = followed([[Body(0.1 + 0.08 * step)] for step in range(10)])
    assert [[track.number for track in people] for people in after] == [[1]] * 10


def test_two_who_cross_keep_their_numbers() -> None:
    """Each goes on on their own side after they passed each other."""
    tracker, places = Tracker(), []
    for step in range(11):
        tracker.see(sighting(step, step * STEP_NS, [Body(0.2 + 0.06 * step), Body(0.8 - 0.06 * step)]))
        places.append({track.number: track.seen.middle[0] for track in tracker.people})
    assert all(len(people) == 2 for people in places)
    assert {number: x < 0.9 for number, x in places[0].items()} == {number: x > 0.9 for number, x in places[-1].items()}


def test_a_fall_is_not_somebody_else() -> None:
    """Who lies where somebody stood is that person."""
    _, after = followed([[Body(0.5)]] * 3 + [[Body(0.52, shape=LYING)]] * 3)
    assert [track.number for track in after[-1]] == [1]


def test_weak_detections_carry_on_but_do_not_begin() -> None:
    """A score of 0.2 keeps somebody who was there, and makes nobody."""
    weak = Body(0.5, score=0.2)
    _, after = followed([[weak]] * 6)
    assert after[-1] == []
    _, after = followed([[Body(0.5)]] * 2 + [[weak]] * 10)
    assert [track.number for track in after[-1]] == [1] and after[-1][0].missed_ns is None


def test_one_body_found_twice_is_one_person() -> None:
    """A second detection with the same points begins nobody."""
    _, after = followed([[Body(0.5, score=0.6), Body(0.502, score=0.5)]] * 5)
    assert len(after[-1]) == 1


def presence(*scores: float) -> float:
    """Of somebody who was seen with these detector scores."""
    _, after = followed([[Body(0.5, score=score)] for score in scores])
    return after[-1][0].presence


def test_presence_is_even_at_the_threshold() -> None:
    """Detector scores of 0.245 are somebody as often as not, and more is likelier."""
    assert presence_of(0.245) == pytest.approx(0.5)
    assert presence(*[0.2451] * 8) == pytest.approx(0.5, abs=0.01)
    assert 0.5 < presence(*[0.28] * 8) < presence(*[0.33] * 8) < presence(*[0.39] * 8) < 1


def test_who_was_clear_is_believed_at_less() -> None:
    """A score of 0.2 that follows on clear ones is still that person; one that follows on doubtful ones is not."""
    assert presence(0.6, 0.6, *[0.2] * 8) > 0.7
    assert presence(0.3, 0.3, *[0.2] * 8) < 0.3
    assert presence(0.6, 0.6, *[0.13] * 8) < 0.5


def test_what_stays_and_is_doubtful_is_nobody() -> None:
    """A detection of 0.23 that never goes away, as cars give, is not followed."""
    _, after = followed([[Body(0.5, score=0.23)]] * 20)
    assert after[-1] == []


def test_time_without_a_sighting_ends_nobody() -> None:
    """A picture that stands still for a minute shows who it showed; who was missed in it is gone after a moment."""
    tracker, _ = followed([[Body(0.5)]] * 2)
    assert tracker.pass_to(60 * 2 * STEP_NS) == [] and len(tracker.people) == 1
    tracker.see(sighting(2, 121 * STEP_NS, []))
    assert len(tracker.people) == 1
    (gone,) = tracker.pass_to(125 * STEP_NS)
    assert tracker.people == [] and gone.last_ns == 120 * STEP_NS


def test_numbers_are_not_bound_to_sightings_in_time() -> None:
    """Sightings that all come at one moment gather no people without end."""
    tracker = Tracker()
    for index in range(200):
        tracker.see(sighting(index, 0, [Body(index * 37 % 100 / 100, y=0.4 + index % 5 / 10)]))
    assert len(tracker.people) <= 33


def test_values_that_are_no_numbers_are_nobody() -> None:
    """A detection with a NaN in it is left out."""
    broken = sighting(0, 0, [Body(0.5)])
    broken.points[0, 3, 0] = np.nan
    tracker = Tracker()
    tracker.see(broken)
    assert tracker.people == []


@settings(SETTINGS, max_examples=200)
@given(st.integers(0, 4), st.integers(1, 4), st.data())
def test_pairs_are_the_best_of_all(rows: int, columns: int, data: st.DataObject) -> None:
    """No other assignment has a higher sum, nobody is paired twice, and nobody at 0."""
    value = st.one_of(st.just(0.0), st.floats(0.01, 1))
    likeness = data.draw(st.lists(st.lists(value, min_size=columns, max_size=columns), min_size=rows, max_size=rows))
    pairs = _best_pairs(likeness, columns)
    chosen = [column for column in pairs if column is not None]
    assert len(pairs) == rows and len(set(chosen)) == len(chosen)
    assert all(likeness[row][column] > 0 for row, column in enumerate(pairs) if column is not None)
    total = sum(likeness[row][column] for row, column in enumerate(pairs) if column is not None)
    others = itertools.product([None, *range(columns)], repeat=rows)
    sums = [
        sum(likeness[row][column] for row, column in enumerate(other) if column is not None)
        for other in others
        if len({column for column in other if column is not None}) == sum(column is not None for column in other)
    ]
    assert total == pytest.approx(max(sums))


_bodies = st.builds(
    Body,
    st.sampled_from([0.1, 0.3, 0.35, 0.5, 0.8]),
    y=st.sampled_from([0.6, 0.9]),
    height=st.sampled_from([0.3, 0.5]),
    score=st.sampled_from([0.1, 0.2, 0.35, 0.6]),
)
_pictures = st.lists(st.lists(_bodies, max_size=4), max_size=12)


@settings(SETTINGS, max_examples=100)
@given(_pictures, st.randoms(use_true_random=False))
def test_the_order_of_people_means_nothing(pictures: list[list[Body]], random: object) -> None:
    """However the people of a sighting are ordered, the same ones are followed under the same numbers."""
    shuffled = [list(bodies) for bodies in pictures]
    for bodies in shuffled:
        random.shuffle(bodies)  # type: ignore[attr-defined]

    def told(given_pictures: list[list[Body]]) -> list[list[tuple[int, list[float], float]]]:
        tracker, after = Tracker(), []
        for index, bodies in enumerate(given_pictures):
            tracker.see(sighting(index, index * STEP_NS, bodies))
            after.append([(track.number, track.seen.box.tolist(), track.presence) for track in tracker.people])
        return after

    assert told(pictures) == told(shuffled)


@settings(SETTINGS, max_examples=100)
@given(_pictures)
def test_numbers_rise_and_never_come_back(pictures: list[list[Body]]) -> None:
    """A number that was given up is nobody's again, new ones follow the highest, and two share none."""
    tracker = Tracker()
    gone: set[int] = set()
    highest = 0
    for index, bodies in enumerate(pictures):
        over = {track.number for track in tracker.see(sighting(index, index * STEP_NS, bodies))}
        gone |= over
        numbers = [track.number for track in tracker.people]
        assert len(set(numbers)) == len(numbers) and not set(numbers) & gone
        new = [number for number in numbers if number > highest]
        assert new == list(range(highest + 1, highest + 1 + len(new)))
        highest += len(new)

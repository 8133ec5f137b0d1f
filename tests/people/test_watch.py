"""What windows say of people: presence that doesn't flicker, one event a person, places, postures and falls."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET
from numpy.typing import NDArray

from streamer.messages import Event, People, Person
from streamer.people.watch import PeopleSettings, label_names
from streamer.peopleconfig import LineConfig, ZoneConfig
from tests.people.bodies import LYING, SITTING, STEP_NS, Body, Stream, names

SETTINGS = settings(deadline=None, derandomize=True)
PLACES = PeopleSettings(
    zones={"yard": ZoneConfig(area=[[0.4, 0.5], [0.8, 0.5], [0.8, 1.0], [0.4, 1.0]], dwell="2s")},
    lines={"door": LineConfig(along=[[0.5, 0.3], [0.5, 1.0]])},
)


def score_of(stream: Stream, label: str) -> float:
    """Of a label in the last window; 0 where it has none."""
    return next((found.score for found in stream.findings[-1].labels if found.name == label), 0.0)


def people_of(stream: Stream) -> list[Person]:
    """Of the last window."""
    told = stream.findings[-1].people
    assert told is not None and told.each is not UNSET
    return told.each


class Judge:
    """Says what it was told to say, one answer a sighting, the last for ever."""

    def __init__(self, *answers: float) -> None:
        self.answers = list(answers)
        self.asked: list[int] = []

    def update(self, media_ns: int, aspect: float, box: NDArray[np.float32], points: NDArray[np.float32]) -> float:
        assert box.shape == (4,) and points.shape == (17, 3) and aspect > 0
        self.asked.append(media_ns)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def test_before_the_first_look_nothing_is_known() -> None:
    """Nobody has looked: unknown, not nobody; a look that finds nobody says so, without a label."""
    stream = Stream()
    assert stream.still(3).people is None
    found = stream.shows([])
    assert found.people is not None and found.people.count == 0 and found.labels == []
    assert people_of(stream) == []


def test_somebody_is_in_every_segment_they_are_seen_in() -> None:
    """From the first clear sighting on each window says Person, with one number, box and points."""
    stream = Stream()
    found = stream.show([[Body(0.5)]] * 10)
    assert all(names(one) >= {"Person", "Standing"} for one in found)
    (person,) = people_of(stream)
    assert (person.track, person.posture, len(person.points)) == (1, "standing", 17)
    assert person.box[0] < 0.5 < person.box[2]
    assert found[-1].labels[0].share.video == 1.0
    assert [label.score for label in found[-1].labels] == sorted((x.score for x in found[-1].labels), reverse=True)


def test_a_trembling_score_does_not_flicker() -> None:
    """Scores about the threshold, every other one below it, are Person in each window once two were seen."""
    stream = Stream()
    stream.show([[Body(0.5, score=0.36)]] * 2)
    found = stream.show([[Body(0.5, score=0.36 if step % 2 else 0.22)] for step in range(12)])
    assert all("Person" in names(one) for one in found)


def test_false_detections_that_flicker_are_nobody() -> None:
    """Something seen here and there, never twice in a window and never clearly, is no label and no event."""
    stream = Stream()
    found = stream.show([[Body(0.2 + 0.05 * step, score=0.35)] if step % 4 == 1 else [] for step in range(16)])
    stream.finish()
    assert all(one.labels == [] and one.people is not None and one.people.count == 0 for one in found)
    assert stream.events == []


def test_a_crowd_is_somebody() -> None:
    """Where two looks of a window find somebody, each elsewhere, the window says Person and counts those of one look,
    and nobody is followed."""
    stream = Stream()
    found = stream.show([[Body(0.1 + 0.4 * (step % 3), y=0.5 + 0.4 * (step % 2), score=0.39)] for step in range(6)])
    assert ["Person" in names(one) for one in found] == [False, True, True, True, True, True]
    assert [one.people for one in found[1:]] == [People(1, [])] * 5
    stream.show([[]] * 4)
    assert stream.events == [] and stream.findings[-1].labels == []


def test_one_person_is_one_event() -> None:
    """Half a minute of somebody walking to and fro is one event, from their first sighting to their last."""
    stream = Stream()
    stream.show([[]] * 2)
    stream.show([[Body(0.5 + 0.3 * np.sin(step / 3))] for step in range(60)])
    stream.show([[]] * 6)
    assert [event.state for event in stream.events if event.state != "update"] == ["open", "close"]
    (close,) = stream.told("close")
    assert (close.start, close.end) == ("1970-01-01T00:00:01.000Z", "1970-01-01T00:00:30.500Z")
    assert close.score > 0.9 and close.id == stream.events[0].id == "e1-p0"


def test_hidden_for_a_second_is_one_event() -> None:
    """Who is behind something for two sightings is the same person after, and was there all the time."""
    stream = Stream()
    found = stream.show([[Body(0.5)]] * 4 + [[]] * 2 + [[Body(0.55)]] * 4)
    assert all("Person" in names(one) for one in found)
    assert len(stream.told("open")) == 1 and not stream.told("close")
    assert people_of(stream)[0].track == 1


def test_gone_and_back_is_two_events() -> None:
    """Who comes back after several seconds has a new number and a new event."""
    stream = Stream()
    found = stream.show([[Body(0.5)]] * 4 + [[]] * 8 + [[Body(0.5)]] * 4)
    stream.finish()
    assert len(stream.told("open")) == len(stream.told("close")) == 2
    assert found[-1].people is not None and people_of(stream)[0].track == 2
    assert "Person" not in names(found[9])


def test_two_who_cross_are_two_events() -> None:
    """Two people who pass each other are counted as two all the time and are two events."""
    stream = Stream()
    found = stream.show([[Body(0.2 + 0.06 * step), Body(0.8 - 0.06 * step)] for step in range(11)])
    assert {one.people.count for one in found if one.people} == {2}
    stream.finish()
    assert len(stream.told("open")) == len(stream.told("close")) == 2


def test_a_picture_that_stands_still_shows_who_it_showed() -> None:
    """Without a look for half a minute, somebody sitting there is still there; nobody is still nobody."""
    stream = Stream()
    stream.show([[Body(0.5, shape=SITTING)]] * 2)
    found = stream.still(60)
    assert names(found) == {"Person", "Sitting"} and found.people is not None and found.people.count == 1
    stream.show([[]] * 2)
    found = stream.still(3)
    assert found.labels == [] and found.people is not None and found.people.count == 0
    (close,) = stream.told("close")
    assert close.end == "1970-01-01T00:00:30.500Z"


def test_too_little_time_to_look_is_unknown_after_a_while() -> None:
    """For three seconds what was seen last stands; then nothing is known, until somebody looks again."""
    stream = Stream(PLACES)
    stream.show([[Body(0.6)]] * 2)
    assert "Person" in names(stream.blind(5))
    found = stream.blind(3)
    assert found.people is None and found.labels == []
    assert len(stream.told("close")) == 1 and not stream.told("open", "Leave@yard")
    assert stream.still().people is None
    stream.shows([Body(0.6)])
    assert people_of(stream)[0].track == 2
    assert not stream.told("open", "Enter@yard")


def test_a_stalled_stream_ends_its_people() -> None:
    """Windows without media say nothing of people, and two seconds of them end the events."""
    stream = Stream()
    stream.show([[Body(0.5)]] * 4)
    found = stream.stalled(8)
    assert all(one.people is None and one.labels == [] for one in found)
    assert [bool(one.events) for one in found].index(True) == 3
    assert len(stream.told("close")) == 1


def test_sightings_count_once_and_late_ones_not() -> None:
    """A window that brings what earlier ones brought changes nothing: one sighting makes nobody certain."""
    stream = Stream()
    stream.shows([Body(0.5, score=0.39)])
    for _ in range(3):
        assert stream.still().labels == []


def test_the_score_of_an_event_is_its_peak() -> None:
    """An event that becomes surer is updated, and closes with the highest score."""
    stream = Stream()
    stream.show([[Body(0.5, score=0.26)]] * 3 + [[Body(0.5, score=0.7)]] * 3 + [[Body(0.5, score=0.25)]] * 6)
    stream.finish()
    assert [event.state for event in stream.events] == ["open", "update", "close"]
    assert stream.events[0].score < 0.7 < stream.events[-1].score


def test_an_epoch_begins_anew() -> None:
    """The end of an epoch closes everything and forgets everybody."""
    stream = Stream(PLACES)
    stream.show([[]] + [[Body(0.6)]] * 8)
    stream.finish()
    opened, closed = ({e.id for e in stream.events if e.state == state} for state in ("open", "close"))
    assert opened == closed and len(opened) == 4
    assert stream.still().people is None and stream.watch.finish() == []


# -- places -----------------------------------------------------------------------------------------------------------


def test_a_visit_of_a_zone() -> None:
    """Who walks in, stays and walks out: labels while it lasts and for a second after a moment, and their events."""
    stream = Stream(PLACES)
    way = [0.1, 0.3, 0.5, 0.6, 0.6, 0.6, 0.6, 0.7, 0.9, 0.95, 0.95, 0.95]
    found = [names(one) for one in stream.show([[Body(x)] for x in way])]
    assert [("Person@yard" in one) for one in found] == [False] * 2 + [True] * 6 + [False] * 4
    assert [("Enter@yard" in one) for one in found] == [False] * 2 + [True] * 2 + [False] * 8
    assert [("Dwell@yard" in one) for one in found] == [False] * 6 + [True] * 2 + [False] * 4
    assert [("Leave@yard" in one) for one in found] == [False] * 8 + [True] * 2 + [False] * 2
    spans = {event.label: (event.start[17:21], event.end and event.end[17:21]) for event in stream.events if event.end}
    assert spans["Person@yard"] == ("01.0", "04.0")
    assert spans["Dwell@yard"] == ("03.0", "04.0")
    assert spans["Enter@yard"] == ("01.0", "01.0") and spans["Leave@yard"] == ("04.0", "04.0")


def test_people_name_the_zones_they_stand_in() -> None:
    """The list says who is in which zone."""
    stream = Stream(PLACES)
    stream.show([[Body(0.2), Body(0.6)]] * 2)
    assert sorted(tuple(person.zones) for person in people_of(stream)) == [(), ("yard",)]


def test_who_stood_there_from_the_start_did_not_come_in() -> None:
    """The first look finds people in a zone; who appears there later came in, and who is gone has left."""
    stream = Stream(PLACES)
    stream.show([[Body(0.6)]] * 4)
    assert not stream.told("open", "Enter@yard") and stream.told("open", "Person@yard")
    stream.show([[Body(0.6), Body(0.45)]] * 4 + [[Body(0.6)]] * 6)
    assert len(stream.told("open", "Enter@yard")) == len(stream.told("close", "Leave@yard")) == 1


def test_a_line_is_crossed_before_anybody_was_certain() -> None:
    """Who crosses between their first sighting and the one that makes them certain is told of."""
    stream = Stream(PLACES)
    stream.show([[], [Body(0.6, score=0.4)], [Body(0.4, score=0.4)], []])
    assert [event.state for event in stream.events if event.label == "Enter@door"] == ["open", "close"]
    assert "Enter@door" in {label.name for label in stream.findings[-1].labels}


def test_count_alone_tells_no_list() -> None:
    """With `count` there is a number, and no list, posture or fall; labels of places are still told."""
    stream = Stream(PeopleSettings("count", PLACES.zones, PLACES.lines), lambda: Judge(0.9))
    found = stream.show([[Body(0.6)]] * 4)[-1]
    assert found.people is not None and found.people.count == 1 and found.people.each is UNSET
    assert {"Person", "Person@yard"} <= names(found) and not names(found) & {"Standing", "Fall"}
    assert "Fall" not in {event.label for event in stream.events}


# -- postures and falls -----------------------------------------------------------------------------------------------


def test_postures_are_labels_and_no_events() -> None:
    """Who lies down is Lying after two sightings of it, and the only event is theirs."""
    stream = Stream()
    found = stream.show([[Body(0.5)]] * 3 + [[Body(0.5, shape=LYING)]] * 3)
    assert "Standing" in names(found[2]) and names(found[-1]) == {"Person", "Lying"}
    assert {event.label for event in stream.events} == {"Person"}


def test_no_judge_no_fall() -> None:
    """Without a judge nobody says Fall."""
    stream = Stream()
    found = stream.show([[Body(0.5)]] * 3 + [[Body(0.5, shape=LYING)]] * 6)
    assert all(label.name != "Fall" for one in found for label in one.labels)


def test_a_fall_is_an_event_of_its_person() -> None:
    """It opens at a half, closes under 0.3, and the judge sees each sighting of its person once, from the first on."""
    judges: list[Judge] = []

    def judge() -> Judge:
        judges.append(Judge(0.0, 0.1, 0.4, 0.8, 0.9, 0.4, 0.2))
        return judges[-1]

    stream = Stream(falls=judge)
    told = []
    for _ in range(7):
        stream.shows([Body(0.5, score=0.4)])
        told.append(score_of(stream, "Fall"))
    assert told == pytest.approx([0.0, 0.1, 0.4, 0.8, 0.9, 0.4, 0.2])
    assert [judge.asked for judge in judges] == [[step * STEP_NS for step in range(7)]]
    opened, update, closed = [event for event in stream.events if event.label == "Fall"]
    assert (opened.state, update.state, closed.state) == ("open", "update", "close")
    assert (closed.start[17:21], closed.end, closed.score) == ("01.5", "1970-01-01T00:00:03.000Z", 0.9)


def test_a_fall_closes_with_its_person() -> None:
    """Who fell and is not seen any more is no fall any more; each person has a judge of their own."""
    judges = [Judge(0.0), Judge(0.9)]
    stream = Stream(falls=judges.pop)
    stream.show([[Body(0.2, score=0.7), Body(0.7)]] * 3 + [[Body(0.7)]] * 6)
    assert len(stream.told("open", "Fall")) == len(stream.told("close", "Fall")) == 1
    assert score_of(stream, "Fall") == 0.0 and people_of(stream)[0].track == 2


# -- whatever comes ---------------------------------------------------------------------------------------------------


def test_names_are_all_that_can_be_told() -> None:
    """Whatever the configuration the body's labels, and of each zone and line what it gives."""
    assert label_names(PeopleSettings()) == ["Person", "Standing", "Sitting", "Lying", "Fall"]
    of_places = {"Person@yard", "Enter@yard", "Leave@yard", "Dwell@yard", "Enter@door", "Leave@door"}
    assert set(label_names(PLACES)) == {*label_names(PeopleSettings()), *of_places}


_bodies = st.builds(
    Body,
    st.sampled_from([0.05, 0.3, 0.38, 0.45, 0.6, 0.9]),
    y=st.sampled_from([0.6, 0.9]),
    score=st.sampled_from([0.1, 0.2, 0.35, 0.7]),
    shape=st.sampled_from([LYING, SITTING]),
)
_steps = st.lists(
    st.one_of(st.lists(_bodies, max_size=4), st.sampled_from(["still", "blind", "stalled", "finish"])), max_size=25
)


def played(steps: list[list[Body] | str], judge_says: float = 0.6) -> Stream:
    """A stream to which all this happened, and that ended."""
    stream = Stream(PLACES, lambda: Judge(0.0, judge_says, 0.1, judge_says))
    for step in steps:
        if isinstance(step, list):
            stream.shows(step)
        else:
            getattr(stream, step)()
    stream.finish()
    return stream


@settings(SETTINGS, max_examples=120)
@given(_steps)
def test_each_event_is_closed_once(steps: list[list[Body] | str]) -> None:
    """Whatever happens, each event opens once, closes once and last, ends after it began, and has an id of its own."""
    events: dict[str, list[Event]] = {}
    for event in played(steps).events:
        events.setdefault(event.id, []).append(event)
    for told in events.values():
        states = [event.state for event in told]
        assert states == ["open", *["update"] * (len(told) - 2), "close"]
        assert len({(event.label, event.start) for event in told}) == 1
        assert told[-1].end is not None and told[-1].end >= told[-1].start
        assert told[-1].score == max(event.score for event in told)


@settings(SETTINGS, max_examples=120)
@given(_steps)
def test_what_windows_say_agrees(steps: list[list[Body] | str]) -> None:
    """The count is the list's length and no more than the people of open events, but where somebody is there whom
    nobody can follow; labels are known names, once each, likelier than not nothing; a person's zone is among them."""
    stream = Stream(PLACES, lambda: Judge(0.0, 0.6))
    known = set(label_names(PLACES))
    open_people: Counter[str] = Counter()
    for step in steps:
        before = len(stream.events)
        if isinstance(step, list):
            stream.shows(step)
        else:
            getattr(stream, step)()
        for event in stream.events[before:]:
            open_people[event.label] += {"open": 1, "update": 0, "close": -1}[event.state]
        if not stream.findings or step in ("stalled", "finish"):
            continue
        found = stream.findings[-1]
        told = [label.name for label in found.labels]
        assert set(told) <= known and len(set(told)) == len(told)
        assert all(0.05 <= label.score <= 1 for label in found.labels)
        if found.people is None:
            assert told == []
            continue
        listed = people_of(stream)
        somebody = any(label.name == "Person" and label.score >= 0.5 for label in found.labels)
        assert found.people.count == len(listed) or (somebody and not listed)
        assert len(listed) <= open_people["Person"] and found.people.count >= somebody
        assert len({person.track for person in listed}) == len(listed)
        for person in listed:
            assert all(f"Person@{zone}" in told for zone in person.zones if person.score >= 0.05)
        assert ("Person@yard" in told) <= (open_people["Person@yard"] > 0)


@settings(SETTINGS, max_examples=60)
@given(_steps, st.randoms(use_true_random=False))
def test_the_order_of_people_means_nothing(steps: list[list[Body] | str], random: object) -> None:
    """The same events and the same words, however the people of each sighting are ordered."""
    shuffled = [list(step) if isinstance(step, list) else step for step in steps]
    for step in shuffled:
        if isinstance(step, list):
            random.shuffle(step)  # type: ignore[attr-defined]
    one, other = played(steps), played(shuffled)
    assert one.events == other.events and one.findings == other.findings

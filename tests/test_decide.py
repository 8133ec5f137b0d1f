"""Labels as the contract of a segment wants them, and events that open and close once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.decide import EventDetector, EventPolicy, labels_of
from streamer.messages import Event
from tests.builders import scores, window

NAMES = ["Dog", "Siren", "Rain"]


def run(values: list[float], policy: EventPolicy | None = None) -> list[Event]:
    """Events of the first label for one score a hop."""
    detector = EventDetector("door", NAMES, policy or EventPolicy())
    events: list[Event] = []
    for seq, value in enumerate(values):
        events += detector.update(window(seq=seq), np.array([value, 0.0, 0.0], np.float32))
    return events


def test_labels_fall_by_score_and_stop_at_a_twentieth() -> None:
    """Labels are in falling order, none under 0.05, with their shares."""
    labels = labels_of(NAMES, scores(0.3, 0.9, 0.049, share=(0.25, 0.75, 0.0)))
    assert [(x.name, x.score) for x in labels] == [("Siren", 0.9), ("Dog", 0.3)]
    assert labels[0].share.audio == 0.75


def test_at_most_twenty_labels() -> None:
    """A segment with everything in it names the twenty likeliest."""
    names = [f"l{i}" for i in range(50)]
    labels = labels_of(names, scores(*np.linspace(0.1, 0.99, 50).tolist()))
    assert len(labels) == 20 and labels[0].name == "l49" and labels[-1].name == "l30"


@given(st.lists(st.floats(0, 1), min_size=3, max_size=3).filter(lambda row: sum(row) > 0))
def test_shares_still_sum_to_one_after_rounding(row: list[float]) -> None:
    """However the shares fall, the published numbers sum to 1 and none is negative."""
    total = sum(row)
    share = labels_of(["Dog"], scores(0.9, share=(row[0] / total, row[1] / total, row[2] / total)))[0].share
    assert share.video + share.audio + share.text == pytest.approx(1.0, abs=1e-9)
    assert min(share.video, share.audio, share.text) >= 0


def test_one_high_score_is_no_event_and_a_lasting_one_is() -> None:
    """A single window above the threshold opens nothing; two do, from the first of them on."""
    assert run([0, 0, 0.95, 0, 0, 0]) == []
    opened = run([0, 0.95, 0.95, 0.95])
    assert [e.state for e in opened] == ["open"]
    assert opened[0].label == "Dog" and opened[0].end is None


def test_an_event_closes_where_its_score_fell() -> None:
    """The end of an event is when the score fell, not when that was certain; open and close carry one id."""
    events = run([0.9] * 4 + [0.0] * 8)
    assert [e.state for e in events] == ["open", "close"]
    assert events[0].id == events[1].id
    assert events[1].end is not None and events[0].start < events[1].end <= "1970-01-01T00:00:04.000Z"


def test_a_short_dip_does_not_split_an_event() -> None:
    """Two windows of silence in between leave it one event."""
    assert [e.state for e in run([0.9] * 4 + [0.0] * 2 + [0.9] * 4)].count("open") == 1


def test_a_trembling_score_opens_one_event() -> None:
    """A score that swings around the opening threshold opens one event, not many."""
    events = run([0.9, 0.9] + [0.55, 0.42] * 10)
    assert [e.state for e in events].count("open") == 1 and "close" not in [e.state for e in events]


def test_a_rising_score_is_an_update() -> None:
    """An open event tells when its score rises by a tenth, and keeps the highest."""
    events = run([0.6] * 3 + [0.95] * 6)
    assert next(e.state for e in events) == "open" and "update" in [e.state for e in events]
    assert events[-1].score > events[0].score


def test_the_end_of_an_epoch_closes_what_is_open() -> None:
    """Nothing stays open over a reconnect."""
    detector = EventDetector("door", NAMES, EventPolicy())
    for seq in range(4):
        detector.update(window(seq=seq), np.array([0.9, 0.0, 0.9], np.float32))
    assert sorted(e.label for e in detector.finish()) == ["Dog", "Rain"]
    assert detector.finish() == []


@given(st.lists(st.floats(0, 1), max_size=80))
def test_events_are_well_formed_whatever_the_scores(values: list[float]) -> None:
    """Every close has its open before it, a label is open at most once, and times do not run backwards."""
    open_id: str | None = None
    start = ""
    for event in run(values):
        if event.state == "open":
            assert open_id is None
            open_id, start = event.id, event.start
        else:
            assert event.id == open_id
            if event.state == "close":
                assert event.end is not None and event.end >= start
                open_id = None


def test_stalled_stream_closes_its_events() -> None:
    """When no media come any more, what was open closes after its time."""
    detector = EventDetector("door", NAMES, EventPolicy())
    for seq in range(4):
        detector.update(window(seq=seq), np.array([0.9, 0.0, 0.0], np.float32))
    closed = [e for seq in range(4, 14) for e in detector.nothing_there(window(seq=seq))]
    assert [e.state for e in closed] == ["close"]

"""When rules fire and when it is over: times, keys, cooldown, and what segments leave open."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from streamer.alerts.conditions.expression import ExpressionError
from streamer.alerts.records import alert_id
from streamer.alerts.rules.ruleset import RuleSet
from streamer.messages import Event, Segment
from tests.alerts.feeding import HOP_NS, LATE_NS, NOON_NS, Feeding, Message, S, rule, segment, told, turned

GLASS = {"Glass": 0.9}
QUIET = {"Speech": 0.4}


def run(*heard: bool, stream: str = "door", first: int = 0, epoch: str = "e1") -> list[Message]:
    """Segments one after another, each with glass in it or not."""
    return [segment(stream, first + index, GLASS if each else QUIET, epoch=epoch) for index, each in enumerate(heard)]


def test_it_fires_when_the_condition_holds_and_is_over_when_it_does_not() -> None:
    """One alert that fires and is over, both with the same id, at the ends of the segments where it was seen."""
    said = Feeding(rule()).feed_all(run(False, True, True, False, False))
    assert told(said) == [("firing", "door", 1.0), ("cleared", "door", 2.0)]
    fired, cleared = said
    assert fired.id == cleared.id == alert_id("glass", "door", fired.since_ns)
    assert fired.since_ns == fired.at_ns == cleared.since_ns
    assert (fired.epoch, fired.seq, cleared.seq) == ("e1", 1, 3)


def test_it_names_its_labels_first_then_the_likeliest() -> None:
    """The labels that the rule names come first where they are there, five in all, with the words that settled."""
    labels = {"A": 0.9, "B": 0.8, "C": 0.7, "D": 0.65, "E": 0.63, "Glass": 0.61, "F": 0.1}
    feeding = Feeding(rule("label('Glass') > 0.6 && label('Missing') < 0.5 && said('help')"))
    (fired,) = feeding.feed(segment("door", 0, labels, said=["help", "me"]))
    assert [label.name for label in fired.labels] == ["Glass", "A", "B", "C", "D"]
    assert fired.words == ("help", "me")


def test_for_asks_that_it_lasts() -> None:
    """With `for` of one second it fires when it has held for one second without a break."""
    said = Feeding(rule(for_ns=S)).feed_all(run(True, True, False, True, True, True, False))
    assert told(said) == [("firing", "door", 3.0), ("cleared", "door", 3.5)]
    assert said[0].since_ns == NOON_NS + 4 * HOP_NS


def test_clear_for_asks_that_the_end_lasts() -> None:
    """With `clear_for` a break shorter than that ends nothing."""
    said = Feeding(rule(clear_for_ns=S)).feed_all(run(True, False, False, True, False, False, False))
    assert told(said) == [("firing", "door", 0.5), ("cleared", "door", 3.5)]


def test_clear_when_alone_ends_it() -> None:
    """With `clear_when` what made it fire may come and go; the lower threshold ends it."""
    feeding = Feeding(rule(clear_when="label('Glass') < 0.2"))
    scores = [0.7, 0.5, 0.3, 0.65, 0.1, 0.1, 0.9]
    said = feeding.feed_all(segment("door", index, {"Glass": score}) for index, score in enumerate(scores))
    assert told(said) == [("firing", "door", 0.5), ("cleared", "door", 2.5), ("firing", "door", 3.5)]


def test_what_lasts_after_the_cooldown_fires_then() -> None:
    """During the cooldown nothing fires; what began in it and lasts fires at its end, what was over is not told."""
    feeding = Feeding(rule(cooldown_ns=2 * S))
    said = feeding.feed_all(run(True, False, True, False, True, True, True, True))
    # Over at 1.0, so quiet until 3.0: what came at 1.5 was over by then, what came at 2.5 was not.
    assert told(said) == [("firing", "door", 0.5), ("cleared", "door", 1.0), ("firing", "door", 3.0)]
    assert said[2].since_ns == NOON_NS + 5 * HOP_NS


def test_what_ends_it_is_watched_from_the_beginning() -> None:
    """A `clear_when` that asks about time has counted all along: what it asks for may be true as soon as it fires."""
    feeding = Feeding(rule("label('Dog') > 0.6", clear_when="absent('Glass', '10s')"))
    feeding.feed_all(run(*[False] * 30))
    said = feeding.feed(segment("door", 30, {"Dog": 0.9}), segment("door", 31, {"Dog": 0.9}))
    assert told(said) == [("firing", "door", 15.5), ("cleared", "door", 16.0)]


def test_what_is_about_to_end_does_not_fire_after_the_cooldown() -> None:
    """What went up during the cooldown and is not there at its end is not told, though `clear_for` has it wait."""
    feeding = Feeding(rule(cooldown_ns=S, clear_for_ns=2 * S))
    said = feeding.feed_all(run(True, *[False] * 5, True, *[False] * 6))
    # Over at 3.0; up again at 3.5, and at 4.0, the cooldown's end, no longer there.
    assert told(said) == [("firing", "door", 0.5), ("cleared", "door", 3.0)]


def test_a_shed_segment_is_neither_true_nor_false() -> None:
    """A rule on labels does not end by segments that nobody looked at, nor does their time count towards `for`."""
    feeding = Feeding(rule())
    shed = segment("door", 1, shed="overload")
    said = feeding.feed(segment("door", 0, GLASS), shed, segment("door", 2, GLASS), segment("door", 3))
    assert told(said) == [("firing", "door", 0.5), ("cleared", "door", 2.0)]
    slow = Feeding(rule(for_ns=S))
    lost = [segment("door", index, shed="overload") for index in range(1, 5)]
    assert slow.feed(segment("door", 0, GLASS), *lost, segment("door", 5, GLASS)) == []
    assert told(slow.feed(segment("door", 6, GLASS))) == [("firing", "door", 3.5)]


def test_time_in_which_nobody_looked_does_not_end_it() -> None:
    """`clear_for` counts the time that was looked at."""
    feeding = Feeding(rule(clear_for_ns=S))
    lost = [segment("door", index, shed="overload") for index in range(2, 6)]
    said = feeding.feed(*run(True, False), *lost, *run(False, False, first=6))
    assert told(said) == [("firing", "door", 0.5), ("cleared", "door", 4.0)]


def test_rules_on_status_see_shed_segments() -> None:
    """`status == 'shed'` holds in a shed segment, also beside a label."""
    both = rule("status == 'shed' || label('Dog') > 0.5", name="both")
    feeding = Feeding(rule("status == 'shed' && reason == 'overload'", name="shed", for_ns=S), both)
    said = feeding.feed_all(segment("door", index, shed="overload") for index in range(3))
    assert [(fired.rule, fired.seq) for fired in said] == [("both", 0), ("shed", 2)]


def test_streams_are_chosen_by_a_glob() -> None:
    """A rule is asked about streams like its glob alone."""
    feeding = Feeding(rule(stream="front-*"))
    said = feeding.feed(*(segment(name, 0, GLASS) for name in ("front-door", "back-door", "front-yard")))
    assert [fired.stream for fired in said] == ["front-door", "front-yard"]


def test_a_group_fires_once_while_any_of_it_holds() -> None:
    """With the group as the key one alert fires, names the first stream, and is over when the last one is over; a
    stream without a group stands for itself."""
    feeding = Feeding(rule(key="group"), groups={"a": "front", "b": "front"})
    said = feeding.feed(
        segment("a", 0, GLASS),
        segment("b", 0, GLASS),
        segment("c", 0, GLASS),
        segment("a", 1, QUIET),
        segment("b", 1, GLASS),
        segment("a", 2, GLASS),
        segment("b", 2, QUIET),
        segment("a", 3, QUIET),
    )
    assert [(fired.state, fired.key, fired.stream, fired.group) for fired in said] == [
        ("firing", "front", "a", "front"),
        ("firing", "c", "c", None),
        ("cleared", "front", "a", "front"),
    ]
    assert said[2].at_ns == NOON_NS + 4 * HOP_NS


def test_a_rule_as_the_key_fires_once_in_all() -> None:
    """With the rule as the key one alert stands for all streams; the end names no segment of another stream."""
    feeding = Feeding(rule(key="rule"))
    said = feeding.feed(segment("a", 0, GLASS), segment("b", 0, GLASS), segment("a", 1), segment("b", 1))
    assert told(said) == [("firing", "a", 0.5), ("cleared", "a", 1.0)]
    assert (said[1].epoch, said[1].seq) == (None, None)


def test_alerts_that_begin_at_the_same_time_have_ids_of_their_own() -> None:
    """A stream of the group that comes late, and began when an alert that is over did, is another alert."""
    feeding = Feeding(rule(key="rule"))
    said = feeding.feed(segment("a", 0, GLASS), segment("a", 1), segment("b", 0, GLASS), segment("b", 1))
    assert [fired.state for fired in said] == ["firing", "cleared", "firing", "cleared"]
    assert len({fired.id for fired in said}) == 2


def test_an_epoch_that_ends_ends_what_was_seen_in_it() -> None:
    """What fired for things seen is over when the stream reconnects, and fires anew when it is seen again."""
    feeding = Feeding(rule(), rule("state == 'reconnecting'", name="gone", for_ns=2 * S))
    lost_ns = NOON_NS + 2 * S
    said = feeding.feed(
        *run(True, True), turned("door", "reconnecting", lost_ns), turned("door", "live", lost_ns + S, epoch="e2")
    )
    assert [(fired.rule, fired.state) for fired in said] == [("glass", "firing"), ("glass", "cleared")]
    again = feeding.feed(segment("door", 0, GLASS, epoch="e2", end_ns=lost_ns + 2 * S))
    assert [(fired.rule, fired.state, fired.epoch) for fired in again] == [("glass", "firing", "e2")]


def test_a_jump_of_media_time_ends_what_was_seen() -> None:
    """A new epoch without a reconnect ends it as well, and time that was put back stops nothing."""
    feeding = Feeding(rule(cooldown_ns=60 * S))
    said = feeding.feed(*run(True, True), turned("door", "live", NOON_NS + 2 * S, epoch="e2"))
    assert told(said)[1][:2] == ("cleared", "door")
    earlier = [segment("door", seq, GLASS, epoch="e2", end_ns=NOON_NS - 7200 * S + seq * HOP_NS) for seq in range(2)]
    stored = [(NOON_NS + 3 * S + index, message) for index, (_, message) in enumerate(earlier)]
    assert [fired.state for fired in feeding.feed(*stored)] == ["firing"]


def test_what_began_to_hold_ends_with_its_epoch() -> None:
    """`for` counts within one epoch."""
    feeding = Feeding(rule(for_ns=S))
    said = feeding.feed(*run(True, True), turned("door", "live", NOON_NS + S, epoch="e2"))
    said += feeding.feed_all(
        segment("door", seq, GLASS, epoch="e2", end_ns=NOON_NS + 2 * S + seq * HOP_NS) for seq in range(3)
    )
    assert told(said) == [("firing", "door", 3.0)]


def test_time_that_was_put_back_is_waited_for_no_longer_than_asked() -> None:
    """Media time that goes back by an hour makes `for` and `clear_for` begin at the earlier time."""
    dark = rule("coverage.video < 0.5", name="dark", for_ns=2 * S)
    busy = rule("status == 'shed'", name="busy", clear_for_ns=2 * S)
    feeding = Feeding(dark, busy)
    first = [segment("door", 0, shed="overload"), segment("door", 1, coverage=0.1)]
    assert [fired.rule for fired in feeding.feed(*first)] == ["busy"]
    early = [
        segment("door", seq, coverage=0.1, epoch="e2", end_ns=NOON_NS - 3600 * S + seq * HOP_NS) for seq in range(6)
    ]
    said = feeding.feed_all((NOON_NS + 2 * S + index, message) for index, (_, message) in enumerate(early))
    assert [(fired.rule, fired.state, fired.seq) for fired in said] == [("dark", "firing", 4), ("busy", "cleared", 4)]


def test_time_alone_ends_it() -> None:
    """Where no segments come `clear_for` goes by the clock, to the nanosecond."""
    feeding = Feeding(rule("state == 'live'", name="there", clear_for_ns=4 * S + HOP_NS))
    lost_ns = NOON_NS + S
    said = feeding.feed(*run(False), turned("door", "reconnecting", lost_ns))
    said += feeding.pass_to(lost_ns + 20 * S)
    assert [fired.state for fired in said] == ["firing", "cleared"]
    # Media time is 200 ms behind the store's, as at the last segment.
    assert said[1].at_ns == lost_ns - LATE_NS + 4 * S + HOP_NS


def test_time_alone_makes_a_rule_on_the_state_fire() -> None:
    """While a stream reconnects no segment comes, and a rule with `for` fires by the clock, once; a segment ends it."""
    feeding = Feeding(rule("state == 'reconnecting'", name="gone", for_ns=30 * S))
    lost_ns = NOON_NS + 2 * S
    assert feeding.feed(*run(False, False), turned("door", "reconnecting", lost_ns)) == []
    assert feeding.pass_to(lost_ns + 29 * S) == []
    (fired,) = feeding.pass_to(lost_ns + 40 * S)
    assert (fired.rule, fired.at_ns - fired.since_ns, fired.seq) == ("gone", 30 * S, None)
    assert feeding.pass_to(lost_ns + 100 * S) == []
    back = feeding.feed(turned("door", "live", lost_ns + 101 * S, epoch="e2"))
    assert [(fired.rule, fired.state) for fired in back] == [("gone", "cleared")]


def test_a_stalled_stream_is_told_by_its_segments() -> None:
    """While a stream is stalled its segments are shed and count its time: `stalled for 2 s` fires by them."""
    feeding = Feeding(rule("state == 'stalled'", name="stalled", for_ns=2 * S))
    feeding.feed(*run(False, False), turned("door", "stalled", NOON_NS + S, epoch="e1"))
    shed = [segment("door", seq, shed="no_media", coverage=0.0) for seq in range(2, 9)]
    assert told(feeding.feed_all(shed)) == [("firing", "door", 3.5)]
    over = feeding.feed(turned("door", "live", NOON_NS + 5 * S, epoch="e1"), segment("door", 9))
    assert [fired.state for fired in over] == ["cleared"]


def test_an_absence_lasts_over_a_reconnect() -> None:
    """`absent` remembers over epochs: time in which nobody looked does not count, and does not begin it anew."""
    feeding = Feeding(rule("absent('Person', '3s')", name="nobody"))
    feeding.feed_all(run(False, False))
    back_ns = NOON_NS + 60 * S
    feeding.feed(turned("door", "reconnecting", NOON_NS + 2 * S), turned("door", "live", back_ns, epoch="e2"))
    said = feeding.feed_all(
        segment("door", seq, QUIET, epoch="e2", end_ns=back_ns + (seq + 1) * HOP_NS) for seq in range(6)
    )
    assert [fired.state for fired in said] == ["firing"]


def test_a_stream_that_ended_ends_all_that_fired_for_it() -> None:
    """Its end is told to rules once: what fired is over, a rule on that state fires and is over in one."""
    feeding = Feeding(rule(), rule("state == 'ended'", name="ended"), rule("state != 'live'", name="off", for_ns=S))
    said = feeding.feed(*run(True), turned("door", "ended", NOON_NS + S))
    assert [(fired.rule, fired.state) for fired in said] == [
        ("glass", "firing"),
        ("glass", "cleared"),
        ("ended", "firing"),
        ("ended", "cleared"),
    ]
    assert feeding.pass_to(NOON_NS + 60 * S) == []
    assert feeding.rules.firing == 0


def test_a_live_stream_of_which_nothing_comes_is_given_up() -> None:
    """Segments of a live stream come several times a second; after five minutes without, what fired is over."""
    feeding = Feeding(rule())
    feeding.feed_all(run(True))
    assert feeding.pass_to(NOON_NS + 299 * S) == []
    assert [fired.state for fired in feeding.pass_to(NOON_NS + 302 * S)] == ["cleared"]


def test_what_was_read_before_says_nothing_again() -> None:
    """Segments and epochs that a store gives twice are left out; events are no matter of rules."""
    feeding = Feeding(rule(), rule("state != 'live'", name="off"))
    first = [turned("door", "live", NOON_NS, epoch="e1"), *run(True, False)]
    second = [turned("door", "live", NOON_NS + 2 * S, epoch="e2"), *run(True, False, epoch="e2")]
    assert [fired.state for fired in feeding.feed(*first)] == ["firing", "cleared"]
    assert [fired.state for fired in feeding.feed(*second)] == ["firing", "cleared"]
    assert feeding.feed(*first, *second) == []
    event = Event(stream="door", id="1", label="Glass", state="open", start="", end=None, score=0.9)
    assert feeding.feed((NOON_NS + 4 * S, event)) == []


def test_a_condition_that_fails_changes_nothing_and_is_counted() -> None:
    """A division by zero on some segment is counted, and neither fires nor ends anything."""
    feeding = Feeding(rule("size(words) > 0 && words[1] == 'fire'", name="second"))
    said = feeding.feed(
        segment("door", 0, said=["a", "fire"]), segment("door", 1, said=["fire"]), segment("door", 2, said=["a", "b"])
    )
    assert told(said) == [("firing", "door", 0.5), ("cleared", "door", 1.5)]
    assert feeding.rules.failures == {"second": 1}


def test_a_segment_without_times_is_left_out() -> None:
    """What somebody else wrote into the feed, with no times in it, is counted and stops nothing."""
    feeding = Feeding(rule())
    stored_ns, message = segment("door", 0, GLASS)
    assert isinstance(message, Segment)
    broken = replace(message, end="soon")
    assert feeding.feed((stored_ns, broken), segment("door", 1, GLASS))[0].seq == 1
    assert feeding.rules.unreadable == 1


def test_a_condition_that_is_none_is_refused() -> None:
    """A rule whose condition can't be used is refused when the set is made."""
    with pytest.raises(ExpressionError, match="Glass"):
        RuleSet([rule("label('Glas') > 0.5")], {}, ["Glass", "Dog"])

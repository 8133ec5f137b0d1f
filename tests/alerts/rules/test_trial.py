"""Rules tried on the past: what would have fired, how often and for how long."""

from __future__ import annotations

import pytest

from streamer.alerts.conditions.expression import ExpressionError
from streamer.alerts.rules.trial import Trial
from tests.alerts.feeding import HOP_NS, NOON_NS, Message, S, rule, segment, turned

GLASS = {"Glass": 0.9}


def past(stream: str, *heard: bool) -> list[Message]:
    return [segment(stream, seq, GLASS if each else {}) for seq, each in enumerate(heard)]


def test_it_says_what_would_have_fired() -> None:
    """Each time with its beginning and end, counted and timed a rule and a stream."""
    glass, dog = rule(), rule("label('Dog') > 0.5", name="dog")
    trial = Trial([glass, dog], {})
    trial.feed(past("door", True, True, False, True, False))
    trial.feed(past("yard", False, True, False))
    found, none = trial.report()
    assert found.rule is glass
    assert [(one.fired.stream, one.fired.at_ns - NOON_NS) for one in found.episodes] == [
        ("door", HOP_NS),
        ("door", 4 * HOP_NS),
        ("yard", 2 * HOP_NS),
    ]
    assert all(one.cleared is not None and one.cleared.id == one.fired.id for one in found.episodes)
    assert found.times == 3
    assert found.firing_ns == 4 * HOP_NS
    assert found.streams == {"door": (2, 3 * HOP_NS), "yard": (1, HOP_NS)}
    assert (none.episodes, none.times, none.firing_ns, none.streams) == ((), 0, 0, {})


def test_what_still_fires_has_no_end_and_lasts_as_far_as_was_looked() -> None:
    """And asking does not change what comes after it."""
    trial = Trial([rule()], {})
    trial.feed(past("door", False, True, True, True))
    for _ in range(2):
        (found,) = trial.report()
        assert found.episodes[0].cleared is None
        assert found.firing_ns == 2 * HOP_NS
    trial.feed([segment("door", 4)])
    (found,) = trial.report()
    assert found.episodes[0].cleared is not None
    assert found.firing_ns == 3 * HOP_NS


def test_only_the_first_are_kept_and_all_are_counted() -> None:
    """With a bound on what is kept the rest is counted and timed."""
    trial = Trial([rule()], {}, most=2)
    trial.feed(past("door", *[True, False] * 5))
    (found,) = trial.report()
    assert [one.fired.seq for one in found.episodes] == [0, 2]
    assert (found.times, found.firing_ns) == (5, 5 * HOP_NS)


def test_time_goes_on_where_no_messages_come() -> None:
    """A rule on a stream that reconnects fires by the times at which other messages were stored."""
    trial = Trial([rule("state == 'reconnecting'", name="gone", for_ns=5 * S)], {})
    trial.feed([turned("door", "reconnecting", NOON_NS), segment("yard", 0, end_ns=NOON_NS + 20 * S)])
    (found,) = trial.report()
    (one,) = found.episodes
    assert (one.fired.since_ns, one.fired.at_ns) == (NOON_NS, NOON_NS + 5 * S)
    assert found.firing_ns == 15 * S


def test_groups_count_as_one() -> None:
    """With the group as the key what several streams saw together is one time, of the first."""
    trial = Trial([rule(key="group")], {"door": "front", "yard": "front"})
    trial.feed([segment("door", 0, GLASS), segment("yard", 0, GLASS), segment("door", 1), segment("yard", 1)])
    (found,) = trial.report()
    assert found.streams == {"door": (1, HOP_NS)}


def test_failures_are_counted_and_conditions_checked() -> None:
    """A condition that fails on a segment is counted a rule; one that is none is refused."""
    trial = Trial([rule("size(words) > 0 && words[1] == 'fire'", name="second")], {})
    trial.feed([segment("door", 0, said=["fire"])])
    assert trial.report()[0].failures == 1
    with pytest.raises(ExpressionError):
        Trial([rule("label('Glas') > 0.5")], {}, ["Glass"])

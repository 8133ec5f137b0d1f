"""Conditions over one segment, and over time."""

from __future__ import annotations

import json
from dataclasses import replace

import msgspec
import pytest

from streamer.alerts.conditions.expression import EvaluationError, Expression, Facts
from streamer.messages import CoverageBody, Label, LatencyBody, People, Segment, Share, Speech
from tests.alerts.segments import HOP_NS, NS, facts

NAMES = ["Dog", "Cat", "Glass", "Person"]


def once(source: str, seen: Facts) -> bool | None:
    expression = Expression.compile(source, NAMES)
    return expression.evaluate(seen, expression.begin())


@pytest.mark.parametrize(
    ("source", "holds"),
    [
        ("label('Dog') > 0.6", True),
        ('label("Dog")>0.6', True),
        ("label(r'Dog') > 0.6", True),
        ("label('''Dog''') > 0.6", True),
        ("label('\\x44og') > 0.6", True),
        ("label( // the dog\n 'Dog' ) > 0.6", True),
        ("label('Cat') == 0.0", True),
        ("label('Dog') > 1", False),
        ("label('Dog') * 2 > 1", True),
        ("1 - label('Dog') < 0.2", True),
        ("(people.count > 1 ? 1 : 0.5) > 0.9", True),
        ("people.count / 2.0 == 1.0 && people.count / 2 == 1", True),
        ("share('Dog', 'audio') == 0.75", True),
        ("share('Cat', 'audio') == 0.0", True),
        ("coverage.video == 1 && coverage.audio == 0.5 && has(coverage.text)", True),
        ("stream == 'door' && group == 'yard' && state == 'live' && status == 'ok' && reason == ''", True),
        ("stream in ['door', 'gate']", True),
        ("stream.startsWith('do') && stream.matches('^d.{2}r$') && !stream.contains('x')", True),
        ("{'door': 0.5, 'gate': 0.95}[stream] < label('Dog')", True),
        ("said('HELP me')", True),
        ("said('help please')", False),
        ("'help' in words || 'Help' in words", True),
        ("words.exists(w, w.startsWith('pl')) && words.exists_one(w, w == 'me!')", True),
        ("words.map(w, size(w)).all(n, n > 1)", True),
        ("words.filter(w, w == 'me!') == ['me!']", True),
        ("['Cat', 'Dog'].exists(name, label(name) > 0.9)", False),
        ("['Cat', 'Dog'].exists(name, label(name) > 0.8 && share(name, 'video') < 0.5)", True),
        ("label(stream) > 0.5", False),
        ("['help', 'fire'].exists(w, said(w))", True),
        ("words.exists(stream, stream == 'door')", False),
        ("\"label('Dog') > 0.6\" == stream", False),
        ("true // label('Nothing')", True),
        ("[] == words", False),
        ("string(people.count) == '2' && int(label('Dog') * 10) == 8 && size('猫') == 1", True),
    ],
)
def test_a_segment(source: str, holds: bool) -> None:
    """What a condition says of a segment with a dog, two people and four words."""
    seen = facts({"Dog": 0.875}, words=["Help", "me!", "please", "now"], people=2)
    assert once(source, seen) is holds


def test_of_a_segment() -> None:
    """Facts are what the segment says; where speech and people are off, there are no words and nobody."""
    body = CoverageBody(1.0, 0.9, 0.0)
    latency = LatencyBody(0.0, 0.0, 0.0, 0.0, 0.0)
    label = Label("Dog", 0.9, Share(1.0, 0.0, 0.0))
    speech = Speech("hi", "en", ["hi"], True, "", "")
    plain = Segment(
        stream="s", epoch="e", seq=0, start="", end="", status="ok", coverage=body, latency_ms=latency, bound_ms=1000
    )
    assert Facts.of(plain, None, "live", 1, 2) == Facts(
        "s", 2, state="live", status="ok", coverage=body, start_ns=1, looked=True
    )
    full = Segment(
        stream="s",
        epoch="e",
        seq=0,
        start="",
        end="",
        status="degraded",
        reason="overload",
        labels=[label],
        speech=speech,
        people=People(3),
        coverage=body,
        latency_ms=latency,
        bound_ms=1000,
    )
    seen = Facts.of(full, "g", "live", 1, 2)
    assert (seen.group, seen.reason, seen.people, list(seen.words), seen.labels) == (
        "g",
        "overload",
        3,
        ["hi"],
        {"Dog": label},
    )


@pytest.mark.parametrize(("status", "video"), [("shed", 1.0), ("degraded", 0.0)])
def test_what_nobody_looked_at(status: str, video: float) -> None:
    """A window that was shed, or of which nothing was there, was not looked at."""
    shed = Segment(
        stream="s",
        epoch="e",
        seq=0,
        start="",
        end="",
        status=status,  # type: ignore[arg-type]
        coverage=CoverageBody(video, 0.0, 0.0),
        latency_ms=LatencyBody(0.0, 0.0, 0.0, 0.0, 0.0),
        bound_ms=1000,
    )
    assert not Facts.of(shed, None, "live", 0, 2 * NS).looked


@pytest.mark.parametrize(
    ("source", "holds"),
    [
        ("label('Dog') > 0.5", None),
        ("label('Dog') < 0.5", None),
        ("people.count == 0", None),
        ("share('Dog', 'video') > 0.5", None),
        ("label(stream) > 0.5", None),
        ("status == 'shed' || label('Dog') > 0.5", True),
        ("label('Dog') > 0.5 || status == 'shed'", True),
        ("status == 'ok' && label('Dog') > 0.5", False),
        ("label(stream) > 0.5 && status == 'ok'", False),
        ("status == 'shed' && label('Dog') > 0.5", None),
        ("status == 'shed' ? true : label('Dog') > 0.5", True),
        ("label('Dog') > 0.5 ? true : true", None),
        ("!(label('Dog') > 0.5)", None),
        ("said('help')", True),
        ("absent('Dog', '1s')", False),
        ("then(label('Dog') > 0.5, said('help'), '1s')", False),
    ],
)
def test_nobody_looked(source: str, holds: bool | None) -> None:
    """In a segment that was shed a condition on labels or people is neither true nor false, unless the rest of it
    settles it; words stand in it all the same."""
    assert once(source, facts(words=["help"], looked=False)) is holds


@pytest.mark.parametrize(
    ("source", "holds"),
    [
        ("label('Person') > 0.5", None),
        ("label('Person@yard') < 0.5", None),
        ("share('Fall', 'video') > 0.5", None),
        ("people.count == 0", None),
        ("label('Dog') > 0.5", True),
        ("label('Dog') > 0.5 || label('Person') > 0.5", True),
    ],
)
def test_nobody_looked_for_people(source: str, holds: bool | None) -> None:
    """In a segment in which people were not looked for, for want of time, they and their labels are neither there nor
    not; what else is in it is known."""
    names = [*NAMES, "Person@yard", "Fall"]
    expression = Expression.compile(source, names)
    seen = replace(facts({"Dog": 0.9}), blind=True)
    assert expression.evaluate(seen, expression.begin()) is holds


def test_absence_of_people_waits_while_they_are_not_looked_for() -> None:
    """Time in which nobody looked for people counts neither as absence nor as presence."""
    expression = Expression.compile("absent('Person', '3s')", NAMES)
    memory = expression.begin()
    assert expression.evaluate(facts(at_ns=100 * NS), memory) is False
    assert expression.evaluate(replace(facts(at_ns=200 * NS), blind=True), memory) is False
    assert expression.evaluate(facts(at_ns=202 * NS), memory) is True


def test_a_segment_tells_that_people_were_left_out() -> None:
    """They were where it is degraded by them and says nothing of them; a count, even of none, is a look."""
    segment = Segment(
        stream="s",
        epoch="e",
        seq=0,
        start="",
        end="",
        status="degraded",
        degraded=["frames", "people"],
        coverage=CoverageBody(1.0, 1.0, 0.0),
        latency_ms=LatencyBody(0.0, 0.0, 0.0, 0.0, 0.0),
        bound_ms=1000,
    )
    assert Facts.of(segment, None, "live", 0, 2 * NS).blind
    assert not Facts.of(msgspec.structs.replace(segment, people=People(0)), None, "live", 0, 2 * NS).blind
    assert not Facts.of(msgspec.structs.replace(segment, degraded=["frames"]), None, "live", 0, 2 * NS).blind


def test_absence_is_counted_in_time_looked_at() -> None:
    """`absent` holds once windows without the label make up its duration: the first counts whole, each later one by
    what it adds; the label seen once more begins it anew."""
    expression = Expression.compile("absent('Person', '3s')", NAMES)
    memory = expression.begin()
    scores = [0.0, 0.1, 0.0, 0.0, 0.9, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    held = [
        expression.evaluate(facts({"Person": score}, at_ns=100 * NS + hop * HOP_NS), memory)
        for hop, score in enumerate(scores)
    ]
    # 2, 2.5, 3, 3.5 s; seen; then 0.5 s a hop, six of which make 3 s.
    assert held == [False, False, True, True, False, False, False, False, False, False, True]


def test_absence_waits_while_nobody_looks() -> None:
    """What was shed, and the time between two connections, count neither as absence nor as presence."""
    expression = Expression.compile("absent('Person', '3s')", NAMES)
    memory = expression.begin()
    assert expression.evaluate(facts(at_ns=100 * NS), memory) is False
    assert expression.evaluate(facts(at_ns=101 * NS, looked=False), memory) is False
    assert expression.evaluate(facts(at_ns=3600 * NS, looked=False), memory) is False
    assert memory.dump()[0] == 2 * NS
    # A window of two seconds after an hour of nothing: four seconds in all.
    assert expression.evaluate(facts(at_ns=3700 * NS), memory) is True
    assert expression.evaluate(facts(at_ns=3701 * NS, looked=False), memory) is True
    assert expression.evaluate(facts({"Person": 0.5}, at_ns=3702 * NS), memory) is False
    assert memory.dump() == [0, 3702 * NS]


def test_absence_by_another_score() -> None:
    """The third argument is the score from which on the label is there."""
    low, usual = (Expression.compile(f"absent('Person', '2s'{rest})", NAMES) for rest in (", 0.2", ""))
    seen = facts({"Person": 0.3})
    assert low.evaluate(seen, low.begin()) is False
    assert usual.evaluate(seen, usual.begin()) is True


def test_absence_where_time_begins_anew() -> None:
    """A timeline that goes back adds nothing for the time that it goes through a second time, once."""
    expression = Expression.compile("absent('Person', '1h')", NAMES)
    memory = expression.begin()
    expression.evaluate(facts(at_ns=1000 * NS), memory)
    expression.evaluate(facts(at_ns=10 * NS), memory)
    assert memory.dump() == [2 * NS, 10 * NS]
    expression.evaluate(facts(at_ns=10 * NS + HOP_NS), memory)
    assert memory.dump() == [2 * NS + HOP_NS, 10 * NS + HOP_NS]


def test_one_then_another() -> None:
    """`then` holds where the second holds now, and the first held earlier, and not too long ago."""
    expression = Expression.compile("then(label('Glass') > 0.5, said('help'), '2s')", NAMES)
    memory = expression.begin()

    def step(at_s: float, *, glass: bool, help: bool) -> bool | None:
        seen = facts({"Glass": 0.9 if glass else 0.1}, at_ns=int(at_s * NS), words=["help"] if help else [])
        return expression.evaluate(seen, memory)

    assert step(10, glass=True, help=True) is False  # at the same time is not earlier
    assert step(10.5, glass=False, help=False) is False
    assert step(12, glass=False, help=True) is True  # at most so long ago
    assert step(12.5, glass=False, help=True) is False  # too long ago
    assert step(13, glass=True, help=False) is False
    assert step(13, glass=True, help=True) is False  # the same segment's time, asked twice
    assert step(13.5, glass=True, help=True) is True
    assert step(5, glass=False, help=True) is False  # a timeline that begins anew
    assert step(14, glass=False, help=True) is False


def test_memories_move_on_whatever_decides() -> None:
    """What `then` and `absent` remember moves on at every message, also where the rest settles the condition."""
    expression = Expression.compile(
        "stream == 'gate' && (then(label('Glass') > 0.5, people.count > 0, '5s') || absent('Dog', '3s'))", NAMES
    )
    memory = expression.begin()
    assert expression.evaluate(facts({"Glass": 0.9}, at_ns=10 * NS), memory) is False
    assert expression.evaluate(facts({"Dog": 0.9}, at_ns=11 * NS, people=1, stream="gate"), memory) is True
    assert expression.evaluate(facts(at_ns=14 * NS, stream="door"), memory) is False
    assert expression.evaluate(facts(at_ns=15 * NS, stream="gate"), memory) is True


def test_then_inside_then() -> None:
    """Three things one after another."""
    expression = Expression.compile(
        "then(then(label('Dog') > 0.5, label('Cat') > 0.5, '5s'), label('Glass') > 0.5, '5s')", NAMES
    )
    memory = expression.begin()
    names = ["Cat", "Dog", "Glass", "Cat", "Glass"]
    held = [expression.evaluate(facts({name: 0.9}, at_ns=(10 + at) * NS), memory) for at, name in enumerate(names)]
    assert held == [False, False, False, False, True]
    assert expression.labels == ("Dog", "Cat", "Glass")


def test_memory_survives_as_json() -> None:
    """A memory dumped, written as JSON and loaded goes on as it was; one of another expression is refused."""
    expression = Expression.compile("then(label('Dog') > 0.5, absent('Dog', '1s'), '1m')", NAMES)
    memory = expression.begin()
    expression.evaluate(facts({"Dog": 0.9}, at_ns=10 * NS), memory)
    again = expression.load(json.loads(json.dumps(memory.dump())))
    later = facts(at_ns=12 * NS)
    assert expression.evaluate(later, again) is expression.evaluate(later, memory) is True
    assert expression.stateful and not Expression.compile("true", None).stateful
    assert Expression.compile("true", None).begin().dump() == []
    with pytest.raises(ValueError, match="another expression"):
        expression.load([1])


def test_streams_do_not_mix() -> None:
    """One expression serves many streams: what one of them showed is not taken for another's."""
    expression = Expression.compile("label('Dog') > 0.5 && stream == 'a' && said('help')", NAMES)
    first, second = expression.begin(), expression.begin()
    yes = facts({"Dog": 0.9}, stream="a", words=["help"])
    for _ in range(3):
        assert expression.evaluate(yes, first) is True
        assert expression.evaluate(facts({"Dog": 0.1}, stream="a", words=["help"]), second) is False
        assert expression.evaluate(facts({"Dog": 0.9}, stream="b", words=["help"]), second) is False
        assert expression.evaluate(facts({"Dog": 0.9}, stream="a"), second) is False


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("people.count > 0 && 10 / (people.count - 2) > 0", "division by zero"),
        ("size(words) > 0 && words[1] == 'a'", "out of bounds"),
        ("{'gate': true}[stream]", "the map has no 'door'"),
        ("people.count * 9223372036854775807 > 5", "overflow"),
    ],
)
def test_what_fails_on_a_segment(source: str, text: str) -> None:
    """What no check can foresee is an error of its own kind, not a wrong answer."""
    expression = Expression.compile(source, NAMES)
    with pytest.raises(EvaluationError, match=text):
        expression.evaluate(facts(people=2, words=["help"]), expression.begin())


def test_a_part_that_fails_leaves_the_others_right() -> None:
    """Where one part fails, what others remember moves on, and what doesn't hang on the failure is still said."""
    expression = Expression.compile(
        "then(label('Dog') > 0.5, {'gate': true}[stream], '1m') || absent('Cat', '3s')", NAMES
    )
    memory = expression.begin()
    with pytest.raises(EvaluationError, match="door"):
        expression.evaluate(facts(at_ns=10 * NS), memory)
    assert expression.evaluate(facts(at_ns=11 * NS), memory) is True

"""Conditions held against an obvious model of what they mean, and against the engine on the text as it was written."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cel
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.alerts.conditions.expression import Expression, ExpressionError, Facts
from tests.alerts.segments import HOP_NS, NS, WINDOW_NS, facts

NAMES = ["Dog", "Cat", "Glass, broken"]
Model = Callable[[Facts], bool | None]

labels = st.sampled_from(NAMES)
scores = st.sampled_from([0.0, 0.05, 0.2, 0.5, 0.75, 1.0])
words = st.lists(st.sampled_from(["help", "Me", "fire!", "小心", "狗"]), max_size=4)
segments = st.builds(
    facts,
    st.dictionaries(labels, scores),
    words=words,
    people=st.integers(0, 3),
    looked=st.booleans(),
    stream=st.sampled_from(["door", "gate", "Dog"]),
)


@dataclass(frozen=True)
class Both:
    """A condition, and what it means."""

    source: str
    means: Model


COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
}


def found(seen: Facts, name: str) -> float:
    return seen.labels[name].score if name in seen.labels else 0.0


def of_label(name: str, sign: str, least: float, quote: str) -> Both:
    return Both(
        f"label({quote}{name}{quote}) {sign} {least!r}",
        lambda seen: COMPARE[sign](found(seen, name), least) if seen.looked else None,
    )


def of_sum(first: str, second: str, sign: str, least: float) -> Both:
    return Both(
        f"label('{first}') + label('{second}') * 2.0 {sign} {least!r}",
        lambda seen: COMPARE[sign](found(seen, first) + found(seen, second) * 2, least) if seen.looked else None,
    )


def of_share(name: str, modality: str, sign: str, least: float) -> Both:
    def means(seen: Facts) -> bool | None:
        part = {"video": 0.25, "audio": 0.75, "text": 0.0}[modality] if name in seen.labels else 0.0
        return COMPARE[sign](part, least) if seen.looked else None

    return Both(f"share('{name}', '{modality}') {sign} {least!r}", means)


signs = st.sampled_from(list(COMPARE))
atoms = st.one_of(
    st.builds(of_label, labels, signs, scores, st.sampled_from(["'", '"', "'''"])),
    st.builds(of_sum, labels, labels, signs, scores),
    st.builds(of_share, labels, st.sampled_from(["video", "audio", "text"]), signs, scores),
    st.builds(
        lambda sign, count: Both(
            f"people.count {sign} {count}", lambda seen: COMPARE[sign](seen.people, count) if seen.looked else None
        ),
        signs,
        st.integers(0, 3),
    ),
    st.builds(
        lambda word: Both(f"words.exists(w, w == '{word}')", lambda seen: word in seen.words),
        st.sampled_from(["help", "Me", "狗", "no"]),
    ),
    st.sampled_from(
        [
            Both("stream in ['door', 'shed']", lambda seen: seen.stream == "door"),
            Both("status == 'shed'", lambda seen: not seen.looked),
            Both("coverage.video > coverage.audio", lambda seen: True),
            Both("size(words) % 2 == 1", lambda seen: len(seen.words) % 2 == 1),
            Both("\"label('Dog') > 0.5\" == stream", lambda seen: False),
            Both("label(stream) > 0.4", lambda seen: found(seen, seen.stream) > 0.4 if seen.looked else None),
            Both("true", lambda seen: True),
        ]
    ),
)


def negated(one: Both) -> Both:
    def means(seen: Facts) -> bool | None:
        held = one.means(seen)
        return None if held is None else not held

    return Both(f"!({one.source})", means)


def every(parts: Sequence[Both]) -> Both:
    def means(seen: Facts) -> bool | None:
        held = [part.means(seen) for part in parts]
        return False if False in held else None if None in held else True

    return Both(" && ".join(f"({part.source})" for part in parts), means)


def some(parts: Sequence[Both]) -> Both:
    def means(seen: Facts) -> bool | None:
        held = [part.means(seen) for part in parts]
        return True if True in held else None if None in held else False

    return Both(" || ".join(f"({part.source})" for part in parts), means)


def chosen(condition: Both, yes: Both, no: Both) -> Both:
    def means(seen: Facts) -> bool | None:
        held = condition.means(seen)
        return None if held is None else yes.means(seen) if held else no.means(seen)

    return Both(f"({condition.source}) ? ({yes.source}) : ({no.source})", means)


conditions = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.builds(negated, inner),
        st.builds(every, st.lists(inner, min_size=2, max_size=3)),
        st.builds(some, st.lists(inner, min_size=2, max_size=3)),
        st.builds(chosen, inner, inner, inner),
    ),
    max_leaves=8,
)


def as_written(source: str, seen: Facts) -> object:
    """What the engine says of the text itself, with functions of ours that it calls."""
    variables = {
        "stream": seen.stream,
        "status": seen.status,
        "words": list(seen.words),
        "people": {"count": seen.people},
        "coverage": {"video": seen.coverage.video, "audio": seen.coverage.audio},
    }
    shares = {name: {"video": label.share.video, "audio": label.share.audio} for name, label in seen.labels.items()}
    functions = {
        "label": lambda name: found(seen, name),
        "share": lambda name, modality: shares.get(name, {}).get(modality, 0.0),
    }
    return cel.compile(source).execute(cel.Context(variables, functions))


@given(conditions, st.lists(segments, min_size=1, max_size=6))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_conditions_mean_what_they_say(both: Both, seen: list[Facts]) -> None:
    """A condition compiles, never fails, and says of each segment what the model says, in three values; where somebody
    looked, that is what the engine says of the text as it was written."""
    expression = Expression.compile(both.source, NAMES)
    memory = expression.begin()
    for one in seen:
        held = expression.evaluate(one, memory)
        assert held is both.means(one), one
        if one.looked:
            assert held is as_written(both.source, one)


@dataclass(frozen=True)
class Step:
    """Segment after segment: how long after the one before, and what is in it."""

    after_ns: int
    seen: Facts


steps = st.lists(
    st.builds(Step, st.sampled_from([0, HOP_NS, HOP_NS, HOP_NS, 7 * NS]), segments), min_size=1, max_size=25
)


def timed(taken: list[Step]) -> list[Facts]:
    """The segments of one stream, in order."""
    at_ns, ordered = 100 * NS, []
    for step in taken:
        at_ns += step.after_ns
        seen = step.seen
        ordered.append(
            Facts(
                seen.stream,
                at_ns,
                status=seen.status,
                coverage=seen.coverage,
                words=seen.words,
                people=seen.people,
                labels=seen.labels,
                start_ns=at_ns - WINDOW_NS,
                looked=seen.looked,
            )
        )
    return ordered


def absent_model(seen: list[Facts], name: str, least: float, duration_ns: int) -> list[bool]:
    """For every segment: half seconds that some window without the label has, after the last window with it."""
    held = []
    for now in range(len(seen)):
        past = [one for one in seen[: now + 1] if one.looked]
        there = [at for at, one in enumerate(past) if found(one, name) >= least]
        since_ns = past[there[-1]].at_ns if there else 0
        covered = {
            begin
            for one in past[there[-1] + 1 if there else 0 :]
            for begin in range(max(one.start_ns, since_ns), one.at_ns, HOP_NS)
        }
        held.append(len(covered) * HOP_NS >= duration_ns)
    return held


@given(steps, labels, st.sampled_from([0.2, 0.5]), st.sampled_from([1, 3, 5, 12]))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_absent_counts_windows(taken: list[Step], name: str, least: float, halves: int) -> None:
    """`absent` holds where the windows without the label, laid over one another, make up its duration."""
    seen = timed(taken)
    expression = Expression.compile(f"absent('{name}', '{halves * 500}ms', {least})", NAMES)
    memory = expression.begin()
    held = [expression.evaluate(one, memory) for one in seen]
    assert held == absent_model(seen, name, least, halves * HOP_NS)


@given(steps, conditions, conditions, st.sampled_from([1, 2, 8, 20]))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_then_looks_back(taken: list[Step], first: Both, second: Both, halves: int) -> None:
    """`then` holds where the second holds, and the first held in an earlier segment no longer ago than that."""
    seen = timed(taken)
    expression = Expression.compile(f"then({first.source}, {second.source}, '{halves * 500}ms')", NAMES)
    memory = expression.begin()
    for now, one in enumerate(seen):
        before = any(first.means(past) is True and 0 < one.at_ns - past.at_ns <= halves * HOP_NS for past in seen[:now])
        assert expression.evaluate(one, memory) is (second.means(one) if before else False)


@given(steps, conditions, st.data())
@settings(max_examples=80, deadline=None, derandomize=True)
def test_a_memory_can_be_cut_anywhere(taken: list[Step], one: Both, data: st.DataObject) -> None:
    """What is dumped as JSON and loaded between any two segments goes on as if it had never been away."""
    seen = timed(taken)
    source = f"then({one.source}, !absent('Dog', '2s'), '4s') || absent('Cat', '3s') && ({one.source})"
    expression = Expression.compile(source, NAMES)
    whole, cut = expression.begin(), expression.begin()
    at = data.draw(st.integers(0, len(seen)))
    for index, segment in enumerate(seen):
        if index == at:
            cut = expression.load(json.loads(json.dumps(cut.dump())))
        assert expression.evaluate(segment, cut) is expression.evaluate(segment, whole)
    assert cut.dump() == whole.dump()


PIECES = r"""
    label share said absent then words stream people coverage .count .video status ( ) ( ) [ ] { } , . : ? ! - + * / %
    && || == != < > in 'Dog' "Dog" '10s' 'video' 0.5 1 2 .5 1e3 0x1F 1u true false null // exists all map size w r'\d'
    '''x''' has( and = & ' " \ 你 （ label('Dog') people.count words.exists(w, double( duration( '\\d' "a'b" 'a\'b'
"""
pieces = st.sampled_from(PIECES.split())
soups = st.lists(pieces, max_size=14).map(" ".join) | st.lists(pieces, max_size=9).map("".join) | st.text(max_size=20)


@given(soups)
@settings(max_examples=500, deadline=None, derandomize=True)
def test_any_text_is_taken_or_told(source: str) -> None:
    """Any text compiles, or is refused with a place inside it; what compiles is CEL to the engine's own parser, and
    runs."""
    try:
        expression = Expression.compile(source, NAMES)
    except ExpressionError as error:
        assert 0 <= error.offset <= len(source)
        assert str(error)
        return
    cel.compile(source)
    assert expression.evaluate(facts(looked=False), expression.begin()) in (True, False, None)

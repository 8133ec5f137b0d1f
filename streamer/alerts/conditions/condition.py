"""A condition's tree to programs: names and kinds are checked, and what it asks of a segment is taken out of it.

`label('Dog')` becomes a variable that is filled before the program runs, so that no program calls into Python for it;
`absent` and `then` become variables too, whose parts are programs of their own: what they remember has to move on at
every message, whatever the rest of the condition makes of them. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import get_args

from streamer.alerts.conditions import cel_tree as tree
from streamer.alerts.conditions.cel_checked import FUNCTIONS, Checked, listed, nearest
from streamer.alerts.conditions.cel_kinds import NUMBER, TEXT, TRUTH, WHOLE, Kind, Typed, list_of
from streamer.alerts.conditions.cel_text import ExpressionError
from streamer.alerts.conditions.facts import Facts
from streamer.configvalue import parse_duration_ns
from streamer.media import MODALITIES
from streamer.messages import Status, StreamState
from streamer.peopleconfig import is_of_people
from streamer.spoken import heard

Value = bool | int | float | str | list[str]
Read = Callable[[Facts, list[bool | None]], Value | None]
"""What a variable holds, from facts and from what `absent` and `then` gave; None: nobody looked."""

_TEXTS: dict[str, Callable[[Facts], str]] = {
    "stream": lambda facts: facts.stream,
    "group": lambda facts: facts.group,
    "state": lambda facts: facts.state,
    "status": lambda facts: facts.status,
    "reason": lambda facts: facts.reason,
}
_VALUES = {"state": get_args(StreamState), "status": get_args(Status)}
_FIELDS = {"coverage": MODALITIES, "people": ("count",)}
_VARIABLES = (*_TEXTS, *_FIELDS, "words")
_OURS = {"label": "label('Dog')", "share": "share('Dog', 'audio')", "said": "said('help')"}
_REMEMBERED = {"absent": "absent('Person', '10m')", "then": "then(label('Dog') > 0.5, said('help'), '30s')"}
_SHOWN = {**_OURS, **_REMEMBERED, **FUNCTIONS}
THERE = 0.5


@dataclass(frozen=True, slots=True)
class Part:
    """CEL that is true or false, with the variables that it reads. asks: it calls our functions while it runs."""

    source: str
    inputs: tuple[tuple[str, Read], ...]
    asks: bool


@dataclass(frozen=True, slots=True)
class Absent:
    """`absent(name, duration, score)`"""

    name: str
    duration_ns: int
    score: float


@dataclass(frozen=True, slots=True)
class Then:
    """`then(first, second, duration)`"""

    first: Part
    second: Part
    duration_ns: int


@dataclass(slots=True)
class Condition:
    """A whole condition: its program, what has to be remembered for it (those inside others first), and the labels that
    it names, in the order of its text."""

    main: Part
    remembered: list[Absent | Then]
    labels: list[str]


def translate(source: str, labels: Collection[str] | None) -> Condition:
    """The condition that `source` is; `labels`: the names that there are, None: any.

    Raises:
        ExpressionError: it is none.
    """
    node = tree.parse(source)
    shared = _Shared(labels)
    main = _Part(shared).part(node, "a condition")
    return Condition(main, shared.remembered, shared.named)


@dataclass(slots=True)
class _Shared:
    """What all parts of one condition share."""

    labels: Collection[str] | None
    remembered: list[Absent | Then] = field(default_factory=list)
    named: list[str] = field(default_factory=list)


class _Part(Checked):
    """Turns one tree into one program.

    outside: names of loops around it that it can't see.
    """

    shown = _SHOWN

    def __init__(self, shared: _Shared, outside: Iterable[str] = ()) -> None:
        super().__init__()
        self._shared = shared
        self._outside = frozenset(outside)
        self._inputs: dict[tuple[str, ...], tuple[str, Read]] = {}
        self._asks = False

    def part(self, node: tree.Node, what: str) -> Part:
        """The program of `node`, which has to be true or false."""
        value = self.value(node)
        if value.kind != TRUTH:
            hint = ": compare it, as in label('Dog') > 0.5" if value.kind.is_number else ""
            raise ExpressionError(f"{what} is true or false, but this is {value.kind}{hint}", node.offset)
        return Part(value.source, tuple(self._inputs.values()), self._asks)

    def variable(self, node: tree.Name) -> Typed:
        if node.name in self._outside:
            raise ExpressionError(f"then() can't see {node.name} of the loop around it", node.offset)
        if node.name in _TEXTS:
            read = _TEXTS[node.name]
            return self._input((node.name,), lambda facts, held: read(facts), TEXT)
        if node.name == "words":
            return self._input(("words",), lambda facts, held: list(facts.words), list_of(TEXT))
        if node.name in _FIELDS:
            fields = " or ".join(f"{node.name}.{name}" for name in _FIELDS[node.name])
            raise ExpressionError(f"{node.name} has no value of its own: write {fields}", node.offset)
        if node.name in _SHOWN:
            raise ExpressionError(f"{node.name} is a function: write {_SHOWN[node.name]}", node.offset)
        near = nearest(node.name, [*_VARIABLES, *self.scope])
        raise ExpressionError(f"no variable {node.name}: {near or listed(_VARIABLES)}", node.offset)

    def fact(self, node: tree.Field) -> Typed | None:
        if not isinstance(node.of, tree.Name) or node.of.name not in _FIELDS:
            return None
        if node.of.name in self.scope or node.of.name in self._outside:
            return None
        of, name = node.of.name, node.name
        if name not in _FIELDS[of]:
            near = nearest(name, _FIELDS[of]) or listed(_FIELDS[of])
            raise ExpressionError(f"{of} has no field {name}: {near}", node.offset)
        if of == "people":
            return self._input((of,), _people, WHOLE)
        return self._input((of, name), lambda facts, held: float(getattr(facts.coverage, name)), NUMBER)

    def _input(self, key: tuple[str, ...], read: Read, kind: Kind) -> Typed:
        """A variable of the program that `read` fills; the same for the same `key`."""
        name, _ = self._inputs.setdefault(key, (f"s{len(self._inputs)}", read))
        return Typed(name, kind)

    def check_equal(self, node: tree.Binary) -> None:
        """What status and state are compared with has to be among what they can be."""
        for name, other in (node.parts, node.parts[::-1]):
            known = _VALUES.get(name.name) if isinstance(name, tree.Name) and name.name not in self.scope else None
            for value in other.items if isinstance(other, tree.ListOf) else (other,):
                if known is None or not isinstance(value, tree.Literal) or not isinstance(value.value, str):
                    continue
                if value.value and value.value not in known:
                    assert isinstance(name, tree.Name)
                    near = nearest(value.value, known) or listed(known)
                    raise ExpressionError(f"{name.name} is never {value.source}: {near}", value.offset)

    def function(self, node: tree.Call) -> Typed:
        if node.name in _OURS:
            return self._ours(node)
        if node.name in _REMEMBERED:
            return self._remembered(node)
        if node.name == "duration":
            raise ExpressionError("duration() stands in absent() and then() alone", node.offset)
        raise ExpressionError(f"no function {node.name}(): {nearest(node.name, _SHOWN) or listed(_SHOWN)}", node.offset)

    def _ours(self, node: tree.Call) -> Typed:
        wanted = 2 if node.name == "share" else 1
        if len(node.arguments) != wanted:
            raise ExpressionError(f"{node.name}() is written {_OURS[node.name]}", node.offset)
        modality = self._modality(node.arguments[1]) if node.name == "share" else ""
        first = node.arguments[0]
        if isinstance(first, tree.Literal) and isinstance(first.value, str):
            return self._asked_before(node.name, first, modality)
        value = self.value(first)
        if value.kind != TEXT:
            raise ExpressionError(f"{node.name}() takes text, not {value.kind}: {_OURS[node.name]}", first.offset)
        self._asks = True
        rest = f", '{modality}'" if modality else ""
        return Typed(f"{node.name}({value.source}{rest})", TRUTH if node.name == "said" else NUMBER)

    def _asked_before(self, function: str, node: tree.Literal, modality: str) -> Typed:
        """What is asked of every segment alike, as a variable."""
        text = str(node.value)
        if function == "said":
            pattern = heard(text)
            if pattern is None:
                raise ExpressionError("said() takes a word or several", node.offset)
            return self._input(("said", text), lambda facts, held: pattern.search(facts.spoken()) is not None, TRUTH)
        self._label(node)
        if function == "share":
            return self._input(("share", text, modality), lambda facts, held: share(facts, text, modality), NUMBER)
        return self._input(("label", text), _score_of(text), NUMBER)

    def _label(self, node: tree.Node) -> str:
        """The name of a label, checked and noted."""
        if not isinstance(node, tree.Literal) or not isinstance(node.value, str):
            raise ExpressionError("the label is written in quotes here", node.offset)
        labels = self._shared.labels
        if labels is not None and node.value not in labels:
            near = nearest(node.value, labels) or "GET /v1/labels has their names"
            raise ExpressionError(f"no label {node.source}: {near}", node.offset)
        if node.value not in self._shared.named:
            self._shared.named.append(node.value)
        return node.value

    def _modality(self, node: tree.Node) -> str:
        if isinstance(node, tree.Literal) and node.value in MODALITIES:
            return str(node.value)
        near = nearest(str(node.value), MODALITIES) if isinstance(node, tree.Literal) else ""
        raise ExpressionError(f"share() takes a modality in quotes: {near or listed(MODALITIES)}", node.offset)

    def _remembered(self, node: tree.Call) -> Typed:
        counts = (2, 3) if node.name == "absent" else (3,)
        if len(node.arguments) not in counts:
            raise ExpressionError(f"{node.name}() is written {_REMEMBERED[node.name]}", node.offset)
        remembered = self._absent(node) if node.name == "absent" else self._then(node)
        memory = self._shared.remembered
        memory.append(remembered)
        at = len(memory) - 1
        return self._input((node.name, str(at)), lambda facts, held: held[at], TRUTH)

    def _absent(self, node: tree.Call) -> Absent:
        name = self._label(node.arguments[0])
        least = node.arguments[2] if len(node.arguments) == 3 else None
        if least is None:
            return Absent(name, _duration_ns(node.arguments[1]), THERE)
        given = least.value if isinstance(least, tree.Literal) else None
        if isinstance(given, str | bool | None) or not 0 < given <= 1:
            raise ExpressionError("the score from which a label is there is a number above 0, up to 1", least.offset)
        return Absent(name, _duration_ns(node.arguments[1]), float(given))

    def _then(self, node: tree.Call) -> Then:
        outside = {*self._outside, *self.scope}
        first, second = (
            _Part(self._shared, outside).part(argument, "each of the two of then()") for argument in node.arguments[:2]
        )
        return Then(first, second, _duration_ns(node.arguments[2]))


def _people(facts: Facts, held: list[bool | None]) -> Value | None:
    """How many there are; None where nobody looked for them."""
    return facts.people if facts.looked and not facts.blind else None


def score(facts: Facts, name: str) -> float | None:
    """The score of a label, 0.0 where it is not among the segment's; None where nobody looked."""
    if not facts.knows(name):
        return None
    label = facts.labels.get(name)
    return label.score if label is not None else 0.0


def _score_of(name: str) -> Read:
    """`score` of one label, in one call: nothing else is asked as often."""

    of_people = is_of_people(name)

    def read(facts: Facts, held: list[bool | None]) -> Value | None:
        if not facts.looked or (of_people and facts.blind):
            return None
        label = facts.labels.get(name)
        return label.score if label is not None else 0.0

    return read


def share(facts: Facts, name: str, modality: str) -> float | None:
    """What part of a label rests on one modality, 0.0 where it is not among the segment's; None where nobody looked."""
    if not facts.knows(name):
        return None
    label = facts.labels.get(name)
    return float(getattr(label.share, modality)) if label is not None else 0.0


def _duration_ns(node: tree.Node) -> int:
    if isinstance(node, tree.Call) and node.of is None and node.name == "duration" and len(node.arguments) == 1:
        node = node.arguments[0]
    if not isinstance(node, tree.Literal) or not isinstance(node.value, str):
        raise ExpressionError("a duration is written in quotes: '30s', '10m' or '1h30m'", node.offset)
    try:
        duration_ns = parse_duration_ns(node.value)
    except ValueError:
        raise ExpressionError(
            f"{node.source} is no duration: write it like '30s', '10m' or '1h30m'", node.offset
        ) from None
    if duration_ns == 0:
        raise ExpressionError("this duration is zero", node.offset)
    return duration_ns

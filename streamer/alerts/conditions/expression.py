"""The conditions of rules: CEL over one segment, with a memory where it asks about time. Pure.

Variables: `stream`, `group`, `state`, `status`, `reason` (texts, "" where there is none), `coverage.video`, `.audio`
and `.text`, `words` (a list of texts), `people.count` (0 where nobody counts them).

Functions. `label(name)`: its score, 0.0 if absent. `share(name, modality)`: what part of it rests on that modality.
`said(words)`: they stand in a row among those that settled, each of them whole, in whatever case. `absent(name,
duration)`: the label has not been there (a score of 0.5, or of the third argument, or above) in as much time as
`duration`, looked at without seeing it; time in which nobody looked counts neither way. `then(a, b, duration)`: b holds
in this segment, and a held in an earlier one of the stream, at most `duration` ago; windows overlap, so what happens at
one moment stands in several of them.

What holds is one of three: yes, no, or None, where it hangs on what nobody looked at (a window that was shed).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Self

import cel

from streamer.alerts.conditions.cel_text import ExpressionError
from streamer.alerts.conditions.condition import Absent, Condition, Part, Then, Value, score, share, translate
from streamer.alerts.conditions.facts import Facts
from streamer.errors import StreamerError
from streamer.messages import CoverageBody
from streamer.spoken import heard

__all__ = ["EvaluationError", "Expression", "ExpressionError", "Facts", "Memory"]

# No media time is before 1970.
_NEVER = -1
# What engine and variables can raise on values of the right kinds: an index past the end, a division by zero...
_FAILURES = (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError)


class EvaluationError(StreamerError):
    """A condition failed on one segment (an index past the end, a division by zero); it is neither true nor false
    there."""


@dataclass(slots=True, eq=False)
class Memory:
    """What one expression remembers of one stream (of one pair: never shared). `times`: all that a restart must keep,
    integers as `dump` gives them, two for each `absent` and `then`."""

    times: list[int]
    # What each program read the last time, and what came of it: the same gives the same, so it need not run.
    _read: list[list[Value | None] | None] = field(default_factory=list)
    _came: list[bool | None] = field(default_factory=list)

    def dump(self) -> list[int]:
        """What `Expression.load` takes; JSON-able; empty for an expression that asks nothing about time."""
        return list(self.times)


class Expression:
    """One condition, compiled once for all streams; for one thread.

    source: as it was written. labels: those that it names, in the order of its text. stateful: it asks about time
    (`absent`, `then`), so its memory has something to keep.
    """

    def __init__(self, source: str, condition: Condition) -> None:
        self.source = source
        self.labels = tuple(condition.labels)
        self.stateful = bool(condition.remembered)
        self._programs = 0
        self._remembered = [self._remember(index, each) for index, each in enumerate(condition.remembered)]
        self._main = self._program(condition.main)

    def _program(self, part: Part) -> _Program:
        self._programs += 1
        return _Program(part, self._programs - 1)

    def _remember(self, index: int, asked: Absent | Then) -> _AbsentFor | _OneThenOther:
        if isinstance(asked, Absent):
            return _AbsentFor(asked, 2 * index)
        return _OneThenOther(self._program(asked.first), self._program(asked.second), asked.duration_ns, 2 * index)

    @classmethod
    def compile(cls, source: str, labels: Collection[str] | None) -> Self:
        """`labels`: the names that can appear; None: not known, then none is refused.

        Raises:
            ExpressionError: it can't be used; the text names what is wrong and the nearest name that is known.
        """
        try:
            expression = cls(source, translate(source, labels))
        except ValueError as error:
            # The engine refuses what our grammar let through: its own words are the best there are.
            raise ExpressionError(f"this can't be used: {_first_line(error)}", 0) from None
        expression._try_out()
        return expression

    def _try_out(self) -> None:
        """Once on a segment in which there is nothing: most indices past an end and divisions by zero show there."""
        nothing = Facts("stream", 0, status="ok", state="live", coverage=CoverageBody(1.0, 1.0, 1.0), looked=True)
        try:
            self.evaluate(nothing, self.begin())
        except EvaluationError as error:
            # A map without the sample's stream is no mistake: rules are for some streams.
            if not isinstance(error.__cause__, KeyError):
                hint = "ask first, as in size(words) > 0 && words[0] == 'help'"
                raise ExpressionError(f"this fails where a segment has nothing ({error}): {hint}", 0) from None

    def begin(self) -> Memory:
        """The memory of a stream of which nothing was seen yet."""
        return self.load([number for each in self._remembered for number in each.fresh])

    def load(self, dumped: Sequence[int]) -> Memory:
        """A memory as it was dumped.

        Raises:
            ValueError: it is of another expression.
        """
        if len(dumped) != 2 * len(self._remembered):
            raise ValueError("this memory is of another expression")
        return Memory(list(dumped), [None] * self._programs, [None] * self._programs)

    def evaluate(self, facts: Facts, memory: Memory) -> bool | None:
        """Whether it holds now; None: it hangs on labels or people that nobody looked for (`facts.looked`), where
        what is known doesn't settle it (`status == 'shed' || label('Dog') > 0.5` holds in a shed segment).

        To be called for every message of the stream, in order: `memory` is moved on. Deterministic in both arguments.

        Raises:
            EvaluationError: it fails on these facts.
        """
        if not self._remembered:
            return self._main.holds(facts, [], memory)
        held: list[bool | None] = []
        failed: EvaluationError | None = None
        for each in self._remembered:
            # One part that fails leaves the others' memories right; it counts as not known.
            try:
                held.append(each.step(facts, held, memory))
            except EvaluationError as error:
                failed = error
                held.append(None)
        holds = self._main.holds(facts, held, memory)
        if holds is None and failed is not None:
            raise failed
        return holds


class _Program:
    """One compiled part, its variables and our functions. `index`: its place in a memory."""

    def __init__(self, part: Part, index: int) -> None:
        self._program = cel.compile(part.source)
        self._names = [name for name, _ in part.inputs]
        self._reads = [read for _, read in part.inputs]
        self._index = index
        self._asks = part.asks
        self._only = self._reads[0] if len(self._reads) == 1 and not part.asks else None
        self._facts = Facts("", 0)
        # What is known also where nobody looked.
        self._always: dict[str, Callable[..., int]] = {"said": self._said, "length": len}
        self._context = cel.Context(functions={"label": self._label, "share": self._share, **self._always})
        # What the context holds: to put a value into it costs more than to run a program.
        self._put: list[Value | None] = [None] * len(part.inputs)

    def holds(self, facts: Facts, held: list[bool | None], memory: Memory) -> bool | None:
        index, before = self._index, memory._read[self._index]
        if self._only is not None:
            # Most conditions look at one thing, which mostly is what it was: half the time of all rules is spent here.
            value = self._only(facts, held)
            if before is not None and before[0] == value:
                return memory._came[index]
            values = [value]
        else:
            values = [read(facts, held) for read in self._reads]
            if not self._asks and values == before:
                return memory._came[index]
        self._facts = facts
        unknown = None in values or (self._asks and (facts.blind or not facts.looked))
        holds = self._settled(values) if unknown else self._run(values)
        memory._read[index] = values
        memory._came[index] = holds
        return holds

    def _run(self, values: list[Value | None]) -> bool:
        put = self._put
        for at, value in enumerate(values):
            if value != put[at]:
                self._context.add_variable(self._names[at], value)
                put[at] = value
        try:
            return bool(self._program.execute(self._context))
        except _FAILURES as error:
            raise EvaluationError(_first_line(error)) from error

    def _settled(self, values: list[Value | None]) -> bool | None:
        """What holds whatever the unknown values are: CEL's own && and || settle what they can without them."""
        known = {name: value for name, value in zip(self._names, values, strict=True) if value is not None}
        try:
            return bool(self._program.execute(cel.Context(known, self._always)))
        except _FAILURES:
            # It fails for what it has no value for, or for something else beside that: nothing can be said of it.
            return None

    def _label(self, name: str) -> float:
        return score(self._facts, name) or 0.0

    def _share(self, name: str, modality: str) -> float:
        return share(self._facts, name, modality) or 0.0

    def _said(self, text: str) -> bool:
        pattern = heard(text)
        return pattern is not None and pattern.search(self._facts.spoken()) is not None


class _AbsentFor:
    """`absent`. Its two numbers: how long it was looked for and not there, and until when windows were looked at."""

    fresh = (0, _NEVER)

    def __init__(self, asked: Absent, at: int) -> None:
        self._asked = asked
        self._at = at

    def step(self, facts: Facts, held: list[bool | None], memory: Memory) -> bool:
        times, at = memory.times, self._at
        if not facts.knows(self._asked.name):
            return times[at] >= self._asked.duration_ns
        label = facts.labels.get(self._asked.name)
        if label is not None and label.score >= self._asked.score:
            times[at] = 0
        else:
            # Windows overlap: what was looked at before is not counted twice.
            times[at] += max(0, facts.at_ns - max(facts.start_ns, times[at + 1]))
        times[at + 1] = facts.at_ns
        return times[at] >= self._asked.duration_ns


class _OneThenOther:
    """`then`. Its two numbers: the latest time at which the first held (-1: never), and the one before that."""

    fresh = (_NEVER, _NEVER)

    def __init__(self, first: _Program, second: _Program, duration_ns: int, at: int) -> None:
        self._first = first
        self._second = second
        self._duration_ns = duration_ns
        self._at = at

    def step(self, facts: Facts, held: list[bool | None], memory: Memory) -> bool | None:
        # Both run whatever comes of the other, because what they remember has to move on.
        first = self._first.holds(facts, held, memory)
        second = self._second.holds(facts, held, memory)
        latest, earlier = memory.times[self._at : self._at + 2]
        if latest > facts.at_ns:
            # A timeline that begins anew: what is later than now was not before it.
            latest = earlier = _NEVER
        before = latest if latest < facts.at_ns else earlier
        memory.times[self._at : self._at + 2] = (facts.at_ns, before) if first else (latest, earlier)
        return second if before > _NEVER and facts.at_ns - before <= self._duration_ns else False


def _first_line(error: BaseException) -> str:
    """What the engine says, without its advice to programmers."""
    if isinstance(error, KeyError):
        return f"the map has no {error}"
    if isinstance(error, TypeError):
        # Kinds are checked before, so that only what is no number is left: the engine compares that with nothing.
        return "0 divided by 0 is no number"
    return str(error).partition("\n")[0].partition(". C")[0][:200]

"""Rules over the feed: which fire and which are over. Pure: what it says follows from its memory, the messages and the
times it is given, so that what was read before and is read again gives the same alerts with the same ids.

What a segment leaves open is neither true nor false: one that was shed changes nothing for a rule on labels, and the
time it took counts for nothing. Where an epoch ends, what was fired for things seen in it is over, because nothing is
known of the time between. While a stream has no segments (it connects, or failed) rules on its state go on by the
clock: media time goes on from the stream's last one, `status` is empty and `coverage` zero. A stream that has ended is
asked one last time (`state == 'ended'`), and then all that fired for it is over.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from msgspec import DecodeError

from streamer.alertconfig import AlertConfig
from streamer.alerts.conditions.expression import EvaluationError, Expression, Facts, Memory
from streamer.alerts.records import Fired
from streamer.alerts.rules import memory
from streamer.alerts.rules.check import faults as faults
from streamer.alerts.rules.memory import StandingPart, StreamPart
from streamer.alerts.rules.watch import Rule, Sight, Standing, Watch
from streamer.alerts.rules.watched import WatchedStream
from streamer.clock import NS_PER_S, parse_rfc3339
from streamer.messages import Event, Segment, StreamMessage

# States in which no segments come, and time has to pass without them.
_WAITING = ("connecting", "reconnecting", "failed")
# Segments come several times a second: a stream that is live and says nothing for so long is there no more.
_SILENT_NS = 300 * NS_PER_S
# What is over and forgotten by the feed; until then it may be read a second time.
_FORGET_NS = 3600 * NS_PER_S
_TIDY_NS = 60 * NS_PER_S


class RuleSet:
    """All rules over all streams.

    failures: how many evaluations failed, a rule: such a segment changes nothing for it. unreadable: segments left out
    because their times are none, and parts of a memory that could not be read.

    Args:
        rules: each must have passed `faults`; names differ.
        groups: the group of each stream that has one.
        labels: the names that labels can have, None: any.

    Raises:
        ExpressionError: a condition that is none.
    """

    def __init__(
        self, rules: Sequence[AlertConfig], groups: Mapping[str, str | None], labels: Collection[str] | None = None
    ) -> None:
        self._rules = {rule.name: _compiled(rule, labels) for rule in rules}
        self._groups = groups
        self._streams: dict[str, WatchedStream] = {}
        self._standings: dict[tuple[str, str], Standing] = {}
        self._changed: set[str] = set()
        # What fires in the memory and has nothing left to fire for: (who says so, when).
        self._orphans: list[tuple[Standing, int]] = []
        self._now_ns = self._tidied_ns = 0
        self.failures: dict[str, int] = {}
        self.unreadable = 0

    @property
    def firing(self) -> int:
        """How many alerts fire now."""
        return sum(standing.fired is not None for standing in self._standings.values())

    def media_ns(self, stream: str) -> int | None:
        """Media time of a stream now, as far as it is known; None where nothing was seen of it."""
        known = self._streams.get(stream)
        if known is None or known.state not in _WAITING:
            return known.media_ns if known is not None else None
        return known.media_at(self._now_ns)

    # -- what comes ------------------------------------------------------------------------------------------------

    def take(self, message: Segment | Event | StreamMessage, stored_ns: int) -> list[Fired]:
        """What `message` brings about; `stored_ns`: when it came into the store, in Unix nanoseconds, never less than
        before. One that was taken before is left out."""
        fired = self._bury(stored_ns) if self._orphans else []
        if isinstance(message, Segment):
            fired += self._segment(message, stored_ns)
        elif isinstance(message, StreamMessage):
            fired += self._stream_message(message, stored_ns)
        return fired

    def advance(self, now_ns: int) -> list[Fired]:
        """What time alone brings about; `now_ns`: on the clock of `stored_ns`. About once a second."""
        fired = self._bury(now_ns)
        self._now_ns = now_ns
        # In an order that a restart does not change: of a key's streams the first is the one that is named.
        for stream in sorted(filter(self._is_due, self._streams.values()), key=lambda stream: stream.name):
            if stream.state not in _WAITING:
                fired += self._end(stream, now_ns)
                continue
            fired += self._see(stream, Sight(stream.without_media(stream.media_at(now_ns)), over=True), now_ns)
            if any(watch.rule.stateful for watch in stream.watches):
                self._changed.add(memory.STREAM + stream.name)
        if now_ns - self._tidied_ns >= _TIDY_NS:
            self._tidied_ns = now_ns
            self._tidy(now_ns)
        return fired

    def _is_due(self, stream: WatchedStream) -> bool:
        """Whether time alone may bring something about for `stream`."""
        waited_ns = self._now_ns - stream.stored_ns
        return waited_ns > (0 if stream.state in _WAITING else _SILENT_NS) and stream.state != "ended"

    def _segment(self, segment: Segment, stored_ns: int) -> list[Fired]:
        stream = self._streams.get(segment.stream) or self._add(segment.stream)
        if stream.knows(segment.epoch, segment.seq):
            return []
        try:
            start_ns, end_ns = parse_rfc3339(segment.start), parse_rfc3339(segment.end)
        except ValueError:  # written by somebody else
            self.unreadable += 1
            return []
        fired: list[Fired] = []
        elapsed_ns = 0
        if segment.epoch != stream.epoch:
            fired = self._begin(stream, segment.epoch, stored_ns)
        elif stream.media_ns is not None:
            elapsed_ns = max(0, end_ns - stream.media_ns)
        if stream.state != "stalled":
            stream.state = "live"
        stream.seq, stream.media_ns, stream.stored_ns = segment.seq, end_ns, stored_ns
        self._changed.add(memory.STREAM + stream.name)
        facts = Facts.of(segment, stream.group, stream.state, start_ns, end_ns)
        fired += self._see(stream, Sight(facts, elapsed_ns, False, segment.epoch, segment.seq), stored_ns)
        return fired

    def _stream_message(self, message: StreamMessage, stored_ns: int) -> list[Fired]:
        stream = self._streams.get(message.stream) or self._add(message.stream)
        if message.epoch is not None and message.epoch in stream.epochs:
            return []
        fired: list[Fired] = []
        stream.state, stream.reason = message.state, message.reason or ""
        if message.epoch is not None and message.epoch != stream.epoch:
            fired = self._begin(stream, message.epoch, stored_ns)
        if message.state not in ("live", "stalled"):
            # Else the next segment is there at once and says more.
            at_ns = stream.media_at(stored_ns)
            fired += self._see(stream, Sight(stream.without_media(at_ns), over=True), stored_ns)
            stream.media_ns, stream.stored_ns = at_ns, stored_ns
        if message.state == "ended":
            fired += self._end(stream, stored_ns)
        self._changed.add(memory.STREAM + stream.name)
        return fired

    def _begin(self, stream: WatchedStream, epoch: str, stored_ns: int) -> list[Fired]:
        """An epoch begins; what was seen in the one before is over."""
        fired: list[Fired] = []
        if stream.epoch is not None:
            self._changed.add(memory.EPOCHS + stream.name)
        if stream.media_ns is not None:
            fired = self._see(stream, Sight(stream.without_media(stream.media_at(stored_ns)), over=True), stored_ns)
        stream.begin(epoch)
        return fired

    def _end(self, stream: WatchedStream, stored_ns: int) -> list[Fired]:
        """Nothing more is expected of it: all that fired for it is over."""
        fired = []
        at_ns = stream.media_at(stored_ns) if stream.media_ns is None else stream.media_ns
        for watch in stream.watches:
            if watch.raised:
                watch.lower()
                fired += self._lowered(watch, stream.name, at_ns, stored_ns)
        stream.state = "ended"
        stream.watches = self._watches(stream)
        self._changed.add(memory.STREAM + stream.name)
        return fired

    # -- rules -----------------------------------------------------------------------------------------------------

    def _see(self, stream: WatchedStream, sight: Sight, stored_ns: int) -> list[Fired]:
        """What all rules say of what is seen of one stream. The inner loop: most watches are idle, most conditions do
        not hold."""
        fired: list[Fired] = []
        facts = sight.facts
        for watch in stream.watches:
            holds: bool | None
            try:
                holds = watch.rule.when.evaluate(facts, watch.when)
            except EvaluationError:
                self._failed(watch.rule)
                holds = None
            if holds or not watch.idle:
                fired += self._step(watch, holds, sight, stored_ns)
        return fired

    def _step(self, watch: Watch, holds: bool | None, sight: Sight, stored_ns: int) -> list[Fired]:
        rule, standing, facts = watch.rule, watch.standing, sight.facts
        over = None if holds is None else not holds
        if rule.clear is not None and watch.clear is not None and (watch.raised or rule.clear.stateful):
            over = self._holds(rule, rule.clear, facts, watch.clear)
        fired: list[Fired] = []
        move = watch.step(holds, over, sight)
        if move == "raise":
            watch.raised = True
            standing.raised.add(facts.stream)
        elif move == "lower":
            at_ns = watch.ended_at(sight)
            watch.lower()
            fired = self._lowered(watch, facts.stream, at_ns, stored_ns, sight)
        # A hand that went up while it rested fires afterwards, if what it went up for is still there.
        wanted = move == "raise" or (watch.raised and over is False)
        if wanted and standing.fired is None and not standing.rests(facts.at_ns, rule.config.cooldown_ns):
            fired.append(standing.fire(watch.begun(sight), rule, sight))
            self._changed.add(memory.alert_key(standing.rule, standing.key))
        watch.settle()
        self._changed.add(memory.STREAM + facts.stream)
        return fired

    def _lowered(
        self, watch: Watch, stream: str, at_ns: int, stored_ns: int, sight: Sight | None = None
    ) -> list[Fired]:
        standing = watch.standing
        standing.raised.discard(stream)
        if standing.fired is None or standing.raised:
            return []
        self._changed.add(memory.alert_key(standing.rule, standing.key))
        return [standing.clear(at_ns, stored_ns, watch.rule, sight)]

    def _holds(self, rule: Rule, expression: Expression, facts: Facts, remembered: Memory) -> bool | None:
        try:
            return expression.evaluate(facts, remembered)
        except EvaluationError:
            self._failed(rule)
            return None

    def _failed(self, rule: Rule) -> None:
        self.failures[rule.config.name] = self.failures.get(rule.config.name, 0) + 1

    # -- streams ---------------------------------------------------------------------------------------------------

    def _add(self, name: str) -> WatchedStream:
        stream = WatchedStream(name, self._groups.get(name) or "", [])
        stream.watches = self._watches(stream)
        self._streams[name] = stream
        return stream

    def _watches(self, stream: WatchedStream) -> list[Watch]:
        matching = (rule for rule in self._rules.values() if fnmatchcase(stream.name, rule.config.stream))
        return [self._watch(rule, rule.key(stream.name, stream.group)) for rule in matching]

    def _watch(self, rule: Rule, key: str) -> Watch:
        name = rule.config.name
        standing = self._standings.get((name, key))
        if standing is None:
            standing = self._standings[name, key] = Standing(name, key)
        clear = rule.clear.begin() if rule.clear is not None else None
        watch = Watch(rule, standing, rule.when.begin(), clear)
        watch.settle()
        return watch

    def _tidy(self, now_ns: int) -> None:
        """Forget streams that ended long ago, and what was over long ago."""
        for stream in list(self._streams.values()):
            if stream.state == "ended" and now_ns - stream.stored_ns > _FORGET_NS:
                del self._streams[stream.name]
                self._changed |= {memory.STREAM + stream.name, memory.EPOCHS + stream.name}
        used = {id(watch.standing) for stream in self._streams.values() for watch in stream.watches}
        for place, standing in list(self._standings.items()):
            rest_ns = self._rules[standing.rule].config.cooldown_ns + _FORGET_NS
            if standing.fired is not None or standing.raised or now_ns - standing.stored_ns <= rest_ns:
                continue
            if standing.cleared_ns is not None:
                standing.cleared_ns = None
                standing.recent.clear()
                self._changed.add(memory.alert_key(standing.rule, standing.key))
            if id(standing) not in used:
                del self._standings[place]

    # -- memory ----------------------------------------------------------------------------------------------------

    def changed(self) -> dict[str, bytes | None]:
        """The parts of the memory that changed since the last call, by key; None: gone."""
        parts = {key: self._part(key) for key in self._changed}
        self._changed.clear()
        return parts

    def _part(self, key: str) -> bytes | None:
        if key.startswith(memory.ALERT):
            rule, _, about = key.removeprefix(memory.ALERT).partition("/")
            standing = self._standings.get((rule, about))
            if standing is None or (standing.fired is None and standing.cleared_ns is None):
                return None
            return memory.encode(standing.part())
        stream = self._streams.get(key.partition("/")[2])
        if stream is None:
            return None
        return memory.encode(stream.epochs if key.startswith(memory.EPOCHS) else stream.part())

    def restore(self, parts: Mapping[str, bytes]) -> None:
        """Go on from what `changed` gave, all parts of it together; before anything is taken.

        What fired for a rule that has changed or is gone is over: the next `take` or `advance` says so.
        """
        foreign: list[Standing] = []
        for key, part in _of_kind(parts, memory.ALERT):
            try:
                self._restore_standing(key, memory.read_standing(part), foreign)
            except (DecodeError, ValueError):
                self._damaged(memory.ALERT + key)
        for key, part in _of_kind(parts, memory.STREAM):
            try:
                self._restore_stream(key, memory.read_stream(part))
            except (DecodeError, ValueError):
                self._add(key)  # as if nothing was seen of it yet
                self._damaged(memory.STREAM + key)
        for key, part in _of_kind(parts, memory.EPOCHS):
            try:
                if (stream := self._streams.get(key)) is not None:
                    stream.epochs = memory.read_epochs(part)
            except (DecodeError, ValueError):
                self._damaged(memory.EPOCHS + key)
        for standing in sorted([*foreign, *self._standings.values()], key=lambda each: (each.rule, each.key)):
            if standing.fired is not None and not standing.raised:
                self._orphans.append((standing, self.media_ns(standing.fired.stream) or standing.fired.at_ns))

    def _damaged(self, key: str) -> None:
        self.unreadable += 1
        self._changed.add(key)

    def _restore_standing(self, place: str, part: StandingPart, foreign: list[Standing]) -> None:
        name, _, key = place.partition("/")
        standing = Standing(name, key, part.fired, set(), part.cleared_ns, part.stored_ns)
        standing.recent.extend(part.recent)
        if name in self._rules:
            self._standings[name, key] = standing
        elif part.fired is not None:
            foreign.append(standing)
        else:
            self._changed.add(memory.ALERT + place)

    def _restore_stream(self, name: str, part: StreamPart) -> None:
        stream = self._add(name)
        stream.restore(part)
        for watch in stream.watches:
            if watch.raised:
                watch.standing.raised.add(name)

    def _bury(self, stored_ns: int) -> list[Fired]:
        """What fired in the memory and has nothing left to fire for is over."""
        orphans, self._orphans = self._orphans, []
        self._changed |= {memory.alert_key(standing.rule, standing.key) for standing, _ in orphans}
        return [standing.clear(at_ns, stored_ns) for standing, at_ns in orphans]


def _compiled(config: AlertConfig, labels: Collection[str] | None) -> Rule:
    clear = Expression.compile(config.clear_when, labels) if config.clear_when is not None else None
    return Rule(config, Expression.compile(config.when, labels), clear)


def _of_kind(parts: Mapping[str, bytes], kind: str) -> Iterable[tuple[str, bytes]]:
    return ((key.removeprefix(kind), part) for key, part in parts.items() if key.startswith(kind))

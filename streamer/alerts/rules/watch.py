"""One rule on one stream, and what stands for a key: the two small machines that rules are made of. Pure.

A watch raises its hand when its condition has held for `for`, and lowers it when what ends it has held for
`clear_for`. A standing is what people are told of: it fires when the first hand goes up and is over when the last one
goes down, then keeps still for `cooldown`. A hand that is still up by then makes it fire: nothing that lasts is lost.
"""

from __future__ import annotations

import hashlib
from collections import deque
from dataclasses import dataclass, field, replace
from typing import Literal

from streamer.alertconfig import AlertConfig
from streamer.alerts.conditions.expression import Expression, Facts, Memory
from streamer.alerts.records import Fired, alert_id
from streamer.alerts.rules.memory import StandingPart
from streamer.messages import Label

_MOST_LABELS = 5
# Streams of a group come one after another, and a late one by as much as what is kept of it while the store is away.
_SKEW_NS = 60_000_000_000
_RECENT = 16


class Rule:
    """A rule's configuration with its conditions compiled.

    mark: what its memory belongs to: the same for the same conditions, times and kind of key. stateful: one of the
    conditions asks about time.
    """

    __slots__ = ("clear", "config", "labels", "mark", "stateful", "when")

    def __init__(self, config: AlertConfig, when: Expression, clear: Expression | None) -> None:
        self.config = config
        self.when = when
        self.clear = clear
        self.labels = tuple(dict.fromkeys((*when.labels, *(clear.labels if clear is not None else ()))))
        self.stateful = when.stateful or (clear is not None and clear.stateful)
        told = repr((config.when, config.clear_when, config.for_ns, config.clear_for_ns, config.key))
        self.mark = hashlib.sha256(told.encode()).hexdigest()[:8]

    def key(self, stream: str, group: str | None) -> str:
        """What `stream` counts as: itself, its group (itself where it has none), or `*`, which is all."""
        kind = self.config.key
        return "*" if kind == "rule" else (group or stream) if kind == "group" else stream


@dataclass(slots=True)
class Sight:
    """What is seen of one stream at one time, for all rules.

    elapsed_ns: media time since it was seen before. over: nothing is known from here on (an epoch has ended). epoch,
    seq: of the segment, None where there is none.
    """

    facts: Facts
    elapsed_ns: int = 0
    over: bool = False
    epoch: str | None = None
    seq: int | None = None


@dataclass(slots=True, eq=False)
class Standing:
    """What a rule says of one key. raised: streams whose hand is up. cleared_ns: when it was over last (media time),
    stored_ns: the same in the store's time. recent: what fired last began at these times."""

    rule: str
    key: str
    fired: Fired | None = None
    raised: set[str] = field(default_factory=set)
    cleared_ns: int | None = None
    stored_ns: int = 0
    recent: deque[int] = field(default_factory=lambda: deque(maxlen=_RECENT))

    def rests(self, at_ns: int, cooldown_ns: int) -> bool:
        """Whether it keeps still at `at_ns` because it was over shortly before."""
        if self.cleared_ns is None:
            return False
        # A little before its end counts as well: the clocks of two streams are not one. Long before it does not: time
        # itself was put back.
        return -min(cooldown_ns, _SKEW_NS) <= at_ns - self.cleared_ns < cooldown_ns

    def rested_ns(self, cooldown_ns: int) -> int:
        """When its rest is over."""
        return 0 if self.cleared_ns is None else self.cleared_ns + cooldown_ns

    def fire(self, times: tuple[int, int], rule: Rule, sight: Sight) -> Fired:
        """It fires, for the stream of `sight`; `times`: when what the rule asks for began, and when it had lasted."""
        facts = sight.facts
        since_ns, at_ns = times
        if self.cleared_ns is not None and -_SKEW_NS <= at_ns - self.cleared_ns < 0:
            # By the clock of another stream of this key; what was over just now did not begin again before that.
            at_ns = self.rested_ns(rule.config.cooldown_ns)
        # What began at the same time as another alert of this key (late streams of a group do) is told apart from it.
        while since_ns in self.recent:
            since_ns -= 1
        self.recent.append(since_ns)
        self.fired = Fired(
            id=alert_id(rule.config.name, self.key, since_ns),
            rule=rule.config.name,
            key=self.key,
            stream=facts.stream,
            group=facts.group or None,
            state="firing",
            severity=rule.config.severity,
            since_ns=since_ns,
            at_ns=max(at_ns, since_ns),
            labels=_told_labels(rule.labels, facts),
            words=tuple(facts.words),
            epoch=sight.epoch,
            seq=sight.seq,
        )
        return self.fired

    def clear(self, at_ns: int, stored_ns: int, rule: Rule | None = None, sight: Sight | None = None) -> Fired:
        """What it fired for is over. `sight`: where that was seen."""
        fired = self.fired
        assert fired is not None
        self.fired = None
        self.cleared_ns, self.stored_ns = max(at_ns, fired.at_ns), stored_ns
        over = replace(fired, state="cleared", at_ns=self.cleared_ns, labels=(), words=(), epoch=None, seq=None)
        if rule is None or sight is None:
            return over
        # A segment is named without its stream, so only one of the stream that the alert names.
        epoch, seq = (sight.epoch, sight.seq) if sight.facts.stream == fired.stream else (None, None)
        told = _told_labels(rule.labels, sight.facts)
        return replace(over, labels=told, words=tuple(sight.facts.words), epoch=epoch, seq=seq)

    def part(self) -> StandingPart:
        """What has to be kept of it."""
        return StandingPart(self.fired, self.cleared_ns, self.stored_ns, list(self.recent))


def _told_labels(named: tuple[str, ...], facts: Facts) -> tuple[Label, ...]:
    """Those of the segment that a rule names, then its likeliest."""
    labels = facts.labels
    order = dict.fromkeys((*(name for name in named if name in labels), *labels))
    return tuple(labels[name] for name in list(order)[:_MOST_LABELS])


@dataclass(slots=True, eq=False)
class Watch:
    """One rule on one stream. since_ns: when its condition began to hold (None: it does not), due_ns: when it has held
    for long enough; over_ns: when what ends it has, None where that does not hold. Media time; time in which nobody
    looked counts for neither."""

    rule: Rule
    standing: Standing
    when: Memory
    clear: Memory | None
    since_ns: int | None = None
    due_ns: int = 0
    raised: bool = False
    over_ns: int | None = None
    idle: bool = True
    """Nothing to do while the condition does not hold: the common case, told by one look."""

    def settle(self) -> None:
        """Say whether it is idle, after anything changed."""
        remembers = self.rule.clear is not None and self.rule.clear.stateful
        self.idle = self.since_ns is None and not self.raised and not remembers

    def step(self, holds: bool | None, over: bool | None, sight: Sight) -> Literal["raise", "lower"] | None:
        """Whether the hand goes up or down. `holds`: the condition; `over`: what ends it; None: not known."""
        if self.raised:
            return "lower" if self._ends(over, sight) else None
        if holds is None:
            self.since_ns = None if sight.over else self.since_ns
            self.due_ns += sight.elapsed_ns
        elif not holds:
            self.since_ns = None
        elif self._begins(sight.facts.at_ns):
            return "raise"
        return None

    def _begins(self, at_ns: int) -> bool:
        for_ns = self.rule.config.for_ns
        if self.since_ns is None:
            self.since_ns, self.due_ns = at_ns, at_ns + for_ns
        elif at_ns < self.since_ns:  # media time was put back
            self.since_ns, self.due_ns = at_ns, min(self.due_ns, at_ns + for_ns)
        return at_ns >= self.due_ns

    def _ends(self, over: bool | None, sight: Sight) -> bool:
        if over is None:
            if self.over_ns is not None:
                self.over_ns += sight.elapsed_ns
            return sight.over
        if not over:
            self.over_ns = None
            return False
        latest_ns = sight.facts.at_ns + self.rule.config.clear_for_ns
        self.over_ns = latest_ns if self.over_ns is None else min(self.over_ns, latest_ns)
        return sight.facts.at_ns >= self.over_ns

    def begun(self, sight: Sight) -> tuple[int, int]:
        """When what the rule asks for began, and when it had lasted long enough for the hand to be up and seen."""
        at_ns = sight.facts.at_ns
        if sight.seq is None:
            # Time alone did it, at a moment between two at which anybody looked at the clock.
            at_ns = min(at_ns, max(self.due_ns, self.standing.rested_ns(self.rule.config.cooldown_ns)))
        return (at_ns if self.since_ns is None else self.since_ns), at_ns

    def ended_at(self, sight: Sight) -> int:
        """When what ends it had lasted long enough, or nothing more was known."""
        at_ns = sight.facts.at_ns
        return at_ns if sight.seq is not None or self.over_ns is None else min(at_ns, self.over_ns)

    def lower(self) -> None:
        """The hand is down, and nothing is known of the condition."""
        self.raised = False
        self.since_ns = self.over_ns = None

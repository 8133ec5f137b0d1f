"""Rules tried on the past: what they would have said of stored messages. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from streamer.alertconfig import AlertConfig
from streamer.alerts.records import Fired
from streamer.alerts.rules.ruleset import RuleSet
from streamer.clock import NS_PER_S
from streamer.messages import Event, Segment, StreamMessage


@dataclass(frozen=True, slots=True)
class Episode:
    """One time that a rule would have fired; `cleared` is None where it still did at the end."""

    fired: Fired
    cleared: Fired | None


@dataclass(frozen=True, slots=True)
class RuleTrial:
    """What one rule would have done. Durations in nanoseconds of media time, from firing until it was over or, where
    it was not, as far as was looked.

    episodes: the first of them, in the order in which they would have fired. times, firing_ns: of all there were.
    streams: how often and how long, by the name of the stream (the first one, for a key of several). failures: how
    often a condition could not be evaluated.
    """

    rule: AlertConfig
    episodes: tuple[Episode, ...]
    times: int
    firing_ns: int
    streams: Mapping[str, tuple[int, int]]
    failures: int


@dataclass(slots=True)
class _Tally:
    episodes: list[Episode] = field(default_factory=list)
    times: dict[str, int] = field(default_factory=dict)
    firing_ns: dict[str, int] = field(default_factory=dict)


class Trial:
    """Feed stored messages in the feed's order, then ask for the `report`.

    Args:
        most: how many episodes of a rule are kept; the rest is counted.

    Raises:
        ExpressionError: a condition that is none.
    """

    def __init__(
        self,
        rules: Sequence[AlertConfig],
        groups: Mapping[str, str | None],
        labels: Collection[str] | None = None,
        *,
        most: int = 1000,
    ) -> None:
        self._rules = rules
        self._set = RuleSet(rules, groups, labels)
        self._most = most
        self._tallies = {rule.name: _Tally() for rule in rules}
        # What fires now, by its id, and its place among the episodes (None: not kept).
        self._open: dict[str, tuple[Fired, int | None]] = {}
        self._second = 0

    def feed(self, messages: Iterable[tuple[int, Segment | Event | StreamMessage]]) -> None:
        """Take messages, each with when it came into the store (Unix nanoseconds). Once for every page of them."""
        for stored_ns, message in messages:
            # As in the recorder: time goes by the store's clock, once a second.
            if stored_ns // NS_PER_S > self._second:
                self._second = stored_ns // NS_PER_S
                self._note(self._set.advance(self._second * NS_PER_S))
            self._note(self._set.take(message, stored_ns))

    def report(self) -> list[RuleTrial]:
        """What each rule would have done so far, in the order of the rules."""
        return [self._trial(rule) for rule in self._rules]

    def _note(self, said: Iterable[Fired]) -> None:
        for fired in said:
            tally = self._tallies[fired.rule]
            if fired.state == "firing":
                place = len(tally.episodes) if len(tally.episodes) < self._most else None
                if place is not None:
                    tally.episodes.append(Episode(fired, None))
                tally.times[fired.stream] = tally.times.get(fired.stream, 0) + 1
                self._open[fired.id] = (fired, place)
            else:
                begun, place = self._open.pop(fired.id)
                lasted_ns = fired.at_ns - begun.at_ns
                tally.firing_ns[begun.stream] = tally.firing_ns.get(begun.stream, 0) + lasted_ns
                if place is not None:
                    tally.episodes[place] = Episode(begun, fired)

    def _trial(self, rule: AlertConfig) -> RuleTrial:
        tally = self._tallies[rule.name]
        firing_ns = dict(tally.firing_ns)
        for fired, _ in self._open.values():
            if fired.rule == rule.name:
                lasted_ns = max(0, (self._set.media_ns(fired.stream) or 0) - fired.at_ns)
                firing_ns[fired.stream] = firing_ns.get(fired.stream, 0) + lasted_ns
        return RuleTrial(
            rule=rule,
            episodes=tuple(tally.episodes),
            times=sum(tally.times.values()),
            firing_ns=sum(firing_ns.values()),
            streams={name: (times, firing_ns.get(name, 0)) for name, times in tally.times.items()},
            failures=self._set.failures.get(rule.name, 0),
        )

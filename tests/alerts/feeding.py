"""Messages as the feed has them, with only what a test of rules cares about, and a reader that passes time as the
recorder does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from streamer.alertconfig import AlertConfig
from streamer.alerts.records import Fired
from streamer.alerts.rules.ruleset import RuleSet
from streamer.clock import rfc3339
from streamer.messages import (
    CoverageBody,
    Event,
    Label,
    LatencyBody,
    People,
    Reason,
    Segment,
    Share,
    Speech,
    StreamMessage,
    StreamState,
)

MS = 1_000_000
S = 1_000 * MS
HOP_NS = 500 * MS
NOON_NS = 1_795_435_200 * S
LATE_NS = 200 * MS
Message = tuple[int, Segment | Event | StreamMessage]


def segment(
    stream: str = "door",
    seq: int = 0,
    labels: Mapping[str, float] | None = None,
    *,
    epoch: str = "e1",
    end_ns: int | None = None,
    shed: Reason | None = None,
    said: Sequence[str] = (),
    people: int | None = None,
    coverage: float = 1.0,
) -> Message:
    """A segment, stored 200 ms after its end; the `seq`th of an epoch that began at noon where no `end_ns` is given."""
    end_ns = NOON_NS + (seq + 1) * HOP_NS if end_ns is None else end_ns
    end = rfc3339(end_ns)
    scores = sorted((labels or {}).items(), key=lambda label: -label[1])
    message = Segment(
        stream=stream,
        epoch=epoch,
        seq=seq,
        start=rfc3339(end_ns - 2 * S),
        end=end,
        status="shed" if shed else "ok",
        reason=shed,
        labels=[] if shed else [Label(name, score, Share(0.5, 0.5, 0.0)) for name, score in scores],
        speech=Speech(" ".join(said), "en", list(said), True, end, end) if said else None,
        people=None if people is None or shed else People(people),
        coverage=CoverageBody(coverage, coverage, 0.0),
        latency_ms=LatencyBody(200.0, 50.0, 50.0, 50.0, 50.0),
        bound_ms=1000,
    )
    return end_ns + LATE_NS, message


def turned(stream: str, state: StreamState, stored_ns: int, *, epoch: str | None = None) -> Message:
    """A stream changes its state."""
    return stored_ns, StreamMessage(stream=stream, state=state, epoch=epoch)


def rule(
    when: str = "label('Glass') > 0.6", *, name: str = "glass", cooldown_ns: int = 0, **rest: object
) -> AlertConfig:
    """A rule; without a cooldown where none is given."""
    return AlertConfig(name=name, when=when, cooldown_ns=cooldown_ns, **rest)


class Feeding:
    """Feeds rules with messages and lets time go on in between, once a second of the store's clock."""

    def __init__(self, *rules: AlertConfig, groups: Mapping[str, str | None] | None = None) -> None:
        self.groups = dict(groups or {})
        self.rules = RuleSet(rules, self.groups)
        self.memory: dict[str, bytes] = {}
        self._second = 0

    def feed(self, *messages: Message) -> list[Fired]:
        """What the rules say of `messages`, in order."""
        return self.feed_all(messages)

    def feed_all(self, messages: Iterable[Message]) -> list[Fired]:
        """What the rules say of `messages`, in order."""
        said = []
        for stored_ns, message in messages:
            said += self.pass_to(stored_ns)
            said += self.rules.take(message, stored_ns)
        return said

    def pass_to(self, now_ns: int) -> list[Fired]:
        """What the rules say while time goes on until `now_ns`, without messages."""
        said = []
        first = self._second + 1 if self._second else now_ns // S
        for second in range(first, now_ns // S + 1):
            said += self.rules.advance(second * S)
            self._second = second
        return said

    def since(self, stored_ns: int) -> None:
        """Let time go on from there."""
        self._second = stored_ns // S

    def keep(self) -> None:
        """Write down what changed, as the outbox does."""
        for key, part in self.rules.changed().items():
            if part is None:
                self.memory.pop(key, None)
            else:
                self.memory[key] = part

    def restart(self, *rules: AlertConfig, groups: Mapping[str, str | None] | None = None) -> None:
        """Begin anew from what is written down, by these rules."""
        self.groups = self.groups if groups is None else dict(groups)
        self.rules = RuleSet(rules, self.groups)
        self.rules.restore(self.memory)


def told(said: Iterable[Fired]) -> list[tuple[str, str, float]]:
    """What was said, in short: state, stream and the seconds after noon."""
    return [(fired.state, fired.stream, (fired.at_ns - NOON_NS) / S) for fired in said]

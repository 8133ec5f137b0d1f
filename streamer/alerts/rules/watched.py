"""Where one stream stands, for rules: its epoch, its media time, and what each rule remembers of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from streamer.alerts.conditions.expression import Facts
from streamer.alerts.rules.memory import StreamPart, WatchPart
from streamer.alerts.rules.watch import Watch

_MOST_EPOCHS = 64


@dataclass(slots=True, eq=False)
class WatchedStream:
    """media_ns: media time of what was seen last (None: nothing yet), stored_ns: when that was stored. epochs: those
    before this one, oldest first."""

    name: str
    group: str
    watches: list[Watch]
    epoch: str | None = None
    seq: int = -1
    state: str = ""
    reason: str = ""
    media_ns: int | None = None
    stored_ns: int = 0
    epochs: list[str] = field(default_factory=list)

    def knows(self, epoch: str, seq: int) -> bool:
        """Whether this segment, or one after it, was seen before."""
        return seq <= self.seq if epoch == self.epoch else epoch in self.epochs

    def begin(self, epoch: str) -> None:
        """A new epoch, of which nothing was seen yet."""
        if self.epoch is not None:
            self.epochs = [*self.epochs, self.epoch][-_MOST_EPOCHS:]
        self.epoch, self.seq = epoch, -1

    def media_at(self, stored_ns: int) -> int:
        """Media time where there are no media: it goes on from the last one."""
        return stored_ns if self.media_ns is None else self.media_ns + max(0, stored_ns - self.stored_ns)

    def without_media(self, at_ns: int) -> Facts:
        """What is known where there is no segment."""
        return Facts(self.name, at_ns, group=self.group, state=self.state, reason=self.reason)

    def part(self) -> StreamPart:
        """What has to be kept of it; watches alone that have anything to remember."""
        watches = {}
        for watch in self.watches:
            rule = watch.rule
            if not watch.idle or rule.stateful:
                clear = watch.clear.dump() if watch.clear is not None else []
                state = (watch.since_ns, watch.due_ns, watch.raised, watch.over_ns)
                watches[rule.config.name] = WatchPart(rule.mark, *state, watch.when.dump(), clear)
        where = (self.epoch, self.seq, self.state, self.reason, self.media_ns, self.stored_ns)
        return StreamPart(*where, watches)

    def restore(self, part: StreamPart) -> None:
        """Go on from `part`; watches of rules that have changed since begin anew.

        Raises:
            ValueError: a memory in it is not of its rule's conditions.
        """
        self.epoch, self.seq, self.state, self.reason = part.epoch, part.seq, part.state, part.reason
        self.media_ns, self.stored_ns = part.media_ns, part.stored_ns
        for watch in self.watches:
            rule = watch.rule
            kept = part.watches.get(rule.config.name)
            if kept is None or kept.mark != rule.mark:
                continue
            watch.when = rule.when.load(kept.when)
            if rule.clear is not None:
                watch.clear = rule.clear.load(kept.clear)
            watch.since_ns, watch.due_ns = kept.since_ns, kept.due_ns
            watch.raised, watch.over_ns = kept.raised, kept.over_ns
            watch.settle()

"""What the store's feed says of a run at a fixed load: who was answered, in time, and with what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from streamer.bench.outcomes import Account
from streamer.clock import NS_PER_MS, parse_rfc3339

# Ids and times in segments are cut off to the millisecond.
_CUT_MS = 1


@dataclass(slots=True)
class Tally(Account):
    """An account of segments alone that also knows when each was written.

    `settled_seq`: the first segment of a stream that counts for shares, rates and latencies (all count for what must
    not be). `overdue`: (stream, seq) of those that are marked as late, say so of themselves, or were written after
    their deadline by the store's clock.
    """

    settled_seq: int = 0
    seen: Counter[str] = field(default_factory=Counter)
    labelled: list[tuple[str, int]] = field(default_factory=list)
    counted: Counter[str] = field(default_factory=Counter)
    overdue: set[tuple[str, int]] = field(default_factory=set)
    latencies_ms: list[int] = field(default_factory=list)
    first_ms: int = 0
    last_ms: int = 0

    def take(self, message: Mapping[str, Any], written_ms: int | None = None) -> None:
        """The next message of the feed."""
        Account.take(self, message, written_ms)
        if message["type"] != "segment":
            return
        assert written_ms is not None
        stream, seq = message["stream"], message["seq"]
        took_ms = written_ms - parse_rfc3339(message["end"]) // NS_PER_MS
        own_ms = message["latency_ms"]["total"]
        late = message["delivered_late"] or max(own_ms, took_ms - _CUT_MS) > message["bound_ms"]
        self.seen[stream] += 1
        if late:
            self.overdue.add((stream, seq))
        if seq < self.settled_seq:
            return
        self.first_ms = self.first_ms or written_ms
        self.last_ms = max(self.last_ms, written_ms)
        self.counted[message["status"]] += 1
        self.latencies_ms.append(took_ms)
        if message["status"] != "shed":
            self.labelled.append((stream, seq))

    def answered(self, excused: Collection[tuple[str, int]] = ()) -> Counter[str]:
        """How many segments of each stream came with labels, and in time or late for reasons that are `excused`."""
        late = self.overdue.difference(excused)
        return Counter(stream for stream, seq in self.labelled if (stream, seq) not in late)

    def latency_ms(self) -> dict[str, int]:
        """Quantiles from the end's capture to the store's writing, in milliseconds."""
        ordered, last = sorted(self.latencies_ms), len(self.latencies_ms) - 1
        quantiles = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
        return {name: ordered[min(last, int(q * len(ordered)))] for name, q in quantiles.items()} if ordered else {}

"""Streams on which a dog barks now and then, published into a real store, and the alerts that must come of it."""

from __future__ import annotations

import random
import time

from msgspec.structs import replace

from streamer.alertconfig import AlertConfig
from streamer.clock import NS_PER_MS, rfc3339
from streamer.messages import Segment, StreamMessage
from streamer.publishing.publish import Publisher
from tests.stores import segment

HOP_NS = 500 * NS_PER_MS
BEGAN_NS = 1_795_400_000 * 1_000_000_000
BOUND_NS = 60_000 * NS_PER_MS
DOG = AlertConfig(name="dog", when="label('Dog') > 0.5", cooldown_ns=0, send=["ops"], send_cleared=True)


def bark(stream: str, seq: int, score: float, epoch: str = "e1") -> Segment:
    """A segment with a dog of this score, at the media time of its place."""
    start_ns = BEGAN_NS + seq * HOP_NS
    return replace(
        segment(stream, seq, epoch, (("Dog", score),)), start=rfc3339(start_ns), end=rfc3339(start_ns + 4 * HOP_NS)
    )


class Barking:
    """Publishes segments of `streams`, each with a dog or without one by chance.

    `due`: how many alerts must fire by now, a stream: one for each time that a dog began.
    """

    def __init__(self, publisher: Publisher, streams: int, chance: random.Random | None = None) -> None:
        self._publisher = publisher
        self._chance = chance or random.Random(5)
        self._barks = dict.fromkeys((f"s{index:03}" for index in range(streams)), False)
        self._seq = 0
        self.due = dict.fromkeys(self._barks, 0)
        for stream in self._barks:
            publisher.publish(stream, [StreamMessage(stream=stream, state="live", epoch="e1")])

    @property
    def alerts(self) -> int:
        return sum(self.due.values())

    def hop(self, part: float = 0.3) -> None:
        """One more segment of each stream; with this chance a dog begins or ends."""
        for stream, barks in self._barks.items():
            if self._chance.random() < part:
                self._barks[stream] = not barks
                self.due[stream] += not barks
            self._publish(stream)
        self._seq += 1

    def quiet(self) -> None:
        """One more segment of each stream, without a dog."""
        self._barks = dict.fromkeys(self._barks, False)
        self.hop(0.0)

    def _publish(self, stream: str) -> None:
        score = 0.9 if self._barks[stream] else 0.1
        self._publisher.publish(stream, [bark(stream, self._seq, score)], time.monotonic_ns() + BOUND_NS)

"""Who is listened to next: all streams' utterances before one recogniser, and what goes when there are too many.

Ended utterances come first, the oldest first; then the words of those in progress, whoever was heard longest ago.
When that is too much, words before the end of an utterance go first, stream by stream and the least weighty first; then
whole utterances, in the same order. Time is an argument; belongs to one thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from streamer.speech.heard import SAMPLE_RATE, Heard, Hearing, SpeechOptions
from streamer.speech.listener import Listener
from streamer.speech.passes import Passes, Writer
from streamer.speech.utterance import Utterance, ns_of
from streamer.speech.vad import VoiceDetector

LEVELS = 4
"""The highest level of `ease`: nothing is listened to."""


@dataclass(frozen=True, slots=True)
class LanePolicy:
    """Samples: of an utterance before its first pass, between two, and of a pause that is worth a pass. Times: how old
    a stream's last pass may get before the least weighty one's partial results stop, for `hold_ns`; how long an ended
    utterance may wait before one is shed; for how long shedding is told of."""

    first: int = SAMPLE_RATE * 9 // 10
    step: int = SAMPLE_RATE * 4 // 10
    pause: int = SAMPLE_RATE // 5
    stale_ns: int = 2_000_000_000
    hold_ns: int = 10_000_000_000
    late_ns: int = 4_000_000_000
    told_ns: int = 5_000_000_000


@dataclass(slots=True)
class _Stream:
    listener: Listener
    # When its utterance in progress was last passed over, or began.
    passed_ns: int = 0
    no_partials_to_ns: int = 0
    shed_ns: int = 0
    shed_at_ns: int | None = None
    is_muted: bool = False


@dataclass(slots=True)
class LaneStats:
    """Counters since the beginning: utterances that became final with words; passes over ones in progress, and over
    ended ones; nanoseconds of sound fed and shed; utterances shed."""

    utterances: int = 0
    partials: int = 0
    finals: int = 0
    fed_ns: int = 0
    shed_ns: int = 0
    shed: int = 0
    doubted: dict[str, int] = field(default_factory=dict)


class Lane:
    """Feed it sound, call `work` until it says that there is nothing to do, and take what was heard."""

    def __init__(self, writer: Writer, detector: VoiceDetector, policy: LanePolicy | None = None) -> None:
        self._passes = Passes(writer)
        self._detector = detector
        self._policy = LanePolicy() if policy is None else policy
        self._streams: dict[str, _Stream] = {}
        self._ended: deque[Utterance] = deque()
        self._heard: list[Heard] = []
        self._level = 0
        self._numbers: dict[str, int] = {}
        self.stats = LaneStats(doubted=self._passes.doubted)

    def put(self, stream: str, options: SpeechOptions, number: int = 1) -> None:
        """Listen to `stream`, whose next utterance has that number, or listen with other options."""
        known = self._streams.get(stream)
        if known is not None:
            if known.listener.options == options:
                return
            self.end(stream, 0)
        # Utterances of it that ended, before it was removed say, may not have been told yet.
        number = max(number, self._numbers.get(stream, 1))
        self._streams[stream] = _Stream(Listener(stream, options, self._detector, number))
        self._mute()

    def feed(self, stream: str, media_ns: int, samples: NDArray[np.float32], now_ns: int) -> None:
        """Sound, float32 `[n]` 16 kHz mono, of a stream that was put; that of others is of no matter."""
        known = self._streams.get(stream)
        if known is None:
            return
        self.stats.fed_ns += ns_of(len(samples))
        if known.is_muted:
            self._shed(known, ns_of(len(samples)), now_ns)
            known.listener.heard_to_ns = media_ns + ns_of(len(samples))
            return
        known.listener.hurry(not self._has_partials(known, now_ns))
        before = known.listener.current
        self._end(known.listener.feed(media_ns, samples), now_ns)
        if known.listener.current is not before:
            known.passed_ns = now_ns

    def lose(self, stream: str, missing_ns: int, now_ns: int) -> None:
        """So much of the stream's sound did not come this far for want of computing power."""
        if (known := self._streams.get(stream)) is not None:
            self._shed(known, missing_ns, now_ns)

    def end(self, stream: str, now_ns: int) -> None:
        """The stream's sound ends here; what comes later has nothing to do with it."""
        if (known := self._streams.get(stream)) is not None:
            self._end(known.listener.stop(), now_ns)
            self._numbers[stream] = known.listener.number

    def remove(self, stream: str, now_ns: int) -> None:
        """The same, and none comes later."""
        self.end(stream, now_ns)
        # Who has ended utterances waiting is still needed for their language.
        self._finish_all(stream)
        self._streams.pop(stream, None)
        self._mute()

    def ease(self, level: int, now_ns: int) -> None:
        """Leave out so much: 0 to LEVELS."""
        self._level = min(max(level, 0), LEVELS)
        for name in self._mute():
            self.end(name, now_ns)

    def work(self, now_ns: int) -> bool:
        """Do the next pass, which takes a tenth of a second or a few; False: nothing is waiting."""
        self._shed_late(now_ns)
        if self._ended:
            self._finish(self._ended.popleft())
            return True
        stream = self._next(now_ns)
        if stream is None:
            return False
        listener, utterance = stream.listener, stream.listener.current
        assert utterance is not None
        stream.passed_ns = now_ns
        self.stats.partials += 1
        heard = self._passes.partial(
            utterance,
            listener.language,
            listener.sound(),
            quiet=listener.quiet_samples,
            voiced=listener.voiced,
        )
        if heard is not None:
            self._heard.append(heard)
        return True

    def take(self) -> list[Heard]:
        """What was heard since this was last asked."""
        heard, self._heard = self._heard, []
        return heard

    def hearing(self, now_ns: int) -> dict[str, Hearing]:
        """How each stream is listened to."""
        return {
            name: Hearing(
                stream.listener.heard_to_ns,
                stream.is_muted
                or (stream.shed_at_ns is not None and now_ns - stream.shed_at_ns < self._policy.told_ns),
                stream.shed_ns,
                self._has_partials(stream, now_ns),
            )
            for name, stream in self._streams.items()
        }

    # -- ended utterances ----------------------------------------------------------------------------------------------

    def _end(self, utterances: Sequence[Utterance], now_ns: int) -> None:
        for utterance in utterances:
            utterance.ended_ns = now_ns
            self._ended.append(utterance)

    def _finish(self, utterance: Utterance) -> None:
        self.stats.finals += 1
        heard = self._passes.final(utterance, self._streams[utterance.stream].listener.language)
        if heard is not None:
            self.stats.utterances += bool(heard.words)
            self._heard.append(heard)

    def _finish_all(self, stream: str) -> None:
        mine = [utterance for utterance in self._ended if utterance.stream == stream]
        self._ended = deque(utterance for utterance in self._ended if utterance.stream != stream)
        for utterance in mine:
            self._finish(utterance)

    def _shed_late(self, now_ns: int) -> None:
        """Where the oldest waits too long, the least weighty stream's oldest goes, until it does not."""
        while self._ended and now_ns - self._ended[0].ended_ns > self._policy.late_ns:
            least = min(self._ended, key=lambda utterance: self._weight(utterance.stream))
            self._ended.remove(least)
            assert least.sound is not None
            self._shed(self._streams[least.stream], ns_of(len(least.sound)), now_ns)
            self.stats.shed += 1
            if (heard := self._passes.cut_short(least)) is not None:
                self._heard.append(heard)

    def _shed(self, stream: _Stream, missing_ns: int, now_ns: int) -> None:
        stream.shed_ns += missing_ns
        stream.shed_at_ns = now_ns
        self.stats.shed_ns += missing_ns

    # -- utterances in progress ----------------------------------------------------------------------------------------

    def _next(self, now_ns: int) -> _Stream | None:
        """Whose utterance in progress is to be passed over: who waits longest."""
        wanting = [
            stream for stream in self._streams.values() if self._has_partials(stream, now_ns) and self._wants(stream)
        ]
        if not wanting:
            return None
        oldest = min(wanting, key=lambda stream: stream.passed_ns)
        if now_ns - oldest.passed_ns > self._policy.stale_ns and len(wanting) > 1:
            least = min(reversed(wanting), key=lambda stream: stream.listener.options.weight)
            least.no_partials_to_ns = now_ns + self._policy.hold_ns
            wanting.remove(least)
            oldest = min(wanting, key=lambda stream: stream.passed_ns)
        return oldest

    def _has_partials(self, stream: _Stream, now_ns: int) -> bool:
        return self._level == 0 and not stream.is_muted and now_ns >= stream.no_partials_to_ns

    def _wants(self, stream: _Stream) -> bool:
        utterance, policy = stream.listener.current, self._policy
        if utterance is None:
            return False
        length = stream.listener.length
        if length < policy.first:
            return False
        spoken_to = length - stream.listener.quiet_samples
        if stream.listener.quiet_samples >= policy.pause:
            return spoken_to > utterance.tried
        return length - utterance.tried >= policy.step

    def _mute(self) -> list[str]:
        """Mute as many streams as the level says; which were not before."""
        share = max(0, self._level - 1) / (LEVELS - 1)
        by_weight = sorted(self._streams.items(), key=lambda item: item[1].listener.options.weight)
        most = round(share * len(by_weight))
        muted = [name for name, stream in by_weight[:most] if not stream.is_muted]
        for index, (_, stream) in enumerate(by_weight):
            stream.is_muted = index < most
        return muted

    def _weight(self, stream: str) -> float:
        return self._streams[stream].listener.options.weight

"""One stream's sound on its way to utterances: what of it is kept, where voices are. No clock, no model of words."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from streamer.speech.denoise import Denoiser
from streamer.speech.endpoint import HURRIED, Began, Ended, Endpointer, EndpointPolicy
from streamer.speech.heard import SpeechOptions
from streamer.speech.language import LanguageKeeper
from streamer.speech.utterance import Utterance, ns_of, samples_of
from streamer.speech.vad import STEP, VoiceDetector, VoiceState

# Media time follows the clocks' drift in small steps; a chunk this close to the end of the one before continues it.
_CONTIGUOUS_NS = 20_000_000
# A shorter hole is taken for silence; a longer one ends the utterance.
_HOLE_NS = 300_000_000


class Listener:
    """The state of one stream, which no other stream's sound ever reaches.

    Args:
        number: of its next utterance.
    """

    def __init__(
        self,
        stream: str,
        options: SpeechOptions,
        detector: VoiceDetector,
        number: int = 1,
        policy: EndpointPolicy | None = None,
    ) -> None:
        self.stream = stream
        self.options = options
        self.language = LanguageKeeper(options.language)
        self.current: Utterance | None = None
        self.number = number
        self.heard_to_ns: int | None = None
        self._detector = detector
        self._policy = EndpointPolicy() if policy is None else policy
        self._begin()

    def _begin(self) -> None:
        """A new run of sound: nothing of the one before is remembered but the language."""
        self._voices = VoiceState()
        self._endpoints = Endpointer(self._policy)
        self._denoiser = Denoiser() if self.options.denoise else None
        self._sound = np.zeros(0, np.float32)
        self._first = 0  # number of the first sample that is kept, from the run's beginning
        self._origin_ns: int | None = None

    def hurry(self, is_hurried: bool) -> None:
        """Whether utterances are to be short, because nothing is told of them before they end."""
        self._endpoints.policy = HURRIED if is_hurried else self._policy

    @property
    def voiced(self) -> float:
        """How likely there is a voice in the likelier half of the utterance in progress."""
        return self._endpoints.voiced

    @property
    def quiet_samples(self) -> int:
        """How much of the utterance in progress has been a pause up to now."""
        return self._endpoints.quiet * STEP

    def feed(self, media_ns: int, samples: NDArray[np.float32]) -> list[Utterance]:
        """Utterances that end with this sound, oldest first, float32 `[n]` at `media_ns`."""
        ended: list[Utterance] = []
        if self._origin_ns is not None:
            missing_ns = media_ns - self._end_ns
            if missing_ns > _HOLE_NS or missing_ns < -_HOLE_NS:
                ended += self.stop()
            elif missing_ns > _CONTIGUOUS_NS:
                samples = np.concatenate([np.zeros(samples_of(missing_ns), np.float32), samples])
            elif missing_ns < -_CONTIGUOUS_NS:
                samples = samples[samples_of(-missing_ns) :]
        if self._origin_ns is None:
            self._origin_ns = media_ns
        if self._denoiser is not None:
            samples = self._denoiser.clean(samples)
        self._sound = np.concatenate([self._sound, samples])
        self.heard_to_ns = self._end_ns
        for voice in self._detector.listen(self._voices, samples):
            ended += self._follow(self._endpoints.feed(float(voice)))
        self._forget()
        return ended

    def stop(self) -> list[Utterance]:
        """The utterance that ends because the sound does; what comes next has nothing to do with it."""
        ended = list(self._follow(self._endpoints.stop()))
        self.current = None
        self._begin()
        return ended

    @property
    def length(self) -> int:
        """Samples of the utterance in progress, up to now; 0 outside of one."""
        started = self._endpoints.started
        return 0 if started is None else self._first + len(self._sound) - started * STEP

    def sound(self) -> NDArray[np.float32]:
        """Of the utterance in progress, up to now: float32 `[n]`."""
        started = self._endpoints.started
        return self._cut(started * STEP, None) if started is not None else np.zeros(0, np.float32)

    @property
    def _end_ns(self) -> int:
        assert self._origin_ns is not None
        return self._origin_ns + ns_of(self._first + len(self._sound))

    def _follow(self, events: list[Began | Ended]) -> Iterator[Utterance]:
        assert self._origin_ns is not None or not events
        for event in events:
            if isinstance(event, Began):
                self.current = self._utterance(event)
                continue
            utterance, self.current = self.current, None
            assert utterance is not None
            utterance.sound = self._cut(event.start * STEP, event.end * STEP)
            utterance.voiced = event.voiced
            utterance.voiced_to = (event.spoken_to - event.start) * STEP
            yield utterance

    def _utterance(self, event: Began) -> Utterance:
        assert self._origin_ns is not None
        start_ns = self._origin_ns + ns_of(event.start * STEP)
        number, self.number = self.number, self.number + 1
        return Utterance(self.stream, number, start_ns, start_ns + ns_of((event.spoken - event.start) * STEP))

    def _cut(self, first: int, after: int | None) -> NDArray[np.float32]:
        return self._sound[first - self._first : None if after is None else after - self._first].copy()

    def _forget(self) -> None:
        """What no utterance can still want."""
        needed = self._endpoints.needed_from * STEP
        if needed > self._first:
            self._sound = self._sound[needed - self._first :].copy()
            self._first = needed

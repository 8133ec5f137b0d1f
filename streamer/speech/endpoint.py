"""From how likely a voice is to utterances: where one begins and ends. Pure; counts steps of the voice detector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EndpointPolicy:
    """All but the likelihoods in steps (32 ms).

    begin, keep: a voice is there from the first likelihood on, and until it falls under the second. least: so many
    steps with a voice, within twice as many, are an utterance; fewer are a cough. before, after: what is kept around
    the voice. hangover: so long a pause ends an utterance; `soft` steps after its beginning ever shorter ones do, down
    to `least_pause` at `longest`, where it is cut at the quietest moment of its last third.
    """

    begin: float = 0.5
    keep: float = 0.35
    least: int = 4
    before: int = 16
    after: int = 6
    hangover: int = 22
    soft: int = 220
    longest: int = 420
    least_pause: int = 4


HURRIED = EndpointPolicy(hangover=14, soft=94, longest=190)
"""Where words come only when an utterance is over: no longer than 6 s, so that they are not too old by then."""


@dataclass(frozen=True, slots=True)
class Began:
    """An utterance begins with step `start`; the voice in it with step `spoken`."""

    start: int
    spoken: int


@dataclass(frozen=True, slots=True)
class Ended:
    """It was `[start, end)`, the last voice in it before `spoken_to`; `is_cut`: the voice goes on, and so does the next
    utterance from there.

    voiced: the mean likelihood of a voice in its likelier half.
    """

    start: int
    end: int
    spoken_to: int
    is_cut: bool
    voiced: float


class Endpointer:
    """One stream's. Steps are numbered from 0 on; utterances come in order and never overlap.

    policy: may be replaced at any time.
    """

    def __init__(self, policy: EndpointPolicy | None = None) -> None:
        self.policy = EndpointPolicy() if policy is None else policy
        self._count = 0
        self._recent: list[bool] = []
        self._free_from = 0
        self._start: int | None = None
        self._voices: list[float] = []
        self._spoken_to = 0

    @property
    def started(self) -> int | None:
        """Where the utterance in progress begins; None: there is none."""
        return self._start

    @property
    def needed_from(self) -> int:
        """The first step that an utterance, this one or one that begins later, may still hold."""
        if self._start is not None:
            return self._start
        return max(self._free_from, self._count - self.policy.before - 2 * self.policy.least)

    @property
    def quiet(self) -> int:
        """How many steps ago somebody spoke in the utterance in progress; 0 outside of one."""
        return 0 if self._start is None else self._count - self._spoken_to

    @property
    def voiced(self) -> float:
        """The mean likelihood of a voice in the likelier half of the utterance in progress; 0 outside of one."""
        return _likelier(self._voices)

    def feed(self, voice: float) -> list[Began | Ended]:
        """What one more step, in which a voice is so likely, begins or ends."""
        self._count += 1
        if self._start is None:
            return self._wait(voice)
        self._voices.append(voice)
        if voice >= self.policy.keep:
            self._spoken_to = self._count
        if self.quiet >= self._pause():
            return [self._end(min(self._spoken_to + self.policy.after, self._count), is_cut=False)]
        if len(self._voices) >= self.policy.longest:
            return self._cut()
        return []

    def stop(self) -> list[Began | Ended]:
        """What ends because no more sound follows. Steps are counted on."""
        self._recent.clear()
        ended: list[Began | Ended] = []
        if self._start is not None:
            ended.append(self._end(min(self._spoken_to + self.policy.after, self._count), is_cut=False))
        self._free_from = self._count
        return ended

    def _wait(self, voice: float) -> list[Began | Ended]:
        policy = self.policy
        self._recent.append(voice >= policy.begin)
        del self._recent[: -2 * policy.least]
        if sum(self._recent) < policy.least:
            return []
        first = self._count - len(self._recent) + self._recent.index(True)
        self._start = max(self._free_from, first - policy.before)
        self._voices = [voice] * (self._count - self._start)
        self._spoken_to = self._count
        self._recent.clear()
        return [Began(self._start, first)]

    def _pause(self) -> int:
        """How long a pause ends the utterance now."""
        policy = self.policy
        late = min(1.0, max(0.0, (len(self._voices) - policy.soft) / max(1, policy.longest - policy.soft)))
        return round(policy.hangover - late * (policy.hangover - policy.least_pause))

    def _cut(self) -> list[Began | Ended]:
        assert self._start is not None
        voices = self._voices
        first = len(voices) - len(voices) // 3
        # Of three steps together, because one alone is often unlikely within a word.
        around = [sum(voices[at - 1 : at + 2]) for at in range(first, len(voices) - 1)]
        at = first + around.index(min(around)) if around else len(voices)
        rest, spoken_to = voices[at:], self._spoken_to
        ended = self._end(self._start + at, is_cut=True)
        self._start, self._voices, self._spoken_to = ended.end, rest, max(spoken_to, ended.end)
        return [ended, Began(ended.end, ended.end)]

    def _end(self, end: int, *, is_cut: bool) -> Ended:
        assert self._start is not None
        spoken_to = max(self._start, min(end, self._spoken_to))
        ended = Ended(self._start, end, spoken_to, is_cut, _likelier(self._voices[: end - self._start]))
        self._start, self._voices, self._free_from = None, [], end
        return ended


def _likelier(voices: Sequence[float]) -> float:
    likelier = sorted(voices, reverse=True)[: max(1, len(voices) // 2)]
    return sum(likelier) / max(1, len(likelier))

"""One utterance on its way from sound to text, and what may be told of it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from streamer.speech.agreement import Agreement, Piece
from streamer.speech.heard import SAMPLE_RATE, Heard, HeardWord

_NS = 1_000_000_000


@dataclass(slots=True)
class Utterance:
    """start_ns: media time of its sound's first sample; spoken_ns: where the voice begins. language: None before the
    first pass. tried: samples that the last pass heard. voiced_to: samples up to where somebody speaks. told: settled
    words that were told. sound: all of it, once it has ended (`ended_ns`: when, on the host's clock)."""

    stream: str
    number: int
    start_ns: int
    spoken_ns: int
    agreement: Agreement = field(default_factory=Agreement)
    language: str | None = None
    likely_languages: dict[str, float] = field(default_factory=dict)
    no_speech: float = 0.0
    tried: int = 0
    voiced_to: int = 0
    voiced: float = 0.0
    told: int = 0
    sound: NDArray[np.float32] | None = None
    ended_ns: int = 0

    def heard(self, pieces: Sequence[Piece], settled: int, *, final: bool, end_ns: int) -> Heard:
        """`pieces`, the first `settled` of them settled, as others see it."""
        words = self._words(pieces)
        known = len(words) if final else len(self._words(pieces[:settled]))
        return Heard(self.stream, self.number, self.language or "", tuple(words), known, final, self.spoken_ns, end_ns)

    def nothing(self, end_ns: int) -> Heard:
        """What takes back all that was told of it."""
        return Heard(self.stream, self.number, self.language or "", (), 0, True, self.spoken_ns, end_ns)

    def ns_at(self, seconds: float) -> int:
        """Media time so many seconds into the sound, never before the voice begins."""
        return max(self.spoken_ns, self.start_ns + round(seconds * _NS))

    def _words(self, pieces: Sequence[Piece]) -> list[HeardWord]:
        """Pieces with the marks after a word joined to it, and those before the first to that."""
        words: list[HeardWord] = []
        leading = ""
        for piece in pieces:
            if not piece.is_mark:
                start_ns, end_ns = self.ns_at(piece.start_s), self.ns_at(piece.end_s)
                words.append(HeardWord(leading + piece.text, start_ns, end_ns, round(piece.probability, 3)))
                leading = ""
            elif words:
                last = words[-1]
                words[-1] = HeardWord(last.text + piece.text, last.start_ns, last.end_ns, last.probability)
            else:
                leading += piece.text
        return words


def samples_of(span_ns: int) -> int:
    """How many samples last so long."""
    return span_ns * SAMPLE_RATE // _NS


def ns_of(samples: int) -> int:
    """How long so many samples last."""
    return samples * _NS // SAMPLE_RATE

"""What the recogniser makes of an utterance, pass by pass, and what of that is told. No clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from streamer.speech.agreement import Agreement, Piece
from streamer.speech.heard import SAMPLE_RATE, Heard
from streamer.speech.invented import Evidence, why_invented
from streamer.speech.language import LanguageKeeper
from streamer.speech.repeats import repeats_from
from streamer.speech.utterance import Utterance

# Words that end closer than this to the end of the sound may be half a word, or another one.
_EDGE_S = 0.4


class Writer(Protocol):
    """What the recogniser is to this room."""

    def encode(self, samples: NDArray[np.float32]) -> Any: ...

    def languages(self, sound: Any) -> Mapping[str, float]: ...

    def write(
        self,
        samples: NDArray[np.float32],
        sound: Any,
        language: str,
        settled: Sequence[int],
        before: Sequence[int],
    ) -> Any: ...


class Passes:
    """Belongs to one thread. doubted: how many utterances were not believed, by why."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self.doubted: dict[str, int] = {}

    def partial(
        self, utterance: Utterance, keeper: LanguageKeeper, samples: NDArray[np.float32], *, quiet: int, voiced: float
    ) -> Heard | None:
        """What settles with a pass over the utterance so far; None: nothing that can be told.

        Args:
            quiet: samples at the end in which nobody speaks.
            voiced: as `Ended.voiced`, so far.
        """
        pieces = self._write(utterance, keeper, samples)
        seconds = len(samples) / SAMPLE_RATE
        agreement = utterance.agreement
        agreement.take(pieces, seconds - (_EDGE_S if quiet < _EDGE_S * SAMPLE_RATE else 0.0))
        utterance.voiced = voiced
        if len(agreement.settled) <= utterance.told:
            return None
        so_far = (*agreement.settled, *agreement.rest)
        spoken_s = (len(samples) - quiet) / SAMPLE_RATE
        if why_invented(so_far, _evidence(utterance, spoken_s)) is not None:
            return None
        utterance.told = len(agreement.settled)
        return utterance.heard(so_far, utterance.told, final=False, end_ns=utterance.ns_at(spoken_s))

    def final(self, utterance: Utterance, keeper: LanguageKeeper) -> Heard | None:
        """All of an utterance that has ended; None: nobody said anything, and nothing was told."""
        assert utterance.sound is not None
        if utterance.tried < utterance.voiced_to:
            pieces = self._write(utterance, keeper, utterance.sound)
        else:  # since the last pass there was only silence
            pieces = utterance.agreement.rest
        agreement = utterance.agreement
        agreement.finish(pieces)
        spoken_s = utterance.voiced_to / SAMPLE_RATE
        why = why_invented(agreement.settled, _evidence(utterance, spoken_s))
        if why is not None:
            self.doubted[why] = self.doubted.get(why, 0) + 1
            return utterance.nothing(utterance.ns_at(spoken_s)) if utterance.told else None
        if utterance.likely_languages:
            keeper.keep(utterance.likely_languages, spoken_s)
        keeper.say(utterance.language or "", agreement.tokens, utterance.ns_at(spoken_s))
        settled = agreement.settled
        return utterance.heard(settled, len(settled), final=True, end_ns=utterance.ns_at(spoken_s))

    def cut_short(self, utterance: Utterance) -> Heard | None:
        """An utterance that there is no time for: what was told of it stands; None: nothing was."""
        if not utterance.told:
            return None
        pieces = utterance.agreement.settled[: utterance.told]
        return utterance.heard(pieces, len(pieces), final=True, end_ns=utterance.ns_at(pieces[-1].end_s))

    def _write(self, utterance: Utterance, keeper: LanguageKeeper, samples: NDArray[np.float32]) -> tuple[Piece, ...]:
        sound = self._writer.encode(samples)
        if keeper.is_open:  # the more there is to hear, the surer
            utterance.likely_languages = dict(self._writer.languages(sound))
        if not utterance.agreement.settled:
            language = keeper.judge(utterance.likely_languages, len(samples) / SAMPLE_RATE)
            if language != utterance.language:
                utterance.language, utterance.agreement = language, Agreement()
        assert utterance.language is not None
        before = keeper.said(utterance.language, utterance.spoken_ns)
        written = self._writer.write(samples, sound, utterance.language, utterance.agreement.tokens, before)
        utterance.no_speech, utterance.tried = written.no_speech, len(samples)
        # It may repeat what has settled, too.
        whole = [*utterance.agreement.settled, *written.pieces]
        return tuple(whole[len(utterance.agreement.settled) : repeats_from(whole)])


def _evidence(utterance: Utterance, spoken_s: float) -> Evidence:
    # The likeliest language's, which need not be the kept one: a short word may sound like a neighbour's language.
    language = max(utterance.likely_languages.values(), default=1.0)
    return Evidence(utterance.no_speech, utterance.voiced, language, spoken_s)

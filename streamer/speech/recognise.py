"""From sound to words: Whisper under CTranslate2, on features as short as the sound. Numpy in, pieces of text out.

Whisper was made for 30 s at a time, and faster-whisper's own way pads everything to that: on a CPU that is nearly all
of the work for an utterance of a few seconds. The encoder takes shorter features as well; what that does to the text is
that the decoder, which misses the long silence at the end, sometimes says the last sentence again and again. So some
silence is added, the number of tokens is bounded by the time there was to say them, and a pass that repeats itself is
made once more with more silence.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Nothing is asked for, or told, over the network: every file is here.
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "ORT_DISABLE_TELEMETRY": "1"}
import ctranslate2
import tokenizers
from faster_whisper.feature_extractor import FeatureExtractor
from faster_whisper.tokenizer import Tokenizer

from streamer.speech.agreement import Piece
from streamer.speech.heard import SAMPLE_RATE
from streamer.speech.repeats import repeats_from

LONGEST_S = 30.0
"""More sound than this is never given to one pass."""
# Silence after the sound, at first and when the text repeated itself.
_SILENCE_S, _MORE_SILENCE_S = 3.0, 6.0
# Nobody speaks more tokens a second; some are there for what is not spoken.
_TOKENS_A_SECOND, _TOKENS_MORE = 10, 8
# More beams find nothing more here, and cost as much again.
_BEAM = 2
_FRAME_S = 0.02
_SPACELESS = frozenset({"zh", "ja", "th", "lo", "my", "yue"})


@dataclass(frozen=True, slots=True)
class Sound:
    """Sound that went through the encoder once, with silence after it: the CTranslate2 side's own representation.

    frames: of 10 ms, the silence too. seconds: without it.
    """

    encoded: Any
    frames: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Written:
    """What a pass wrote.

    pieces: after what it was to begin with. no_speech: how likely Whisper takes the sound for no speech. repeated: how
    many pieces were cut because they repeat others.
    """

    language: str
    pieces: tuple[Piece, ...]
    no_speech: float
    repeated: int = 0

    @property
    def text(self) -> str:
        """All pieces as one text."""
        return "".join(piece.text for piece in self.pieces).strip()


class Recogniser:
    """One model for all streams; not for several threads at once.

    Args:
        model: folder of Whisper for CTranslate2.
        threads: cores that one pass may use.

    Raises:
        RuntimeError: the folder's model can't be loaded.
    """

    def __init__(self, model: Path, threads: int) -> None:
        on_gpu = ctranslate2.get_cuda_device_count() > 0
        self.device = "cuda" if on_gpu else "cpu"
        self._model: Any = ctranslate2.models.Whisper(
            str(model),
            device=self.device,
            compute_type="float16" if on_gpu else "int8",
            intra_threads=threads,
            inter_threads=1,
        )
        self._tokenizer: Any = tokenizers.Tokenizer.from_file(str(model / "tokenizer.json"))
        self._languages: dict[str, Any] = {}
        self._features = FeatureExtractor(feature_size=self._model.n_mels)
        self.passes = 0

    @property
    def is_multilingual(self) -> bool:
        """Whether it knows more than English."""
        return bool(self._model.is_multilingual)

    def encode(self, samples: NDArray[np.float32], silence_s: float = _SILENCE_S) -> Sound:
        """float32 `[n]`, 16 kHz mono, at most LONGEST_S of it."""
        seconds = len(samples) / SAMPLE_RATE
        silence = round(min(silence_s, LONGEST_S - seconds) * SAMPLE_RATE)
        padded = np.concatenate([samples, np.zeros(max(0, silence), np.float32)])
        features = np.ascontiguousarray(self._features(padded, padding=0)[None], np.float32)
        encoded = self._model.encode(ctranslate2.StorageView.from_array(features))
        return Sound(encoded, features.shape[2], seconds)

    def languages(self, sound: Sound) -> dict[str, float]:
        """How likely each language is (ISO 639-1)."""
        if not self.is_multilingual:
            return {"en": 1.0}
        return {token[2:-2]: likely for token, likely in self._model.detect_language(sound.encoded)[0]}

    def write(
        self,
        samples: NDArray[np.float32],
        sound: Sound,
        language: str,
        settled: Sequence[int] = (),
        before: Sequence[int] = (),
    ) -> Written:
        """What is said in `samples`, which are `sound`, after the tokens that are settled; `before`: the tokens of what
        was said just before this utterance, in the same language."""
        self.passes += 1
        written = self._write(sound, language, settled, before)
        if written.repeated:
            again = self._write(self.encode(samples, _MORE_SILENCE_S), language, settled)
            if again.repeated < written.repeated:
                return again
        return written

    def _write(self, sound: Sound, language: str, settled: Sequence[int], before: Sequence[int] = ()) -> Written:
        tokenizer = self._tokenizer_of(language)
        earlier = [tokenizer.sot_prev, *before] if before else []
        prompt = [*earlier, *tokenizer.sot_sequence, tokenizer.no_timestamps, *settled]
        most = round(sound.seconds * _TOKENS_A_SECOND) + _TOKENS_MORE
        # CTranslate2 writes half of this at most, and no more than the prompt leaves of it.
        length = max(2 * most, most + len(prompt))
        result = self._model.generate(
            sound.encoded,
            [prompt],
            beam_size=_BEAM,
            max_length=min(length, 448),
            return_no_speech_prob=True,
        )[0]
        # What it was to begin with stands at the beginning of what comes back.
        tokens = [token for token in result.sequences_ids[0][len(settled) :] if token < tokenizer.eot]
        pieces = self._pieces(tokenizer, sound, list(settled), tokens)
        kept = repeats_from(pieces)
        return Written(language, tuple(pieces[:kept]), result.no_speech_prob, len(pieces) - kept)

    def _pieces(self, tokenizer: Any, sound: Sound, settled: list[int], tokens: list[int]) -> list[Piece]:
        """The tokens as words with their times, found by how the decoder attends to the sound."""
        if not tokens:
            return []
        aligned = self._model.align(sound.encoded, tokenizer.sot_sequence, [settled + tokens], sound.frames)[0]
        begins = _begins(aligned.alignments, len(settled) + len(tokens))
        likely = aligned.text_token_probs[len(settled) :]
        texts, groups = tokenizer.split_to_word_tokens(tokens)
        pieces: list[Piece] = []
        at = 0
        for text, group in zip(texts, groups, strict=True):
            first, after = at, at + len(group)
            start_s = min(float(begins[len(settled) + first]) * _FRAME_S, sound.seconds)
            end_s = min(float(begins[len(settled) + after]) * _FRAME_S, sound.seconds)
            sure = float(np.mean(likely[first:after])) if likely else 0.0
            pieces.append(Piece(text, start_s, max(start_s, end_s), sure, tuple(group)))
            at = after
        return pieces

    def _tokenizer_of(self, language: str) -> Any:
        if language not in self._languages:
            self._languages[language] = Tokenizer(self._tokenizer, self.is_multilingual, "transcribe", language)
        return self._languages[language]


def _begins(alignments: Sequence[tuple[int, int]], tokens: int) -> NDArray[np.int64]:
    """The frame in which each token begins, int64 `[tokens + 1]`; the last is where the text ends."""
    begins = np.full(tokens + 1, -1, np.int64)
    for token, frame in alignments:
        if token <= tokens and begins[token] < 0:
            begins[token] = frame
    last = alignments[-1][1] if alignments else 0
    begins[begins < 0] = last
    return np.maximum.accumulate(begins)

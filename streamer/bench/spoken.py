"""Real speech with its transcript: clips one after another as a camera's sound, and how wrong a text of them is."""

from __future__ import annotations

import csv
import itertools
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from models.learning.metrics import word_error
from streamer.errors import UserError
from streamer.speech.heard import SAMPLE_RATE
from streamer.speech.words import Words

_GAP_S = 0.3
_LOUD = 0.5


@dataclass(frozen=True, slots=True)
class Clip:
    """sound: float32 `[n]`, 16 kHz mono."""

    name: str
    language: str
    text: str
    sound: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Track:
    """Clips of one language in a row."""

    language: str
    text: str
    sound: NDArray[np.float32]

    def error(self, text: str) -> float:
        """Of a text of it: words wrong, or in Chinese characters in either script."""
        return word_error([units(text, self.language)], [units(self.text, self.language)])


def default_clips() -> Path:
    """The project's shared folder of speech, beside the checkout."""
    return Path(__file__).resolve().parents[3] / "shared" / "data" / "speech"


def read_clips(folder: Path) -> list[Clip]:
    """The clips of `transcripts.tsv` (id, lang, text) in `folder`, each in `ID.*`; those whose text is in brackets have
    none.

    Raises:
        UserError: there are none.
    """
    table = folder / "transcripts.tsv"
    if not table.is_file():
        raise UserError(f"{table}: no such file; name a folder of clips with their transcripts with --clips DIR")
    with table.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE) if row["text"][:1] != "("]
    clips = []
    for row in rows:
        path = next(iter(sorted(folder.glob(f"{row['id']}.*"))), None)
        if path is None:
            raise UserError(f"{table}: there is no clip {row['id']} beside it")
        clips.append(Clip(row["id"], row["lang"], row["text"], read_sound(path)))
    return clips


def read_sound(path: Path) -> NDArray[np.float32]:
    """A file's sound, float32 `[n]`, 16 kHz mono."""
    resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
    with av.open(str(path)) as container:
        frames = [done for frame in container.decode(audio=0) for done in resampler.resample(frame)]
        frames += resampler.resample(None)
    return np.concatenate([frame.to_ndarray().reshape(-1) for frame in frames]).astype(np.float32)


def tracks_of(clips: list[Clip], streams: int, seconds: float, talk: float) -> list[Track]:
    """A track a stream, the languages in turn, no two in the same order; each at least so long.

    Args:
        talk: the part of the time that each speaks; the streams don't do so at the same time.
    """
    languages = sorted({clip.language for clip in clips})
    tracks = []
    for index in range(streams):
        language = languages[index % len(languages)]
        own = [clip for clip in clips if clip.language == language]
        turned = own[index // len(languages) % len(own) :] + own[: index // len(languages) % len(own)]
        tracks.append(_track(turned, language, seconds, talk, index / streams))
    return tracks


def _track(clips: list[Clip], language: str, seconds: float, talk: float, phase: float) -> Track:
    parts: list[NDArray[np.float32]] = []
    texts: list[str] = []
    length = 0
    for clip in itertools.cycle(clips):
        if length >= seconds * SAMPLE_RATE:
            break
        pause = round(len(clip.sound) * (1 / talk - 1)) + round(_GAP_S * SAMPLE_RATE)
        before = round(pause * phase) if not parts else 0
        parts += [np.zeros(before, np.float32), _levelled(clip.sound), np.zeros(pause - before, np.float32)]
        texts.append(clip.text)
        length += len(clip.sound) + pause
    return Track(language, " ".join(texts), np.concatenate(parts))


def _levelled(sound: NDArray[np.float32]) -> NDArray[np.float32]:
    return sound * np.float32(_LOUD / max(1e-3, float(np.abs(sound).max())))


def units(text: str, language: str) -> list[str]:
    """What errors are counted in: Chinese characters folded to simplified ones, words elsewhere; no signs, no case."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    plain = "".join(letter if unicodedata.category(letter)[0] in "LNM" or letter == "'" else " " for letter in folded)
    return list(Words().simplified(plain.replace(" ", ""))) if language == "zh" else plain.split()

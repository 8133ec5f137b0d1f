"""What the recogniser hears of a stream, and the door to it: the shapes alone, so that everybody may know them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import msgspec

from streamer.media import AudioChunk

SAMPLE_RATE = 16_000
"""Samples a second of the sound that is fed: mono, float32 in [-1, 1]."""


class HeardWord(msgspec.Struct, frozen=True, array_like=True):
    """A word as the recogniser cuts them, with its punctuation: `text` begins with a space where the language puts one
    before it, so that texts joined are the utterance's. In Chinese and Japanese it is a character or a few; cutting
    words there is somebody else's. Media time. probability: in [0, 1], the recogniser's own."""

    text: str
    start_ns: int
    end_ns: int
    probability: float = 1.0


class Heard(msgspec.Struct, frozen=True, array_like=True):
    """An utterance so far, or (`final`) all of it; it replaces what was said of the same utterance before.

    utterance: numbers the utterances of a stream from 1 on, never twice while the service runs.
    language: ISO 639-1.
    words: the first `settled` of them will be in every later text of this utterance; of the final one all are.
    start_ns, end_ns: media time of the utterance, padding not included.
    A final one without words takes back what was said of it; without partial ones before it there is none.
    """

    stream: str
    utterance: int
    language: str
    words: tuple[HeardWord, ...]
    settled: int
    final: bool
    start_ns: int
    end_ns: int

    @property
    def text(self) -> str:
        """All words as one text."""
        return "".join(word.text for word in self.words).strip()

    @property
    def settled_text(self) -> str:
        """The settled words as one text."""
        return "".join(word.text for word in self.words[: self.settled]).strip()


class Hearing(msgspec.Struct, frozen=True, array_like=True):
    """How a stream is listened to now. shed: sound of it was left out within the last seconds, or is now, for want of
    computing power; shed_ns: how much since it was put. partials: whether words are told before an utterance ends.
    heard_to_ns: media time before which all sound was listened to (or shed); None: none came yet."""

    heard_to_ns: int | None = None
    shed: bool = False
    shed_ns: int = 0
    partials: bool = True


@dataclass(frozen=True, slots=True)
class SpeechOptions:
    """Of one stream. weight: who is heard longer when not all can be; as the stream's own. denoise: before anything
    else. language: ISO 639-1 where it is known; None: found from the sound, and kept until evidence changes it."""

    weight: float = 1.0
    denoise: bool = False
    language: str | None = None


class SpeechDesk(Protocol):
    """Listens to many streams. Belongs to one event loop; results come through the function `on_heard(Heard)` that its
    maker takes, called on that loop, in order for each stream."""

    @property
    def off(self) -> str | None:
        """Why nothing is recognised now (one line fit for a user); None: it works."""
        ...

    def put(self, stream: str, options: SpeechOptions) -> None:
        """Listen to `stream` from now on, or with other options."""
        ...

    def feed(self, stream: str, chunk: AudioChunk) -> None:
        """Sound of a stream that was put, at SAMPLE_RATE. Never blocks: what can't be taken is shed, and counted."""
        ...

    def end(self, stream: str) -> None:
        """Sound ends here (a new epoch, a source that went away): the utterance in progress becomes final with what
        there is of it, and the stream's state is forgotten. More sound may follow."""
        ...

    def remove(self, stream: str) -> None:
        """As `end`, and no more sound follows."""
        ...

    def ease(self, level: int) -> None:
        """How much is to be left out, for all streams: 0 nothing; 1 partial results; 2 and up more and more streams,
        the least weighty first; 4 everything."""
        ...

    def hearing(self, stream: str) -> Hearing:
        """How `stream` is listened to."""
        ...

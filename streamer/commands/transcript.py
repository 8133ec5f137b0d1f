"""What is said in a file, written down and put into its segments: each utterance into one, the first that ends after
it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from streamer.clock import rfc3339
from streamer.commands.label import Labelled
from streamer.commands.subtitles import Cue, cues_of
from streamer.decide import likeliest
from streamer.errors import MediaError, StreamerError
from streamer.media import AudioChunk, Geometry, SaidWord
from streamer.messages import MIN_SCORE, Label, Share, Speech
from streamer.sources.replay import read_file
from streamer.speech.heard import Heard
from streamer.speech.reading import Reading, read_words
from streamer.speech.written import ToWrite, Written
from streamer.speechconfig import keyword_labels


@dataclass(frozen=True, slots=True)
class _Utterance:
    end_ns: int
    speech: Speech
    labels: tuple[Label, ...]


class Transcript:
    """`heard`: the file's utterances, in order, taken as they are needed. `write`: writes one down.

    Attributes:
        cues: of all that was asked for so far, as subtitles.
    """

    def __init__(self, heard: Iterator[Heard], write: Callable[[ToWrite], Written]) -> None:
        self._heard = heard
        self._write = write
        self._waiting: deque[_Utterance] = deque()
        self._reading = Reading()
        self._begun_ns = 0
        self._is_over = False
        self.cues: list[Cue] = []

    def speaking(self, items: Iterator[Labelled]) -> Iterator[Labelled]:
        """`items` with what was said in their segments; the last one has all that is left."""
        held: Labelled | None = None
        try:
            for item in items:
                if held is not None:
                    yield held
                held = _said(item, self._until(item.end_ns))
        except StreamerError:
            if held is not None:
                yield held
            raise
        if held is not None:
            yield _said(held, self._rest())

    def words(self, start_ns: int, end_ns: int) -> tuple[SaidWord, ...]:
        """What is said in this stretch of the file, for who reads it."""
        while not self._is_over and self._begun_ns < end_ns:
            self._take()
        return self._reading.between(start_ns, end_ns)

    def _until(self, end_ns: int) -> list[_Utterance]:
        while not self._is_over and (not self._waiting or self._waiting[-1].end_ns <= end_ns):
            self._take()
        return [self._waiting.popleft()] if self._waiting and self._waiting[0].end_ns <= end_ns else []

    def _rest(self) -> list[_Utterance]:
        while not self._is_over:
            self._take()
        rest = list(self._waiting)
        self._waiting.clear()
        return rest

    def _take(self) -> None:
        heard = next(self._heard, None)
        if heard is None:
            self._is_over = True
            return
        self._begun_ns = heard.start_ns
        written = self._write(ToWrite("".join(word.text for word in heard.words), heard.language))
        self._reading.put(heard.utterance, read_words(heard, written))
        if not written.words:
            return
        self.cues += cues_of(heard.start_ns, heard.end_ns, written.text)
        speech = Speech(
            text=written.text,
            language=heard.language,
            words=list(written.words),
            final=True,
            start=rfc3339(heard.start_ns),
            end=rfc3339(heard.end_ns),
            tags=list(written.tags) if any(written.tags) else [],
        )
        score = round(max(MIN_SCORE, sum(word.probability for word in heard.words) / len(heard.words)), 4)
        labels = tuple(Label(name, score, Share(0.0, 0.0, 1.0)) for name in keyword_labels(written.said))
        self._waiting.append(_Utterance(heard.end_ns, speech, labels))


def sound_of(path: str, geometry: Geometry, frames_per_second: int) -> Iterator[AudioChunk]:
    """The sound of a file; as far as it can be read, because who reads its pictures tells what is wrong with it."""
    try:
        for event in read_file(Path(path), geometry, frames_per_second, pictures=False):
            if isinstance(event, AudioChunk):
                yield event
    except MediaError:
        return


def _said(item: Labelled, utterances: list[_Utterance]) -> Labelled:
    segment = item.segment
    coverage = replace(segment.coverage, text=segment.coverage.audio)
    if not utterances:
        return Labelled(replace(segment, coverage=coverage), item.events, item.end_ns)
    spoken = [utterance.speech for utterance in utterances]
    labels = [label for utterance in utterances for label in utterance.labels]
    whole = _joined([*([segment.speech] if segment.speech is not None else []), *spoken])
    told = likeliest([*segment.labels, *labels]) if labels else segment.labels
    return Labelled(replace(segment, coverage=coverage, speech=whole, labels=told), item.events, item.end_ns)


def _joined(spoken: list[Speech]) -> Speech:
    """Several utterances as one, where no segment comes any more."""
    if len(spoken) == 1:
        return spoken[0]
    words = [word for speech in spoken for word in speech.words]
    tags = [tag for speech in spoken for tag in speech.tags or [""] * len(speech.words)]
    return replace(
        spoken[0],
        text=" ".join(speech.text for speech in spoken),
        words=words,
        end=spoken[-1].end,
        tags=tags if any(tags) else [],
    )

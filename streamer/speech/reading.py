"""The words of a stream that a network reads: settled ones alone, for as long as windows reach back to them. Pure."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Sequence

from streamer.media import SaidWord
from streamer.speech.heard import Heard, HeardWord
from streamer.speech.written import Written

# More than anybody says within the reach of a window.
_MOST_WORDS = 512


def read_words(heard: Heard, written: Written) -> tuple[SaidWord, ...]:
    """The settled words of an utterance: those that were cut, each with the time of what it was cut from."""
    settled = settled_words(heard)
    ends = list(itertools.accumulate(len(word.text) for word in settled))
    found = []
    place = 0
    for piece in written.read:
        while place < len(ends) - 1 and ends[place] <= piece.start:
            place += 1
        last = place
        while last < len(ends) - 1 and ends[last] < piece.end:
            last += 1
        found.append(SaidWord(piece.word, settled[place].start_ns, settled[last].end_ns))
    return tuple(found)


def settled_words(heard: Heard) -> Sequence[HeardWord]:
    """Those that are in every later text of the utterance; of the final one all."""
    return heard.words if heard.final else heard.words[: heard.settled]


class Reading:
    """What was said of late in one stream. What is told of an utterance takes the place of what was told of it before,
    so nothing that was taken back stays."""

    def __init__(self) -> None:
        self._said: OrderedDict[int, tuple[SaidWord, ...]] = OrderedDict()
        self._from_ns: int | None = None

    def begin(self, media_ns: int) -> None:
        """An epoch begins; what was said before that time is none of its, however late it comes."""
        self._said.clear()
        self._from_ns = media_ns

    def put(self, utterance: int, words: Sequence[SaidWord]) -> None:
        """The words of an utterance are these now."""
        self._said.pop(utterance, None)
        if words:
            self._said[utterance] = tuple(words)
        while len(self._said) > 1 and sum(map(len, self._said.values())) > _MOST_WORDS:
            self._said.popitem(last=False)

    def between(self, start_ns: int, end_ns: int) -> tuple[SaidWord, ...]:
        """The words whose middle lies in `[start_ns, end_ns)`, oldest first, and none of an earlier epoch."""
        if self._from_ns is not None:
            start_ns = max(start_ns, self._from_ns)
        words = (word for said in self._said.values() for word in said if start_ns <= word.middle_ns < end_ns)
        return tuple(sorted(words, key=lambda word: word.middle_ns)[-_MOST_WORDS:])

"""What one evaluation of a rule sees of one stream, at one media time. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from streamer.messages import CoverageBody, Label, Segment
from streamer.peopleconfig import is_of_people

NOTHING = CoverageBody(0.0, 0.0, 0.0)


@dataclass(slots=True)
class Facts:
    """One segment, or (by the defaults) a stream of which there is none at this time. Built once a message, read by
    every rule, never changed.

    group: "" where the stream has none. status: the segment's, "" where there is none. reason: the segment's, or what
    the stream's state has for one. start_ns, at_ns: begin and end of the segment's window, nanoseconds since 1970.
    labels: by name. people: how many, 0 where nobody counts them. looked: somebody looked at this window; where False,
    labels and people are not known, which is not the same as absent. blind: people are looked for in this stream, and
    were not in this window, for want of time: they and their labels are not known.
    """

    stream: str
    at_ns: int
    group: str = ""
    state: str = ""
    status: str = ""
    reason: str = ""
    coverage: CoverageBody = NOTHING
    words: Sequence[str] = ()
    people: int = 0
    labels: Mapping[str, Label] = field(default_factory=dict)
    start_ns: int = 0
    looked: bool = False
    blind: bool = False
    _spoken: str | None = None

    @classmethod
    def of(cls, segment: Segment, group: str | None, state: str, start_ns: int, at_ns: int) -> Facts:
        """What `segment` says; its `start` and `end` as numbers are given, because its reader has them already.

        Nobody looked at a window that was shed, nor at one of which no modality was there.
        """
        coverage = segment.coverage
        return cls(
            stream=segment.stream,
            at_ns=at_ns,
            group=group or "",
            state=state,
            status=segment.status,
            reason=segment.reason or "",
            coverage=coverage,
            words=segment.speech.words if segment.speech is not None else (),
            people=segment.people.count if segment.people is not None else 0,
            labels={label.name: label for label in segment.labels},
            start_ns=start_ns,
            blind=segment.people is None and "people" in segment.degraded,
            looked=segment.status != "shed" and (coverage.video > 0 or coverage.audio > 0 or coverage.text > 0),
        )

    def knows(self, label: str) -> bool:
        """Whether a label of this name was looked for in this window."""
        return self.looked and not (self.blind and is_of_people(label))

    def spoken(self) -> str:
        """The words as `plain_words` has them, each between two unit separators; "" where there are none."""
        if self._spoken is None:
            self._spoken = between_separators(plain_words(self.words))
        return self._spoken


SEPARATOR = "\x1f"


def plain_words(words: Sequence[str]) -> list[str]:
    """Words as they are compared: case folded, compatible forms made one (NFKC), without punctuation around them."""
    folded = (unicodedata.normalize("NFKC", word).casefold() for word in words)
    return [plain for plain in map(_bare, folded) if plain]


def between_separators(words: Sequence[str]) -> str:
    """`words` with a unit separator before, between and after them; "" where there are none."""
    return f"{SEPARATOR}{SEPARATOR.join(words)}{SEPARATOR}" if words else ""


def _bare(word: str) -> str:
    begin, end = 0, len(word)
    while begin < end and not word[begin].isalnum():
        begin += 1
    while end > begin and not word[end - 1].isalnum():
        end -= 1
    return word[begin:end]


_BETWEEN = re.compile(r"[\s,.;:!?，。；：！？、…]+")
# Where words are written without spaces: from the CJK radicals on, kana and ideographs, the planes above.
_FIRST_UNSPACED = "\u2e80"


def heard(text: str) -> re.Pattern[str] | None:
    """What finds `text` in `Facts.spoken`: its words in a row, each of them whole. None where it has none.

    Chinese and Japanese have no spaces, and how the recogniser cut them into words can't be known: a run of such
    characters is found across words, from the beginning of one to the end of another.
    """
    words = plain_words(_BETWEEN.split(text))
    if not words:
        return None
    return re.compile(SEPARATOR + SEPARATOR.join(map(_across, words)) + SEPARATOR)


def _across(word: str) -> str:
    parts = [re.escape(word[0])]
    for before, after in pairwise(word):
        unspaced = before >= _FIRST_UNSPACED or after >= _FIRST_UNSPACED
        parts.append((f"{SEPARATOR}?" if unspaced else "") + re.escape(after))
    return "".join(parts)

"""Words and phrases that are listened for, found among the words of an utterance. Pure.

A phrase is found where its words stand in a row, each of them whole and in whatever case: `help` is not in `helpless`.
Chinese is found across words, from the beginning of one to the end of another, and in either script.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from streamer.spoken import between_separators, heard, plain_words, words_of

# From so many letters on a word may differ by one, and from so many by two, where matching is fuzzy.
_ONE_FROM, _TWO_FROM = 5, 10


@dataclass(frozen=True, slots=True)
class Keywords:
    """phrases: as the configuration has them. fuzzy: long words may differ by a letter or two. simplified: gives texts
    in the characters that both sides are compared in."""

    phrases: tuple[str, ...]
    simplified: Callable[[str], str]
    fuzzy: bool = False

    def said(self, words: Sequence[str]) -> list[str]:
        """Those of the phrases that `words` hold, in the configuration's order."""
        if not self.phrases:
            return []
        plain = [self.simplified(word) for word in plain_words(words)]
        spoken = between_separators(plain)
        return [phrase for phrase in self.phrases if self._holds(phrase, plain, spoken)]

    def _holds(self, phrase: str, plain: list[str], spoken: str) -> bool:
        wanted = self.simplified(phrase)
        pattern = heard(wanted)
        if pattern is not None and pattern.search(spoken):
            return True
        return self.fuzzy and _nearly_holds(words_of(wanted), plain)


def _nearly_holds(wanted: list[str], words: list[str]) -> bool:
    rows = (words[start : start + len(wanted)] for start in range(len(words) - len(wanted) + 1))
    return bool(wanted) and any(all(map(_alike, wanted, row)) for row in rows)


def _alike(wanted: str, word: str) -> bool:
    most = (len(wanted) >= _ONE_FROM) + (len(wanted) >= _TWO_FROM)
    return abs(len(wanted) - len(word)) <= most and _distance(wanted, word) <= most


def _distance(one: str, other: str) -> int:
    """How many letters have to be put in, taken out or replaced (Levenshtein 1966)."""
    row = list(range(len(other) + 1))
    for count, letter in enumerate(one, 1):
        ahead = [count]
        for (diagonal, above), sign in zip(pairwise(row), other, strict=True):
            ahead.append(min(above + 1, ahead[-1] + 1, diagonal + (letter != sign)))
        row = ahead
    return row[-1]

"""Words by number, as text encoders take them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from models.learning.clips import Clip


class Vocabulary:
    """Words by number: 1 is words[0]; 0 is any other, and padding."""

    def __init__(self, words: Iterable[str]) -> None:
        self.words = tuple(words)
        self._ids = {word: place for place, word in enumerate(self.words, 1)}

    @classmethod
    def of(cls, clips: Iterable[Clip], most: int) -> Vocabulary:
        """The words of clips, the most frequent first (in the order of the alphabet where equally so), up to `most`."""
        counted = Counter(word.text.casefold() for clip in clips for word in clip.words)
        return cls(sorted(counted, key=lambda word: (-counted[word], word))[:most])

    def __len__(self) -> int:
        return len(self.words)

    def id(self, word: str) -> int:
        """The word's number, 0 for one that isn't known."""
        return self._ids.get(word.casefold(), 0)

"""Which words of a growing utterance won't change: those that two passes in a row agree on. Pure.

LocalAgreement-2 (Liu et al. 2020; Machacek et al. 2023), with what is settled given to the next pass as the beginning
of its text, so that nothing settled has to be found again.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Piece:
    """A word, or punctuation on its own, as a pass wrote it: seconds from the beginning of its sound; tokens are the
    recogniser's; probability in [0, 1]."""

    text: str
    start_s: float
    end_s: float
    probability: float
    tokens: tuple[int, ...]

    @property
    def is_mark(self) -> bool:
        """Whether nothing of it is spoken."""
        return not any(unicodedata.category(letter)[0] in "LNM" for letter in self.text)

    @property
    def spoken(self) -> str:
        """What is compared: without case, width, punctuation and spaces."""
        folded = unicodedata.normalize("NFKC", self.text).casefold()
        return "".join(letter for letter in folded if unicodedata.category(letter)[0] in "LNM")


class Agreement:
    """Of one utterance. settled: the pieces that won't change, in order."""

    def __init__(self) -> None:
        self.settled: list[Piece] = []
        self._before: list[Piece] = []

    @property
    def rest(self) -> tuple[Piece, ...]:
        """What the pass before wrote after what is settled."""
        return tuple(self._before)

    @property
    def tokens(self) -> tuple[int, ...]:
        """Of what is settled: what the next pass is to begin with."""
        return tuple(token for piece in self.settled for token in piece.tokens)

    def take(self, pieces: Sequence[Piece], until_s: float) -> int:
        """What a pass wrote after what is settled; how many pieces that settles.

        Args:
            until_s: words that end later are too close to the end of the sound to be trusted.
        """
        agreed = 0
        for index, (piece, before) in enumerate(zip(pieces, self._before, strict=False)):
            if piece.end_s > until_s or not _same(piece, before):
                break
            # A comma may yet become a full stop: it settles with the word that follows.
            if not piece.is_mark:
                agreed = index + 1
        self.settled.extend(pieces[:agreed])
        self._before = list(pieces[agreed:])
        return agreed

    def finish(self, pieces: Sequence[Piece]) -> None:
        """What the last pass wrote after what is settled: settled too."""
        self.settled.extend(pieces)
        self._before = []


def _same(one: Piece, other: Piece) -> bool:
    return one.text == other.text if one.is_mark or other.is_mark else one.spoken == other.spoken

"""Text to words: as they are written between spaces, and for Chinese as jieba cuts them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from models.learning.errors import LearningError

# Han, kana and hangul runs, or letters and figures with inner apostrophes and hyphens; signs are no words.
_HAN = r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_HAN}]+|(?:(?![{_HAN}])\w)+(?:['’-](?:(?![{_HAN}])\w)+)*")


class Piece(NamedTuple):
    """A word and where it stands: `text[start:end]` of what was cut, in lower case."""

    word: str
    start: int
    end: int


def cut_words(text: str) -> tuple[str, ...]:
    """The words of a text, in lower case, without signs. LearningError where it is Chinese and jieba is missing."""
    return tuple(piece.word for piece in cut_pieces(text, _chinese))


def cut_pieces(text: str, chinese: Callable[[str], Sequence[str]]) -> Iterator[Piece]:
    """The same with their places; `chinese` cuts a run of Chinese into words that are the run when they are joined."""
    for found in _WORD.finditer(text):
        run, start = found.group(), found.start()
        for word in chinese(run) if re.match(rf"[{_HAN}]", run) else (run,):
            yield Piece(word.casefold(), start, start + len(word))
            start += len(word)


def _chinese(run: str) -> list[str]:
    try:
        import jieba  # type: ignore[import-untyped,import-not-found,unused-ignore]
    except ImportError as error:
        raise LearningError(f"{run[:20]!r}: Chinese text is cut into words by jieba; pip install jieba") from error
    words: list[str] = jieba.lcut(run)
    return words

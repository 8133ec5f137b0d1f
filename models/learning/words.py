"""Text to words: as they are written between spaces, and for Chinese as jieba cuts them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from models.learning.errors import LearningError

# Han, kana and hangul runs, or letters and figures with inner apostrophes and hyphens; signs are no words.
_HAN = r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_HAN}]+|(?:(?![{_HAN}])\w)+(?:['’-](?:(?![{_HAN}])\w)+)*")


def cut_words(text: str) -> tuple[str, ...]:
    """The words of a text, in lower case, without signs. LearningError where it is Chinese and jieba is missing."""
    return tuple(_pieces(text))


def _pieces(text: str) -> Iterator[str]:
    for found in _WORD.finditer(text):
        word = found.group().casefold()
        if re.match(rf"[{_HAN}]", word):
            yield from _chinese(word)
        else:
            yield word


def _chinese(run: str) -> list[str]:
    try:
        import jieba  # type: ignore[import-untyped,import-not-found,unused-ignore]
    except ImportError as error:
        raise LearningError(f"{run[:20]!r}: Chinese text is cut into words by jieba; pip install jieba") from error
    words: list[str] = jieba.lcut(run)
    return words

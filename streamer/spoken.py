"""How what was said is compared with what was written down: whole words in a row, in whatever case. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from itertools import pairwise

SEPARATOR = "\x1f"
_BETWEEN = re.compile(r"[\s,.;:!?，。；：！？、…]+")
# Where words are written without spaces: from the CJK radicals on, kana and ideographs, the planes above.
_FIRST_UNSPACED = "\u2e80"

SAID = "said: "
"""What the label of a keyword begins with."""


def plain_words(words: Sequence[str]) -> list[str]:
    """Words as they are compared: case folded, compatible forms made one (NFKC), without punctuation around them."""
    folded = (unicodedata.normalize("NFKC", word).casefold() for word in words)
    return [plain for plain in map(_bare, folded) if plain]


def words_of(phrase: str) -> list[str]:
    """The words of what somebody wrote down to be compared with, as `plain_words` has them."""
    return plain_words(_BETWEEN.split(phrase))


def between_separators(words: Sequence[str]) -> str:
    """`words` with a unit separator before, between and after them; "" where there are none."""
    return f"{SEPARATOR}{SEPARATOR.join(words)}{SEPARATOR}" if words else ""


def heard(text: str) -> re.Pattern[str] | None:
    """What finds `text` in words between separators: its words in a row, each of them whole. None where it has none.

    Chinese and Japanese have no spaces, and how the recogniser cut them into words can't be known: a run of such
    characters is found across words, from the beginning of one to the end of another.
    """
    words = words_of(text)
    if not words:
        return None
    return re.compile(SEPARATOR + SEPARATOR.join(map(_across, words)) + SEPARATOR)


def _bare(word: str) -> str:
    begin, end = 0, len(word)
    while begin < end and not word[begin].isalnum():
        begin += 1
    while end > begin and not word[end - 1].isalnum():
        end -= 1
    return word[begin:end]


def _across(word: str) -> str:
    parts = [re.escape(word[0])]
    for before, after in pairwise(word):
        unspaced = before >= _FIRST_UNSPACED or after >= _FIRST_UNSPACED
        parts.append((f"{SEPARATOR}?" if unspaced else "") + re.escape(after))
    return "".join(parts)

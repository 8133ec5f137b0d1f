"""Text made into words: how it is written (signs, scripts), and where one word ends and the next begins. Pure.

Chinese is cut by jieba, which also tells each word's part of speech; all else by the rules of Unicode (UAX 29). Runs
of scripts without spaces that nobody here has a dictionary for (Thai, Lao, Khmer, Burmese) stay whole. jieba's
dictionary is read when the first Chinese words come: half a second and 180 MB, which who hears none does not pay.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any, Literal, NamedTuple

import opencc
import regex

from models.learning.words import cut_pieces
from streamer.speech.redact import MASK
from streamer.speech.written import ReadPiece

Script = Literal["simplified", "traditional", "as_heard"]
_CHINESE = frozenset({"zh", "yue", "wuu"})

_HAN = r"\p{Script=Han}"
# Chinese, and what stands in it without a space (`5G基站`): what jieba takes for one run.
_RUN = regex.compile(rf"[A-Za-z0-9+#&._%-]*{_HAN}[{_HAN}A-Za-z0-9+#&._%-]*")
_UNSPACED = regex.compile(r"[\p{Script=Thai}\p{Script=Lao}\p{Script=Khmer}\p{Script=Myanmar}\p{M}]+")
_BOUNDARY = regex.compile(r"(?V1w)\b")
_WORDLIKE = regex.compile(r"[\p{L}\p{N}]")

# Signs of the width of an ideograph, for texts in other scripts; and the opposite, next to ideographs.
_FULL = "！（），－．／：；？＂＇［］｛｝＠＃％＆＋＝～｜＜＞＊＿＄＾｀＼"
_NARROW = {ord(sign): chr(ord(sign) - 0xFEE0) for sign in _FULL}
# A space comes after these, and came with their width.
_NARROW |= {ord(sign): f"{plain} " for sign, plain in zip("，。、：；？！", ",.,:;?!", strict=True)}
_WIDE = {",": "，", "?": "？", "!": "！", ":": "：", ";": "；", ".": "。"}
_NEXT_TO_HAN = regex.compile(rf"(?<={_HAN})\s*(?:([,?!:;])|(\.)(?!\w))\s*")
_BETWEEN_HAN = regex.compile(rf"(?<=[{_HAN}，。？！：；、])\s+(?=[{_HAN}，。？！：；、])")
_LETTERS = regex.compile(r"[０-９Ａ-Ｚａ-ｚ]+|[\p{Nd}--[0-9]]+", regex.V1)


class Word(NamedTuple):
    """A word, and its part of speech in the letters of the ICTCLAS tag set (`n`, `v`, `eng`); "" where nobody knows."""

    text: str
    tag: str = ""


class Words:
    """Cuts texts. Belongs to one thread.

    Args:
        script: which Chinese characters texts are written in.
        dictionary: words that jieba should know besides its own.
    """

    def __init__(self, script: Script = "simplified", dictionary: Sequence[str] = ()) -> None:
        self._script = script
        self._dictionary = tuple(dictionary)

    def written(self, heard: str, language: str) -> str:
        """`heard` as it is written down: digits and letters of one width, the signs that belong to its script, no
        spaces where there should be none, and Chinese in the characters asked for. language: ISO 639-1."""
        text = _LETTERS.sub(lambda found: "".join(map(_narrow, found[0])), heard)
        if language in _CHINESE:
            text = _NEXT_TO_HAN.sub(lambda found: _WIDE[found[1] or found[2]], text)
            text = _BETWEEN_HAN.sub("", text)
            if self._script != "as_heard":
                text = self.simplified(text) if self._script == "simplified" else self._to_traditional.convert(text)
        elif language != "ja":
            text = text.translate(_NARROW)
        return " ".join(text.split())

    def simplified(self, text: str) -> str:
        """`text` in simplified characters: what texts in either are compared by."""
        converted: str = self._to_simplified.convert(text)
        return converted

    def cut(self, text: str, language: str) -> list[Word]:
        """The words of `text` in its order, without signs between them; masks are words of their own."""
        words: list[Word] = []
        place = 0
        for mask in MASK.finditer(text):
            words += [*self._cut(text[place : mask.start()], language), Word(mask[0])]
            place = mask.end()
        return [*words, *self._cut(text[place:], language)]

    def read(self, text: str, language: str) -> list[ReadPiece]:
        """The words of `text` and their places, cut as `streamer train` cuts what networks learn from; Chinese in the
        characters asked for."""
        narrow = _LETTERS.sub(lambda found: "".join(map(_narrow, found[0])), text)
        convert = self._script_of(language)
        return [ReadPiece(convert(piece.word), piece.start, piece.end) for piece in cut_pieces(narrow, self._by_jieba)]

    def _script_of(self, language: str) -> Callable[[str], str]:
        if language not in _CHINESE or self._script == "as_heard":
            return str
        return self.simplified if self._script == "simplified" else self._to_traditional.convert

    def _by_jieba(self, run: str) -> list[str]:
        plain = self._plain(run)
        words, place = [], 0
        for word in self._tagger.tokenizer.cut(plain):
            words.append(run[place : place + len(word)])
            place += len(word)
        return words

    def _plain(self, run: str) -> str:
        """`run` in the characters of the dictionary, where that keeps every character's place."""
        plain = self.simplified(run)
        return plain if len(plain) == len(run) else run

    def _cut(self, text: str, language: str) -> Iterator[Word]:
        if language not in _CHINESE:
            yield from _by_rules(text)
            return
        place = 0
        for run in _RUN.finditer(text):
            yield from _by_rules(text[place : run.start()])
            yield from self._by_dictionary(run[0])
            place = run.end()
        yield from _by_rules(text[place:])

    def _by_dictionary(self, run: str) -> Iterator[Word]:
        # The dictionary is one of simplified words; traditional ones are found where they would be.
        place = 0
        for pair in self._tagger.cut(self._plain(run)):
            text = run[place : place + len(pair.word)]
            place += len(pair.word)
            if _WORDLIKE.search(text):
                yield Word(text, "" if pair.flag == "x" else pair.flag)

    @cached_property
    def _to_simplified(self) -> Any:
        return opencc.OpenCC("t2s")

    @cached_property
    def _to_traditional(self) -> Any:
        return opencc.OpenCC("s2t")

    @cached_property
    def _tagger(self) -> Any:
        import jieba.posseg  # 50 ms and more: who hears no Chinese does without

        tokenizer = jieba.Tokenizer()
        # Not by `initialize`: that would trust a file which anybody may have put into the shared temporary folder.
        tokenizer.FREQ, tokenizer.total = tokenizer.gen_pfdict(tokenizer.get_dict_file())
        tokenizer.initialized = True
        for word in self._dictionary:
            tokenizer.add_word(self.simplified(word), tag="nz")
        return jieba.posseg.POSTokenizer(tokenizer)


def read_plainly(text: str) -> Iterator[ReadPiece]:
    """As `Words.read` without dictionaries: Chinese character by character."""
    return (ReadPiece(*piece) for piece in cut_pieces(text, list))


def _by_rules(text: str) -> Iterator[Word]:
    place = 0
    for run in _UNSPACED.finditer(text):
        yield from _between_boundaries(text[place : run.start()])
        yield Word(run[0])
        place = run.end()
    yield from _between_boundaries(text[place:])


def _between_boundaries(text: str) -> Iterator[Word]:
    return (Word(part) for part in _BOUNDARY.split(text) if _WORDLIKE.search(part))


def _narrow(character: str) -> str:
    """A digit or Latin letter in its usual form."""
    return unicodedata.normalize("NFKC", character) if not character.isdigit() else str(unicodedata.digit(character))

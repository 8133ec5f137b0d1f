"""What the configuration says of speech: how it is listened to, how words are written, what is listened for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Literal

from msgspec import Struct

from streamer.spoken import SAID, words_of

Path = tuple[str | int, ...]

_MOST_WORDS = 1000
_MOST_LETTERS = 64
# What Whisper knows (ISO 639-1, and two letters of its own).
_LANGUAGES = re.compile(
    "a[fmrsz]|b[aegnors]|c[asy]|d[ae]|e[lnstu]|f[aior]|g[lu]|h[aeirtuy]|haw|i[dst]|j[aw]|k[akmno]|l[abnotv]"
    "|m[giklnrsty]|n[elno]|oc|p[alst]|r[ou]|s[adiklnoqruvw]|t[aeghklrt]|u[krz]|vi|y[io]|yue|zh"
)


class SpeechConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How speech is listened to and written down, for all streams.

    model: a folder of Whisper for CTranslate2, or a size; None: Whisper base. language: ISO 639-1, where all speak one;
    None: found for each stream. denoise: before anything else. script: which Chinese characters are written. redact:
    numbers and addresses of people are taken out before anything is published. keywords: words and phrases that make a
    label `said: ...`; fuzzy: long ones may differ by a letter or two. dictionary: Chinese words besides the usual ones.
    """

    model: str | None = None
    language: str | None = None
    denoise: bool = False
    script: Literal["simplified", "traditional", "as_heard"] = "simplified"
    redact: bool = True
    keywords: list[str] = []
    fuzzy: bool = False
    dictionary: list[str] = []


class StreamSpeech(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How one stream is listened to, where that is not as all are: see `SpeechConfig`."""

    language: str | None = None
    denoise: bool | None = None


def check_speech(speech: SpeechConfig) -> Iterator[tuple[Path, str]]:
    """What the shapes alone don't catch: the place, and what is wrong there."""
    yield from _check_language(speech.language)
    for name, words in (("keywords", speech.keywords), ("dictionary", speech.dictionary)):
        if len(words) > _MOST_WORDS:
            yield (name,), f"{len(words)} are more than {_MOST_WORDS}: keep the most important ones"
        for index, word in enumerate(words):
            if not words_of(word) or len(word) > _MOST_LETTERS or word != word.strip():
                yield (name, index), f"{word[:_MOST_LETTERS]!r} is no word: write letters, 1 to {_MOST_LETTERS} of them"
            elif word in words[:index]:
                yield (name, index), f"{word!r} is here a second time: keep one"


def check_stream_speech(speech: bool | StreamSpeech) -> Iterator[tuple[Path, str]]:
    """The same for one stream's entry."""
    if isinstance(speech, StreamSpeech):
        yield from _check_language(speech.language)


def _check_language(language: str | None) -> Iterator[tuple[Path, str]]:
    if language is not None and not _LANGUAGES.fullmatch(language):
        yield ("language",), f"{language[:16]!r} is no language that can be recognised: write en, zh, de, ..."


def keyword_labels(keywords: Sequence[str]) -> list[str]:
    """The labels of words and phrases that are listened for."""
    return [SAID + keyword for keyword in keywords]

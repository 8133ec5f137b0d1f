"""What goes to who writes down what was heard, and what comes back. Shapes alone, so that everybody may know them."""

from __future__ import annotations

from typing import Literal

import msgspec


class WritingSettings(msgspec.Struct, frozen=True):
    """What the configuration says of it: see `SpeechConfig`. reads: words are wanted for a network, too."""

    script: Literal["simplified", "traditional", "as_heard"] = "simplified"
    redact: bool = True
    keywords: tuple[str, ...] = ()
    fuzzy: bool = False
    dictionary: tuple[str, ...] = ()
    reads: bool = False


class ToWrite(msgspec.Struct, frozen=True):
    """What was heard. language: ISO 639-1. growing: more of the same utterance may follow; then the first `settled`
    characters of the text won't change."""

    text: str
    language: str
    growing: bool = False
    settled: int = 0


class ReadPiece(msgspec.Struct, frozen=True, array_like=True):
    """A word for a network, in lower case: `text[start:end]` of what was heard."""

    word: str
    start: int
    end: int


class Written(msgspec.Struct, frozen=True):
    """What may be published of it. tags: the words' parts of speech, "" where nobody knows. said: the keywords in it;
    of a growing text there are none yet. read: what is not to be published: the words of what has settled, nothing
    masked, cut as those that networks learn from are."""

    text: str = ""
    words: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    said: tuple[str, ...] = ()
    read: tuple[ReadPiece, ...] = ()

"""What goes to who writes down what was heard, and what comes back. Shapes alone, so that everybody may know them."""

from __future__ import annotations

from typing import Literal

import msgspec


class WritingSettings(msgspec.Struct, frozen=True):
    """What the configuration says of it: see `SpeechConfig`."""

    script: Literal["simplified", "traditional", "as_heard"] = "simplified"
    redact: bool = True
    keywords: tuple[str, ...] = ()
    fuzzy: bool = False
    dictionary: tuple[str, ...] = ()


class ToWrite(msgspec.Struct, frozen=True):
    """What was heard. language: ISO 639-1. growing: more of the same utterance may follow."""

    text: str
    language: str
    growing: bool = False


class Written(msgspec.Struct, frozen=True):
    """What may be published of it. tags: the words' parts of speech, "" where nobody knows. said: the keywords in it;
    of a growing text there are none yet."""

    text: str = ""
    words: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    said: tuple[str, ...] = ()

"""Words that are listened for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.speech.keywords import Keywords
from streamer.speech.words import Words
from streamer.speech.writing import Writer, write_plainly
from streamer.speech.written import ToWrite, WritingSettings

_WORDS = Words()


def keywords(*phrases: str, fuzzy: bool = False) -> Keywords:
    return Keywords(phrases, _WORDS.simplified, fuzzy)


@pytest.mark.parametrize(
    ("phrase", "words", "found"),
    [
        ("help", ["Help", "me"], True),
        ("help", ["helpless"], False),
        ("help me", ["please", "HELP", "me"], True),
        ("help me", ["help", "and", "me"], False),
        ("救命", ["救命", "啊"], True),
        ("救命", ["救", "命"], True),
        ("救命", ["有救", "命"], False),
        ("头发", ["頭髮", "了"], True),
        ("胡蘿蔔", ["胡萝卜"], True),
        ("can't breathe", ["I", "can't", "breathe"], True),
    ],
)
def test_phrases_are_found_on_words(phrase: str, words: list[str], found: bool) -> None:
    """Whole words in a row, in whatever case and script; never letters of a word."""
    assert bool(keywords(phrase).said(words)) == found


def test_fuzzy_matching_is_asked_for() -> None:
    """A long word may differ by a letter only where that is wanted, a short one never."""
    assert keywords("emergency").said(["emergencey"]) == []
    assert keywords("emergency", fuzzy=True).said(["an", "emergencey"]) == ["emergency"]
    assert keywords("help", fuzzy=True).said(["held"]) == []


@given(st.lists(st.text("abcdeé救命啊", min_size=1, max_size=4), min_size=1, max_size=6))
def test_every_run_of_words_is_found(words: list[str]) -> None:
    """Whatever words are listened for in a row, they are found where they stand so."""
    phrase = " ".join(words)
    assert keywords(phrase).said(["before", *words, "after"]) == [phrase]


def test_a_writer_puts_it_together() -> None:
    """Text, words and parts of speech are of one length and redacted; keywords are those of the final text alone."""
    writer = Writer(WritingSettings(keywords=("救命", "help")))
    written = writer.write(ToWrite("救命,我的號碼是一三八零零一三八零零零", "zh"))
    assert written.text == "救命，我的号码是[number]" and written.said == ("救命",)
    assert "[number]" in written.words and len(written.words) == len(written.tags)
    begun = writer.write(ToWrite("救命,我的號碼是一三八", "zh", growing=True))
    assert begun.text == "救命，我的号码是" and begun.said == ()
    plain = Writer(WritingSettings(redact=False)).write(ToWrite(" call 555 123 4567", "en"))
    assert plain.text == "call 555 123 4567"


def test_without_dictionaries_it_is_written_all_the_same() -> None:
    """What replaces a writer that failed redacts and finds keywords too."""
    settings = WritingSettings(keywords=("救命",))
    written = write_plainly(settings, ToWrite(" 救命！13800138000", "zh"))
    assert written.text == "救命！[number]" and written.said == ("救命",)
    assert write_plainly(settings, ToWrite(" help me now", "en", growing=True)).words == ("help", "me")

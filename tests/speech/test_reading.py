"""The words of a stream that a network reads: cut as in training, with their times, settled ones alone."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from models.learning.words import cut_words
from streamer.media import SaidWord
from streamer.speech.heard import Heard, HeardWord
from streamer.speech.reading import Reading, read_words
from streamer.speech.writing import Writer, write_plainly
from streamer.speech.written import ReadPiece, ToWrite, WritingSettings, Written
from tests.builders import MS, S

SETTINGS = WritingSettings(reads=True)


def heard(*texts: str, settled: int | None = None, language: str = "en") -> Heard:
    """Words of 100 ms each, from 1 s on; final where `settled` isn't given."""
    words = tuple(HeardWord(text, S + place * 100 * MS, S + (place + 1) * 100 * MS) for place, text in enumerate(texts))
    count = len(words) if settled is None else settled
    return Heard("door", 1, language, words, count, settled is None, S, 2 * S)


def said(text: str, at_ns: int = 0) -> SaidWord:
    return SaidWord(text, at_ns, at_ns + 100 * MS)


def test_words_are_those_of_training() -> None:
    """A text is cut for a network as `streamer train` cuts it, nothing masked; Chinese is in the characters asked for,
    and where dictionaries are away it comes by character."""
    text = " Don't stop, Bob! Call 138 0013 8000."
    written = Writer(SETTINGS).write(ToWrite(text, "en"))
    assert "[number]" in written.words and tuple(piece.word for piece in written.read) == cut_words(text)
    assert all(text[piece.start : piece.end].casefold() == piece.word for piece in written.read)
    chinese = Writer(SETTINGS).write(ToWrite("我喜歡北京,ＯＫ", "zh"))
    assert [piece.word for piece in chinese.read] == ["我", "喜欢", "北京", "ok"]
    plain = write_plainly(SETTINGS, ToWrite("小心狗", "zh"))
    assert [piece.word for piece in plain.read] == ["小", "心", "狗"]
    assert Writer(WritingSettings()).write(ToWrite(text, "en")).read == ()


def test_what_has_not_settled_is_not_read() -> None:
    """Of a growing text only its settled beginning; what `growing` holds back of it from being published is read."""
    writer = Writer(SETTINGS)
    growing = writer.write(ToWrite(" my number is 555 and", "en", growing=True, settled=len(" my number is 555")))
    assert [piece.word for piece in growing.read] == ["my", "number", "is", "555"]
    assert writer.write(ToWrite(" my", "en", growing=True)).read == ()


def test_words_have_the_times_of_what_they_were_cut_from() -> None:
    """A word that several pieces of the recogniser's make lasts as long as all of them; several in one piece each as
    long as that."""
    parts = heard("小", "心那", "狗", language="zh")
    pieces = (ReadPiece("小心", 0, 2), ReadPiece("那", 2, 3), ReadPiece("狗", 3, 4))
    found = read_words(parts, Written(read=pieces))
    assert [(word.text, word.start_ns - S, word.end_ns - S) for word in found] == [
        ("小心", 0, 200 * MS),
        ("那", 100 * MS, 200 * MS),
        ("狗", 200 * MS, 300 * MS),
    ]
    assert read_words(heard(" a", settled=0), Written()) == ()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from([" Stop", ",", " don't", " it's", " 狗", "！", " a-b", "  "]), min_size=1, max_size=8))
def test_every_word_lies_within_its_utterance(texts: list[str]) -> None:
    """However signs and spaces are spread over the recogniser's words, what is read stands in order and in time."""
    utterance = heard(*texts)
    text = "".join(texts)
    found = read_words(utterance, write_plainly(SETTINGS, ToWrite(text, "en")))
    assert [word.start_ns for word in found] == sorted(word.start_ns for word in found)
    assert all(S <= word.start_ns < word.end_ns <= S + len(texts) * 100 * MS for word in found)


def test_what_is_told_of_an_utterance_takes_the_place_of_what_was() -> None:
    """Words that are taken back, or cut in another way, are gone; utterances stand in the order of their times."""
    reading = Reading()
    reading.put(2, [said("dog", 3 * S)])
    reading.put(1, [said("the", S), said("lit", 2 * S)])
    assert [word.text for word in reading.between(0, 9 * S)] == ["the", "lit", "dog"]
    reading.put(1, [said("the", S), said("little", 2 * S)])
    assert [word.text for word in reading.between(0, 9 * S)] == ["the", "little", "dog"]
    reading.put(2, [])
    assert [word.text for word in reading.between(0, 9 * S)] == ["the", "little"]
    assert [word.text for word in reading.between(S + 50 * MS, 2 * S + 50 * MS)] == ["the"]


def test_an_epoch_has_its_own_words() -> None:
    """What was said before it began is none of its, also where that is told late."""
    reading = Reading()
    reading.put(1, [said("before", S)])
    reading.begin(2 * S)
    assert reading.between(0, 9 * S) == ()
    reading.put(1, [said("before", S), said("late", S + 500 * MS)])
    reading.put(2, [said("after", 2 * S)])
    assert [word.text for word in reading.between(0, 9 * S)] == ["after"]


def test_it_keeps_no_more_than_windows_need() -> None:
    """A stream that speaks for days holds some minutes of it."""
    reading = Reading()
    for number in range(2_000):
        reading.put(number, [said("word", number * S)] * 5)
    assert len(reading.between(0, 3_000 * S)) <= 512
    assert reading.between(1_999 * S, 2_001 * S)

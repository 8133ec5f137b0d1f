"""What is taken out of what was said before anybody gets it, and what is held back while it is being said."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamer.speech.redact import ADDRESS, NUMBER, growing, redact

_SHARED = settings(max_examples=300, deadline=None)


@pytest.mark.parametrize(
    "said",
    [
        "13800138000",
        "138 0013 8000",
        "138-0013-8000",
        "+86 138 0013 8000",
        "(555) 123-4567",
        "1-3-8, 0-0-1, 3-8-0-0-0",
        "one three eight zero zero one three eight",
        "five five five, one two three four",
        "five five five dash one two three four",
        "double five, five one triple two",
        "oh two oh seven nine four six",
        "twelve thirty-four fifty-six seventy eight",
        "one 3 eight 0013 八零零",
        "一三八零零一三八零零零",
        "幺三八，零零幺三，八零零零",
        "壹貳參肆伍陸柒",
        "１３８００１３８０００",
        "11010519491231002X",
        "110105 19491231 002x",
        "078-05-1120",
        "4111 1111 1111 1111",
        "4111-1111-1111-1111",
    ],
)
def test_numbers_are_masked_however_they_are_said(said: str) -> None:
    """Seven digits and more are one mask, in the middle of a sentence as well, and the sentence stays."""
    assert redact(said) == NUMBER
    assert redact(f"Call me: {said}, please") == f"Call me: {NUMBER}, please"
    assert redact(f"我的号码是{said}谢谢") == f"我的号码是{NUMBER}谢谢"


@pytest.mark.parametrize(
    "said",
    [
        "john@example.com",
        "john.smith+x@mail.example.co.uk",
        "john at example.com",
        "john dot smith at example dot com",
        "j o h n at g mail dot com",
        "john underscore smith 77 at example dot com",
        "zhangsan艾特qq点com",
        "12345 at qq.com",
        "a小老鼠163点com",
    ],
)
def test_addresses_are_masked_written_or_spelled(said: str) -> None:
    """An e-mail address is one mask."""
    assert redact(f"Write to：{said}") == f"Write to：{ADDRESS}"


@pytest.mark.parametrize("said", ["E12345678", "AB123456C", "x1y2z3a4b5c6"])
def test_words_of_letters_and_digits_are_masked_whole(said: str) -> None:
    """A passport's number does not keep its letters."""
    assert redact(f"my passport {said}.") == f"my passport {NUMBER}."


@pytest.mark.parametrize(
    "said",
    [
        "",
        "Somebody is at the door.",
        "call 110 or 911 at once",
        "It's 10:30, and 25 degrees; room 4711.",
        "in the year 2026, twenty five people",
        "二零二六年十一月二十三日，三百二十一人",
        "小心那只狗",
        "one of us saw two dogs, three cats",
        "I was at home dot",
        "MP3 and H264 and covid19",
        "from ten to eleven",
    ],
)
def test_what_is_nobodys_stays(said: str) -> None:
    """Short numbers, times, dates in words and sentences with `at` in them are left alone."""
    assert redact(said) == said


def test_a_partial_text_ends_before_what_may_become_personal() -> None:
    """Digits that may go on, and words that may be the beginning of an address, are not shown yet."""
    assert growing("my number is 138 0013") == "my number"
    assert growing("我的号码是一三八零零") == "我的号码是"
    assert growing("write to john dot smith at") == "write to"
    assert growing("write to john dot smith at example dot com and") == f"write to {ADDRESS}"
    assert growing("room 12 is on fire now") == "room 12 is on fire"
    assert growing("救命，救命") == "救命，救命"


_WORDS = ["one", "three", "oh", "o", "double", "twenty", "12", "138", "0013", "7", "a", "j", "X", "one3"]
_WORDS += ["at", "dot", "@", "com", "john", "dash", "room", "gmail.com", "E1234567", "dot", "at", "hello"]
_ENGLISH = st.lists(st.sampled_from(_WORDS), max_size=14).map(lambda words: [f" {word}" for word in words])
_CHINESE = st.lists(st.sampled_from([*"一三八零幺救命点号是，7", "艾特", " qq", "12", "com", "X"]), max_size=20)


@_SHARED
@example([" john", " dot", " 1", " 2", " 3", " at", " x", " dot", " com"], 5)
@example([" a", " 1", " 2", " 3", " 4", " 5", " 6", " 7"], 4)
@example([" one", " at", " one", " dot", " one", " one"], 6)
@example(["一", "一", "一", "一", "一", "12", "com", "一"], 8)
@example([" a", " double", " one", " one", " 0013"], 3)
@given(_ENGLISH | _CHINESE, st.integers(0, 20))
def test_a_partial_text_never_shows_what_the_whole_masks(words: list[str], known: int) -> None:
    """Whatever is said later, what was shown of the first words is what the whole text begins with."""
    shown, whole = growing("".join(words[:known])), redact("".join(words))
    assert whole.startswith(shown.removesuffix(NUMBER).removesuffix(ADDRESS).rstrip()), (shown, whole)


@_SHARED
@given(_ENGLISH | _CHINESE | st.text(max_size=60))
def test_what_is_masked_stays_masked(said: list[str] | str) -> None:
    """Redacting twice is redacting once, and no run of seven digits is left."""
    once = redact(said if isinstance(said, str) else "".join(said))
    assert redact(once) == once
    assert not re.search(r"\d{7}", once)


@pytest.mark.parametrize(
    "said", ["a-" * 400, "dot " * 400, "dotdot" * 200, "1 a " * 300, "a.b@" * 200, "at " * 400, "点" * 900]
)
def test_no_text_takes_long(said: str) -> None:
    """Text that is made to be difficult takes no more than a moment."""
    began_s = time.process_time()
    redact(said)
    growing(said)
    assert time.process_time() - began_s < 5

"""How what was heard is written, and where its words begin and end."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.speech.redact import NUMBER
from streamer.speech.words import Words


@pytest.fixture(scope="module")
def words() -> Words:
    return Words(dictionary=["云计算平台", "小冷门词"])


def cut(words: Words, text: str, language: str) -> list[str]:
    return [word.text for word in words.cut(words.written(text, language), language)]


def test_chinese_is_cut_into_words_with_their_parts_of_speech(words: Words) -> None:
    """Words of more than one character stay together, each has its tag, signs are no words, and what stands in Chinese
    from other scripts is a word."""
    found = words.cut("小心那只狗，我用iPhone打了911。", "zh")
    assert [word.text for word in found] == ["小心", "那", "只", "狗", "我", "用", "iPhone", "打", "了", "911"]
    assert dict(found)["狗"] == "n" and dict(found)["打"] == "v" and dict(found)["iPhone"] == "eng"


def test_words_of_the_configuration_are_known(words: Words) -> None:
    """A word that no dictionary has is one word where the configuration names it, in either script."""
    assert "小冷门词" in cut(words, "这是小冷门词吗", "zh")
    assert "小冷門詞" in [word.text for word in words.cut("這是小冷門詞嗎", "zh")]


def test_the_shared_temporary_folder_is_not_trusted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: Words
) -> None:
    """A dictionary that somebody left where jieba looks for its own is not read, and none is left there."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "jieba.cache").write_bytes(b"not a dictionary")
    assert cut(Words(), "救命啊", "zh") == cut(words, "救命啊", "zh")
    assert [path.name for path in tmp_path.iterdir()] == ["jieba.cache"]


@pytest.mark.parametrize(
    ("heard", "language", "expected"),
    [
        (" I can't, don't  -- naïve cafés!", "en", ["I", "can't", "don't", "naïve", "cafés"]),
        ("Ｈｅｌｌｏ，１２ ｗｏｒｌｄｓ。", "en", ["Hello", "12", "worlds"]),
        ("привет, мир", "ru", ["привет", "мир"]),
        ("สวัสดีครับ ok", "th", ["สวัสดีครับ", "ok"]),
        ("٣٤ كلمة", "ar", ["34", "كلمة"]),
        ("", "en", []),
        ("…!?", "zh", []),
    ],
)
def test_other_languages_are_cut_by_unicode(words: Words, heard: str, language: str, expected: list[str]) -> None:
    """Words of every script, with digits of one kind, and without signs."""
    assert cut(words, heard, language) == expected


def test_a_mask_is_a_word_of_its_own(words: Words) -> None:
    """What was taken out stands among the words as what it is."""
    assert [word.text for word in words.cut(f"call {NUMBER}, now", "en")] == ["call", NUMBER, "now"]
    assert NUMBER in [word.text for word in words.cut(f"打{NUMBER}吧", "zh")]


@pytest.mark.parametrize(
    ("script", "written"),
    [
        ("simplified", "小心那只狗，头发干净吗？OK，１2只。"),
        ("traditional", "小心那隻狗，頭髮乾淨嗎？OK，12只。"),
        ("as_heard", "小心那隻狗，头发乾淨吗？OK，12只。"),
    ],
)
def test_scripts_and_signs_are_those_asked_for(script: str, written: str) -> None:
    """Whisper mixes scripts and signs; what is written has one of each."""
    heard = " 小心 那隻狗 , 头发乾淨吗? OK，１2只."
    assert script in ("simplified", "traditional", "as_heard")
    got = Words(script).written(heard, "zh")  # type: ignore[arg-type]
    assert got.replace(" ", "") == written.replace("１", "1")


def test_what_is_not_chinese_keeps_its_characters() -> None:
    """Kanji are no traditional Chinese."""
    assert Words().written("髪が乾く", "ja") == "髪が乾く"


@settings(max_examples=80, deadline=None)
@given(st.text(max_size=40), st.sampled_from(["zh", "en", "th", "ja", "ar"]))
def test_nothing_is_lost_or_invented(text: str, language: str) -> None:
    """The words of any text are parts of what is written, in its order; writing it twice changes nothing."""
    made = _PLAIN.written(text, language)
    assert _PLAIN.written(made, language) == made
    place = 0
    for word in _PLAIN.cut(made, language):
        place = made.index(word.text, place) + len(word.text)


_PLAIN = Words("as_heard")

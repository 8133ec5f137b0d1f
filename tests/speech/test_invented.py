"""What is not believed, and what is."""

from __future__ import annotations

import pytest

from streamer.speech.agreement import Piece
from streamer.speech.invented import Evidence, is_boilerplate, why_invented

CLEAR = Evidence(no_speech=0.05, voiced=0.95, language=0.95, seconds=2.0)


def said(text: str, probability: float = 0.9) -> list[Piece]:
    """As one piece."""
    return [Piece(text, 0.0, 2.0, probability, (1, 2, 3))]


@pytest.mark.parametrize(
    "text",
    [
        "Thank you for watching!",
        "Thanks for watching.",
        "Please subscribe to my channel",
        "Subtitles by the Amara.org community",
        "字幕由Amara.org社区提供",
        "请不吝点赞 订阅 转发 打赏支持明镜与点点栏目",
        "謝謝觀看",
        "谢谢大家收看",
        "訂閱 點贊",
        "Bye bye.",
        "you",
    ],
)
def test_boilerplate_needs_to_be_sure(text: str) -> None:
    """What Whisper writes where nobody speaks is known in both languages and scripts, and not believed by itself."""
    assert is_boilerplate(text)
    assert why_invented(said(text, 0.6), CLEAR) == "boilerplate"


@pytest.mark.parametrize("text", ["Thank you, officer, that is mine.", "小心那只狗", "救命", "help", "watch the door"])
def test_what_is_said_clearly_is_believed(text: str) -> None:
    """Ordinary words with a clear voice pass, also where they hold a part of what is known to be invented."""
    assert not is_boilerplate(text)
    assert why_invented(said(text), CLEAR) is None


def test_a_clear_thank_you_is_believed() -> None:
    """People do say it: then the recogniser is sure of it."""
    assert why_invented(said("Thank you.", 0.97), CLEAR) is None


@pytest.mark.parametrize(
    ("evidence", "why"),
    [
        (Evidence(no_speech=0.05, voiced=0.3, language=0.95, seconds=2.0), "voice"),
        (Evidence(no_speech=0.9, voiced=0.65, language=0.95, seconds=2.0), "no_speech"),
        (Evidence(no_speech=0.05, voiced=0.65, language=0.3, seconds=2.0), "language"),
        (Evidence(no_speech=0.05, voiced=0.95, language=0.2, seconds=2.0), "language"),
        (Evidence(no_speech=0.05, voiced=0.95, language=0.95, seconds=0.2), "speed"),
    ],
)
def test_each_evidence_counts(evidence: Evidence, why: str) -> None:
    """Text that is likely by itself falls with what speaks against its sound."""
    assert why_invented(said("open the other door please"), evidence) == why


def test_unlikely_and_repeated_text_falls() -> None:
    """So does what the recogniser is unsure of, what says nothing, and what goes on and on."""
    assert why_invented(said("open the door", 0.3), CLEAR) == "unlikely"
    assert why_invented(said(" ..."), CLEAR) == "empty"
    assert why_invented([], CLEAR) == "empty"
    long = Evidence(no_speech=0.05, voiced=0.95, language=0.95, seconds=30.0)
    assert why_invented(said("la la " * 40), long) == "repetition"

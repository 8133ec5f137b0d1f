"""A stream's language is kept until what is heard speaks clearly for another."""

from __future__ import annotations

from streamer.speech.language import LanguageKeeper

CHINESE, ENGLISH, UNSURE = {"zh": 0.97, "en": 0.01}, {"zh": 0.01, "en": 0.97}, {"ko": 0.6, "zh": 0.3}


def test_the_first_clear_utterance_decides() -> None:
    """Before it each utterance has its likeliest language; an unsure one decides nothing."""
    keeper = LanguageKeeper()
    assert keeper.judge({"ko": 0.4, "zh": 0.3}, 3.0) == "ko"
    keeper.keep({"ko": 0.4, "zh": 0.3}, 3.0)
    assert keeper.kept is None
    keeper.keep(CHINESE, 3.0)
    assert keeper.kept == "zh"


def test_a_doubtful_or_short_utterance_changes_nothing() -> None:
    """What sounds a little like another language, or is too short to tell, is in the kept one."""
    keeper = LanguageKeeper()
    keeper.keep(CHINESE, 3.0)
    assert keeper.judge(UNSURE, 3.0) == "zh"
    assert keeper.judge(ENGLISH, 0.5) == "zh"


def test_clear_evidence_changes_it() -> None:
    """Another language that is far likelier is believed, and kept."""
    keeper = LanguageKeeper()
    keeper.keep(CHINESE, 3.0)
    assert keeper.judge(ENGLISH, 3.0) == "en"
    keeper.keep(ENGLISH, 3.0)
    assert keeper.kept == "en"


def test_what_was_just_said_is_known_for_a_while_and_in_its_language() -> None:
    """It helps with what is said within five seconds after it, in the same language."""
    keeper = LanguageKeeper()
    keeper.say("zh", tuple(range(100)), 10_000_000_000)
    assert keeper.said("zh", 12_000_000_000) == tuple(range(52, 100))
    assert keeper.said("zh", 16_000_000_000) == keeper.said("en", 12_000_000_000) == ()


def test_a_fixed_language_stays() -> None:
    """Where it is known nothing is judged."""
    keeper = LanguageKeeper("zh")
    keeper.keep(ENGLISH, 9.0)
    assert keeper.judge(ENGLISH, 9.0) == "zh" and not keeper.is_open

"""What was said, and what finds it."""

from __future__ import annotations

import pytest

from streamer.alerts.conditions.facts import Facts
from streamer.spoken import heard


@pytest.mark.parametrize(
    ("text", "words", "found"),
    [
        ("help", ["Help,", "me!"], True),
        ("HELP ME", ["please", "help", "me"], True),
        ("help, me", ["help", "me"], True),
        ("me help", ["help", "me"], False),
        ("hel", ["help"], False),
        ("help", ["helper"], False),
        ("helpme", ["help", "me"], False),
        ("help me", ["helpme"], False),
        ("don't", ["don't"], True),
        ("a.b", ["axb"], False),
        ("straße", ["STRASSE"], True),
        ("ABC", ["ＡＢＣ"], True),
        ("小心", ["小心", "那", "只", "狗"], True),
        ("那只狗", ["小心", "那", "只", "狗"], True),
        ("小心那只", ["小心", "那只", "狗"], True),
        ("心那", ["小心", "那"], False),
        ("小心，狗", ["小心", "狗"], True),
        ("小心 狗", ["小心狗"], False),
        ("iphone手机", ["iPhone", "手机"], True),
        ("help", [], False),
        ("help", ["!", "?"], False),
    ],
)
def test_said(text: str, words: list[str], found: bool) -> None:
    """Whole words, in a row, in whatever case; Chinese however it was cut into words."""
    pattern = heard(text)
    assert pattern is not None
    assert (pattern.search(Facts("s", 0, words=words).spoken()) is not None) is found


@pytest.mark.parametrize("text", ["", "  ", "?!", "，"])
def test_nothing_to_hear(text: str) -> None:
    """A text without a letter or digit finds nothing, and is told from one that does."""
    assert heard(text) is None

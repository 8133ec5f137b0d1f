"""The language of one stream: kept until what is heard speaks clearly for another. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

# How much likelier another language must be than the kept one before it is believed. Whisper takes a short Mandarin
# word for Korean or Japanese now and then, and people seldom change.
_ODDS = 20.0
# What it says of less sound than this is a guess.
_LEAST_S = 1.0
# What was said before says something of what is said next, for so long and so much of it.
_SHORTLY_NS, _MOST_TOKENS = 5_000_000_000, 48
# The first one is believed from here on.
_LIKELY = 0.5


class LanguageKeeper:
    """fixed: the language where it is known (ISO 639-1)."""

    def __init__(self, fixed: str | None = None) -> None:
        self._fixed = fixed
        self._kept = fixed
        self._said: tuple[str, tuple[int, ...], int] = ("", (), 0)

    @property
    def kept(self) -> str | None:
        """The stream's language; None: nobody has been heard well enough yet."""
        return self._kept

    @property
    def is_open(self) -> bool:
        """Whether evidence can change anything."""
        return self._fixed is None

    def judge(self, likely: Mapping[str, float], seconds: float) -> str:
        """The language of an utterance of which so much was heard and whose languages are so likely; not kept."""
        if self._fixed is not None:
            return self._fixed
        best = max(likely, key=likely.__getitem__)
        if self._kept is None:
            return best
        changes = seconds >= _LEAST_S and likely[best] > _ODDS * likely.get(self._kept, 0.0)
        return best if changes else self._kept

    def keep(self, likely: Mapping[str, float], seconds: float) -> None:
        """An utterance is over, and speech it was."""
        judged = self.judge(likely, seconds)
        if self._kept is not None or likely.get(judged, 0.0) >= _LIKELY:
            self._kept = judged

    def say(self, language: str, tokens: Sequence[int], end_ns: int) -> None:
        """An utterance is over, and those tokens it was; media time."""
        self._said = language, tuple(tokens[-_MOST_TOKENS:]), end_ns

    def said(self, language: str, start_ns: int) -> tuple[int, ...]:
        """The last tokens of what was said shortly before an utterance, in its language: it may go on from there."""
        before, tokens, end_ns = self._said
        return tokens if before == language and 0 <= start_ns - end_ns <= _SHORTLY_NS else ()

"""What was said as subtitles: SubRip, and WebVTT as the W3C has it. Pure."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_NS_PER_MS = 1_000_000
# Two lines of a subtitle, in columns of Latin letters; an ideograph takes two of them.
_MOST_COLUMNS = 84
_LINE_COLUMNS = 42
_LEAST_NS = 500 * _NS_PER_MS
# Where a text may be broken: after words, and after every ideograph, which keeps the signs after it.
_WIDE = "\u2e80-\u2fff\u3003-\ufaff\uff01-\uff60"
_PIECE = re.compile(rf"[{_WIDE}][，。？！：；、）》」』”’…]*\s*|[^\s{_WIDE}]+\s*|\s+")


@dataclass(frozen=True, slots=True)
class Cue:
    """A text, and when it is shown; media time."""

    start_ns: int
    end_ns: int
    text: str


def cues_of(start_ns: int, end_ns: int, text: str) -> list[Cue]:
    """An utterance as cues of at most two lines, each shown for its part of the time."""
    end_ns = max(end_ns, start_ns + _LEAST_NS)
    parts = _parts(text)
    columns = [max(1, _columns(part)) for part in parts]
    cues, place_ns = [], start_ns
    for index, part in enumerate(parts):
        until_ns = start_ns + (end_ns - start_ns) * sum(columns[: index + 1]) // sum(columns)
        cues.append(Cue(place_ns, until_ns, _folded(part)))
        place_ns = until_ns
    return cues


def apart(cues: Iterable[Cue]) -> list[Cue]:
    """`cues` in order, none of them shown together with the next."""
    ordered = sorted(cues, key=lambda cue: cue.start_ns)
    following = [cue.start_ns for cue in ordered[1:]]
    ends = [min(cue.end_ns, start_ns) for cue, start_ns in zip(ordered, following, strict=False)]
    return [
        Cue(cue.start_ns, end_ns, cue.text)
        for cue, end_ns in zip(ordered, [*ends, *(cue.end_ns for cue in ordered[-1:])], strict=True)
        if end_ns > cue.start_ns
    ]


def srt(cues: Sequence[Cue]) -> str:
    """SubRip."""
    blocks = (
        f"{number}\n{_time(cue.start_ns, ',')} --> {_time(cue.end_ns, ',')}\n{cue.text}\n"
        for number, cue in enumerate(cues, 1)
    )
    return "\n".join(blocks)


def vtt(cues: Sequence[Cue]) -> str:
    """WebVTT: what would be markup there is escaped."""
    blocks = (
        f"{_time(cue.start_ns, '.')} --> {_time(cue.end_ns, '.')}\n{html.escape(cue.text, quote=False)}\n"
        for cue in cues
    )
    return "\n".join(["WEBVTT\n", *blocks])


def _time(at_ns: int, point: str) -> str:
    ms = at_ns // _NS_PER_MS
    return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02}{point}{ms % 1000:03}"


def _columns(text: str) -> int:
    return sum(1 + (unicodedata.east_asian_width(letter) in "WF") for letter in text)


def _parts(text: str, most: int = _MOST_COLUMNS) -> list[str]:
    parts = [""]
    for piece in _PIECE.findall(text):
        if parts[-1] and _columns((parts[-1] + piece).rstrip()) > most:
            parts.append("")
        parts[-1] += piece
    return [part.strip() for part in parts if part.strip()] or [""]


def _folded(part: str) -> str:
    """In two lines of about the same length, where one would be too long."""
    if _columns(part) <= _LINE_COLUMNS:
        return part
    lines = _parts(part, max(_LINE_COLUMNS, _columns(part) // 2 + 1))
    return "\n".join(lines) if len(lines) == 2 else part

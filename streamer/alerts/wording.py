"""Numbers, lengths of time and lists in English and Chinese words, as alerts say them."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from typing import Literal
from zoneinfo import ZoneInfo

from streamer.clock import NS_PER_S, rfc3339

Language = Literal["en", "zh"]

SEVERITIES = {
    "en": {"info": "info", "warning": "warning", "critical": "critical"},
    "zh": {"info": "提示", "warning": "警告", "critical": "严重"},
}
MODALITIES = {
    "en": {"video": "video", "audio": "audio", "text": "text"},
    "zh": {"video": "画面", "audio": "声音", "text": "文字"},
}
_UNITS = {"en": (" d", " h", " min", " s", " ms"), "zh": (" 天", " 小时", " 分", " 秒", " 毫秒")}
_LENGTHS_S = (86_400, 3600, 60, 1)


def duration(length_ns: int, language: Language) -> str:
    """`length_ns` in the two largest units that it fills: `3 d 2 h`, `2 min 5 s`, `2.5 s`, `40 ms`; at least zero."""
    units = _UNITS[language]
    length_ns = max(length_ns, 0)
    if length_ns == 0:
        return f"0{units[3]}"
    if length_ns < NS_PER_S:
        return f"{max(round(length_ns / 1_000_000), 1)}{units[4]}"
    if length_ns < 10 * NS_PER_S:
        return f"{length_ns // 100_000_000 / 10:g}{units[3]}"
    seconds = length_ns // NS_PER_S
    place = next(place for place, size in enumerate(_LENGTHS_S) if seconds >= size)
    size = _LENGTHS_S[place]
    said = [f"{seconds // size}{units[place]}"]
    if place < 3 and (rest := seconds % size // _LENGTHS_S[place + 1]):
        said.append(f"{rest}{units[place + 1]}")
    return " ".join(said)


def percent(part: float) -> str:
    """A probability or share as `91%`. What isn't all or nothing is never rounded to it."""
    if 0 < part < 1:
        return f"{min(max(round(part * 100), 1), 99)}%"
    return f"{round(part * 100)}%"


def readable(wall_ns: int) -> str:
    """Unix nanoseconds to the second, as `2026-11-23 04:07:08 UTC`."""
    return f"{rfc3339(wall_ns)[:19].replace('T', ' ')} UTC"


def local(time: str, zone: str) -> str:
    """An RFC 3339 time to the second on the clocks of a time zone, as `2026-11-23 12:07:08`.

    Raises:
        KeyError, ValueError: no such zone; no such time.
    """
    return datetime.fromisoformat(time).astimezone(ZoneInfo(zone)).isoformat(" ", "seconds")[:19]


def sentence(words: Sequence[str]) -> str:
    """Tokens put together again: with spaces, but none where Chinese characters (or their marks) meet."""
    if not words:
        return ""
    said = [words[0]]
    for before, word in pairwise(words):
        said.append(word if _is_wide(before[-1:]) and _is_wide(word[:1]) else f" {word}")
    return "".join(said)


def _is_wide(character: str) -> bool:
    return bool(character) and unicodedata.east_asian_width(character) in "WF"


def language_of(text: str) -> Language:
    """`zh` where there are Chinese characters in `text`."""
    return "zh" if any("\u3400" <= character <= "\u9fff" for character in text) else "en"


def plain(text: str, most: int) -> str:
    """`text` without control characters but line ends, and at most `most` characters of it."""
    kept = "".join(character for character in text[: 2 * most] if character == "\n" or character.isprintable()).strip()
    return kept if len(kept) <= most else f"{kept[: most - 1]}…"

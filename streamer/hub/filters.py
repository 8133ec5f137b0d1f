"""What a subscriber wants: its query, checked, and the decision whether a message is for it. Pure.

A message is decoded once (`envelope`) whoever reads it, and a filter looks at that. `stream` globs apply to every
message. `label` and `min_score` select segments that have such a label, and events and alerts about one; `stream`
messages pass them, because they say whether anything can come at all; messages without any label do not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fnmatch import fnmatchcase
from urllib.parse import parse_qsl

import msgspec

from streamer.cursor import Cursor, parse_cursor

_MAX_QUERY = 4096
_MAX_VALUES = 64
_MAX_VALUE = 128
_PARAMETERS = ("stream", "label", "min_score", "since", "compression", "access_token")


class _Scored(msgspec.Struct, frozen=True):
    name: str
    score: float = 1.0


class Envelope(msgspec.Struct, frozen=True):
    """The part of a message that is looked at on its way; the rest passes through unread."""

    type: str
    stream: str = ""
    state: str = ""
    epoch: str | None = None
    seq: int = -1
    label: str | None = None
    score: float = 1.0
    labels: list[_Scored | str] = []
    utterance: int | str = 0
    final: bool = False

    def names(self) -> list[tuple[str, float]]:
        """Labels of the message with their scores."""
        named = [(item, self.score) if isinstance(item, str) else (item.name, item.score) for item in self.labels]
        return named if self.label is None else [*named, (self.label, self.score)]


_decoder = msgspec.json.Decoder(Envelope)


def envelope(json: bytes) -> Envelope:
    """The envelope of an encoded message.

    Raises:
        ValueError: `json` is not a message.
    """
    return _decoder.decode(json)


@dataclass(frozen=True, slots=True)
class Filter:
    """What a subscriber selects; the empty filter selects everything. Equal filters are equal and hash alike."""

    streams: frozenset[str] = frozenset()
    labels: frozenset[str] = frozenset()
    min_score: float = 0.0

    def selects(self, message: Envelope) -> bool:
        """Whether the subscriber gets `message`."""
        if self.streams and not any(fnmatchcase(message.stream, glob) for glob in self.streams):
            return False
        if not self.labels and self.min_score <= 0.0:
            return True
        if message.type == "stream":
            return True
        return any(
            score >= self.min_score and (not self.labels or name in self.labels) for name, score in message.names()
        )


@dataclass(frozen=True, slots=True)
class Wanted:
    """A subscriber's query: what it selects, where it begins (None: now), the token it showed in the query, and whether
    it asked for compression."""

    filter: Filter = Filter()
    since: Cursor | None = None
    token: str | None = None
    compressed: bool = False


def parse_query(query: str) -> Wanted:
    """The meaning of a subscription's query string.

    Raises:
        ValueError: something in it is wrong; the text names the parameter and the remedy.
    """
    if len(query) > _MAX_QUERY:
        raise ValueError(f"the query is longer than {_MAX_QUERY} characters: ask for fewer streams and labels")
    try:
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=2 * _MAX_VALUES)
    except ValueError:
        raise ValueError("the query is not made of NAME=VALUE pairs in UTF-8") from None
    values: dict[str, list[str]] = {name: [] for name in _PARAMETERS}
    for name, value in pairs:
        if name not in values:
            raise ValueError(f"{name[:64]!r} is not a parameter: stream, label, min_score, since and compression are")
        values[name].append(value)
    return Wanted(
        Filter(_set("stream", values["stream"]), _set("label", values["label"]), _score(values["min_score"])),
        _since(values["since"]),
        _once("access_token", values["access_token"]),
        _compressed(values["compression"]),
    )


def _set(name: str, values: list[str]) -> frozenset[str]:
    if len(values) > _MAX_VALUES:
        raise ValueError(f"{name}: {len(values)} values are more than {_MAX_VALUES}: use a second subscription")
    for value in values:
        if not value or len(value) > _MAX_VALUE:
            raise ValueError(f"{name}: a value has 1 to {_MAX_VALUE} characters, not {len(value)}")
    return frozenset(values)


def _once(name: str, values: list[str]) -> str | None:
    if len(values) > 1:
        raise ValueError(f"{name} may be given only once")
    return values[0] if values else None


def _score(values: list[str]) -> float:
    text = _once("min_score", values)
    if text is None:
        return 0.0
    try:
        score = float(text)
    except ValueError:
        score = math.nan
    if not 0.0 <= score <= 1.0:
        raise ValueError(f"min_score: {text[:32]!r} is not a number from 0 to 1")
    return score


def _since(values: list[str]) -> Cursor | None:
    text = _once("since", values)
    if text is None:
        return None
    try:
        return parse_cursor(text)
    except ValueError as error:
        raise ValueError(f"since: {error}") from None


def _compressed(values: list[str]) -> bool:
    text = _once("compression", values)
    if text not in (None, "deflate"):
        raise ValueError(f"compression: {text[:32]!r} is not known: deflate is, or leave it out")
    return text is not None

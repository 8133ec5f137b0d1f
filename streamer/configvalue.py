"""Scalars of the configuration: text to durations, sizes, numbers and choices; refusals say what was expected. Pure."""

from __future__ import annotations

import difflib
import re
from typing import Annotated, Any

from msgspec import Meta, inspect

Duration = Annotated[int, Meta(extra={"unit": "duration"})]
Size = Annotated[int, Meta(extra={"unit": "size"})]

_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", re.ASCII)
_DURATION_NS = {"ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9, "d": 86_400 * 10**9}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmg]?b?)", re.IGNORECASE | re.ASCII)
# As Redis counts in its own configuration.
_SIZE_BYTES = {"": 1, "b": 1, "k": 10**3, "kb": 2**10, "m": 10**6, "mb": 2**20, "g": 10**9, "gb": 2**30}
_LONGEST_NS = 3650 * _DURATION_NS["d"]
_LARGEST_BYTES = 2**50
_LONGEST_NUMBER = 32
_LONGEST_TEXT = 65_536


def parse_duration_ns(text: str) -> int:
    """Nanoseconds of `1s`, `500ms`, `1h30m`; units are ms, s, m, h and d.

    Raises:
        ValueError: `text` is none, or lasts over ten years.
    """
    end = total = 0
    for match in _DURATION_PART.finditer(text[:_LONGEST_NUMBER]):
        if match.start() != end:
            break
        end = match.end()
        total += round(float(match[1]) * _DURATION_NS[match[2]])
    if not text or end != len(text) or total > _LONGEST_NS:
        raise ValueError("expected a duration: write it like 500ms, 1s, 2m or 1h")
    return total


def parse_size_bytes(text: str) -> int:
    """Bytes of `512mb`, `2gb`, `1048576`, counted as Redis does: kb is 1,024 and k is 1,000.

    Raises:
        ValueError: `text` is none, or is over a pebibyte.
    """
    match = _SIZE.fullmatch(text) if len(text) <= _LONGEST_NUMBER else None
    size = int(float(match[1]) * _SIZE_BYTES[match[2].lower()]) if match is not None else _LARGEST_BYTES + 1
    if size > _LARGEST_BYTES:
        raise ValueError("expected a size: write it like 512mb or 2gb")
    return size


def convert(text: str, tag: str, kind: inspect.Type, unit: str | None) -> Any:
    """`text`, which YAML takes for a `tag`, as `kind`; ValueError says what was expected."""
    expected = f"expected {wanted(kind, unit)}"
    if tag == "null" or (text == "" and tag == "environment"):
        raise ValueError(f"{expected}, but nothing is here")
    if unit == "duration":
        return parse_duration_ns(text)
    if unit == "size":
        return parse_size_bytes(text)
    if isinstance(kind, inspect.BoolType):
        if text.lower() in ("true", "yes", "on") and tag != "str":
            return True
        if text.lower() in ("false", "no", "off") and tag != "str":
            return False
        raise ValueError(expected)
    if isinstance(kind, inspect.LiteralType):
        choice = "off" if tag == "bool" and text.lower() in ("off", "no", "false") else text
        if choice not in kind.values:
            near = difflib.get_close_matches(choice, [str(value) for value in kind.values], n=1)
            raise ValueError(f"{expected}; did you mean {near[0]}?" if near else expected)
        return choice
    if isinstance(kind, inspect.IntType | inspect.FloatType):
        return _number(text, tag, kind, expected)
    assert isinstance(kind, inspect.StrType)
    if tag == "bool":
        raise ValueError(f'{expected}, but YAML reads {text} as true or false: put it in quotes, "{text}"')
    if not (kind.min_length or 0) <= len(text) <= (kind.max_length or _LONGEST_TEXT):
        raise ValueError(f"{expected} of {kind.min_length or 0} to {kind.max_length} characters")
    return text


def _number(text: str, tag: str, kind: inspect.IntType | inspect.FloatType, expected: str) -> int | float:
    try:
        if tag == "str" or len(text) > _LONGEST_NUMBER:
            raise ValueError
        value = int(text) if isinstance(kind, inspect.IntType) else float(text)
    except ValueError:
        raise ValueError(expected) from None
    above = (kind.gt is None or value > kind.gt) and (kind.ge is None or value >= kind.ge)
    if not (above and (kind.le is None or value <= kind.le)):
        raise ValueError(expected)
    return value


def wanted(kind: inspect.Type, unit: str | None) -> str:
    """What `kind` is called in an error."""
    if unit is not None:
        return "a duration like 500ms, 1s, 2m or 1h" if unit == "duration" else "a size like 512mb or 2gb"
    if isinstance(kind, inspect.BoolType):
        return "true or false"
    if isinstance(kind, inspect.LiteralType):
        return "one of " + ", ".join(str(value) for value in kind.values)
    if isinstance(kind, inspect.IntType | inspect.FloatType):
        name = "a whole number" if isinstance(kind, inspect.IntType) else "a number"
        low = f" of at least {kind.ge:g}" if kind.ge is not None else ""
        low = f" above {kind.gt:g}" if kind.gt is not None else low
        return name + low + (f" and at most {kind.le:g}" if kind.le is not None else "")
    return "text"

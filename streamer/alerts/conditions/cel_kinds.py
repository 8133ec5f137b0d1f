"""Kinds of values in conditions, and how two of them meet. Pure.

Stricter than CEL where CEL would fail on a segment or could never be true, and kinder with numbers: whole numbers and
others mix (they are made one by `double()`), because a score times 2 is no mistake of anybody's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

_WORDS = {
    "truth": "true or false",
    "whole": "a whole number",
    "number": "a number",
    "text": "text",
    "list": "a list",
    "map": "a map",
    "any": "an empty list's item",
}


@dataclass(frozen=True, slots=True)
class Kind:
    """item: of a list's items or a map's values; key: of a map's keys. `any`: what an empty list has."""

    name: Literal["truth", "whole", "number", "text", "list", "map", "any"]
    item: Kind | None = None
    key: Kind | None = None

    @property
    def is_number(self) -> bool:
        return self.name in ("whole", "number")

    def __str__(self) -> str:
        return _WORDS[self.name]


TRUTH = Kind("truth")
WHOLE = Kind("whole")
NUMBER = Kind("number")
TEXT = Kind("text")
ANY = Kind("any")


def list_of(item: Kind) -> Kind:
    return Kind("list", item)


def map_of(key: Kind, item: Kind) -> Kind:
    return Kind("map", item, key)


class Typed(NamedTuple):
    """CEL of our own making, and the kind of its value."""

    source: str
    kind: Kind


def joined(left: Kind, right: Kind) -> Kind | None:
    """The kind that holds both, None where there is none."""
    if left == right or right == ANY:
        return left
    if left == ANY:
        return right
    if left.is_number and right.is_number:
        return NUMBER
    if left.name == right.name == "list" and left.item is not None and right.item is not None:
        # Items can't be converted where they stand, so only an empty list gives way.
        return right if left.item == ANY else left if right.item == ANY else None
    return None


def comparable(left: Kind, right: Kind) -> bool:
    """Whether == of the two can be true; numbers compare across their kinds, inside lists too."""
    if left.name == right.name in ("list", "map"):
        items = left.item is None or right.item is None or comparable(left.item, right.item)
        return items and (left.key is None or right.key is None or comparable(left.key, right.key))
    return joined(left, right) is not None


def converted(value: Typed, kind: Kind) -> str:
    """CEL of `value` as `kind`, which `joined` gave."""
    return f"double({value.source})" if value.kind == WHOLE and kind == NUMBER else value.source

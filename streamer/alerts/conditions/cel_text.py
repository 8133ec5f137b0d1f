"""The text of CEL as tokens, each with its place. Pure.

Source: the lexis of the Common Expression Language's specification (cel-spec, langdef.md), without bytes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import cel

from streamer.errors import UserError

Sort = Literal["name", "text", "whole", "real", "sign", "end"]

_STRING = r"""'''(?:[^\\]|\\.)*?'''|\"\"\"(?:[^\\]|\\.)*?\"\"\"|'(?:[^'\\\r\n]|\\.)*'|"(?:[^"\\\r\n]|\\.)*\""""
_RAW = r"""'''.*?'''|\"\"\".*?\"\"\"|'[^'\r\n]*'|"[^"\r\n]*\""""
_TOKEN = re.compile(
    rf"""(?P<space>(?:[\t\n\f\r ]|//[^\n]*)+)
    |(?P<bytes>(?:[bB][rR]?|[rR][bB])["'])
    |(?P<raw>[rR](?:{_RAW}))
    |(?P<text>{_STRING})
    |(?P<real>[0-9]*\.[0-9]+(?:[eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+)
    |(?P<whole>(?:0x[0-9a-fA-F]+|[0-9]+)[uU]?)
    |(?P<name>[_a-zA-Z][_a-zA-Z0-9]*)
    |(?P<sign>&&|\|\||==|!=|<=|>=|[-+*/%<>!?:.,()\[\]{{}}])""".replace("\n    ", ""),
    re.DOTALL | re.ASCII,
)
_LARGEST = 2**63 - 1
# What hands type who know other languages, and what input methods put in the place of ASCII.
_INSTEAD = {"&": "&&", "|": "||", "=": "==", "“": '"', "”": '"', "‘": "'", "’": "'"}
_FULL_WIDTH = {chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}


class ExpressionError(UserError):
    """A condition that can't be used. `offset`: where in its source, in characters from 0."""

    def __init__(self, text: str, offset: int) -> None:
        super().__init__(text)
        self.offset = offset


@dataclass(frozen=True, slots=True)
class Token:
    """`source` as it stands there; `value`: what a text or a number is."""

    sort: Sort
    source: str
    offset: int
    value: str | int | float = ""


def tokens(source: str) -> list[Token]:
    """Every token of `source`, the last one of sort `end`.

    Raises:
        ExpressionError: something in it is none.
    """
    found: list[Token] = []
    at = 0
    while at < len(source):
        match = _TOKEN.match(source, at)
        if match is None:
            raise ExpressionError(_strange(source, at), at)
        if match.lastgroup != "space":
            found.append(_token(match))
            _check_apart(found, source)
        at = match.end()
    return [*found, Token("end", "", len(source))]


def _token(match: re.Match[str]) -> Token:
    source, at = match[0], match.start()
    match match.lastgroup:
        case "text" | "raw":
            return Token("text", source, at, _unescaped(source, at))
        case "whole":
            value = int(source.rstrip("uU"), 0 if source[:2] == "0x" else 10)
            if value > _LARGEST:
                raise ExpressionError(f"{source} is too large a number", at)
            return Token("whole", str(value), at, value)
        case "real":
            return Token("real", source, at, float(source))
        case "bytes":
            raise ExpressionError("bytes are of no use here: write the text without b", at)
        case "name":
            return Token("name", source, at)
    return Token("sign", source, at)


def _check_apart(found: list[Token], source: str) -> None:
    """`0.5x` and `1and` are mistakes, not two tokens."""
    if len(found) > 1 and found[-1].sort == "name" and found[-2].sort in ("whole", "real"):
        before = found[-2]
        if source[found[-1].offset - 1].isalnum():
            raise ExpressionError(f"{before.source}{found[-1].source} is neither a number nor a name", before.offset)


def _unescaped(source: str, at: int) -> str:
    try:
        value = cel.compile(source).execute()
    except ValueError:
        raise ExpressionError(f"{source} has an escape that is none: write \\\\ for a backslash", at) from None
    assert isinstance(value, str)
    return value


def _strange(source: str, at: int) -> str:
    character = source[at]
    if character in "'\"" or source[at : at + 2].lower() in ("r'", 'r"'):
        return "this text has no end: the closing quote is missing"
    instead = _INSTEAD.get(character) or _FULL_WIDTH.get(character)
    shown = character if character.isprintable() else f"U+{ord(character):04X}"
    return f"{shown} can't stand here" + (f": write {instead}" if instead else "")

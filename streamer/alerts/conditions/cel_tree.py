"""The grammar of CEL: tokens to a tree, each node with its place. Pure.

Source: the syntax of the Common Expression Language's specification (cel-spec, langdef.md), without messages.
"""

from __future__ import annotations

from dataclasses import dataclass

from streamer.alerts.conditions.cel_text import ExpressionError, Token, tokens

_RESERVED = {
    *("as", "break", "const", "continue", "else", "for", "function", "if", "import", "in", "let", "loop"),
    *("namespace", "package", "return", "var", "void", "while"),
}
_LEVELS: dict[str, int] = {
    **dict.fromkeys(("<", "<=", ">", ">=", "==", "!=", "in"), 3),
    **dict.fromkeys(("+", "-"), 4),
    **dict.fromkeys(("*", "/", "%"), 5),
    "||": 1,
    "&&": 2,
}
_WORDS_FOR_SIGNS = {"and": "&&", "or": "||", "not": "!", "is": "==", "AND": "&&", "OR": "||", "NOT": "!"}
# Far more than a person writes.
DEEPEST = 40


@dataclass(frozen=True, slots=True)
class Literal:
    """A number, a text or a truth value; `source`: how it was written."""

    offset: int
    value: str | int | float | bool
    source: str


@dataclass(frozen=True, slots=True)
class Name:
    offset: int
    name: str


@dataclass(frozen=True, slots=True)
class Field:
    """`of.name`"""

    offset: int
    of: Node
    name: str


@dataclass(frozen=True, slots=True)
class Call:
    """`name(arguments)`, or `of.name(arguments)`"""

    offset: int
    of: Node | None
    name: str
    arguments: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Index:
    """`of[at]`"""

    offset: int
    of: Node
    at: Node


@dataclass(frozen=True, slots=True)
class Unary:
    offset: int
    sign: str
    of: Node


@dataclass(frozen=True, slots=True)
class Binary:
    """`parts` joined by `sign`: two, or for && and || all of a row."""

    offset: int
    sign: str
    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    offset: int
    condition: Node
    yes: Node
    no: Node


@dataclass(frozen=True, slots=True)
class ListOf:
    offset: int
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class MapOf:
    offset: int
    items: tuple[tuple[Node, Node], ...]


Node = Literal | Name | Field | Call | Index | Unary | Binary | Choice | ListOf | MapOf


def parse(source: str) -> Node:
    """The tree of a whole expression.

    Raises:
        ExpressionError: it is not one, or is nested more than 40 deep (rows like 1 + 1 + ... are not looked at here).
    """
    parser = _Parser(tokens(source))
    tree = parser.expression()
    parser.expect_end()
    return tree


class _Parser:
    def __init__(self, found: list[Token]) -> None:
        self._tokens = found
        self._at = 0
        self._depth = 0

    @property
    def _now(self) -> Token:
        return self._tokens[self._at]

    def _next(self) -> Token:
        token = self._now
        self._at += 1
        return token

    def _take(self, sign: str) -> bool:
        if self._now.sort == "sign" and self._now.source == sign:
            self._at += 1
            return True
        return False

    def _expect(self, sign: str, after: str) -> None:
        if not self._take(sign):
            raise self._unexpected(f"{sign} is missing {after}")

    def _unexpected(self, wanted: str) -> ExpressionError:
        token = self._now
        if token.sort == "end":
            return ExpressionError(f"it ends too early: {wanted}", token.offset)
        if token.source in _WORDS_FOR_SIGNS:
            return ExpressionError(f"write {_WORDS_FOR_SIGNS[token.source]} for {token.source}", token.offset)
        return ExpressionError(f"{token.source} can't stand here: {wanted}", token.offset)

    def expect_end(self) -> None:
        if self._now.sort != "end":
            raise self._unexpected("expected an operator like && or the end")

    def expression(self) -> Node:
        self._deeper(1)
        node = self._binary(1)
        if self._now.source == "?" and self._now.sort == "sign":
            offset = self._next().offset
            yes = self.expression()
            self._expect(":", "after the first of the two choices of ?")
            node = Choice(offset, node, yes, self.expression())
        self._deeper(-1)
        return node

    def _deeper(self, by: int) -> None:
        self._depth += by
        if self._depth > DEEPEST:
            raise ExpressionError(f"this is nested more than {DEEPEST} deep", self._now.offset)

    def _sign(self) -> str | None:
        token = self._now
        return token.source if token.sort == "sign" or token.source == "in" else None

    def _binary(self, level: int) -> Node:
        """A row of operators that bind at least as strongly as `level`."""
        left = self._unary()
        in_row = False
        while (sign := self._sign()) is not None and _LEVELS.get(sign, 0) >= level:
            offset = self._next().offset
            right = self._binary(_LEVELS[sign] + 1)
            if sign in ("&&", "||") and isinstance(left, Binary) and left.sign == sign and in_row:
                left = Binary(left.offset, sign, (*left.parts, right))
            else:
                left = Binary(offset, sign, (left, right))
            in_row = True
        return left

    def _unary(self) -> Node:
        if self._now.sort == "sign" and self._now.source in ("!", "-"):
            token = self._next()
            self._deeper(1)
            node = Unary(token.offset, token.source, self._unary())
            self._deeper(-1)
            return node
        return self._member()

    def _member(self) -> Node:
        node = self._primary()
        while self._now.sort == "sign" and self._now.source in (".", "["):
            if self._take("."):
                token = self._now
                if token.sort != "name" or token.source in _RESERVED:
                    raise self._unexpected("expected the name of a field")
                self._next()
                if self._take("("):
                    node = Call(token.offset, node, token.source, self._list(")"))
                else:
                    node = Field(token.offset, node, token.source)
            else:
                offset = self._next().offset
                node = Index(offset, node, self.expression())
                self._expect("]", "after the index")
        return node

    def _primary(self) -> Node:
        token = self._now
        if token.sort in ("text", "whole", "real"):
            self._next()
            return Literal(token.offset, token.value, token.source)
        if token.sort == "name":
            return self._named()
        if self._take("("):
            node = self.expression()
            self._expect(")", "where a parenthesis was opened")
            return node
        if self._take("["):
            return ListOf(token.offset, self._list("]"))
        if self._take("{"):
            return MapOf(token.offset, self._map())
        raise self._unexpected("expected a value, like label('Dog') or a number")

    def _named(self) -> Node:
        token = self._now
        if token.source in ("true", "false"):
            self._next()
            return Literal(token.offset, token.source == "true", token.source)
        if token.source in _WORDS_FOR_SIGNS:
            raise self._unexpected("")
        if token.source == "null":
            raise ExpressionError("nothing here is ever null: an absent label has the score 0.0", token.offset)
        if token.source in _RESERVED:
            raise ExpressionError(f"{token.source} is a word that CEL keeps to itself", token.offset)
        self._next()
        if self._take("("):
            return Call(token.offset, None, token.source, self._list(")"))
        return Name(token.offset, token.source)

    def _list(self, end: str) -> tuple[Node, ...]:
        items: list[Node] = []
        while not self._take(end):
            if items:
                self._comma(end)
                if end == "]" and self._take(end):
                    break
            items.append(self.expression())
        return tuple(items)

    def _comma(self, end: str) -> None:
        if not self._take(","):
            raise self._unexpected(f"a comma or {end} is missing")

    def _map(self) -> tuple[tuple[Node, Node], ...]:
        items: list[tuple[Node, Node]] = []
        while not self._take("}"):
            if items:
                self._comma("}")
                if self._take("}"):
                    break
            key = self.expression()
            self._expect(":", "between a key and its value")
            items.append((key, self.expression()))
        return tuple(items)

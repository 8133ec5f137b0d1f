"""CEL with its kinds checked: a tree to CEL of our own making, for which every value's kind is known. Pure.

What is unknown here (variables, functions of our own) is asked of the class that stands on this one.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

import cel

from streamer.alerts.conditions import cel_tree as tree
from streamer.alerts.conditions.cel_kinds import (
    ANY,
    NUMBER,
    TEXT,
    TRUTH,
    WHOLE,
    Kind,
    Typed,
    comparable,
    converted,
    joined,
    list_of,
    map_of,
)
from streamer.alerts.conditions.cel_text import ExpressionError

FUNCTIONS = {
    "size": "size(words)",
    "int": "int(0.5)",
    "double": "double(1)",
    "string": "string(1)",
    "has": "has(coverage.audio)",
}
_TEXT_METHODS = ("contains", "startsWith", "endsWith", "matches")
_MACROS = ("exists", "all", "exists_one", "filter", "map")
_METHODS = (*_TEXT_METHODS, *_MACROS, "size")
# Each one deeper multiplies how long one evaluation can take.
_MOST_LOOPS = 2


class Checked:
    """Turns one tree into CEL.

    shown: the functions that there are, each as it is written. scope: the names of the loops around what is being
    looked at.
    """

    shown: Mapping[str, str] = FUNCTIONS

    def __init__(self) -> None:
        self.scope: dict[str, Typed] = {}
        self._loops = 0
        self._made = 0
        self._depth = 0

    def variable(self, node: tree.Name) -> Typed:
        """A name that no loop has."""
        raise NotImplementedError

    def fact(self, node: tree.Field) -> Typed | None:
        """A field of ours, None where it is of a value."""
        raise NotImplementedError

    def function(self, node: tree.Call) -> Typed:
        """A function that CEL does not have."""
        raise NotImplementedError

    def check_equal(self, node: tree.Binary) -> None:
        """Whatever else is to be asked of ==, != and in."""
        raise NotImplementedError

    def value(self, node: tree.Node) -> Typed:
        self._depth += 1
        if self._depth > tree.DEEPEST:
            raise ExpressionError(f"this is nested more than {tree.DEEPEST} deep", node.offset)
        try:
            return self._of(node)
        finally:
            self._depth -= 1

    def _of(self, node: tree.Node) -> Typed:
        match node:
            case tree.Literal():
                return self._literal(node)
            case tree.Name():
                return self.scope.get(node.name) or self.variable(node)
            case tree.Field():
                return self.fact(node) or self._field(node)
            case tree.Call(of=None):
                return self._call(node)
            case tree.Call():
                return self._method(node)
            case tree.Index():
                return self._index(node)
            case tree.Unary():
                return self._unary(node)
            case tree.Binary():
                return self._binary(node)
            case tree.Choice():
                return self._choice(node)
            case tree.ListOf():
                return self._list(node)
        return self._map(node)

    # Values as they are written.

    def _literal(self, node: tree.Literal) -> Typed:
        if isinstance(node.value, bool):
            return Typed(node.source, TRUTH)
        if isinstance(node.value, str):
            return Typed(node.source, TEXT)
        return Typed(node.source, WHOLE if isinstance(node.value, int) else NUMBER)

    def _list(self, node: tree.ListOf) -> Typed:
        items = [self.value(item) for item in node.items]
        kind = self._one_kind(items, node.items, "a list's items")
        return Typed(f"[{', '.join(converted(item, kind) for item in items)}]", list_of(kind))

    def _map(self, node: tree.MapOf) -> Typed:
        keys = [self.value(key) for key, _ in node.items]
        items = [self.value(item) for _, item in node.items]
        for key, (key_node, _) in zip(keys, node.items, strict=True):
            if key.kind not in (TEXT, WHOLE):
                raise ExpressionError(f"a map's key is text or a whole number, not {key.kind}", key_node.offset)
        key_kind = self._one_kind(keys, [key for key, _ in node.items], "a map's keys")
        kind = self._one_kind(items, [item for _, item in node.items], "a map's values")
        pairs = (f"{key.source}: {converted(item, kind)}" for key, item in zip(keys, items, strict=True))
        return Typed(f"{{{', '.join(pairs)}}}", map_of(key_kind, kind))

    def _one_kind(self, values: list[Typed], nodes: Iterable[tree.Node], what: str) -> Kind:
        kind = ANY
        for value, node in zip(values, nodes, strict=True):
            both = joined(kind, value.kind)
            if both is None:
                raise ExpressionError(f"{what} are all of one kind, but this is {value.kind}, not {kind}", node.offset)
            kind = both
        return kind

    def _field(self, node: tree.Field) -> Typed:
        value = self.value(node.of)
        if value.kind.name != "map" or value.kind.key != TEXT:
            raise ExpressionError(f"{value.kind} has no fields", node.offset)
        return Typed(f"{value.source}.{node.name}", value.kind.item or ANY)

    # Operators.

    def _unary(self, node: tree.Unary) -> Typed:
        value = self.value(node.of)
        if node.sign == "!" and value.kind != TRUTH:
            raise ExpressionError(f"! turns true and false around, but this is {value.kind}", node.of.offset)
        if node.sign == "-" and not value.kind.is_number:
            raise ExpressionError(f"- goes before a number, but this is {value.kind}", node.of.offset)
        return Typed(f"{node.sign}({value.source})", value.kind)

    def _binary(self, node: tree.Binary) -> Typed:
        if node.sign in ("&&", "||"):
            return self._logic(node)
        if node.sign in ("==", "!=", "in"):
            self.check_equal(node)
        left, right = self.value(node.parts[0]), self.value(node.parts[1])
        if node.sign in ("==", "!=", "in"):
            return self._equal(node, left, right)
        if node.sign in ("<", "<=", ">", ">="):
            if not (left.kind.is_number and right.kind.is_number) and not left.kind == right.kind == TEXT:
                raise ExpressionError(f"{left.kind} {node.sign} {right.kind} can't be compared", node.offset)
            return Typed(f"({left.source} {node.sign} {right.source})", TRUTH)
        return self._arithmetic(node, left, right)

    def _logic(self, node: tree.Binary) -> Typed:
        values = [self.value(part) for part in node.parts]
        for value, part in zip(values, node.parts, strict=True):
            if value.kind != TRUTH:
                hint = ": compare it, as in label('Dog') > 0.5" if value.kind.is_number else ""
                raise ExpressionError(f"{node.sign} joins what is true or false, not {value.kind}{hint}", part.offset)
        return Typed(f"({f' {node.sign} '.join(value.source for value in values)})", TRUTH)

    def _equal(self, node: tree.Binary, left: Typed, right: Typed) -> Typed:
        against = right.kind
        if node.sign == "in":
            if against.name not in ("list", "map"):
                hint = ": write b.contains(a) for a in b" if against == TEXT else ""
                raise ExpressionError(f"in looks into a list or a map, not {against}{hint}", node.offset)
            against = (right.kind.item if against.name == "list" else right.kind.key) or ANY
        if not comparable(left.kind, against):
            raise ExpressionError(f"{left.kind} is never equal to {against}", node.offset)
        return Typed(f"({left.source} {node.sign} {right.source})", TRUTH)

    def _arithmetic(self, node: tree.Binary, left: Typed, right: Typed) -> Typed:
        kind = joined(left.kind, right.kind)
        divided = node.parts[1]
        if node.sign in ("/", "%") and isinstance(divided, tree.Literal) and divided.value == 0:
            raise ExpressionError("this divides by zero", divided.offset)
        if kind is None or not self._counts(node.sign, kind):
            raise ExpressionError(f"{node.sign} can't be taken of {left.kind} and {right.kind}", node.offset)
        return Typed(f"({converted(left, kind)} {node.sign} {converted(right, kind)})", kind)

    @staticmethod
    def _counts(sign: str, kind: Kind) -> bool:
        if sign == "%":
            return kind == WHOLE
        return kind.is_number or (sign == "+" and (kind == TEXT or kind.name == "list"))

    def _choice(self, node: tree.Choice) -> Typed:
        condition, yes, no = self.value(node.condition), self.value(node.yes), self.value(node.no)
        if condition.kind != TRUTH:
            raise ExpressionError(f"before ? stands what is true or false, not {condition.kind}", node.offset)
        kind = joined(yes.kind, no.kind)
        if kind is None:
            raise ExpressionError(f"the choices of ? are {yes.kind} and {no.kind}: make them one kind", node.offset)
        return Typed(f"({condition.source} ? {converted(yes, kind)} : {converted(no, kind)})", kind)

    def _index(self, node: tree.Index) -> Typed:
        value, at = self.value(node.of), self.value(node.at)
        wanted = WHOLE if value.kind.name == "list" else value.kind.key
        if value.kind.name not in ("list", "map") or wanted is None:
            raise ExpressionError(f"{value.kind} has no [ ]: a list or a map has", node.offset)
        if at.kind != wanted and wanted != ANY:
            raise ExpressionError(f"[ ] of {value.kind} takes {wanted} here, not {at.kind}", node.at.offset)
        return Typed(f"{value.source}[{at.source}]", value.kind.item or ANY)

    # CEL's own functions and methods.

    def _call(self, node: tree.Call) -> Typed:
        if node.name not in FUNCTIONS:
            if node.name in _METHODS:
                shown = "stream.startsWith('front') or words.exists(w, w == 'help')"
                raise ExpressionError(f"{node.name}() goes after a value, as in {shown}", node.offset)
            return self.function(node)
        if len(node.arguments) != 1:
            raise ExpressionError(f"{node.name}() takes one argument: {FUNCTIONS[node.name]}", node.offset)
        if node.name == "has":
            return self._has(node.arguments[0])
        value = self.value(node.arguments[0])
        return self._size(node, value) if node.name == "size" else self._conversion(node, value)

    def _has(self, node: tree.Node) -> Typed:
        if not isinstance(node, tree.Field):
            raise ExpressionError("has() takes a field: has(coverage.audio)", node.offset)
        # Fields of ours are always there.
        return Typed("true" if self.fact(node) else f"has({self._field(node).source})", TRUTH)

    def _size(self, node: tree.Call, value: Typed) -> Typed:
        if value.kind.name not in ("text", "list", "map"):
            raise ExpressionError(f"size() counts text, a list or a map, not {value.kind}", node.offset)
        # The engine's own size() counts the bytes of a text, CEL's counts its characters.
        return Typed(f"{'length' if value.kind == TEXT else 'size'}({value.source})", WHOLE)

    def _conversion(self, node: tree.Call, value: Typed) -> Typed:
        if node.name == "string":
            if value.kind not in (TEXT, WHOLE, NUMBER):
                raise ExpressionError(f"string() takes a number or text, not {value.kind}", node.offset)
            return Typed(f"string({value.source})", TEXT)
        if not value.kind.is_number:
            raise ExpressionError(f"{node.name}() takes a number, not {value.kind}", node.offset)
        return Typed(f"{node.name}({value.source})", WHOLE if node.name == "int" else NUMBER)

    def _method(self, node: tree.Call) -> Typed:
        assert node.of is not None
        if node.name not in _METHODS:
            hint = f"write {self.shown[node.name]}" if node.name in self.shown else nearest(node.name, _METHODS)
            raise ExpressionError(f"no method {node.name}(): {hint or listed(_METHODS)}", node.offset)
        value = self.value(node.of)
        if node.name in _MACROS:
            return self._loop(node, value)
        if node.name == "size":
            if node.arguments:
                raise ExpressionError("size() after a value takes no argument", node.offset)
            return self._size(node, value)
        return self._text_method(node, value)

    def _text_method(self, node: tree.Call, value: Typed) -> Typed:
        arguments = [self.value(argument) for argument in node.arguments]
        if value.kind != TEXT or [argument.kind for argument in arguments] != [TEXT]:
            hint = ": write 'a' in b for lists" if value.kind.name == "list" and node.name == "contains" else ""
            raise ExpressionError(f"{node.name}() is of text and takes one text{hint}", node.offset)
        if node.name == "matches":
            self._check_pattern(node.arguments[0])
        return Typed(f"({value.source}).{node.name}({arguments[0].source})", TRUTH)

    @staticmethod
    def _check_pattern(node: tree.Node) -> None:
        """A pattern is written in quotes: then it is known now that it is one."""
        if not isinstance(node, tree.Literal):
            raise ExpressionError("matches() takes its pattern in quotes", node.offset)
        try:
            cel.compile(f"''.matches({node.source})").execute()
        except RuntimeError:
            raise ExpressionError(f"{node.source} is no pattern (RE2's, without look-around)", node.offset) from None

    def _loop(self, node: tree.Call, value: Typed) -> Typed:
        item = {"list": value.kind.item, "map": value.kind.key}.get(value.kind.name)
        if item is None:
            raise ExpressionError(f"{node.name}() goes through a list or a map, not {value.kind}", node.offset)
        takes = (2, 3) if node.name == "map" else (2,)
        if len(node.arguments) not in takes or not isinstance(node.arguments[0], tree.Name):
            raise ExpressionError(f"write {node.name}(w, ...): a name, then what is asked of it", node.offset)
        if self._loops == _MOST_LOOPS:
            raise ExpressionError(f"more than {_MOST_LOOPS} loops inside one another", node.offset)
        name, before = node.arguments[0].name, dict(self.scope)
        # A name that is ours alone: what the user calls it may be a variable of ours too.
        self.scope[name] = Typed(f"c{self._made}", item)
        self._made += 1
        self._loops += 1
        asked = [self.value(argument) for argument in node.arguments[1:]]
        self._loops -= 1
        loop = f"({value.source}).{node.name}({self.scope[name].source}, {', '.join(each.source for each in asked)})"
        self.scope = before
        tests = asked if node.name != "map" else asked[:-1]
        for test, argument in zip(tests, node.arguments[1:], strict=False):
            if test.kind != TRUTH:
                raise ExpressionError(f"{node.name}() asks what is true or false, not {test.kind}", argument.offset)
        if node.name == "map":
            return Typed(loop, list_of(asked[-1].kind))
        return Typed(loop, list_of(item) if node.name == "filter" else TRUTH)


def nearest(name: str, known: Iterable[str]) -> str:
    """ "did you mean ...?" with what is nearest to `name`, "" where nothing is near."""
    folded = {each.casefold(): each for each in known}
    near = difflib.get_close_matches(name.casefold(), folded, n=1)
    if not near:
        near = sorted((each for each in folded if len(name) > 2 and name.casefold() in each), key=len)[:1]
    return f"did you mean {folded[near[0]]}?" if near else ""


def listed(names: Iterable[str]) -> str:
    return "there are " + ", ".join(names)

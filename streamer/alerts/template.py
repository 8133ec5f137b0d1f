"""Templates of alerts: Jinja in a sandbox that is narrow enough to bound what a template costs.

What would let a few characters ask for unbounded work has no place in them: calls (`range(10**9)`), assignments (a text
doubled again and again), macros, loops in loops, powers, `%` and `*` on texts. Loops go over the alert's labels and
words alone, so a text costs at most the template's length times their number; and what is said stops at a limit.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, meta, nodes, pass_context
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from streamer.alerts.wording import duration, local, percent
from streamer.clock import NS_PER_S
from streamer.errors import UserError

NAMES = frozenset(
    {"rule", "stream", "group", "key", "id", "state", "severity", "language"}
    | {"labels", "words", "said", "since", "at", "lasted", "lasted_s", "late", "late_s", "link", "default_text"}
)
"""What a template may name."""
_LISTS = frozenset({"labels", "words"})
_FIELDS = frozenset({"name", "score", "share", "video", "audio", "text", "index", "index0", "first", "last", "length"})
_JOINED = 10_000

_ALLOWED = (
    nodes.Template,
    nodes.Output,
    nodes.TemplateData,
    nodes.Const,
    nodes.Name,
    nodes.Getattr,
    nodes.Getitem,
    nodes.Slice,
    nodes.Filter,
    nodes.Test,
    nodes.If,
    nodes.For,
    nodes.CondExpr,
    nodes.Compare,
    nodes.Operand,
    nodes.Not,
    nodes.And,
    nodes.Or,
    nodes.Add,
    nodes.Sub,
    nodes.Mul,
    nodes.Div,
    nodes.Neg,
    nodes.Pos,
    nodes.Concat,
    nodes.List,
    nodes.Tuple,
    nodes.Keyword,
)
# What a value may do to a template that compiled: Jinja's own errors, and Python's of its operators and filters.
_FAULTS = (TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RecursionError)


class BrokenTemplateError(UserError):
    """A template that can't be used, or that failed on what it was given; the text names the place and the remedy."""


class Template:
    """A template that was found fit for use."""

    def __init__(self, source: str) -> None:
        try:
            tree = _environment.parse(source)
            fault = next(_faults_of(tree), None)
            if fault is None:
                self._template = _environment.from_string(tree)
        except TemplateSyntaxError as error:
            raise BrokenTemplateError(f"line {error.lineno}: {error.message}") from None
        except (RecursionError, SyntaxError, TemplateError, ValueError) as error:
            # Python's own limits (how deep a thing may be nested) speak of the code that Jinja makes, not of this.
            raise BrokenTemplateError("it is nested too deeply: write it more simply") from error
        if fault is not None:
            raise BrokenTemplateError(fault)

    def render(self, names: Mapping[str, object], most: int) -> str:
        """The text with these values of `NAMES`; no more is made after `most` characters.

        Raises:
            BrokenTemplateError: it can't be made of these values.
        """
        made: list[str] = []
        size = 0
        try:
            for piece in self._template.generate(names):
                made.append(piece)
                size += len(piece)
                if size > most:
                    break
        except _FAULTS as error:
            raise BrokenTemplateError(str(error) or type(error).__name__) from error
        return "".join(made)


@lru_cache(maxsize=256)
def compile_template(source: str) -> Template:
    """`Template(source)`, made once.

    Raises:
        BrokenTemplateError: it can't be used.
    """
    return Template(source)


def _faults_of(tree: nodes.Template) -> Iterator[str]:
    """What Jinja would take and this doesn't, in the order of the text; names last."""
    for node, looped in _walk(tree, looped=False):
        fault = _fault_of(node, looped)
        if fault is not None:
            yield f"line {node.lineno}: {fault}"
    # Jinja knows which names are loops' own, but stumbles over filters that it doesn't know.
    unknown = meta.find_undeclared_variables(tree) - NAMES
    for name in tree.find_all(nodes.Name):
        if name.name in unknown:
            yield f"line {name.lineno}: {name.name!r} is unknown: {_nearest(name.name, NAMES)}"


def _walk(node: nodes.Node, *, looped: bool) -> Iterator[tuple[nodes.Node, bool]]:
    """Every node, and whether it is inside a loop."""
    for child in node.iter_child_nodes():
        yield child, looped
        yield from _walk(child, looped=looped or isinstance(child, nodes.For))


def _fault_of(node: nodes.Node, looped: bool) -> str | None:
    match node:
        case nodes.Getattr(attr=attr) if attr not in _FIELDS:
            return f"no field is called {attr!r}: {_nearest(attr, _FIELDS)}"
        case nodes.Filter(name=name) if name not in _FILTERS:
            return f"no filter is called {name!r} here: {_nearest(name, _FILTERS)}"
        case nodes.Filter(args=args, kwargs=kwargs, dyn_args=more, dyn_kwargs=most):
            if kwargs or more or most or not all(isinstance(arg, nodes.Const) for arg in args):
                return f"what is given to the filter {node.name!r} must be written out, as in join(', ')"
        case nodes.Test(name=name) if name not in _environment.tests:
            return f"no test is called {name!r}: {_nearest(name, _environment.tests)}"
        case nodes.Getitem(arg=arg) if not isinstance(arg, nodes.Slice) and not _is_number(arg):
            return "in brackets there may be a number or a slice, as in words[:5]"
        case nodes.For() if looped:
            return "a loop can't stand in another"
        case nodes.For(iter=listed) if not _is_list(listed):
            return "loops go over labels or words"
        case nodes.Call():
            return "nothing can be called: use the names, fields and filters there are"
        case _ if not isinstance(node, _ALLOWED):
            return f"{type(node).__name__.lower()!r} has no place in a text"
    return None


def _is_number(node: nodes.Node) -> bool:
    if isinstance(node, nodes.Neg):
        node = node.node
    return isinstance(node, nodes.Const) and type(node.value) is int


def _is_list(node: nodes.Node) -> bool:
    if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice):
        node = node.node
    return isinstance(node, nodes.Name) and node.name in _LISTS


def _nearest(name: str, known: Iterable[str]) -> str:
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"


class _Environment(ImmutableSandboxedEnvironment):
    # What is intercepted isn't worked out while a template is compiled either.
    intercepted_binops = frozenset({"*"})

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if isinstance(left, (int, float)) and isinstance(right, (int, float)):
            return left * right
        raise TypeError("only numbers can be multiplied")


def _finalized(value: object) -> object:
    if value is None or isinstance(value, (str, int, float, StrictUndefined)):
        return "" if value is None else value
    raise TypeError(f"a {type(value).__name__} is no text: use a field of it, or join the words of a list")


def _join(values: object, between: str = "") -> str:
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise TypeError("only lists can be joined")
    texts = [str(_finalized(value)) for value in values]
    if sum(map(len, texts)) + len(between) * len(texts) > _JOINED:
        raise ValueError(f"join would make more than {_JOINED} characters")
    return between.join(texts)


def _rounded(value: float, digits: int = 0) -> float:
    return round(value, digits) if digits else round(value)


def _first(values: Sequence[object]) -> object:
    return values[0]


def _last(values: Sequence[object]) -> object:
    return values[-1]


@pass_context
def _duration(context: Context, seconds: float) -> str:
    return duration(int(seconds * NS_PER_S), context["language"])


_FILTERS: dict[str, Callable[..., object]] = {
    "duration": _duration,
    "first": _first,
    "join": _join,
    "last": _last,
    "length": len,
    "local": local,
    "lower": str.lower,
    "percent": percent,
    "round": _rounded,
    "upper": str.upper,
}
_environment = _Environment(
    undefined=StrictUndefined, finalize=_finalized, autoescape=False, keep_trailing_newline=False
)
_environment.filters = dict(_FILTERS)
_environment.globals.clear()

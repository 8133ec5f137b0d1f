"""Which metrics and labels a PromQL expression names: enough of its syntax to hold it to what is exposed."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_STRING = r'"(?:[^"\\]|\\.)*"'
_SELECTOR = re.compile(rf"([A-Za-z_:][\w:]*)\s*\{{((?:{_STRING}|[^}}\"])*)\}}")
_MATCHER = re.compile(rf"([A-Za-z_]\w*)\s*(=~|!~|!=|=)\s*({_STRING})")
_GROUPING = re.compile(r"\b(?:by|on|without|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_RANGE = re.compile(r"\[[^\]]*\]")
_WORD = re.compile(r"(?<![\w.])([A-Za-z_:][\w:]*)\b(?!\s*\()")
_OPERATORS = {"and", "or", "unless", "bool", "offset", "by", "on", "without", "ignoring"}
_WORDS = {r"$__rate_interval": "5m", "$instance": ".*", "$stream": ".*"}


@dataclass
class Named:
    """What an expression names: (metric, label, operator, value) of its matchers, its metrics, labels it groups by."""

    metrics: set[str] = field(default_factory=set)
    matchers: list[tuple[str, str, str, str]] = field(default_factory=list)
    groupings: set[str] = field(default_factory=set)


def plain(expression: str) -> str:
    """The expression with a dashboard's variables filled in."""
    for variable, value in _WORDS.items():
        expression = expression.replace(variable, value)
    return expression


def named(expression: str) -> Named:
    """What `expression` names, its ranges and functions aside."""
    found = Named()

    def take(match: re.Match[str]) -> str:
        found.metrics.add(match[1])
        for label, operator, value in _MATCHER.findall(match[2]):
            found.matchers.append((match[1], label, operator, value[1:-1]))
        return " "

    rest = _RANGE.sub(" ", _SELECTOR.sub(take, plain(expression)))
    for group in _GROUPING.findall(rest):
        found.groupings |= {label.strip() for label in group.split(",") if label.strip()}
    rest = _GROUPING.sub(" ", rest)
    found.metrics |= {word for word in _WORD.findall(rest) if word not in _OPERATORS}
    return found

"""What is wrong with a rule, told before it runs: its conditions, its quiet hours, settings that contradict. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from streamer.alertconfig import AlertConfig
from streamer.alerts.conditions.expression import Expression, ExpressionError
from streamer.alerts.rules import quiet
from streamer.config import Fault
from streamer.picturenames import MAX_CLIP_NS

_GLOB = re.compile(r"[a-z0-9_*?\[\]!-]+", re.ASCII)


def faults(rule: AlertConfig, labels: Collection[str] | None = None) -> Iterator[Fault]:
    """What is wrong with `rule`, each with its place in it; `labels`: the names that labels can have, None: any."""
    for key, source in (("when", rule.when), ("clear_when", rule.clear_when)):
        if source is not None and (text := _expression_fault(source, labels)) is not None:
            yield Fault((key,), text)
    for index, hours in enumerate(rule.quiet):
        yield from (Fault(("quiet", index, *fault.path), fault.text) for fault in quiet.faults(hours))
    yield from _contradictions(rule)


def _expression_fault(source: str, labels: Collection[str] | None) -> str | None:
    try:
        Expression.compile(source, labels)
    except ExpressionError as error:
        return f"character {error.offset + 1}: {error}"
    return None


def _contradictions(rule: AlertConfig) -> Iterator[Fault]:
    if not _GLOB.fullmatch(rule.stream):
        text = "no stream can be like this: names are a-z, 0-9, _ and -, with * ? [abc] for what may vary"
        yield Fault(("stream",), text)
    if rule.clear_when is not None and rule.clear_when.strip() == rule.when.strip():
        yield Fault(("clear_when",), "this is `when` again: say what ends it, or leave it out to end when it stops")
    if rule.clip_ns > 0 and not rule.snapshot:
        yield Fault(("clip",), "a clip comes with a snapshot: set snapshot: true, or leave it out")
    if rule.clip_ns > MAX_CLIP_NS:
        yield Fault(("clip",), f"a clip is at most {MAX_CLIP_NS // 1_000_000_000} s long")
    if not rule.send:
        if rule.send_cleared:
            yield Fault(("send_cleared",), "nobody is told of this rule: name receivers in send, or leave it out")
        if rule.limit is not None:
            yield Fault(("limit",), "nobody is told of this rule: name receivers in send, or leave it out")
    for index, name in enumerate(rule.send):
        if name in rule.send[:index]:
            yield Fault(("send", index), "this receiver is named twice: name it once")

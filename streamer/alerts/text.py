"""What an alert says: the message made of what a rule found, its template's text, and titles and texts for senders.

A text is made once, when its alert is recorded, and that can't fail: a template that breaks on what nobody thought of
leaves the default text, with a line in the log.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from urllib.parse import quote

from streamer.alertconfig import AlertConfig
from streamer.alerts.records import Delivery, Fired, Summary
from streamer.alerts.template import BrokenTemplateError, compile_template
from streamer.alerts.wording import (
    MODALITIES,
    SEVERITIES,
    Language,
    duration,
    language_of,
    percent,
    plain,
    readable,
    sentence,
)
from streamer.clock import NS_PER_MS, NS_PER_S, parse_rfc3339, rfc3339
from streamer.messages import MIN_SCORE, Alert, AlertSegment, Label, Share

log = logging.getLogger(__name__)

MAX_TEXT = 2000
"""Characters of a text; what a template makes beyond them is cut."""
_LABELS = 3
_WORDS = 50
_SHARE = 0.1


def alert_message(
    fired: Fired, rule: AlertConfig, recorded_ns: int, page_url: str | None, pictures: Sequence[str] = ()
) -> Alert:
    """The message of `fired`, said by `rule`'s template in its language, or by the default text.

    recorded_ns: Unix nanoseconds. page_url: where the page is (`http://localhost:8080`), None: no link. pictures: where
    snapshots can be had.
    """
    late_ns = max(recorded_ns - fired.at_ns, 0)
    link = _link(page_url, fired)
    return Alert(
        stream=fired.stream,
        id=fired.id,
        rule=fired.rule,
        state=fired.state,
        severity=fired.severity,
        key=fired.key,
        group=fired.group,
        since=rfc3339(fired.since_ns),
        at=rfc3339(fired.at_ns),
        late_ms=round(late_ns / NS_PER_MS, 3),
        labels=list(fired.labels),
        words=list(fired.words),
        segment=AlertSegment(fired.epoch, fired.seq) if fired.epoch is not None and fired.seq is not None else None,
        text=_text(fired, rule, late_ns, link),
        link=link,
        pictures=list(pictures),
    )


def check_template(source: str) -> str | None:
    """What is wrong with a template, in one line that names the place and the remedy; None: nothing.

    It is parsed, held against the names and the means that templates have, and tried on alerts with labels and words
    and without any.
    """
    try:
        template = compile_template(source)
    except BrokenTemplateError as error:
        return str(error)
    for what, fired in _SAMPLES.items():
        for language in _LANGUAGES:
            try:
                template.render(_names(fired, language, _NS, None), MAX_TEXT)
            except BrokenTemplateError as error:
                remedy = "" if fired.labels else "; write {% if labels %} or the like around it"
                return f"it fails on an alert {what}: {error}{remedy}"
    return None


def title(delivery: Delivery) -> str:
    """One short line on a delivery: a mail's subject, the headline of a push message."""
    alert = delivery.alert
    language = language_of(alert.text)
    if delivery.summary is not None:
        count = delivery.summary.count
        return f"另有 {count} 条告警未单独发送" if language == "zh" else f"{count} more alerts were held back"
    if language == "zh":
        kind = "已解除" if alert.state == "cleared" else SEVERITIES["zh"][alert.severity]
        return f"[{kind}] {alert.stream}：{alert.rule}"
    kind = "cleared" if alert.state == "cleared" else alert.severity
    return f"[{kind}] {alert.rule} on {alert.stream}"


def body(delivery: Delivery) -> str:
    """What a delivery says, as plain text of a few lines, with the link to the page where there is one."""
    alert = delivery.alert
    language = language_of(alert.text)
    lines = [] if delivery.summary is None else [_held_back(delivery.summary, language)]
    lines.append(alert.text)
    when, late = readable(parse_rfc3339(alert.since)), duration(round(alert.late_ms * NS_PER_MS), language)
    if language == "zh":
        lines.append(f"{alert.stream}，始于 {when}，{late}后记录")
    else:
        lines.append(f"{alert.stream}, since {when}, recorded {late} after it was due")
    if alert.link is not None and alert.link not in alert.text:
        lines.append(alert.link)
    return "\n".join(lines)


def _held_back(summary: Summary, language: Language) -> str:
    rules = ", ".join(f"{rule} {count}" for rule, count in summary.rules)
    first, last = readable(summary.first_ns), readable(summary.last_ns)
    if language == "zh":
        return f"{first} 至 {last} 共有 {summary.count} 条告警因限额未单独发送：{rules}。最近一条："
    return f"{summary.count} alerts were held back by a limit from {first} to {last}: {rules}. The latest:"


def _link(page_url: str | None, fired: Fired) -> str | None:
    if page_url is None:
        return None
    return f"{page_url.rstrip('/')}/#/streams/{fired.stream}?at={quote(rfc3339(fired.since_ns), safe='')}"


def _text(fired: Fired, rule: AlertConfig, late_ns: int, link: str | None) -> str:
    if rule.text is not None:
        try:
            made = compile_template(rule.text).render(_names(fired, rule.language, late_ns, link), MAX_TEXT)
            return plain(made, MAX_TEXT)
        except BrokenTemplateError as error:
            # Templates are tried when the configuration is read; an alert is not lost over what was not thought of.
            _tell_once(rule.name, str(error))
    return _default_text(fired, rule.language)


@lru_cache(maxsize=256)
def _tell_once(rule: str, error: str) -> None:
    """A thousand alerts of one rule are one line in the log."""
    log.warning("the text of rule %s fails, the default is said instead: %s", rule, error)


def _names(fired: Fired, language: Language, late_ns: int, link: str | None) -> dict[str, object]:
    """What `template.NAMES` are for this alert."""
    lasted_ns = max(fired.at_ns - fired.since_ns, 0)
    return {
        "rule": fired.rule,
        "stream": fired.stream,
        "group": fired.group or "",
        "key": fired.key,
        "id": fired.id,
        "state": fired.state,
        "severity": SEVERITIES[language][fired.severity],
        "language": language,
        "labels": fired.labels,
        "words": fired.words[:_WORDS],
        "said": sentence(fired.words[:_WORDS]),
        "since": rfc3339(fired.since_ns),
        "at": rfc3339(fired.at_ns),
        "lasted": duration(lasted_ns, language),
        "lasted_s": lasted_ns / NS_PER_S,
        "late": duration(late_ns, language),
        "late_s": late_ns / NS_PER_S,
        "link": link or "",
        "default_text": _default_text(fired, language),
    }


def _default_text(fired: Fired, language: Language) -> str:
    """One line; severity, stream and time stand beside it wherever it is shown."""
    chinese = language == "zh"
    lasted = duration(fired.at_ns - fired.since_ns, language) if fired.at_ns > fired.since_ns else ""
    if fired.state == "cleared":
        over = f"已解除，持续 {lasted}" if chinese else f"over after {lasted}"
        return plain(f"{fired.rule}{'：' if chinese else ': '}{over}", MAX_TEXT)
    said = [_label(label, language) for label in fired.labels[:_LABELS] if label.score >= MIN_SCORE]
    if heard := sentence(fired.words[:_WORDS]):
        said.append(f"说话内容“{heard}”" if chinese else f"heard “{heard}”")
    if lasted:
        said.append(f"已持续 {lasted}" if chinese else f"for {lasted}")
    if not said:
        said.append(f"{fired.stream} 触发" if chinese else f"fired on {fired.stream}")
    return plain(f"{fired.rule}{'：' if chinese else ': '}{('，' if chinese else ', ').join(said)}", MAX_TEXT)


def _label(label: Label, language: Language) -> str:
    parts = sorted(
        ((getattr(label.share, modality), name) for modality, name in MODALITIES[language].items()), reverse=True
    )
    shares = (f"{name} {percent(part)}" for part, name in parts if part >= _SHARE)
    if language == "zh":
        return f"{label.name} {percent(label.score)}（{'、'.join(shares)}）"
    return f"{label.name} {percent(label.score)} ({', '.join(shares)})"


_LANGUAGES: tuple[Language, ...] = ("en", "zh")
_NS = NS_PER_S
_SAMPLES = {
    "with labels and words": Fired(
        id="0123456789abcdef",
        rule="glass",
        key="door",
        stream="door",
        group="ground-floor",
        state="firing",
        severity="warning",
        since_ns=_NS,
        at_ns=3 * _NS,
        labels=(Label("Glass", 0.91, Share(0.2, 0.8, 0.0)), Label("Speech", 0.4, Share(0.1, 0.9, 0.0))),
        words=("help", "me"),
        epoch="e",
        seq=7,
    ),
}
_SAMPLES["without labels and words"] = replace(
    _SAMPLES["with labels and words"], group=None, state="cleared", labels=(), words=(), epoch=None, seq=None
)

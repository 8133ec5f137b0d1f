"""Alerts in the terminal: what rules would have done, what fired and who was told, deliveries and snoozes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path

import msgspec
from rich.console import Console
from rich.text import Text

from streamer import configfile
from streamer.alertconfig import AlertConfig, OutboxConfig
from streamer.alertdesk.rows import dead_of, details_of, opened
from streamer.alertdesk.trial import TrialOrder, try_rules
from streamer.alerts.outbox.book import Book
from streamer.alerts.settings import outbox_path
from streamer.alertstatus import AlertDetail, AlertQuery, DeliveryStatus, TrialReport, TriedRule
from streamer.clock import rfc3339
from streamer.commands.options import Options, configuration
from streamer.config import Config
from streamer.errors import UserError

_SHOWN_TIMES = 10
_PAGE = 200
_TOLD = {
    "sent": "delivered",
    "pending": "waiting",
    "dead": "not delivered",
    "held": "held back by a limit",
    "quiet": "quiet hours",
    "snoozed": "snoozed",
}


def _console() -> Console:
    return Console(highlight=False, soft_wrap=True)


# -- rules tried on the past


@dataclass(frozen=True, slots=True)
class Past:
    """What to try: rules of the configuration (those of `names`, if any) on the streams like `stream`, from `since_ns`
    ago on, in the store at `redis_url` (None: the configuration's)."""

    config: Path
    since_ns: int
    stream: str = "*"
    names: tuple[str, ...] = ()
    redis_url: str | None = None


def test_rules(past: Past, *, as_json: bool) -> None:
    """Print what the rules would have done.

    Raises:
        UserError: the configuration or a name in the question is wrong, or no store is named.
        StoreError: the store is away.
    """
    config = configuration(Options(config=past.config)).config
    url = past.redis_url or config.redis.url
    if url is None:
        raise UserError("which store? name it with --redis URL: a running service prints the address of its own")
    order = TrialOrder(
        redis_url=url,
        rules=_chosen(config, past),
        since_ns=max(time.time_ns() - past.since_ns, 0),
        groups={name: entry.group for name, entry in config.streams.items() if entry.group is not None},
        stream=past.stream,
    )
    # Only a terminal shows it: a day of many streams takes minutes.
    with Console(stderr=True).status("reading what the store holds"):
        report = asyncio.run(try_rules(order))
    if as_json:
        print(msgspec.json.encode(report).decode())
        return
    for line in trial_lines(report):
        _console().print(line)


def _chosen(config: Config, past: Past) -> list[AlertConfig]:
    if not config.alerts:
        raise UserError(f"{past.config}: no rules: name some in its `alerts` section")
    known = [rule.name for rule in config.alerts]
    for name in past.names:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            raise UserError(f"--rule {name}: no such rule; " + (f"did you mean {near[0]}?" if near else _named(known)))
    return [rule for rule in config.alerts if not past.names or rule.name in past.names]


def _named(known: Sequence[str]) -> str:
    return f"known: {', '.join(known)}"


def trial_lines(report: TrialReport) -> list[Text]:
    """A report as lines for a person."""
    if report.since is None or report.until is None:
        return [Text("the store holds no segments of that time", "yellow")]
    lines = [
        Text.assemble(
            (f"{report.segments} segments of {len(report.streams)} streams", "bold"),
            f", {_local(report.since)} to {_local(report.until)}",
        )
    ]
    if report.cut:
        lines.append(Text("more is kept than was read in the time allowed", "yellow"))
    for rule in report.rules:
        lines += [Text(), *_rule_lines(rule)]
    return lines


def _rule_lines(rule: TriedRule) -> list[Text]:
    count = "never" if not rule.times else f"{_times(rule.times)}, {_daily(rule.a_day)}"
    lines = [Text.assemble((rule.name, "bold"), "  ", (count, "green" if rule.times else "dim"))]
    if rule.times:
        lines[0].append(f", firing for {_span(rule.firing_s)} in all")
    if rule.failures:
        lines.append(Text(f"  could not be evaluated {_times(rule.failures)}", "yellow"))
    for stream in rule.streams:
        text = f"{_times(stream.times)}, {_daily(stream.a_day)}, firing for {_span(stream.firing_s)}"
        lines.append(Text.assemble("  ", (f"{stream.stream:<16}", "bold"), f" {text}"))
    for alert in rule.alerts[:_SHOWN_TIMES]:
        label = "" if alert.label is None or alert.score is None else f"  {alert.label} {alert.score:.2f}"
        over = "still firing" if alert.until is None else f"until {_clock(alert.until)}"
        lines.append(Text.assemble("  ", (_local(alert.at), "dim"), f"  {alert.stream:<16}  {over}{label}"))
    if rule.times > _SHOWN_TIMES:
        lines.append(Text(f"  and {rule.times - _SHOWN_TIMES} more", "dim"))
    return lines


# -- what fired


def outbox_of(outbox: Path | None, config: Path | None) -> Path:
    """The file that alerts are kept in: as named, as the configuration says, or the user's own.

    Raises:
        UserError: the configuration can't be used.
    """
    if outbox is not None:
        return outbox
    return outbox_path(OutboxConfig() if config is None else configfile.load(config).config.outbox)


def list_kept(path: Path, query: AlertQuery, *, as_json: bool) -> None:
    """Print alerts, the newest first.

    Raises:
        UserError: no alert was recorded at `path`, or it is no outbox.
        StreamerError: it can't be read just now.
    """
    count = 0
    with opened(_there(path), read_only=True) as book:
        before: int | None = None
        while count < query.limit:
            asked = msgspec.structs.replace(query, before=before, limit=min(_PAGE, query.limit - count))
            found, before = details_of(book, asked)
            for detail in found:
                _show(detail, as_json=as_json)
            count += len(found)
            if before is None:
                break
    if not count and not as_json:
        _console().print(Text("no alerts", "dim"))


def list_dead(path: Path, limit: int, *, as_json: bool) -> None:
    """Print deliveries that were given up, the latest recorded first; raises as `list_kept`."""
    with opened(_there(path), read_only=True) as book:
        found = dead_of(book, limit)
    for delivery in found:
        if as_json:
            print(msgspec.json.encode(delivery).decode())
        else:
            _console().print(_delivery_line(delivery, f"{delivery.rule}  {delivery.stream}  "))
    if not found and not as_json:
        _console().print(Text("nothing was given up", "dim"))


def _show(detail: AlertDetail, *, as_json: bool) -> None:
    if as_json:
        print(msgspec.json.encode(detail).decode())
        return
    for line in alert_lines(detail):
        _console().print(line)


def alert_lines(detail: AlertDetail) -> list[Text]:
    """An alert and its deliveries as lines for a person."""
    status, fired = detail.alert, detail.alert.fired
    firing = status.state == "firing"
    over = "firing" if firing else "over" if status.cleared is None else f"over {_clock(status.cleared.at)}"
    head = Text.assemble(
        (_local(fired.at), "dim"),
        "  ",
        (f"{fired.severity:<8}", "red" if fired.severity == "critical" else "yellow"),
        " ",
        (f"{fired.rule}", "bold"),
        f"  {fired.stream}  ",
        (over, "red" if firing else "green"),
        f"  {fired.text}",
    )
    return [head, *(_delivery_line(delivery) for delivery in detail.deliveries)]


def _delivery_line(delivery: DeliveryStatus, of: str = "") -> Text:
    style = {"dead": "red", "pending": "yellow", "held": "yellow"}.get(delivery.state, "dim")
    says = delivery.says if delivery.summary is None else f"summary of {delivery.summary}"
    line = Text.assemble("" if of else "    ", (delivery.id, "dim"), f"  {of}{delivery.receiver}  {says}  ")
    line.append(_TOLD[delivery.state], style)
    if delivery.attempts:
        line.append(f", tried {_times(delivery.attempts)}")
    if delivery.state == "pending" and delivery.next is not None:
        line.append(f", next try {_clock(delivery.next)}")
    if delivery.error and delivery.state != "sent":
        line.append(f": {delivery.error}", "dim")
    return line


# -- what is asked of the service through its outbox


def resend_some(path: Path, ids: Sequence[str], *, as_json: bool) -> None:
    """Have deliveries sent again.

    Raises:
        UserError: none of them is known, or no alert was recorded at `path`.
        StreamerError: the outbox can't be written just now.
    """
    with opened(_there(path), read_only=False) as book:
        unknown = [name for name in ids if book.delivery(name) is None]
        if unknown:
            raise UserError(f"no delivery {unknown[0]!r}: `streamer alerts list` shows the ids; nothing was sent")
        _tell_resent(book.resend(ids, time.time_ns()), as_json=as_json)


def resend_dead(path: Path, receiver: str | None, rule: str | None, *, as_json: bool) -> None:
    """Have every delivery sent again that was given up; raises as `resend_some`."""
    with opened(_there(path), read_only=False) as book:
        _tell_resent(book.resend_dead(time.time_ns(), receiver=receiver, rule=rule), as_json=as_json)


def _tell_resent(ids: Sequence[str], *, as_json: bool) -> None:
    if as_json:
        print(msgspec.json.encode({"resent": list(ids)}).decode())
    elif not ids:
        print("nothing to send again")
    else:
        print(f"{len(ids)} {'delivery' if len(ids) == 1 else 'deliveries'} will be sent again by the running service")


def snooze(path: Path, rule: str | None, stream: str | None, span_ns: int, config: Path | None) -> None:
    """Record without sending for a while.

    Raises:
        UserError: the rule is not known, neither by the configuration nor by what was recorded.
        StreamerError: the outbox can't be written just now.
    """
    until_ns = time.time_ns() + span_ns
    with opened(path, read_only=False) as book:
        if rule is not None:
            _check_known(book, rule, config)
        book.snooze(rule, stream, until_ns)
    where = "" if stream is None else f" on {stream}"
    print(f"{rule or 'all rules'}{where}: nothing is sent until {_local(rfc3339(until_ns))}")


def _check_known(book: Book, rule: str, config: Path | None) -> None:
    """A misspelt rule must not be taken for a snoozed one. What was never recorded only the configuration knows."""
    known = set(book.rules())
    if config is not None:
        known |= {one.name for one in configfile.load(config).config.alerts}
    if rule in known:
        return
    near = get_close_matches(rule, known, n=1)
    remedy = f"did you mean {near[0]}?" if near else "name the service's configuration with --config"
    raise UserError(f"no rule {rule!r} has fired yet; {remedy}")


def unsnooze(path: Path, rule: str | None, stream: str | None) -> None:
    """End a snooze.

    Raises:
        UserError: none is in force; names those that are.
    """
    with opened(_there(path), read_only=False) as book:
        if book.unsnooze(rule, stream):
            print(f"{rule or 'all rules'}: sent again from now on")
            return
        lasting = [
            f"{one.rule or '--all'}{f' --stream {one.stream}' if one.stream else ''}"
            for one in book.snoozes(time.time_ns())
        ]
    raise UserError(f"no such snooze; in force: {', '.join(lasting) or 'none'}")


def _there(path: Path) -> Path:
    if not path.is_file():
        raise UserError(f"{path}: no alerts were recorded there yet; name the file with --outbox or --config")
    return path


# -- words


def _local(text: str) -> str:
    """An RFC 3339 time where the reader is."""
    return datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _clock(text: str) -> str:
    return datetime.fromisoformat(text).astimezone().strftime("%H:%M:%S")


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def _daily(a_day: float) -> str:
    return f"{a_day:.0f} a day" if a_day >= 9.5 else f"{a_day:.1f} a day"


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"

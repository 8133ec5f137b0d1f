"""The outbox's rows as people are told of them: alerts from their firing to their end, with how their deliveries fared.
Blocks on the disk."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from streamer.alertconfig import AlertConfig
from streamer.alerts.outbox.book import Book
from streamer.alerts.outbox.rows import AlertRow, DeliveryRow, Filter
from streamer.alerts.outbox.rows import Snooze as SnoozeRow
from streamer.alertstatus import (
    AlertDetail,
    AlertList,
    AlertQuery,
    AlertStatus,
    DeliveryStatus,
    RuleStatus,
    Snooze,
)
from streamer.clock import NS_PER_S, rfc3339

# More than people look through; where there are more, those of old summaries are not among them.
_MOST_DEAD = 1000


@contextlib.contextmanager
def opened(path: Path, *, read_only: bool) -> Iterator[Book]:
    """The outbox at `path`, closed afterwards. Raises as `Book.open`."""
    book = Book.open(path, read_only=read_only)
    try:
        yield book
    finally:
        book.close()


def alerts_of(book: Book, query: AlertQuery) -> AlertList:
    """Alerts, each once, the newest first."""
    found, following = details_of(book, query)
    return AlertList(alerts=[one.alert for one in found], next=None if following is None else str(following))


def details_of(book: Book, query: AlertQuery) -> tuple[list[AlertDetail], int | None]:
    """The same with their deliveries, and the `before` that goes on from there."""
    page = book.listing(_filter(query), before=query.before, limit=query.limit)
    summaries = _dead_summaries(book) if query.state == "dead" else {}
    found = [detail for row in page.rows if (detail := _episode(book, row, query, summaries)) is not None]
    return found, page.next


def dead_of(book: Book, limit: int) -> list[DeliveryStatus]:
    """Deliveries that were given up, those of summaries too, the latest recorded first."""
    return [delivery_of(row) for row in book.deliveries("dead", limit=limit)]


def detail_of(book: Book, name: str) -> AlertDetail | None:
    """One alert with its deliveries, None where there is none of that id."""
    rows = book.alert(name)
    return _detail(rows, _dead_summaries(book).get(name, ())) if rows else None


def _dead_summaries(book: Book) -> dict[str, list[DeliveryRow]]:
    """Summaries that were given up, by the alert that they stand with."""
    found: dict[str, list[DeliveryRow]] = {}
    for row in book.deliveries("dead", limit=_MOST_DEAD):
        if row.summary is not None:
            found.setdefault(row.alert_id, []).append(row)
    return found


def _filter(query: AlertQuery) -> Filter:
    common = Filter(rule=query.rule, stream=query.stream, since_ns=query.since_ns)
    state = query.state
    if state == "dead":
        return replace(common, delivery="dead")
    if state == "cleared":
        return replace(common, state="cleared")
    return replace(common, state="firing", firing=state == "firing")


def _episode(
    book: Book, row: AlertRow, query: AlertQuery, summaries: Mapping[str, Sequence[DeliveryRow]]
) -> AlertDetail | None:
    """The alert that `row` is a message of; None where another row of the same list stands for it."""
    rows = book.alert(row.alert.id)
    if query.state == "dead" and row.alert.state == "cleared":
        fired = next((one for one in rows if one.alert.state == "firing"), None)
        if fired is not None and any(delivery.state == "dead" for delivery in fired.deliveries):
            return None
    return _detail(rows, summaries.get(row.alert.id, ())) if rows else None


def _detail(rows: Sequence[AlertRow], summaries: Sequence[DeliveryRow]) -> AlertDetail:
    by_state = {row.alert.state: row for row in rows}
    # That it fired may have been forgotten before that it was over.
    first = by_state.get("firing", rows[0])
    over = by_state.get("cleared")
    deliveries = [delivery for row in rows for delivery in row.deliveries] + list(summaries)
    told: dict[str, int] = {}
    for delivery in deliveries:
        told[delivery.state] = told.get(delivery.state, 0) + 1
    status = AlertStatus(
        id=first.alert.id,
        state="firing" if over is None and first.firing else "cleared",
        fired=first.alert,
        cleared=None if over is None else over.alert,
        recorded=rfc3339(first.recorded_ns),
        told=told,
    )
    return AlertDetail(alert=status, deliveries=[delivery_of(delivery) for delivery in deliveries])


def delivery_of(row: DeliveryRow) -> DeliveryStatus:
    """How far a delivery is."""
    return DeliveryStatus(
        id=row.id,
        alert=row.alert_id,
        rule=row.rule,
        stream=row.stream,
        receiver=row.receiver,
        says=row.alert_state,
        state=row.state,
        summary=None if row.summary is None else row.summary.count,
        attempts=row.attempts,
        changed=rfc3339(row.changed_ns),
        next=rfc3339(row.due_ns) if row.state == "pending" else None,
        error=row.error or None,
    )


def rules_of(book: Book, rules: Sequence[AlertConfig], now_ns: int) -> list[RuleStatus]:
    """Rules with what the outbox knows of them."""
    firing = Counter(row.alert.rule for row in book.firing())
    snoozes = book.snoozes(now_ns)
    found = []
    for rule in rules:
        last = book.listing(Filter(rule=rule.name, state="firing"), limit=1).rows
        at = last[0].alert.at if last else None
        theirs = [one for one in snoozes if one.rule in (None, rule.name)]
        found.append(rule_of(rule, firing[rule.name], at, theirs))
    return found


def rule_of(
    rule: AlertConfig, firing: int = 0, last_fired: str | None = None, snoozes: Sequence[SnoozeRow] = ()
) -> RuleStatus:
    """A rule as it is told."""
    return RuleStatus(
        name=rule.name,
        when=rule.when,
        stream=rule.stream,
        severity=rule.severity,
        key=rule.key,
        for_s=rule.for_ns / NS_PER_S,
        clear_when=rule.clear_when,
        clear_for_s=rule.clear_for_ns / NS_PER_S,
        cooldown_s=rule.cooldown_ns / NS_PER_S,
        send=list(rule.send),
        firing=firing,
        last_fired=last_fired,
        snoozes=[Snooze(rule=one.rule, stream=one.stream, until=rfc3339(one.until_ns)) for one in snoozes],
    )

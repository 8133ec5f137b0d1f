"""The outbox as everybody may open it at any time: reading what was recorded, asking for deliveries again, snoozing.

Methods block on the disk: an event loop calls them through `OutboxThread`.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self, get_args

import msgspec

from streamer.alerts.outbox.file import connect, faults, writing
from streamer.alerts.outbox.rows import AlertRow, Counts, DeliveryRow, Filter, Page, RuleFacts, Snooze
from streamer.alerts.records import DeliveryState, Summary
from streamer.messages import Alert

log = logging.getLogger(__name__)

_SENT_NOW = "state = 'pending', asked = 1, attempts = 0, begun_ns = :now, due_ns = :now, changed_ns = :now, error = ''"
# SQLite takes a bounded number of values in one statement.
_VALUES = 500


class Book:
    """One connection to the file, for one thread at a time. Every method raises OutboxError where the file can't be
    read or written just now (locked for long, no space left), and OutboxDamaged where it is broken."""

    def __init__(self, path: Path, connection: sqlite3.Connection, *, read_only: bool) -> None:
        """`Book.open` makes one."""
        self.path = path
        self._connection = connection
        self._read_only = read_only
        self._file = _identity(path)
        self._alert = msgspec.json.Decoder(Alert)
        self._summary = msgspec.json.Decoder(Summary)

    @classmethod
    def open(cls, path: Path, *, read_only: bool = False) -> Self:
        """The outbox at `path`; where there is none it is made, with the folders above it, for this user alone (0600).
        With `read_only` nothing is made.

        Raises:
            UserError: it can't be opened or made, is no outbox, or is one of a later version; names it and the remedy.
            OutboxError: it is locked, or the disk is full.
            OutboxDamaged: it is broken.
        """
        return cls(path, connect(path, read_only=read_only), read_only=read_only)

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def listing(self, wanted: Filter, *, before: int | None = None, limit: int = 100) -> Page:
        """Alerts, the latest recorded first, each with its deliveries. before: of the page before (`Page.next`)."""
        where, values = _where(wanted, before)
        found = self._alerts(f"{where} ORDER BY row DESC LIMIT ?", [*values, limit + 1])
        return Page(tuple(found[:limit]), found[limit - 1].row if len(found) > limit else None)

    def alert(self, alert_id: str) -> list[AlertRow]:
        """What was recorded under this id: none, that it fired, or that and that it is over."""
        return self._alerts("id = ? ORDER BY row", [alert_id])

    def firing(self) -> list[AlertRow]:
        """Every alert that fires still, the latest recorded first."""
        return self._alerts("firing = 1 ORDER BY row DESC", [])

    def deliveries(
        self, state: DeliveryState, *, receiver: str | None = None, before: str | None = None, limit: int = 100
    ) -> list[DeliveryRow]:
        """Deliveries in this state, the latest recorded first. before: id of the last one of the page before."""
        where = f"d.state = {_literal(state)}"
        values: list[object] = []
        if receiver is not None:
            where, values = f"{where} AND d.receiver = ?", [*values, receiver]
        if before is not None:
            where, values = f"{where} AND d.row < (SELECT row FROM deliveries WHERE id = ?)", [*values, before]
        return self._deliveries(f"{where} ORDER BY d.row DESC LIMIT ?", [*values, limit])

    def delivery(self, delivery_id: str) -> DeliveryRow | None:
        """The delivery of this id."""
        return next(iter(self._deliveries("d.id = ?", [delivery_id])), None)

    def rules(self) -> dict[str, RuleFacts]:
        """Every rule that has fired within what is kept."""
        rows = self._read("SELECT rule, sum(state = 'firing'), sum(firing), max(row) FROM alerts GROUP BY rule", [])
        times = dict(self._read_in("SELECT row, recorded_ns FROM alerts WHERE row IN", [row[3] for row in rows]))
        return {rule: RuleFacts(fired, firing, times[row]) for rule, fired, firing, row in rows}

    def counts(self) -> Counts:
        """For metrics."""
        waiting = self._read(
            "SELECT receiver, 'pending', count(*), min(recorded_ns) FROM deliveries WHERE state = 'pending'"
            " GROUP BY receiver UNION ALL"
            " SELECT receiver, 'dead', count(*), NULL FROM deliveries WHERE state = 'dead' GROUP BY receiver UNION ALL"
            " SELECT receiver, 'held', count(*), NULL FROM deliveries WHERE state = 'held' AND told_in IS NULL"
            " GROUP BY receiver",
            [],
        )
        ((unmirrored, firing),) = self._read(
            "SELECT (SELECT count(*) FROM alerts WHERE mirrored = 0), (SELECT count(*) FROM alerts WHERE firing = 1)",
            [],
        )
        return Counts(
            deliveries={(receiver, state): count for receiver, state, count, _ in waiting},
            oldest_ns=min((oldest for *_, oldest in waiting if oldest is not None), default=None),
            unmirrored=unmirrored,
            firing=firing,
            file_bytes=sum(_size(Path(f"{self.path}{ending}")) for ending in ("", "-wal")),
        )

    def resend(self, ids: Sequence[str], now_ns: int) -> list[str]:
        """Send these deliveries (again), under their ids: also those sent, held back, or never to be sent. Those that
        are pending anyhow are left as they are. Returns the ids that are sent now; unknown ones are not among them."""
        sent: set[str] = set()
        with writing(self._here(), self.path):
            for start in range(0, len(ids), _VALUES):
                some = ids[start : start + _VALUES]
                places = ", ".join(f":id{place}" for place in range(len(some)))
                rows = self._connection.execute(
                    f"UPDATE deliveries SET {_SENT_NOW} WHERE state <> 'pending' AND id IN ({places}) RETURNING id",
                    {"now": now_ns, **{f"id{place}": one for place, one in enumerate(some)}},
                )
                sent.update(row[0] for row in rows)
        return [one for one in dict.fromkeys(ids) if one in sent]

    def resend_dead(self, now_ns: int, *, receiver: str | None = None, rule: str | None = None) -> list[str]:
        """Send every dead letter again (of one receiver, of one rule); returns their ids in the order of recording."""
        with writing(self._here(), self.path):
            rows = self._connection.execute(
                f"UPDATE deliveries SET {_SENT_NOW} WHERE state = 'dead'"
                " AND (:receiver IS NULL OR receiver = :receiver) AND (:rule IS NULL OR lane = :rule)"
                " RETURNING row, id",
                {"now": now_ns, "receiver": receiver, "rule": rule},
            ).fetchall()
        return [one for _, one in sorted(rows)]

    def snooze(self, rule: str | None, stream: str | None, until_ns: int) -> None:
        """Deliver nothing of this rule (None: any) on streams like this glob (None: any) before `until_ns`; what is
        recorded is shown. Replaces one for the same rule and glob."""
        with writing(self._here(), self.path):
            self._connection.execute("REPLACE INTO snoozes VALUES (?, ?, ?)", (rule or "", stream or "", until_ns))

    def unsnooze(self, rule: str | None, stream: str | None = None) -> bool:
        """End what `snooze` of the same rule and glob began; False: there is none."""
        with writing(self._here(), self.path):
            done = self._connection.execute(
                "DELETE FROM snoozes WHERE rule = ? AND stream = ?", (rule or "", stream or "")
            )
        return done.rowcount > 0

    def snoozes(self, now_ns: int) -> list[Snooze]:
        """Those that last."""
        rows = self._read("SELECT rule, stream, until_ns FROM snoozes WHERE until_ns > ?", [now_ns])
        return [Snooze(rule or None, stream or None, until_ns) for rule, stream, until_ns in rows]

    def _here(self) -> sqlite3.Connection:
        """The connection; a new one where the file was moved aside and made anew since."""
        if self._file != _identity(self.path):
            self._replaced()
        return self._connection

    def _replaced(self) -> None:
        connection = connect(self.path, read_only=self._read_only)
        log.warning("%s is another outbox now", self.path)
        self._connection.close()
        self._connection, self._file = connection, _identity(self.path)

    def _read(self, query: str, values: Sequence[object]) -> list[Any]:
        connection = self._here()
        with faults(self.path):
            return connection.execute(query, values).fetchall()

    def _read_in(self, query: str, values: Sequence[object]) -> list[Any]:
        """The rows of `query`, which ends in `IN`, for all of the values."""
        found = []
        for start in range(0, len(values), _VALUES):
            some = values[start : start + _VALUES]
            found += self._read(f"{query} ({', '.join('?' * len(some))})", some)
        return found

    def _alerts(self, where: str, values: Sequence[object]) -> list[AlertRow]:
        rows = self._read(f"SELECT row, message, recorded_ns, firing, mirrored FROM alerts WHERE {where}", values)
        theirs: dict[int, list[DeliveryRow]] = {row[0]: [] for row in rows}
        found = self._read_in(f"{_DELIVERIES} WHERE d.summary IS NULL AND d.alert IN", list(theirs))
        for row in sorted(found, key=lambda row: row[0]):
            theirs[row[1]].append(self._delivery(row))
        return [
            AlertRow(row, self._alert.decode(message), recorded_ns, bool(firing), bool(mirrored), tuple(theirs[row]))
            for row, message, recorded_ns, firing, mirrored in rows
        ]

    def _deliveries(self, where: str, values: Sequence[object]) -> list[DeliveryRow]:
        return [self._delivery(row) for row in self._read(f"{_DELIVERIES} WHERE {where}", values)]

    def _delivery(self, row: Sequence[Any]) -> DeliveryRow:
        """Of a row of `_DELIVERIES`."""
        values: dict[str, Any] = dict(zip(DeliveryRow.__slots__, row[2:], strict=True))
        if values["summary"] is not None:
            values["summary"] = self._summary.decode(values["summary"])
        return DeliveryRow(**values)


# The first two are for the book itself; then DeliveryRow's fields in their order.
_DELIVERIES = """SELECT d.row, d.alert, d.id, d.receiver, d.state, a.id, a.state, a.rule, a.stream, d.attempts,
    d.due_ns, d.tried_ns, d.changed_ns, d.error, d.summary, t.id
    FROM deliveries d JOIN alerts a ON a.row = d.alert LEFT JOIN deliveries t ON t.row = d.told_in"""


def _literal(state: DeliveryState) -> str:
    """The state as SQL writes it: indices over one state serve no condition whose state is filled in later."""
    if state not in get_args(DeliveryState):
        raise ValueError(f"{state!r} is no state of a delivery")
    return f"'{state}'"


def _where(wanted: Filter, before: int | None) -> tuple[str, list[object]]:
    """The condition of SQL that picks what is wanted, with its values."""
    asked: list[tuple[str, object]] = [
        ("rule = ?", wanted.rule),
        ("stream = ?", wanted.stream),
        ("state = ?", wanted.state),
        ("recorded_ns >= ?", wanted.since_ns),
        ("row < ?", before),
    ]
    given = [(text, value) for text, value in asked if value is not None]
    if wanted.firing:
        given.append(("firing = 1", None))
    if wanted.delivery is not None:
        given.append((f"row IN (SELECT alert FROM deliveries WHERE state = {_literal(wanted.delivery)})", None))
    return " AND ".join(["1", *(text for text, _ in given)]), [value for _, value in given if value is not None]


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file stands at `path` now."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0

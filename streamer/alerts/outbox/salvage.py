"""What can still be read of a damaged outbox is brought over to a new one, so that damage costs as little as it can."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import msgspec

from streamer.alerts.outbox.file import writing
from streamer.alerts.records import DeliveryState
from streamer.messages import Alert

_STATES = frozenset(get_args(DeliveryState))


@dataclass(frozen=True, slots=True)
class Salvaged:
    """What came over. whole: nothing in the way, as far as can be told; resumed: the feed's position and the rules'
    memory are among it."""

    alerts: int
    deliveries: int
    whole: bool
    resumed: bool


def salvage(damaged: Path, connection: sqlite3.Connection, path: Path) -> Salvaged:
    """Copy alerts, deliveries and snoozes that can be read in `damaged` to the empty outbox at `path`, and the feed's
    position where all of the rules' memory can be read too.

    Raises:
        OutboxError: the new outbox can't be written.
    """
    try:
        old = sqlite3.connect(f"{damaged.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None)
        old.row_factory = sqlite3.Row
    except sqlite3.Error:
        return Salvaged(0, 0, whole=False, resumed=False)
    with contextlib.closing(old), writing(connection, path):
        alerts = _Table(old, "alerts", "row")
        deliveries = _Table(old, "deliveries", "row")
        kept_alerts = sum(_insert(connection, "alerts", row) for row in alerts.rows() if _is_alert(row))
        kept = sum(_insert(connection, "deliveries", row) for row in deliveries.rows() if row["state"] in _STATES)
        snoozes = _Table(old, "snoozes", "rule, stream")
        for row in snoozes.rows():
            _insert(connection, "snoozes", row)
        whole = not (alerts.broken or deliveries.broken or snoozes.broken)
        return Salvaged(kept_alerts, kept, whole, _resume(old, connection))


def _resume(old: sqlite3.Connection, connection: sqlite3.Connection) -> bool:
    """Position and memory belong together: both come over or neither."""
    tables = [_Table(old, "place", "only"), _Table(old, "memory", "key")]
    rows = [(table.name, row) for table in tables for row in table.rows()]
    if any(table.broken for table in tables):
        return False
    return all(_insert(connection, name, row) for name, row in rows) and bool(rows)


class _Table:
    """The readable rows of a table: from its beginning up to the damage, and from its end back to it."""

    def __init__(self, old: sqlite3.Connection, name: str, key: str) -> None:
        self.name = name
        self.broken = False
        self._old = old
        self._key = key

    def rows(self) -> Iterator[sqlite3.Row]:
        yield from self._until_broken("ASC")
        if self.broken:
            yield from self._until_broken("DESC")

    def _until_broken(self, order: str) -> Iterator[sqlite3.Row]:
        keys = ", ".join(f"{key} {order}" for key in self._key.split(", "))
        try:
            yield from self._old.execute(f"SELECT * FROM {self.name} ORDER BY {keys}")
        except sqlite3.Error:
            self.broken = True


def _is_alert(row: sqlite3.Row) -> bool:
    try:
        alert = msgspec.json.decode(row["message"], type=Alert)
    except (msgspec.MsgspecError, UnicodeDecodeError, TypeError):
        return False
    return (alert.id, alert.state) == (row["id"], row["state"])


def _insert(connection: sqlite3.Connection, table: str, row: sqlite3.Row) -> bool:
    """Whether this row is new and fits (its alert is there, its values are whole)."""
    values: list[Any] = list(row)
    try:
        done = connection.execute(
            f"INSERT INTO {table} ({', '.join(row.keys())}) VALUES ({', '.join('?' * len(values))})", values
        )
    except sqlite3.IntegrityError:
        return False
    return done.rowcount == 1

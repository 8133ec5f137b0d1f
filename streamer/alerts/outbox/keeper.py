"""The outbox: alerts are written here, on disk, before anything is sent, and stay until they were delivered.

One process at a time keeps it (records, mirrors, delivers); others may open the same file as a `Book`. Methods block
on the disk: an event loop calls them through `OutboxThread`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import msgspec

from streamer.alerts.outbox.book import Book
from streamer.alerts.outbox.file import (
    Keeper,
    OutboxDamaged,
    OutboxError,
    check_whole,
    connect,
    replace_damaged,
    writing,
)
from streamer.alerts.outbox.rows import Kept, Lane, Outcome, Waiting, delivery_id, summary_id
from streamer.alerts.outbox.salvage import salvage
from streamer.alerts.records import Recorded, Summary
from streamer.messages import encode

log = logging.getLogger(__name__)

# Alerts that may go: over, in the feed, and with no delivery that anybody still waits for or has to see to.
_PRUNABLE = """recorded_ns < ? AND firing = 0 AND mirrored = 1 AND NOT EXISTS (
    SELECT 1 FROM deliveries d LEFT JOIN deliveries t ON t.row = d.told_in WHERE d.alert = alerts.row AND (
        d.state IN ('pending', 'dead')
        OR d.state = 'held' AND (d.told_in IS NULL OR t.state IN ('pending', 'dead'))))"""


class Outbox(Book):
    """The outbox as its keeper has it. `Outbox.open` puts a new file in a damaged one's place, with what can be read of
    it, and moves that aside (logged, and in `moved_aside`); it raises UserError where another process keeps the file.
    A file that is removed or replaced while it is kept is OutboxDamaged, in every method: its keeper must begin again.
    """

    _keeper: Keeper
    moved_aside: Path | None = None

    @classmethod
    def open(cls, path: Path, *, read_only: bool = False) -> Self:
        """`Book.open`, as the one keeper; never `read_only`."""
        if read_only:
            raise ValueError("an outbox is kept to be written: open a Book to read one")
        keeper = Keeper(path)
        moved = None
        try:
            try:
                connection = _whole(path)
            except OutboxDamaged as error:
                moved = _mend(path, error)
                connection = _whole(path)
        except BaseException:
            keeper.give_back()
            raise
        outbox = cls(path, connection, read_only=False)
        outbox._keeper, outbox.moved_aside = keeper, moved
        return outbox

    def close(self) -> None:
        """Let go of the file; another process may keep it."""
        super().close()
        self._keeper.give_back()

    def position(self) -> str | None:
        """Up to where the feed was read, as `checkpoint` was told; None: never."""
        rows = self._read("SELECT position FROM place", [])
        return rows[0][0] if rows else None

    def memory(self) -> dict[str, bytes]:
        """The rules' memory at that position."""
        return dict(self._read("SELECT key, state FROM memory", []))

    def checkpoint(self, position: str, changed: Mapping[str, bytes | None]) -> None:
        """Keep the position and the parts of the memory that changed since (None: gone), both or neither."""
        kept = [(key, state) for key, state in changed.items() if state is not None]
        gone = [(key,) for key, state in changed.items() if state is None]
        with writing(self._here(), self.path):
            self._connection.execute("REPLACE INTO place VALUES (1, ?)", (position,))
            self._connection.executemany("REPLACE INTO memory VALUES (?, ?)", kept)
            self._connection.executemany("DELETE FROM memory WHERE key = ?", gone)

    def record(self, alerts: Sequence[Recorded], now_ns: int) -> list[Kept]:
        """Write them, all or none; on disk when this returns. Those recorded before (same id and state) are left out:
        only new ones are returned."""
        with writing(self._here(), self.path):
            return [kept for alert in alerts if (kept := self._insert(alert, now_ns)) is not None]

    def _insert(self, recorded: Recorded, now_ns: int) -> Kept | None:
        alert = recorded.alert
        fires = alert.state == "firing"
        done = self._connection.execute(
            "INSERT INTO alerts (id, state, rule, stream, recorded_ns, firing, message) VALUES (?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (id, state) DO NOTHING",
            (alert.id, alert.state, alert.rule, alert.stream, now_ns, fires, encode(alert)),
        )
        if not done.rowcount:
            return None
        if not fires:
            self._connection.execute("UPDATE alerts SET firing = 0 WHERE id = ? AND state = 'firing'", (alert.id,))
        row = done.lastrowid
        assert row is not None, "an insert has a row"
        self._connection.executemany(
            "INSERT INTO deliveries (id, alert, receiver, lane, state, recorded_ns, begun_ns, due_ns, changed_ns)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (delivery_id(alert.id, alert.state, to), row, to, alert.rule, state, now_ns, now_ns, now_ns, now_ns)
                for to, state in recorded.receivers
            ],
        )
        return Kept(row, alert, now_ns, recorded.receivers)

    def unmirrored(self, most: int) -> list[Kept]:
        """The earliest alerts that are not in the feed yet, in the order of recording."""
        rows = self._read(
            "SELECT row, message, recorded_ns FROM alerts WHERE mirrored = 0 ORDER BY row LIMIT ?", [most]
        )
        return [Kept(row, self._alert.decode(message), recorded_ns) for row, message, recorded_ns in rows]

    def mirrored(self, rows: Sequence[int]) -> None:
        """These (`Kept.row`) are in the feed."""
        with writing(self._here(), self.path):
            self._connection.executemany("UPDATE alerts SET mirrored = 1 WHERE row = ?", [(row,) for row in rows])

    def lanes(self) -> list[Lane]:
        """Where anything is to be sent."""
        rows = self._read("SELECT DISTINCT receiver, lane, asked FROM deliveries WHERE state = 'pending'", [])
        return [Lane(receiver, rule, bool(asked)) for receiver, rule, asked in rows]

    def waiting(self, lane: Lane, most: int) -> list[Waiting]:
        """The earliest deliveries of a lane that are to be sent, in the order of recording."""
        return self._waiting(
            "d.state = 'pending' AND d.receiver = ? AND d.lane = ? AND d.asked = ? ORDER BY d.row LIMIT ?",
            [lane.receiver, lane.rule, lane.asked, most],
        )

    def settle(self, outcomes: Sequence[Outcome]) -> None:
        """Write what became of deliveries, all or none."""
        with writing(self._here(), self.path):
            self._connection.executemany(
                "UPDATE deliveries SET state = ?, attempts = ?, due_ns = ?, changed_ns = ?, error = ?,"
                " asked = asked AND ? = 'pending', tried_ns = coalesce(tried_ns, ?) WHERE row = ?",
                [
                    (one.state, one.attempts, one.due_ns, one.at_ns, one.error, one.state, one.tried_ns, one.row)
                    for one in outcomes
                ],
            )

    def held(self) -> dict[tuple[str, str], int]:
        """How many deliveries limits held back that no summary tells of yet, by receiver and rule."""
        rows = self._read(
            "SELECT receiver, lane, count(*) FROM deliveries WHERE state = 'held' AND told_in IS NULL GROUP BY 1, 2", []
        )
        return {(receiver, rule): count for receiver, rule, count in rows}

    def summarise(self, receiver: str, rules: Sequence[str], now_ns: int) -> Waiting | None:
        """Make a summary of what was held back for this receiver of these rules, as one more delivery; None: nothing
        was. Its id follows from the first delivery that it tells of."""
        places = ", ".join("?" * len(rules))
        untold = f"state = 'held' AND told_in IS NULL AND receiver = ? AND lane IN ({places})"
        with writing(self._here(), self.path):
            rows = self._connection.execute(
                f"SELECT id, alert, lane, recorded_ns FROM deliveries WHERE {untold} ORDER BY row", [receiver, *rules]
            ).fetchall()
            if not rows:
                return None
            counted = tuple(sorted(Counter(rule for _, _, rule, _ in rows).items()))
            summary = Summary(len(rows), min(row[3] for row in rows), max(row[3] for row in rows), counted)
            done = self._connection.execute(
                "INSERT INTO deliveries (id, alert, receiver, lane, state, recorded_ns, begun_ns, due_ns, changed_ns,"
                " summary) VALUES (?, ?, ?, '', 'pending', ?, ?, ?, ?, ?)",
                (
                    summary_id(rows[0][0]),
                    rows[-1][1],
                    receiver,
                    now_ns,
                    now_ns,
                    now_ns,
                    now_ns,
                    msgspec.json.encode(summary),
                ),
            )
            self._connection.execute(
                f"UPDATE deliveries SET told_in = ? WHERE {untold}", [done.lastrowid, receiver, *rules]
            )
        return self._waiting("d.row = ?", [done.lastrowid])[0]

    def tried_since(self, since_ns: int) -> list[tuple[str, tuple[str, ...], int]]:
        """Receiver, rules (an alert's one, or those that a summary told of) and time of every first try since then, the
        earliest first: for limits after a restart."""
        rows = self._read(
            "SELECT receiver, lane, tried_ns, summary FROM deliveries WHERE tried_ns >= ? ORDER BY tried_ns", [since_ns]
        )
        return [
            (receiver, (rule,) if summary is None else _rules(self._summary.decode(summary)), tried_ns)
            for receiver, rule, tried_ns, summary in rows
        ]

    def give_up(self, receiver: str, before_ns: int, error: str, now_ns: int) -> int:
        """Deliveries to a receiver that is no more, begun before `before_ns`, become dead letters; how many."""
        with writing(self._here(), self.path):
            done = self._connection.execute(
                "UPDATE deliveries SET state = 'dead', asked = 0, error = ?, changed_ns = ?"
                " WHERE state = 'pending' AND receiver = ? AND begun_ns < ?",
                (error, now_ns, receiver, before_ns),
            )
        return done.rowcount

    def prune(self, before_ns: int, most: int = 500) -> int:
        """Forget at most so many alerts recorded before then, with their deliveries; how many were. Never those that
        fire still, are not in the feed yet, or have a delivery that is pending, dead, or held back and not told."""
        with writing(self._here(), self.path):
            rows = self._connection.execute(
                f"SELECT row FROM alerts WHERE {_PRUNABLE} ORDER BY row LIMIT ?", (before_ns, most)
            ).fetchall()
            self._connection.executemany("DELETE FROM deliveries WHERE alert = ?", rows)
            self._connection.executemany("DELETE FROM alerts WHERE row = ?", rows)
        return len(rows)

    def other_writes(self) -> int:
        """A number that changes when another process wrote to the file (asked for a delivery, snoozed)."""
        ((version,),) = self._read("PRAGMA data_version", [])
        return int(version)

    def _replaced(self) -> None:
        raise OutboxDamaged(f"{self.path}: the outbox of alerts was removed or replaced while it was in use")

    def _waiting(self, where: str, values: Sequence[object]) -> list[Waiting]:
        rows = self._read(
            "SELECT d.row, d.id, d.receiver, d.lane, a.message, d.recorded_ns, d.begun_ns, d.attempts, d.due_ns,"
            f" d.asked, d.summary FROM deliveries d JOIN alerts a ON a.row = d.alert WHERE {where}",
            values,
        )
        return [self._one_waiting(*row) for row in rows]

    def _one_waiting(self, *row: Any) -> Waiting:
        *head, message, recorded_ns, begun_ns, attempts, due_ns, asked, summary = row
        place, its_id, receiver, rule = head
        return Waiting(
            row=place,
            id=its_id,
            receiver=receiver,
            rule=rule,
            alert=self._alert.decode(message),
            recorded_ns=recorded_ns,
            begun_ns=begun_ns,
            attempts=attempts,
            due_ns=due_ns,
            asked=bool(asked),
            summary=None if summary is None else self._summary.decode(summary),
        )


def _rules(summary: Summary) -> tuple[str, ...]:
    return tuple(rule for rule, _ in summary.rules)


def _whole(path: Path) -> sqlite3.Connection:
    connection = connect(path)
    try:
        check_whole(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _mend(path: Path, error: OutboxDamaged) -> Path:
    """Put a new outbox in the place of a damaged one, with what can be read of that; returns where that is now.

    Raises:
        OutboxError: there is no room for a new one; all is as it was.
    """
    new = Path(f"{path}.new")
    _remove(new)
    try:
        connection = connect(new)
        try:
            saved = salvage(path, connection, new)
        finally:
            connection.close()
        if Path(f"{new}-wal").exists():
            raise OutboxError(f"{new}: no space left to mend the outbox of alerts: make room on its disk")
        moved = replace_damaged(path, new, time.time_ns())
    finally:
        _remove(new)
    log.critical(
        "%s: it is %s now; a new one has what could be read of it: %d alerts with %d deliveries%s",
        error,
        moved,
        saved.alerts,
        saved.deliveries,
        "" if saved.whole else "; others in it are not sent",
    )
    return moved


def _remove(path: Path) -> None:
    """A file with its log, where there is one."""
    for ending in ("-wal", "-shm", ""):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{path}{ending}")

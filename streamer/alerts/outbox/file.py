"""The outbox's file: its tables, how it is opened and kept by one, and what its faults are called.

SQLite with a write-ahead log and `synchronous=FULL` (https://www.sqlite.org/wal.html): what a transaction wrote is on
disk when it returns, readers hold up nobody, and a process that is killed leaves a whole file.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from streamer.clock import NS_PER_S, rfc3339
from streamer.errors import StreamerError, UserError

log = logging.getLogger(__name__)

VERSION = 1
_APPLICATION = 0x73747261  # "stra": tells an outbox from databases of other programs
_BUSY_MS = 5_000
_LOG_BYTES = 16 * 1024 * 1024
_KEEPER_WAIT_S = 5.0
_POLL_S = 0.05

_SCHEMA = (
    "CREATE TABLE place (only INTEGER PRIMARY KEY CHECK (only = 1), position TEXT NOT NULL)",
    "CREATE TABLE memory (key TEXT PRIMARY KEY, state BLOB NOT NULL) WITHOUT ROWID",
    # AUTOINCREMENT: a row's number is the order of recording, and must not come again after pruning.
    """CREATE TABLE alerts (
        row INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL,
        state TEXT NOT NULL,
        rule TEXT NOT NULL,
        stream TEXT NOT NULL,
        recorded_ns INTEGER NOT NULL,
        firing INTEGER NOT NULL,
        mirrored INTEGER NOT NULL DEFAULT 0,
        message BLOB NOT NULL,
        UNIQUE (id, state)
    )""",
    "CREATE INDEX alerts_rule ON alerts (rule, row)",
    "CREATE INDEX alerts_stream ON alerts (stream, row)",
    "CREATE INDEX alerts_unmirrored ON alerts (row) WHERE mirrored = 0",
    "CREATE INDEX alerts_firing ON alerts (rule, row) WHERE firing = 1",
    # lane: the rule, or "" for a summary. begun_ns: recorded, or asked for again. told_in: a summary's row.
    """CREATE TABLE deliveries (
        row INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        alert INTEGER NOT NULL REFERENCES alerts (row),
        receiver TEXT NOT NULL,
        lane TEXT NOT NULL,
        state TEXT NOT NULL,
        asked INTEGER NOT NULL DEFAULT 0,
        attempts INTEGER NOT NULL DEFAULT 0,
        recorded_ns INTEGER NOT NULL,
        begun_ns INTEGER NOT NULL,
        due_ns INTEGER NOT NULL,
        tried_ns INTEGER,
        changed_ns INTEGER NOT NULL,
        error TEXT NOT NULL DEFAULT '',
        told_in INTEGER,
        summary BLOB
    )""",
    "CREATE INDEX deliveries_alert ON deliveries (alert)",
    "CREATE INDEX deliveries_pending ON deliveries (receiver, lane, asked, row) WHERE state = 'pending'",
    "CREATE INDEX deliveries_dead ON deliveries (receiver, row) WHERE state = 'dead'",
    "CREATE INDEX deliveries_held ON deliveries (receiver, lane, row) WHERE state = 'held' AND told_in IS NULL",
    "CREATE INDEX deliveries_tried ON deliveries (tried_ns) WHERE tried_ns IS NOT NULL",
    "CREATE INDEX deliveries_told ON deliveries (told_in) WHERE told_in IS NOT NULL",
    """CREATE TABLE snoozes (
        rule TEXT NOT NULL, stream TEXT NOT NULL, until_ns INTEGER NOT NULL, PRIMARY KEY (rule, stream)
    ) WITHOUT ROWID""",
    f"PRAGMA application_id = {_APPLICATION}",
    f"PRAGMA user_version = {VERSION}",
)


class OutboxError(StreamerError):
    """The outbox can't be read or written just now; later it may."""


class OutboxDamaged(OutboxError):
    """The outbox's file is broken. Whoever opens it as its keeper next moves it aside."""


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """A connection to the outbox at `path`, made with its tables where there is none (not so with `read_only`).

    Raises:
        UserError: it can't be had; names it and the remedy.
        OutboxError: it is locked, or the disk is full.
        OutboxDamaged: it is broken.
    """
    if not read_only:
        _make_file(path)
    elif not path.is_file():
        raise UserError(f"{path}: no alerts were recorded there yet; set `outbox.path` to where they are")
    mode = "ro" if read_only else "rw"
    with faults(path):
        connection = sqlite3.connect(
            f"{path.resolve().as_uri()}?mode={mode}",
            uri=True,
            timeout=_BUSY_MS / 1000,
            isolation_level=None,
            check_same_thread=False,  # one thread at a time, but not always the one that opened it
        )
        try:
            _prepare(connection, path, read_only)
        except BaseException:
            connection.close()
            raise
    return connection


@contextlib.contextmanager
def faults(path: Path) -> Iterator[None]:
    """SQLite's errors as ours, with the file's name and what can be done."""
    try:
        yield
    except sqlite3.Error as error:
        raise _said(path, error) from error


def _said(path: Path, error: sqlite3.Error) -> OutboxError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return OutboxDamaged(f"{path}: the outbox of alerts is damaged ({error})")
    if code == sqlite3.SQLITE_FULL:
        return OutboxError(f"{path}: no space left to write alerts: make room on its disk")
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return OutboxError(f"{path}: another program locked it for over {_BUSY_MS // 1000} s: end that program")
    return OutboxError(f"{path}: {error}: see to its disk and its rights")


@contextlib.contextmanager
def writing(connection: sqlite3.Connection, path: Path) -> Iterator[None]:
    """One transaction: all that is written inside, on disk when it is left, or nothing."""
    with faults(path):
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            connection.execute("COMMIT")
        except BaseException:
            # A full disk may have rolled it back already.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _make_file(path: Path) -> None:
    """An empty file for this user alone, before SQLite would make one with the usual rights."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise UserError(
            f"{path}: alerts can't be kept there ({error.strerror}): set `outbox.path` to a file that can be written"
        ) from error


def _prepare(connection: sqlite3.Connection, path: Path, read_only: bool) -> None:
    connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
    if not read_only:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA journal_size_limit = {_LOG_BYTES}")
        _make_tables(connection, path)
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != _APPLICATION:
        raise UserError(f"{path} is no outbox of alerts: set `outbox.path` to another file")
    if version > VERSION:
        raise UserError(
            f"{path} was written by a later version of streamer ({version}; this one knows {VERSION}): update streamer,"
            " or set `outbox.path` to another file"
        )


def _make_tables(connection: sqlite3.Connection, path: Path) -> None:
    """The tables, where the file has none; two processes may come at once."""
    if connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
        return
    with writing(connection, path):
        if not connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
            for statement in _SCHEMA:
                connection.execute(statement)


def check_whole(connection: sqlite3.Connection, path: Path) -> None:
    """Read the file through once.

    Raises:
        OutboxDamaged: it is broken somewhere.
    """
    with faults(path):
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise OutboxDamaged(f"{path}: the outbox of alerts is damaged ({verdict})")


def replace_damaged(path: Path, new: Path, wall_ns: int) -> Path:
    """Put the outbox `new` in the place of a damaged one, which gets another name beside it with its log; returns that.

    Raises:
        UserError: it can't be moved.
    """
    aside = path.with_name(f"{path.name}.damaged-{rfc3339(wall_ns).replace(':', '')}")
    try:
        # A second name first, so that there is a file at `path` all the time: who finds none makes one.
        os.link(path, aside)
        for ending in ("-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.replace(f"{path}{ending}", f"{aside}{ending}")
        os.replace(new, path)
    except OSError as error:
        raise UserError(f"{path} is damaged and can't be moved aside ({error.strerror}): move it yourself") from error
    return aside


class Keeper:
    """The right to keep the outbox at `path`: one process at a time has it, until `give_back` or its end."""

    def __init__(self, path: Path) -> None:
        """Takes it, waiting up to 5 s for one that is just ending.

        Raises:
            UserError: another process has it, or the file beside the outbox can't be made.
        """
        _make_file(path)
        self._file = os.open(f"{path}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        deadline_ns = time.monotonic_ns() + int(_KEEPER_WAIT_S * NS_PER_S)
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic_ns() > deadline_ns:
                    os.close(self._file)
                    raise UserError(
                        f"{path}: another streamer keeps its alerts there: end it, or set `outbox.path` to another file"
                    ) from None
                time.sleep(_POLL_S)

    def give_back(self) -> None:
        """Another may have it."""
        os.close(self._file)

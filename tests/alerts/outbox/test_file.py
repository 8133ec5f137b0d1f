"""The outbox's file: whose it is, what stands in the way, and that a fault of it is told and loses nothing silently."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from streamer.alerts.outbox import file as outbox_file
from streamer.alerts.outbox.book import Book
from streamer.alerts.outbox.file import OutboxDamaged, OutboxError
from streamer.alerts.outbox.keeper import Outbox
from streamer.alerts.outbox.rows import Filter, Lane
from streamer.errors import UserError
from tests.alerts.outbox_making import T0_NS, recorded
from tests.disks import fill, small_disk

LANE = Lane("ops", "glass", False)


def make(path: Path, alerts: int = 3) -> None:
    """An outbox with so many alerts at `path`, closed."""
    outbox = Outbox.open(path)
    outbox.record([recorded(number) for number in range(alerts)], T0_NS)
    outbox.close()


def test_only_its_user_can_read_it(tmp_path: Path) -> None:
    """The file, its log and the folder made for it are the user's alone."""
    path = tmp_path / "deep" / "er" / "alerts.db"
    outbox = Outbox.open(path)
    outbox.record([recorded(1)], T0_NS)
    modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    outbox.close()
    assert set(modes.values()) == {0o600} and "alerts.db-wal" in modes, modes
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_every_commit_is_on_disk(tmp_path: Path) -> None:
    """The connection that records has a write-ahead log and waits for the disk at every commit."""
    outbox = Outbox.open(tmp_path / "alerts.db")
    asked = [outbox._connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
    outbox.close()
    assert asked == ["wal", 2], "2 is FULL"


@pytest.mark.parametrize("kind", [Outbox, Book])
def test_a_later_version_is_refused(tmp_path: Path, kind: type[Book]) -> None:
    """A file that a later streamer wrote is refused with what to do, and stays as it is."""
    path = tmp_path / "alerts.db"
    make(path)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(UserError, match=r"alerts\.db.*later version.*update"):
        kind.open(path)
    assert not list(tmp_path.glob("*damaged*"))


@pytest.mark.parametrize("kind", [Outbox, Book])
def test_another_programs_database_is_refused(tmp_path: Path, kind: type[Book]) -> None:
    """A database of another program is named as none of ours, and nothing is written to it."""
    path = tmp_path / "other.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE bookmarks (url)")
    connection.close()
    with pytest.raises(UserError, match=r"other\.db is no outbox.*outbox\.path"):
        kind.open(path)
    tables = sqlite3.connect(path).execute("SELECT name FROM sqlite_schema").fetchall()
    assert tables == [("bookmarks",)]


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    """A folder in the file's place, or a file in the folder's, is told with the file's name and the setting."""
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "alerts.db"):
        with pytest.raises(UserError, match=r"can't be kept there.*outbox\.path"):
            Outbox.open(path)


def test_reading_makes_no_file(tmp_path: Path) -> None:
    """Where nothing was recorded a reader is told so, and makes nothing; where there is something it reads it, and
    can't write."""
    path = tmp_path / "none" / "alerts.db"
    with pytest.raises(UserError, match="no alerts were recorded there"):
        Book.open(path, read_only=True)
    assert not path.parent.exists()
    make(path)
    book = Book.open(path, read_only=True)
    assert len(book.listing(Filter()).rows) == 3
    with pytest.raises(OutboxError, match="readonly"):
        book.snooze(None, None, T0_NS)
    book.close()


def test_one_process_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one process keeps it another is refused, and may have it when that one was killed."""
    monkeypatch.setattr(outbox_file, "_KEEPER_WAIT_S", 0.2)
    path = tmp_path / "alerts.db"
    imports = "from pathlib import Path; from streamer.alerts.outbox.keeper import Outbox"
    code = f"{imports}; o = Outbox.open(Path({str(path)!r}))"
    keeper = subprocess.Popen(
        [sys.executable, "-c", f"{code}; print('kept', flush=True); input()"], stdin=-1, stdout=-1
    )
    try:
        assert keeper.stdout is not None and keeper.stdout.readline() == b"kept\n"
        with pytest.raises(UserError, match="another streamer keeps"):
            Outbox.open(path)
        Book.open(path).close()
    finally:
        keeper.kill()
        keeper.communicate()
    make(path)


def spoil(path: Path) -> None:
    """Random bytes over the middle of the file: its beginning still says that it is a database."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(random.Random(7).randbytes(size - 4096))


def test_a_damaged_file_is_moved_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file with garbage in it, or that is none at all, is kept under another name, which is logged; a new outbox
    takes its place and records."""
    path = tmp_path / "alerts.db"
    make(path)
    spoil(path)
    spoilt = path.read_bytes()
    outbox = Outbox.open(path)
    assert outbox.moved_aside is not None and outbox.moved_aside.read_bytes() == spoilt
    assert str(outbox.moved_aside) in caplog.text
    assert len(outbox.record([recorded(1000)], T0_NS)) == 1
    outbox.close()
    path.write_bytes(b"no database at all " * 500)
    outbox = Outbox.open(path)
    assert outbox.moved_aside is not None and len(list(tmp_path.glob("*.damaged-*"))) >= 2
    outbox.close()


def test_what_can_be_read_of_a_damaged_file_comes_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where one page in the middle is broken, alerts before and after it are there again, with their deliveries, ids
    and order; what could be sent still is; and the log says how many there are."""
    path = tmp_path / "alerts.db"
    make(path, 400)
    book = Book.open(path)
    ids = {row.alert.text: row.deliveries[0].id for row in book.listing(Filter(), limit=1000).rows}
    book.snooze("glass", None, T0_NS + 9)
    book.close()
    data = path.read_bytes()
    place = data.index(b'"text":"glass 200"') // 4096 * 4096
    path.write_bytes(data[:place] + bytes(4096) + data[place + 4096 :])
    outbox = Outbox.open(path)
    assert outbox.moved_aside is not None
    rows = outbox.listing(Filter(), limit=1000).rows
    numbers = [int(row.alert.text.split()[1]) for row in reversed(rows)]
    assert 380 < len(rows) < 400 and numbers[0] == 0 and numbers[-1] == 399 and 200 not in numbers
    assert numbers == sorted(numbers)
    assert {row.alert.text: row.deliveries[0].id for row in rows}.items() <= ids.items()
    assert len(outbox.waiting(LANE, 1000)) == len(rows) and f"{len(rows)} alerts" in caplog.text
    assert len(outbox.snoozes(T0_NS)) == 1
    assert outbox.record([recorded(200), recorded(399)], T0_NS)[0].alert.text == "glass 200"
    outbox.close()


def test_damage_on_a_full_disk_waits_for_room() -> None:
    """Without room for a new file the damaged one stays where it is, and is mended when there is."""
    with small_disk("512k") as disk:
        path = disk / "alerts.db"
        make(path, 100)
        data = path.read_bytes()
        place = data.index(b'"text":"glass 50"') // 4096 * 4096
        path.write_bytes(data[:place] + bytes(4096) + data[place + 4096 :])
        spoilt, ballast = path.read_bytes(), fill(disk)
        with pytest.raises((OutboxError, UserError), match=r"space|disk"):
            Outbox.open(path)
        assert path.read_bytes() == spoilt and {file.name for file in disk.glob("*.new*")} == set()
        ballast.unlink()
        outbox = Outbox.open(path)
        assert outbox.moved_aside is not None and len(outbox.listing(Filter(), limit=200).rows) > 80
        outbox.close()


def test_the_position_comes_over_with_the_memory(tmp_path: Path) -> None:
    """Where damage spares them, the rules go on from where they were."""
    path = tmp_path / "alerts.db"
    outbox = Outbox.open(path)
    outbox.checkpoint("7-0@abc", {"a": b"1"})
    outbox.record([recorded(number) for number in range(100)], T0_NS)
    outbox.close()
    data = path.read_bytes()
    place = data.index(b'"text":"glass 50"') // 4096 * 4096
    path.write_bytes(data[:place] + bytes(4096) + data[place + 4096 :])
    outbox = Outbox.open(path)
    assert outbox.moved_aside is not None
    assert (outbox.position(), outbox.memory()) == ("7-0@abc", {"a": b"1"})
    outbox.close()


def test_a_file_that_breaks_while_it_is_used_is_told(tmp_path: Path) -> None:
    """Garbage that gets into the file under a running keeper ends in an error that says so, not in wrong rows."""
    path = tmp_path / "alerts.db"
    make(path, 300)
    outbox = Outbox.open(path)
    outbox._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    spoil(path)
    outbox._connection.execute("PRAGMA shrink_memory")  # what it has in memory would hide it for a while
    with pytest.raises(OutboxDamaged, match=r"alerts\.db.*damaged"):
        outbox.listing(Filter(), limit=1000)
    with pytest.raises(OutboxDamaged, match=r"alerts\.db.*damaged"):
        outbox.record([recorded(number) for number in range(1000, 1200)], T0_NS)
    outbox.close()


def test_a_reader_follows_to_the_new_file(tmp_path: Path) -> None:
    """A book that was open when the file was moved aside shows the new one."""
    path = tmp_path / "alerts.db"
    make(path, 3)
    book = Book.open(path)
    assert len(book.listing(Filter()).rows) == 3
    spoil(path)
    outbox = Outbox.open(path)
    outbox.record([recorded(9)], T0_NS)
    assert [row.alert.text for row in book.listing(Filter()).rows] == ["glass 9"]
    book.snooze("glass", None, T0_NS + 9)
    assert len(outbox.snoozes(T0_NS)) == 1
    book.close()
    outbox.close()


def test_a_file_that_is_removed_under_its_keeper_is_told(tmp_path: Path) -> None:
    """Nothing is recorded into a file that is no longer there: the keeper is told, and begins a new one."""
    path = tmp_path / "alerts.db"
    outbox = Outbox.open(path)
    outbox.record([recorded(1)], T0_NS)
    for file in path.parent.glob("alerts.db*"):
        file.unlink()
    with pytest.raises(OutboxDamaged, match="removed or replaced"):
        outbox.record([recorded(2)], T0_NS)
    outbox.close()
    make(path, 1)


def test_a_locked_file_is_waited_for_and_then_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write waits while another program holds the file; where that takes too long it fails with the reason, having
    written nothing, and the next one succeeds."""
    monkeypatch.setattr(outbox_file, "_BUSY_MS", 200)
    path = tmp_path / "alerts.db"
    outbox = Outbox.open(path)
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(OutboxError, match="locked"):
        outbox.record([recorded(1)], T0_NS)
    release = threading.Timer(0.05, lambda: other.execute("ROLLBACK"))
    release.start()
    assert len(outbox.record([recorded(1)], T0_NS)) == 1
    release.join()
    other.close()
    outbox.close()


def test_a_full_disk_is_told_and_loses_nothing() -> None:
    """On a full disk recording fails with the reason and changes nothing, however often; with room again it goes on,
    and the file is whole."""
    with small_disk("512k") as disk:
        path = disk / "alerts.db"
        outbox = Outbox.open(path)
        outbox.record([recorded(number) for number in range(5)], T0_NS)
        outbox.checkpoint("5-0@a", {"a": b"5"})
        ballast = fill(disk)
        for _ in range(3):
            with pytest.raises(OutboxError, match=r"alerts\.db.*(space|disk)"):
                for number in range(100, 2000):
                    outbox.record([recorded(number)], T0_NS)
        with pytest.raises(OutboxError):
            outbox.checkpoint("6-0@a", {"a": bytes(200_000)})
        assert (outbox.position(), outbox.memory()) == ("5-0@a", {"a": b"5"})
        before = len(outbox.listing(Filter(), limit=3000).rows)
        os.unlink(ballast)
        assert len(outbox.record([recorded(5000), recorded(5001)], T0_NS)) == 2
        outbox.close()
        again = Outbox.open(path)
        assert again.moved_aside is None
        assert len(again.listing(Filter(), limit=3000).rows) == before + 2 == len(again.waiting(LANE, 3000))
        again.close()

"""What is written down while it learns."""

from __future__ import annotations

import struct
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event, SessionLog

from models.learning import journal
from models.learning.journal import Journal


def events(folder: Path) -> list[Event]:
    """All records of TensorBoard's files in the order they were written: length, its checksum, an event, its
    checksum."""
    found = []
    for path in sorted(folder.glob("events.out.tfevents.*"), key=lambda path: path.stat().st_mtime_ns):
        data, place = path.read_bytes(), 0
        while place < len(data):
            (length,) = struct.unpack_from("<Q", data, place)
            found.append(Event.FromString(data[place + 12 : place + 12 + length]))
            place += 12 + length + 4
    return found


def test_the_same_stands_in_both(tmp_path: Path) -> None:
    """Steps and epochs are lines of JSON, exact to the last bit, and scalars for TensorBoard."""
    with Journal(tmp_path) as made:
        made.step(1, {"loss": 1 / 3, "rate": 1e-3})
        made.epoch(1, 1, {"accuracy": 0.75})
    assert journal.read(tmp_path / journal.CURVES) == [
        {"step": 1, "loss": 1 / 3, "rate": 1e-3},
        {"epoch": 1, "step": 1, "accuracy": 0.75},
    ]
    scalars = [
        (value.tag, event.step, value.simple_value) for event in events(tmp_path) for value in event.summary.value
    ]
    assert ("training/loss", 1, struct.unpack("f", struct.pack("f", 1 / 3))[0]) in scalars
    assert ("validation/accuracy", 1, 0.75) in scalars


def test_going_on_drops_what_came_after(tmp_path: Path) -> None:
    """Lines beyond the step from which it goes on are gone, and TensorBoard is told that what it has of them is void;
    a line that was cut off by a kill doesn't matter."""
    with Journal(tmp_path) as made:
        for step in (1, 2, 3, 4):
            made.step(step, {"loss": float(step)})
        made.epoch(1, 4, {"accuracy": 0.5})
    with (tmp_path / journal.CURVES).open("a") as file:
        file.write('{"step": 5, "lo')
    with Journal(tmp_path, 2) as made:
        made.step(3, {"loss": 30.0})
    assert [line["loss"] for line in journal.read(tmp_path / journal.CURVES)] == [1.0, 2.0, 30.0]
    assert any(event.session_log.status == SessionLog.START and event.step == 3 for event in events(tmp_path))


def test_beginning_anew_leaves_nothing_of_before(tmp_path: Path) -> None:
    """A training that begins in a used folder has its own curves only, in both forms."""
    with Journal(tmp_path) as made:
        made.step(1, {"loss": 1.0})
    with Journal(tmp_path) as made:
        made.step(1, {"loss": 2.0})
    assert [line["loss"] for line in journal.read(tmp_path / journal.CURVES)] == [2.0]
    assert [value.simple_value for event in events(tmp_path) for value in event.summary.value] == [2.0]


def test_what_was_flushed_is_there(tmp_path: Path) -> None:
    """After a flush a reader sees every line, though nothing was closed."""
    made = Journal(tmp_path)
    made.step(1, {"loss": 1.0})
    made.flush()
    assert len(journal.read(tmp_path / journal.CURVES)) == 1
    made.__exit__(None, None, None)


def test_no_file_no_lines(tmp_path: Path) -> None:
    """Curves that nobody has written are none."""
    assert journal.read(tmp_path / journal.CURVES) == []


def test_a_validation_in_the_middle_of_an_epoch_is_dropped_too(tmp_path: Path) -> None:
    """One that was made because a training was stopped isn't the epoch's own, which comes when it goes on."""
    with Journal(tmp_path) as made:
        made.step(1, {"loss": 1.0})
        made.epoch(1, 1, {"accuracy": 0.1})
    with Journal(tmp_path, 1, 0) as made:
        made.step(2, {"loss": 2.0})
        made.epoch(1, 2, {"accuracy": 0.2})
    assert [line["accuracy"] for line in journal.read(tmp_path / journal.CURVES) if "epoch" in line] == [0.2]

"""Finished pictures are kept in private for their time, within their bytes, and then there are none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from streamer.alertconfig import PicturesConfig
from streamer.errors import StreamerError, UserError
from streamer.pictures.album import Album

S = 1_000_000_000
NOW = 1_700_000_000 * S
ALERT = "0123456789abcdef"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state" / "pictures"


def album(folder: Path, keep_s: int = 100, most: int = 1000) -> Album:
    made = Album(folder, PicturesConfig(keep_ns=keep_s * S, max_bytes=most))
    made.open()
    return made


def test_only_this_user_may_look(folder: Path) -> None:
    """The folder is 0700 also where it was wider before, and its files are 0600."""
    folder.mkdir(parents=True, mode=0o777)
    album(folder).put(ALERT, "snapshot.jpg", b"picture", NOW)
    (file,) = folder.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700 and file.stat().st_mode & 0o777 == 0o600
    assert file.name == f"{ALERT}.snapshot.jpg"


def test_kept_for_its_time_and_then_gone(folder: Path) -> None:
    """A picture can be had until it is too old, also before anybody cleared up; then its file is deleted."""
    kept = album(folder)
    kept.put(ALERT, "snapshot.jpg", b"picture", NOW)
    assert kept.read(ALERT, "snapshot.jpg", NOW + 99 * S) == b"picture"
    assert kept.prune(NOW + 99 * S) == 0
    assert kept.read(ALERT, "snapshot.jpg", NOW + 101 * S) is None
    assert kept.path(ALERT, "snapshot.jpg", NOW + 101 * S) is None and len(list(folder.iterdir())) == 1
    assert kept.prune(NOW + 101 * S) == 1 and not list(folder.iterdir())


def test_the_oldest_go_where_there_are_too_many(folder: Path) -> None:
    """With room for 1000 bytes, the fourth picture of 300 costs the first."""
    kept = album(folder)
    for place in range(4):
        kept.put(f"{place:016x}", "snapshot.jpg", bytes(300), NOW + place * S)
    assert sorted(path.name[15] for path in folder.iterdir()) == ["1", "2", "3"] and kept.size() == 900


def test_what_a_wrong_clock_wrote_goes_too(folder: Path) -> None:
    """A picture from a time that has not come yet is not kept for ever."""
    kept = album(folder)
    kept.put(ALERT, "snapshot.jpg", b"picture", NOW + 5000 * S)
    assert kept.prune(NOW) == 1


def test_a_shorter_time_holds_at_once(folder: Path) -> None:
    """Configured to keep less, it does so with what is there already."""
    kept = album(folder)
    kept.put(ALERT, "snapshot.jpg", b"picture", NOW)
    kept.config = PicturesConfig(keep_ns=10 * S)
    assert kept.path(ALERT, "snapshot.jpg", NOW + 20 * S) is None and kept.prune(NOW + 20 * S) == 1


def test_others_files_are_left_alone(folder: Path) -> None:
    """What is not a picture of ours is never deleted; what an earlier process left half written is, at the start."""
    kept = album(folder, most=0)
    (folder / "notes.txt").write_text("mine")
    (folder / ".unfinished-abc").write_bytes(b"half")
    assert kept.prune(NOW) == 0
    assert kept.prune(NOW, unfinished=True) == 1 and [path.name for path in folder.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("alert", "name"), [("../../etc", "snapshot.jpg"), (ALERT, "../passwd"), (ALERT, "x.png"), ("", "clip.mp4")]
)
def test_names_lead_nowhere_else(folder: Path, alert: str, name: str) -> None:
    """Names that could lead out of the folder are no names."""
    kept = album(folder)
    assert kept.path(alert, name, NOW) is None
    with pytest.raises(StreamerError, match="can't name a picture"):
        kept.put(alert, name, b"x", NOW)


def test_no_place_for_the_folder(tmp_path: Path) -> None:
    """Where a file stands in its way, the error says where and what to do."""
    (tmp_path / "state").write_text("a file")
    with pytest.raises(UserError, match=r"state/pictures: no place .* name another outbox.path"):
        album(tmp_path / "state" / "pictures")


def test_a_folder_that_went_away(folder: Path) -> None:
    """A picture that can't be written is an error in words, and nothing half written stays."""
    kept = album(folder)
    os.rmdir(folder)
    with pytest.raises(StreamerError, match="a picture can't be kept there"):
        kept.put(ALERT, "snapshot.jpg", b"x", NOW)
    assert kept.prune(NOW) == 0 and kept.size() == 0

"""Pieces of media as arrays: in time with each other, as live media are, and clear about what can't be read."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from models import data
from models.data import Tracks, UnreadableError
from streamer.sources.picture import PictureConverter
from tests.media_factory import Spec, flash_and_beep, make, not_media, truncated

SIZE = (96, 64)


@pytest.fixture(scope="module")
def sync(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five seconds of flashes and beeps, one a second from 0.48 s on."""
    return flash_and_beep(tmp_path_factory.mktemp("media") / "sync.mkv", Spec(seconds=5.0, size=SIZE, gop=50))


def test_pictures_are_those_of_the_live_side(sync: Path) -> None:
    """The same numbers as the service's own conversion gives, with the pictures' own times."""
    convert = PictureConverter(32, "squash")
    with av.open(str(sync)) as container:
        live = [convert(frame) for frame in container.decode(video=0)]
    taken = list(data.pictures(sync, 25, 32))
    assert len(taken) == len(live) == 125
    assert all((one == other).all() for (_, one), other in zip(taken, live, strict=True))
    assert [at_s for at_s, _ in taken[:3]] == pytest.approx([0.0, 0.04, 0.08], abs=1e-3)


@pytest.mark.parametrize(("rate", "count"), [(1, 5), (4, 20), (10, 50), (25, 125), (50, 125)])
def test_pictures_come_at_a_rate(sync: Path, rate: int, count: int) -> None:
    """Evenly as far as there are so many, and never one twice."""
    times = [at_s for at_s, _ in data.pictures(sync, rate, 8)]
    assert len(times) == count and (np.diff(times) > 0.03).all()
    assert np.abs(np.array(times) - np.arange(count) / min(rate, 25)).max() < 0.041


@pytest.mark.parametrize("start_s", [0.0, 0.52, 3.0, 4.2])
def test_a_piece_is_the_same_as_a_part_of_the_whole(sync: Path, start_s: float) -> None:
    """Pictures and sound, sought or not; times and samples count from the piece's start."""
    end_s = start_s + 0.8
    whole = [picture for at_s, picture in data.pictures(sync, 25, 16) if start_s - 1e-3 <= at_s < end_s - 1e-3]
    piece = list(data.pictures(sync, 25, 16, start_s, end_s))
    assert len(piece) == len(whole) == 20 and piece[0][0] == pytest.approx(0.0, abs=1e-3)
    assert all((one == other).all() for (_, one), other in zip(piece, whole, strict=True))
    heard, part = data.sound(sync, start_s, end_s), data.sound(sync)[round(start_s * 16_000) : round(end_s * 16_000)]
    assert len(heard) == len(part) == 12_800
    loud, also = (np.flatnonzero(np.abs(each) > 0.2) for each in (heard, part))
    # The container keeps times in milliseconds.
    assert len(loud) > 400 and loud[0] == pytest.approx(also[0], abs=24) and loud[-1] == pytest.approx(also[-1], abs=24)


@pytest.mark.parametrize(
    ("audio", "suffix", "late_s"), [("aac", "mp4", 0.0), ("libopus", "mkv", 0.3), ("mp2", "ts", 0.0)]
)
def test_sound_stands_in_time_to_the_picture(tmp_path: Path, audio: str, suffix: str, late_s: float) -> None:
    """A beep is where its flash is, whatever the encoder put before the sound, also where the track begins late."""
    spec = Spec(seconds=2.0, size=SIZE, audio=audio, audio_from_s=late_s)
    path = flash_and_beep(tmp_path / f"sync.{suffix}", spec)
    flash_s = next(at_s for at_s, picture in data.pictures(path, 25, 8) if picture.mean() > 128)
    beep_s = np.flatnonzero(np.abs(data.sound(path)) > 0.2)[0] / 16_000
    assert beep_s == pytest.approx(flash_s, abs=0.012)
    if late_s:
        assert not data.sound(path)[: round(late_s * 16_000) - 400].any()


def test_what_is_not_there(tmp_path: Path) -> None:
    """A file without a track gives nothing of it; a piece behind the end neither."""
    mute, dark = make(tmp_path / "mute.mkv", Spec(audio=None, size=SIZE)), make(tmp_path / "dark.mkv", Spec(video=None))
    assert data.sound(mute).shape == (0,) and list(data.pictures(dark, 4, 8)) == []
    assert len(data.sound(dark)) == pytest.approx(32_000, abs=400)
    assert data.sound(dark, 9.0, 10.0).shape == (0,) and list(data.pictures(mute, 4, 8, 9.0, 10.0)) == []


def test_what_is_in_a_file(sync: Path, tmp_path: Path) -> None:
    """Which tracks, and how long: of a file that was cut, as long as what is left."""
    assert data.tracks(sync) == Tracks(True, True, pytest.approx(5.0, abs=0.05))
    dark = make(tmp_path / "dark.ogg", Spec(video=None, audio="libopus"))
    assert data.tracks(dark) == Tracks(False, True, pytest.approx(2.0, abs=0.05))
    cut = data.tracks(truncated(sync, tmp_path / "cut.mkv", 0.5))
    assert 0.5 < cut.duration_s < 4.5


def test_what_can_not_be_read(tmp_path: Path) -> None:
    """One error that names the file, for each of the ways."""
    for path in (*not_media(tmp_path).values(), tmp_path / "none.mp4"):
        for read in (data.tracks, data.sound, lambda path: list(data.pictures(path, 4, 8))):
            with pytest.raises(UnreadableError, match=path.name):
                read(path)

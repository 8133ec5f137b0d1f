"""From packets to a picture whose faces are blurred, by the real detector on real people."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from streamer.footage import Coded, Footage
from streamer.pictures.develop import Finders, develop
from streamer.pictures.faces import FaceDetector
from streamer.pictures.heads import HeadDetector
from streamer.pictures.job import Developed, Job
from tests.pictures.conftest import S, footage_of, picture_at, pictures_in

# What says "a face" by itself: blurred ones may still remind a detector of one that must not miss any.
SURE = 0.5


@pytest.fixture(scope="module")
def sure(detector_path: Path) -> FaceDetector:
    from models.faces import any_size

    return FaceDetector(any_size(detector_path), SURE)


@pytest.fixture(scope="module")
def snapshot(talkers: Path, detector: FaceDetector) -> Developed:
    return develop(Job(footage_of(talkers), 4 * S), detector)


def test_faces_are_blurred_and_nothing_else(snapshot: Developed, talkers: Path, sure: FaceDetector) -> None:
    """In the snapshot no face is found any more; where they were it differs from the picture, elsewhere hardly."""
    assert snapshot.data is not None
    (made,), real = pictures_in(snapshot.data), picture_at(talkers, 4.0)
    assert made.shape == real.shape
    faces = sure.find(real, 1280)
    assert len(faces) >= 2 and len(sure.find(made, 1280)) == 0
    difference = np.abs(made.astype(int) - real).mean(axis=2)
    for left, top, right, bottom in np.clip(faces, 0, None).astype(int):
        assert difference[top:bottom, left:right].mean() > 10
    # Whole columns that no face is near to: the middle line and the picture's lower part.
    assert difference[-60:, 120:240].mean() < 3


def test_a_picture_says_nothing_beside_itself(snapshot: Developed) -> None:
    """The file begins as a JPEG, and no segment for comments (FE) or applications' data but JFIF's (E0) is in it."""
    data = snapshot.data
    assert data is not None and data[:2] == b"\xff\xd8"
    markers, at = [], 2
    while data[at + 1] != 0xDA:
        markers.append(data[at + 1])
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    assert set(markers) <= {0xE0, 0xDB, 0xC0, 0xC4} and b"Lav" not in data


def test_a_clip_has_no_face_in_any_picture(talkers: Path, detector: FaceDetector, sure: FaceDetector) -> None:
    """A second around a moment: five pictures, H.264, and a detector finds nobody in any of them."""
    made = develop(Job(footage_of(talkers), 4 * S, 1 * S), detector)
    assert made.data is not None and made.pictures == 5 and made.faces >= 10
    pictures = pictures_in(made.data)
    assert len(pictures) == 5
    assert [len(sure.find(picture, 640)) for picture in pictures] == [0] * 5
    assert b"x264" not in made.data and b"Lav" not in made.data


def test_who_lies_is_blurred_too(shared_data: Path, detector: FaceDetector, heads: HeadDetector) -> None:
    """Of somebody on the floor who shows no face, what is left of the head is a mosaic; the legs are as they were."""
    clip = shared_data / "falls" / "S3_Fall_16.mp4"
    real = picture_at(clip, 5.8)
    made = develop(Job(footage_of(clip), int(5.8 * S)), Finders([detector, heads]))
    assert made.data is not None
    (picture,) = pictures_in(made.data)
    difference = np.abs(picture.astype(int) - real).mean(axis=2)
    assert difference[197:220, 128:143].mean() > 10
    assert difference[205:240, 230:310].mean() < 5


def test_large_pictures_become_smaller(detector: FaceDetector, clips: object, tmp_path: Path) -> None:
    """A picture wider than 1280 is scaled to that, with its shape; a turned one stands upright."""
    from tests.media_factory import Spec, make

    clip = make(tmp_path / "large.mkv", Spec(seconds=0.2, size=(1920, 1080), audio=None))
    footage = footage_of(clip)
    made = develop(Job(footage, 0), detector)
    turned = develop(Job(replace(footage, turns=1), 0), detector)
    assert made.data is not None and turned.data is not None
    assert pictures_in(made.data)[0].shape == (720, 1280, 3) and pictures_in(turned.data)[0].shape == (1280, 720, 3)


def test_a_moment_that_is_not_there(talkers: Path, detector: FaceDetector) -> None:
    """Nothing is shown in the place of a moment that is more than two seconds away from all there is."""
    footage = footage_of(talkers)
    assert develop(Job(footage, 60 * S), detector).why == "no picture of that moment is kept"
    assert develop(Job(footage, 60 * S, 2 * S), detector).why == "too little of that time is kept"


def test_rubbish(detector: FaceDetector) -> None:
    """Packets of noise make no picture, and say so."""
    noise = np.random.default_rng(0)
    pictures = [Coded(noise.bytes(2000), place * S // 10, place == 0) for place in range(20)]
    made = develop(Job(Footage("h264", b"", (0, 0), "", 0, pictures), S), detector)
    assert made == Developed(None, "nothing of it can be decoded")

"""Pictures as JPEG: small, near what they were, made on a thread of their own, and never waited for."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.data import read_frames
from streamer.why.jpeg import Jpeg, PictureEncoder, decode
from tests.conftest import eventually_sync


def gradient(size: int = 224) -> NDArray[np.uint8]:
    """A smooth picture with a different ramp in each colour."""
    ramp = np.linspace(0, 255, size)
    picture = np.stack([np.tile(ramp, (size, 1)), np.tile(ramp[:, None], (1, size)), np.full((size, size), 90)], axis=2)
    return picture.astype(np.uint8)


def test_there_and_back() -> None:
    """A picture is the same up to what JPEG loses, colours in their places, and is a file with a JPEG's beginning and
    end."""
    picture = gradient()
    file = Jpeg().encode(picture)
    assert file[:3] == b"\xff\xd8\xff" and file[-2:] == b"\xff\xd9"
    back = decode(file)
    assert back.shape == picture.shape and back.dtype == np.uint8
    assert np.abs(back.astype(int) - picture).mean() < 4


def test_pictures_of_any_size_one_after_the_other() -> None:
    """An encoder takes what comes, and each file stands by itself."""
    jpeg = Jpeg()
    for size in (224, 224, 64, 224):
        assert decode(jpeg.encode(gradient(size))).shape == (size, size, 3)


def test_what_is_no_picture_is_refused() -> None:
    """Bytes of something else raise instead of giving a picture of something."""
    with pytest.raises((ValueError, OSError)):
        decode(b"no picture at all")


def test_photographs_take_about_ten_kilobytes(shared_data: Path) -> None:
    """Real photographs take 5 to 20 KB each, 12 on average at most, and stay within 6 of 255 on average."""
    jpeg = Jpeg()
    pictures = [read_frames(path, 1)[0] for path in sorted((shared_data / "images").glob("*.jpg"))[:20]]
    files = [jpeg.encode(picture) for picture in pictures]
    assert all(3_000 < len(file) < 20_000 for file in files)
    assert np.mean([len(file) for file in files]) < 12_000
    errors = [np.abs(decode(file).astype(int) - picture).mean() for file, picture in zip(files, pictures, strict=True)]
    assert np.mean(errors) < 6


def test_encoding_is_done_elsewhere() -> None:
    """`offer` returns at once; the file comes on another thread, in order."""
    done: list[tuple[int, bytes, int]] = []
    with PictureEncoder() as encoder:
        for number in range(5):
            encoder.offer(gradient(32), lambda file, number=number: done.append((number, file, threading.get_ident())))  # type: ignore[misc]
        eventually_sync(lambda: len(done) == 5)
    assert [number for number, _, _ in done] == list(range(5))
    assert all(file[:2] == b"\xff\xd8" for _, file, _ in done)
    assert threading.get_ident() not in {thread for _, _, thread in done}


def test_when_it_cannot_keep_up_the_oldest_are_dropped_and_counted() -> None:
    """No more than 64 pictures wait; the newest are encoded."""
    gate, done = threading.Event(), list[int]()
    with PictureEncoder() as encoder:
        encoder.offer(gradient(16), lambda _: gate.wait(10) and None)  # type: ignore[func-returns-value]
        eventually_sync(lambda: len(encoder) == 0)
        for number in range(100):
            encoder.offer(gradient(16), lambda _, number=number: done.append(number))  # type: ignore[misc]
            assert len(encoder) <= 64
        gate.set()
        eventually_sync(lambda: len(done) == 64)
    assert encoder.dropped == 36 and done == list(range(36, 100))


def test_a_picture_that_cannot_be_encoded_costs_itself(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged and counted, and the next ones are encoded."""
    done: list[bytes] = []
    with PictureEncoder() as encoder:
        encoder.offer(np.zeros((4, 4), np.uint8), done.append)
        encoder.offer(gradient(32), done.append)
        eventually_sync(lambda: len(done) == 1)
    assert encoder.failures == 1 and "could not be encoded" in caplog.text

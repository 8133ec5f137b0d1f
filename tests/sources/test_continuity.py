"""Seeing that a picture is missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.sources.continuity import Continuity
from tests.media_factory import Spec
from tests.test_decode import with_b_frames

Packets = list[tuple[bytes, bool]]


@pytest.fixture(scope="module")
def stream(clips: Callable[..., Path]) -> Packets:
    """A clip's pictures as a camera sends them, each with whether it is a key frame."""
    return annex_b(clips("follow.mkv", Spec(seconds=4.0, gop=25, audio=None)))


def annex_b(path: Path) -> Packets:
    with av.open(str(path)) as container:
        track = container.streams.video[0]
        to_annex_b = av.BitStreamFilterContext("h264_mp4toannexb", track)
        packets: Packets = []
        for packet in container.demux(track):
            for whole in to_annex_b.filter(packet if packet.size else None):
                packets.append((bytes(whole), whole.is_keyframe))
        return packets


def broken(packets: Packets, lost: set[int]) -> list[int]:
    """The numbers of those before which something is said to be missing, where `lost` never came."""
    continuity = Continuity("h264", None)
    there = [(number, packet) for number, packet in enumerate(packets) if number not in lost]
    return [number for number, packet in there if continuity.is_broken(memoryview(packet[0]))]


def test_a_whole_stream_is_whole(stream: Packets, tmp_path: Path) -> None:
    """Nothing is missing where nothing was lost, with pictures out of order and references among them too."""
    assert broken(stream, set()) == []
    for gop in (12, 50):
        assert broken(annex_b(with_b_frames(tmp_path / f"b{gop}.mkv", gop=gop)), set()) == []


@given(lost=st.sets(st.integers(1, 99), max_size=8))
def test_every_loss_is_seen_and_nothing_else(stream: Packets, lost: set[int]) -> None:
    """The picture after each run of lost ones is told, unless it is a key frame, which needs none."""
    packets = stream
    after = {next(n for n in range(first, len(packets) + 1) if n not in lost) for first in lost}
    assert broken(packets, lost) == sorted(n for n in after if n < len(packets) and not packets[n][1])


def test_what_nobody_refers_to_is_not_missed(tmp_path: Path) -> None:
    """Pictures that none refers to can be lost without anything being wrong."""
    packets = annex_b(with_b_frames(tmp_path / "b.mkv", gop=50))
    # A slice in a unit of type 1 whose two bits of importance are 0.
    lost = {number for number, (data, _) in enumerate(packets) if b"\x00\x00\x01\x01" in data}
    assert len(lost) > 10 and broken(packets, lost) == []


@given(noise=st.binary(max_size=200))
def test_noise_is_no_error(stream: Packets, noise: bytes) -> None:
    """Whatever is in a packet, an answer comes, and whole pictures afterwards are whole from the next key frame on."""
    continuity = Continuity("h264", noise)
    continuity.is_broken(memoryview(b"\x00\x00\x01" + noise))
    continuity = Continuity("h264", None)
    for data, _ in stream[:30]:
        continuity.is_broken(memoryview(data))
    continuity.is_broken(memoryview(b"\x00\x00\x01\x41" + noise))
    assert not any(continuity.is_broken(memoryview(data)) for data, _ in stream[50:75])


def test_of_other_codecs_nothing_is_told() -> None:
    """What is not H.264 is never said to be broken."""
    for codec in ("hevc", "mjpeg", ""):
        continuity = Continuity(codec, None)
        assert not any(continuity.is_broken(memoryview(b"\x00\x00\x01\x41\x9a\x00")) for _ in range(3))

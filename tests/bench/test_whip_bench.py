"""The benchmark of WebRTC publishers: what it sends, what it counts, and a short run of it all."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import pytest

from streamer.bench import clip as clips
from streamer.bench.clip import make, published
from streamer.bench.live import Run, count
from streamer.bench.processes import busy_seconds, threads
from streamer.bench.publisher import Publisher, Sending
from streamer.bench.whip import Offered, figures, observe
from tests import media_factory as factory
from tests.media_factory import Spec

NS = 1_000_000_000


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """3 s of flashes and beeps with a key frame in every second."""
    return factory.flash_and_beep(tmp_path_factory.mktemp("source") / "flashes.mp4", Spec(seconds=3.0))


@pytest.fixture(scope="module", params=["h264", "vp8"])
def clip(request: pytest.FixtureRequest, source: Path) -> Path:
    """The clip that publishers send, made from that."""
    recipe = published(request.param)
    target = source.with_name(f"clip-{request.param}{recipe.suffix}")
    make(source, target, recipe)
    return target


def packets(path: Path, kind: str) -> list[Any]:
    with av.open(str(path)) as media:
        stream = media.streams.best(kind)  # type: ignore[call-overload]
        return [packet for packet in media.demux(stream) if packet.size]


def test_the_clip_is_as_a_browser_sends_it(clip: Path) -> None:
    """480p30 with one key frame, no picture out of order, and Opus, whatever key frames the source has."""
    with av.open(str(clip)) as media:
        video, audio = media.streams.video[0], media.streams.audio[0]
        assert (video.codec_context.width, video.codec_context.height) == (854, 480)
        assert video.codec_context.name in ("h264", "vp8") and audio.codec_context.name == "opus"
    pictures = packets(clip, "video")
    assert 88 <= len(pictures) <= 91
    assert [packet.is_keyframe for packet in pictures] == [True] + [False] * (len(pictures) - 1)
    assert [packet.pts for packet in pictures] == sorted(packet.pts for packet in pictures)


def test_a_recipe_takes_no_more_of_its_source_than_it_says(source: Path) -> None:
    """A recipe of one second makes a clip of one second."""
    recipe = clips.Recipe("short", ".mp4", (64, 48), 30, 100_000, "libx264", "aac", seconds=1.0)
    target = source.with_name("short.mp4")
    make(source, target, recipe)
    assert 28 <= len(packets(target, "video")) <= 33


async def received(publisher: Publisher, number: int) -> list[tuple[float, bytes]]:
    """The first `number` pictures of its first track, each with its time in seconds."""
    track = publisher.tracks[0]
    found = [await track.recv() for _ in range(number)]
    return [(float(packet.pts * (packet.time_base or Fraction(0))), bytes(packet)) for packet in found]


async def test_more_pictures_a_second_have_time_stamps_that_say_so(clip: Path) -> None:
    """At four times the rate the same pictures are a quarter as far apart, and the file goes on from its beginning."""
    publisher = Publisher(clip, Sending(rate=4.0, kinds=("video",)))
    try:
        found = await received(publisher, len(packets(clip, "video")) + 2)
    finally:
        await publisher.close()
    steps = [later - sooner for (sooner, _), (later, _) in pairwise(found)]
    assert sum(steps) / len(steps) == pytest.approx(1 / 120, rel=0.05)
    assert found[-2][1] == found[0][1] and found[-1][1] == found[1][1]


async def test_a_request_for_a_key_frame_is_obeyed(clip: Path) -> None:
    """Asked for a key frame, a publisher that obeys sends the file's first picture next, at the time that is due."""
    publisher = Publisher(clip, Sending(rate=4.0, obeys=True, kinds=("video",)))
    try:
        found = await received(publisher, 10)
        publisher.pc.getSenders()[0]._send_keyframe()
        after = await received(publisher, 2)
    finally:
        await publisher.close()
    assert [data for _, data in after] == [data for _, data in found[:2]]
    assert found[9][0] < after[0][0] < found[9][0] + 0.05
    assert publisher.asked == 1


def segment(stream: str, seq: int, total_ms: float, status: str = "ok", covered: float = 0.96) -> dict[str, Any]:
    return {
        "type": "segment",
        "stream": stream,
        "epoch": "e",
        "seq": seq,
        "status": status,
        "degraded": ["frames"] if status == "degraded" else [],
        "coverage": {"video": covered, "audio": 1.0},
        "latency_ms": {"total": total_ms, "ingest": 1.0, "queue": 2.0, "compute": 3.0, "publish": 4.0},
        "bound_ms": 1000,
    }


def test_the_books_of_a_run() -> None:
    """A hole in a stream is missing, a segment over its bound late, and one of either keeps a run from holding."""
    whole = [segment("a", seq, 100.0 + seq) for seq in range(10)]
    run = Run(streams=1, seconds=6.0)
    count(whole, run)
    assert run.holds and run.segments == 10
    assert run.latency_ms == {"p50": 105.0, "p95": 109.0, "p99": 109.0, "max": 109.0}
    assert run.coverage == {"video": 0.96, "audio": 1.0} and run.latency_parts_ms["compute"]["p50"] == 3.0
    holed = Run(streams=1, seconds=5.0)
    count(whole[:4] + whole[5:], holed)
    assert holed.missing == 1 and not holed.holds
    late = Run(streams=1, seconds=6.0)
    count([*whole[:-1], segment("a", 9, 1001.0)], late)
    assert late.late == 1 and not late.holds
    eased = Run(streams=1, seconds=6.0)
    count([*whole[:-1], segment("a", 9, 100.0, "degraded")], eased)
    assert eased.degraded == {"frames": 1} and not eased.holds
    blind = Run(streams=1, seconds=6.0)
    count([segment("a", seq, 100.0, covered=0.4) for seq in range(10)], blind)
    assert not blind.holds, "labels of sound alone are not what was asked for"
    silent = Run(streams=2, seconds=6.0)
    count(whole, silent)
    assert silent.missing == 10, "a stream that said nothing at all is missing too"


def test_an_event_loop_is_told_from_other_threads() -> None:
    """Of a process's threads the one that waits for sockets is the event loop; CPU time of the machine only grows."""
    code = "import asyncio, threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    code += "async def main():\n print('on', flush=True)\n await asyncio.sleep(60)\nasyncio.run(main())"
    before = busy_seconds()
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == b"on\n"
            found = [threads(process.pid) for _ in range(200)]
        finally:
            process.kill()
    loops = {tid for seen in found for tid, thread in seen.items() if thread.waits_for_sockets}
    assert loops == {process.pid} and len(found[-1]) >= 2
    assert busy_seconds() >= before


async def test_publishers_before_the_real_service(clip: Path) -> None:
    """Two publishers for some seconds: every hop is answered, each has labels, and each part has its figures."""
    entry = await asyncio.wait_for(observe(Offered(2, clip), 5.0, NS), 120)
    found = json.loads(json.dumps(figures(entry)))
    assert found["publishers"] == 2 and entry.segments >= 16 and not entry.missing
    assert len(entry.first_label_s) == 2 and None not in entry.first_label_s
    assert found["first_label_s"]["never"] == 0 and found["first_label_s"]["max"] >= 0.5
    assert entry.coverage["video"] > 0.5 and entry.coverage["audio"] > 0.5
    assert found["cores_by_stage"]["receive"] > 0 and found["cores_by_stage"]["decode"] > 0
    assert entry.senders > 0 and entry.machine > 0
    assert sum(report["pictures"] for report in entry.sent) > 200
    assert set(found["memory_mb"]) == {"service", "readers", "hub", "store"}

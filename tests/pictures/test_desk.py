"""Pictures of alerts as a whole: from a real camera to a file, and what happens when there is none to be had."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from models.faces import any_size
from streamer.alertconfig import AlertConfig, PicturesConfig
from streamer.clock import HostClock, ManualClock
from streamer.config import StreamConfig
from streamer.footage import Coded, Footage
from streamer.media import EpochStart, Frame, SourceEvent
from streamer.picturenames import asks, names
from streamer.pictures.darkroom import Darkroom
from streamer.pictures.desk import Pictures
from streamer.pictures.faces import FaceDetector
from streamer.pictures.job import Detectors, Developed, Job
from streamer.sources.pool import ReaderPool
from streamer.sources.source import SourceSettings, droppable, open_source
from tests.conftest import eventually
from tests.pictures.conftest import S, footage_of, pictures_in

ALERT = "0123456789abcdef"
CONFIG = PicturesConfig()


def rule(**keys: object) -> AlertConfig:
    return AlertConfig(name="glass", when="true", **keys)  # type: ignore[arg-type]


def test_who_asks_for_pictures() -> None:
    """A stream's pictures are kept where a rule for it wants some, and an alert has those that its rule names."""
    rules = [rule(stream="door-*", snapshot=True), rule(stream="yard", clip_ns=5 * S), rule(stream="*")]
    assert [asks(rules, name) for name in ("door-1", "yard", "lobby", "backyard")] == [True, True, False, False]
    assert [names(each) for each in rules] == [["snapshot.jpg"], ["clip.mp4"], []]


async def nothing(stream: str, begin_ns: int, end_ns: int) -> Footage | None:
    """A ring that is empty."""
    return None


class Watch:
    """Every name that was ever seen in some folders."""

    def __init__(self, *folders: Path) -> None:
        self.seen: set[str] = set()
        self._folders = folders
        self._task = asyncio.create_task(self._look())

    async def _look(self) -> None:
        while True:
            self.seen |= {path.name for folder in self._folders for path in folder.rglob("*") if path.is_file()}
            await asyncio.sleep(0.001)

    def stop(self) -> set[str]:
        """All of them."""
        self._task.cancel()
        return self.seen


async def test_from_a_camera_to_a_file(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    toolkit_camera: Callable[[Path], object],
    talkers: Path,
    detector_path: Path,
) -> None:
    """A camera shows two people, an alert fires: its snapshot and its clip come into the folder with nobody to be
    recognised in them, and nothing else ever appears there or where temporary files go."""
    scratch, folder = tmp_path / "tmp", tmp_path / "pictures"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    settings = SourceSettings(frame_size=64, sample_rate=16_000, frames_per_second=2)
    url = toolkit_camera(talkers).url  # type: ignore[attr-defined]
    with ReaderPool(1) as pool:
        from streamer.channel import Channel

        source = open_source("studio", StreamConfig(source=url), settings, HostClock(), pool.reader)
        channel: Channel[SourceEvent] = Channel(4096, droppable)
        events: list[SourceEvent] = []
        source.keep(True)
        running = asyncio.create_task(source.run(channel))

        def frames() -> list[SourceEvent]:
            events.extend(channel.drain())
            return [event for event in events if isinstance(event, Frame)]

        async def recall(stream: str, begin_ns: int, end_ns: int) -> Footage | None:
            assert stream == "studio"
            return await source.footage(begin_ns, end_ns)

        async with Pictures(folder, CONFIG, HostClock(), recall) as pictures:
            await eventually(lambda: len(frames()) > 5 and source.stats.kept_bytes, 30)
            (epoch,) = [event for event in events if isinstance(event, EpochStart)]
            at_ns = frames()[-1].media_ns + epoch.wall_offset_ns  # type: ignore[union-attr]
            watch = Watch(folder, scratch)
            made = await pictures.take(ALERT, "studio", at_ns, clip_ns=1 * S)
            seen = watch.stop()
            assert made == ["snapshot.jpg", "clip.mp4"] and pictures.counts.made == 2
            sure = FaceDetector(any_size(detector_path), 0.5)
            for name in made:
                data = await pictures.read(ALERT, name)
                assert data is not None
                shown = pictures_in(data)
                assert shown[0].shape == (360, 640, 3)
                assert [len(sure.find(each, 640)) for each in shown[:3]] == [0] * len(shown[:3])
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    final = {f"{ALERT}.snapshot.jpg", f"{ALERT}.clip.mp4"}
    assert {path.name for path in folder.iterdir()} == final and not list(scratch.iterdir())
    # Half-written ones hold nothing but the finished file's bytes.
    assert {name for name in seen if not name.startswith(".unfinished-")} <= final


async def test_no_detector_no_picture(tmp_path: Path, talkers: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without the detector's weights no picture is ever made: the log says so once, and it is counted."""
    empty = tmp_path / "weights"
    empty.mkdir()

    async def recall(stream: str, begin_ns: int, end_ns: int) -> Footage | None:
        return footage_of(talkers)

    clock = ManualClock()
    async with Pictures(tmp_path / "pictures", CONFIG, clock, recall, empty) as pictures:
        for _ in range(3):
            assert await pictures.take(ALERT, "door", 4 * S) == []
        assert pictures.counts.blind == 3 and not await pictures.ready()
        assert caplog.text.count("no pictures of alerts are made") == 1
        clock.advance(601 * S)
        assert not await pictures.ready()
        assert caplog.text.count("no pictures of alerts are made") == 2


async def test_without_what_finds_heads(
    tmp_path: Path, detector_path: Path, talkers: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With the weights for faces alone pictures are made; that heads are not found is said once."""
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / detector_path.name).symlink_to(detector_path)

    async def recall(stream: str, begin_ns: int, end_ns: int) -> Footage | None:
        return footage_of(talkers)

    clock = ManualClock()
    async with Pictures(tmp_path / "pictures", CONFIG, clock, recall, weights) as pictures:
        for _ in range(2):
            assert await pictures.take(ALERT, "door", 4 * S) == ["snapshot.jpg"]
            clock.advance(601 * S)
        assert pictures.counts.blind == 0 and pictures.counts.made == 2
    assert caplog.text.count("heads without a face to be seen are not") == 1


async def test_a_moment_that_is_gone(tmp_path: Path, detector_path: Path) -> None:
    """Where the ring has nothing of the moment there is no picture, and it is counted."""
    async with Pictures(tmp_path, CONFIG, HostClock(), nothing) as pictures:
        assert await pictures.take(ALERT, "door", 4 * S) == [] and pictures.counts.gone == 1
        assert pictures.counts.blind == 0


async def test_too_many_at_once(tmp_path: Path, detector_path: Path) -> None:
    """While eight alerts wait for their pictures a ninth gets none, at once; those that wait get theirs."""
    asked = asyncio.Event()

    async def recall(stream: str, begin_ns: int, end_ns: int) -> Footage | None:
        await asked.wait()
        return None

    async with Pictures(tmp_path, CONFIG, HostClock(), recall) as pictures:
        tasks = [asyncio.create_task(pictures.take(f"{place:016x}", "door", 0)) for place in range(8)]
        await eventually(lambda: pictures.waiting == 8)
        assert await pictures.take(ALERT, "door", 0) == [] and pictures.counts.refused == 1
        asked.set()
        assert await asyncio.gather(*tasks) == [[]] * 8
        assert pictures.counts.gone == 8 and pictures.waiting == 0


async def test_rubbish_is_told_and_the_next_is_made(
    tmp_path: Path, detector_path: Path, talkers: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What a camera sends in the place of pictures costs that snapshot: the log says whose, and the next is made."""
    sent = [Footage("h264", b"", (0, 0), "", 0, []), footage_of(talkers)]

    async def recall(stream: str, begin_ns: int, end_ns: int) -> Footage | None:
        return sent.pop(0)

    async with Pictures(tmp_path, CONFIG, HostClock(), recall) as pictures:
        assert await pictures.take(ALERT, "door", 4 * S) == []
        assert f"snapshot.jpg of alert {ALERT} of stream door: nothing of it can be decoded" in caplog.text
        assert await pictures.take(ALERT, "door", 4 * S) == ["snapshot.jpg"]
        assert pictures.counts.failed == 1 and pictures.counts.made == 1
        path = pictures.path(ALERT, "snapshot.jpg")
        assert path is not None and path.stat().st_size > 5000


async def test_its_time_comes(tmp_path: Path, detector_path: Path, talkers: Path) -> None:
    """After the configured time a picture can't be had any more, is deleted, and is so at the next start as well."""
    clock = ManualClock()

    async def recall(stream: str, begin_ns: int, end_ns: int) -> Footage | None:
        return footage_of(talkers)

    config = PicturesConfig(keep_ns=3600 * S)
    async with Pictures(tmp_path, config, clock, recall) as pictures:
        for alert in ("a", "b"):
            assert await pictures.take(alert, "door", 4 * S) == ["snapshot.jpg"]
            clock.advance(1800 * S)
        clock.advance(1)
        assert pictures.path("a", "snapshot.jpg") is None and pictures.path("b", "snapshot.jpg") is not None
        assert await pictures.prune() == 1 and len(list(tmp_path.iterdir())) == 1
    clock.advance(1800 * S)
    async with Pictures(tmp_path, config, clock, nothing, darkroom=Darkroom()):
        assert not list(tmp_path.iterdir())


class Slow(Darkroom):
    """Makes nothing until it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.may = asyncio.Event()
        self.asked = 0

    async def develop(self, detectors: Detectors, job: Job) -> Developed:
        self.asked += 1
        await self.may.wait()
        return Developed(b"picture")


async def test_packets_are_taken_in_time(tmp_path: Path, detector_path: Path) -> None:
    """However long the queue, an alert's moment is taken from the ring when it is there: a snapshot's at once, a clip's
    when its second half has come."""
    spans: list[int] = []

    async def recall(stream: str, begin_ns: int, end_ns: int) -> Footage | None:
        spans.append(end_ns - begin_ns)
        return Footage("h264", b"", (0, 0), "", 0, [])

    slow = Slow()
    async with Pictures(tmp_path, CONFIG, HostClock(), recall, darkroom=slow) as pictures:
        task = asyncio.create_task(pictures.take(ALERT, "door", 4 * S, clip_ns=S // 10))
        await eventually(lambda: slow.asked == 2, 10)
        assert spans == [0, S // 10] and pictures.counts.made == 0
        slow.may.set()
        assert await task == ["snapshot.jpg", "clip.mp4"]


async def test_packets_that_wait_are_bounded(tmp_path: Path, detector_path: Path) -> None:
    """Where what waits is as much as may, the next moment is let go, at once, and counted."""
    large = Footage("h264", b"", (0, 0), "", 0, [Coded(bytes(24 * 1024 * 1024), 0, True)])

    async def recall(stream: str, begin_ns: int, end_ns: int) -> Footage | None:
        return large

    slow = Slow()
    async with Pictures(tmp_path, CONFIG, HostClock(), recall, darkroom=slow) as pictures:
        tasks = [asyncio.create_task(pictures.take(alert, "door", 4 * S)) for alert in "ab"]
        await eventually(lambda: slow.asked == 2, 10)
        assert await pictures.take("c", "door", 4 * S) == [] and pictures.counts.refused == 1
        slow.may.set()
        assert await asyncio.gather(*tasks) == [["snapshot.jpg"]] * 2
        assert await pictures.take("d", "door", 4 * S) == ["snapshot.jpg"]

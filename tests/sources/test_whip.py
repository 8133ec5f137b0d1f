"""Publishers over WebRTC, from their offer to pictures and sound: a real one (aiortc) against a real source."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from streamer.channel import Channel
from streamer.clock import HostClock
from streamer.config import StreamConfig
from streamer.errors import ConflictError, StreamerError, UserError
from streamer.media import EpochStart, Frame, SourceEvent, StateChange
from streamer.sources.pool import ReaderPool
from streamer.sources.published import PublishedSource
from streamer.sources.reader import Reader
from streamer.sources.rtc_peer import RtcLoop
from streamer.sources.rtc_queue import Bounds
from streamer.sources.source import SourceSettings, droppable, open_source
from streamer.sources.whip import WhipInput
from tests import media_factory as factory
from tests.conftest import eventually
from tests.media_factory import Spec
from tests.sources.recorder import Recorder, flash_to_beep_s
from tests.whip_publisher import Publisher, Sending, prepared, publishing

MS = 1_000_000
S = 1_000_000_000


class Tape(Recorder):
    """A recorder of a source that somebody publishes to."""

    def __init__(self, *, rate: int = 2, **config: object) -> None:
        super().__init__("whip", rate=rate, **config)
        assert isinstance(self.source, PublishedSource)
        self.published: PublishedSource = self.source
        self.sessions: list[str] = []

    async def answer(self, offer: str) -> str:
        publication = await self.published.publish(offer)
        self.sessions.append(publication.session)
        return publication.answer

    @property
    def reason(self) -> str:
        return (self.states[-1].reason or "") if self.states else ""


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """10 s of flashes and beeps as H.264 and Opus, small."""
    folder = tmp_path_factory.mktemp("whip")
    flashes = factory.flash_and_beep(folder / "flashes.mp4", Spec(seconds=10.0))
    return prepared(flashes, folder / "h264.mkv", size="320:240", fps=25)


@pytest.mark.parametrize(("encoder", "name"), [("libx264", "H264"), ("libvpx", "VP8")])
async def test_a_publisher_gives_frames_sound_and_states(clip: Path, tmp_path: Path, encoder: str, name: str) -> None:
    """Waiting, live, an epoch, two pictures a second and unbroken sound; the size of its pictures is known; and when
    it leaves, the source waits for the next and says why."""
    media = prepared(clip, tmp_path / "clip.mkv", codec=encoder, size="320:240", fps=25)
    async with Tape() as tape:
        waiting = await tape.until("connecting")
        assert waiting.reason == "waits for a publisher"
        async with publishing(tape.answer, media, sending=Sending(codecs=(name,))) as publisher:
            frames = await tape.frames_more(8)
            assert [change.state for change in tape.states] == ["connecting", "live"]
            assert [epoch.reason for epoch in tape.epochs] == ["start"]
            assert all(abs(b.media_ns - a.media_ns - 500 * MS) <= 110 * MS for a, b in pairwise(frames))
            assert all(chunk.arrived_ns - chunk.media_ns < 2 * S for chunk in tape.chunks)
            ends = [chunk.media_ns + len(chunk.samples) * S // 16_000 for chunk in tape.chunks]
            gaps = [after.media_ns - end for end, after in zip(ends, tape.chunks[1:], strict=False)]
            assert len(gaps) > 20 and all(abs(gap) < 15 * MS for gap in gaps[10:])
            assert tape.source.stats.picture == (320, 240)
            assert tape.source.stats.packets["video"] > 80 and tape.source.stats.packets["audio"] > 150
        await eventually(lambda: tape.reason == "the publisher left", 5)
        assert tape.state == "reconnecting" and publisher.asked <= 1


@pytest.mark.parametrize("late", [{"audio": 0.3}, {"video": 0.3}])
async def test_sender_reports_bring_flash_and_beep_together(tmp_path: Path, late: dict[str, float]) -> None:
    """One track leaves 300 ms after the other; by its reports the beep still stands within 40 ms of its flash, and the
    wall clock of both is the sender's."""
    flashes = factory.flash_and_beep(tmp_path / "flash.mp4", Spec(seconds=16.0))
    media = prepared(flashes, tmp_path / "flash.mkv", seconds=16.0, size="320:240", fps=25)
    async with Tape(rate=25) as tape, publishing(tape.answer, media, sending=Sending(late_s=late)):
        await eventually(lambda: len(tape.frames) > 25 * 12, 40, "12 s of pictures")
    begin_ns = tape.epochs[0].media_ns + 5 * S
    offsets = flash_to_beep_s(
        [frame for frame in tape.frames if frame.media_ns > begin_ns],
        [chunk for chunk in tape.chunks if chunk.media_ns > begin_ns],
    )
    assert len(offsets) >= 5 and len(tape.epochs) == 1
    assert all(abs(offset) < 0.04 for offset in offsets), offsets


async def test_a_second_publisher_is_refused_while_the_first_sends(clip: Path) -> None:
    """One publisher a stream: the second one's offer is a conflict, and the first is not disturbed."""
    async with Tape() as tape, publishing(tape.answer, clip):
        await tape.until("live")
        with pytest.raises(ConflictError, match="publishes"):
            async with publishing(tape.answer, clip):
                pass
        await tape.frames_more(2)
        assert tape.state == "live" and len(tape.epochs) == 1


async def test_takeover_ends_the_first(clip: Path) -> None:
    """Where the configuration says so the second takes the place of the first, whose session is over; a new epoch."""
    async with Tape(takeover=True) as tape, publishing(tape.answer, clip) as first:
        await tape.frames_more(2)
        async with publishing(tape.answer, clip):
            await tape.until("live", after=2)
            await tape.frames_more(2)
            assert [change.state for change in tape.states] == ["connecting", "live", "reconnecting", "live"]
            assert tape.states[2].reason == "another publisher took over"
            assert [epoch.reason for epoch in tape.epochs] == ["start", "reconnect"]
            assert tape.source.stats.reconnects == 1
            await eventually(lambda: first.pc.connectionState == "closed", 5)
            assert not tape.published.unpublish(tape.sessions[0])


async def test_a_publisher_that_pauses_is_stalled_and_may_be_followed(clip: Path) -> None:
    """Without media it is stalled; media make it live again, in the same epoch; and while it is silent another may
    come, because one that is gone can't say so."""
    async with Tape() as tape, publishing(tape.answer, clip) as publisher:
        await tape.frames_more(2)
        for track in publisher.tracks:
            track.paused = True
        await tape.until("stalled")
        for track in publisher.tracks:
            track.paused = False
        await tape.until("live", after=3)
        for track in publisher.tracks:
            track.paused = True
        await tape.until("stalled", after=4)
        async with publishing(tape.answer, clip):
            await tape.until("live", after=6)


async def test_a_session_is_ended_by_its_name(clip: Path) -> None:
    """Only the name it was given ends it, once; the publisher is told at once."""
    async with Tape() as tape, publishing(tape.answer, clip) as publisher:
        await tape.until("live")
        assert not tape.published.unpublish("another")
        assert tape.published.unpublish(tape.sessions[0])
        assert tape.state == "live" or tape.reason == "the publisher left"
        await eventually(lambda: tape.reason == "the publisher left", 5)
        await eventually(lambda: publisher.pc.connectionState == "closed", 5)
        assert not tape.published.unpublish(tape.sessions[0])
        assert len(tape.sessions[0]) >= 20


async def test_a_source_that_is_stopped_ends_its_session(clip: Path) -> None:
    """When the stream is removed or changed the publisher is told."""
    tape = Tape()
    async with tape, publishing(tape.answer, clip) as publisher:
        await tape.until("live")
        await tape.__aexit__()
        await eventually(lambda: publisher.pc.connectionState == "closed", 5)
        with pytest.raises(StreamerError):
            await tape.published.publish("v=0")


OFFERS = {
    "nonsense": ("hello", "no SDP"),
    "cut off": ("v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF", "can't be read"),
    "without media": ("v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n", "Opus"),
}


@pytest.mark.parametrize("offer", OFFERS)
async def test_offers_that_can_not_be_used_are_refused(offer: str) -> None:
    """Each is told for what it is, and the source waits as before."""
    async with Tape() as tape:
        await tape.until("connecting")
        with pytest.raises(UserError, match=OFFERS[offer][1]):
            await tape.answer(OFFERS[offer][0])
        assert [change.state for change in tape.states] == ["connecting"]


async def test_an_offer_without_a_codec_that_is_taken_says_what_is(clip: Path) -> None:
    """AV1 and G.711 alone: refused with the names of what is taken; a publisher that is there stays."""
    async with Tape(takeover=True) as tape, publishing(tape.answer, clip):
        await tape.until("live")
        offer = await Publisher(clip, Sending()).offer()
        offer = re.sub(r"(H264|VP8)/90000", "AV1/90000", offer).replace("opus/48000/2", "L16/48000/2")
        with pytest.raises(UserError, match=r"AV1.*H\.264.*VP8.*Opus"):
            await tape.answer(offer)
        await tape.frames_more(2)
        assert tape.state == "live" and len(tape.epochs) == 1


@pytest.mark.parametrize("refused", ["video", "audio"])
async def test_a_track_that_is_not_wanted_is_refused(clip: Path, refused: str) -> None:
    """With `video: false` or `audio: false` the answer has that medium in its place as inactive; the other comes."""
    async with Tape(**{refused: False}) as tape, publishing(tape.answer, clip) as publisher:
        await tape.until("live")
        directions = {t.kind: t.currentDirection for t in publisher.pc.getTransceivers()}
        assert directions == {"video": "sendonly", "audio": "sendonly"} | {refused: "inactive"}
        await eventually(lambda: len(tape.frames if refused == "audio" else tape.chunks) > 3, 10)
        assert not (tape.frames if refused == "video" else tape.chunks)


async def test_sound_alone_and_picture_alone(clip: Path) -> None:
    """A publisher may have one track only."""
    for kind in ("video", "audio"):
        async with Tape() as tape, publishing(tape.answer, clip, sending=Sending(kinds=(kind,))):
            await tape.until("live")
            await eventually(lambda: len(tape.frames if kind == "video" else tape.chunks) > 3, 10)  # noqa: B023
            assert not (tape.chunks if kind == "video" else tape.frames)


_STRIP = re.compile(r"(?m)^a=(candidate:.*|end-of-candidates)\r?\n")


async def test_candidates_may_come_after_the_offer(clip: Path) -> None:
    """An offer without any candidate is answered, waits, and connects by those that follow; names are ignored."""
    async with Tape() as tape:
        publisher = Publisher(clip, Sending())
        try:
            offer = await publisher.offer()
            candidates = re.findall(r"(?m)^a=candidate:.*\r?\n", offer)
            bare = _STRIP.sub("", offer)
            # Neither knows an address of the other's.
            await publisher.accept(_STRIP.sub("", await tape.answer(bare)))
            session = tape.sessions[0]
            hidden = "a=candidate:1 1 udp 2122262783 9b36eaac-bb2e-49bb-bb78-21c41c499900.local 9 typ host\r\n"
            assert tape.published.trickle(session, hidden)
            assert not tape.published.trickle("another", hidden)
            with pytest.raises(UserError, match="restart"):
                tape.published.trickle(session, "a=ice-ufrag:new1\r\n")
            assert tape.published.trickle(session, "".join(candidates) + "a=end-of-candidates\r\n")
            await tape.until("live")
        finally:
            await publisher.close()


# -- loss and load -----------------------------------------------------------------------------------------------------


def losing(every: int) -> Callable[[bytes], bool]:
    """Loses each `every`th packet of pictures, once."""
    seen: set[bytes] = set()

    def drops(data: bytes) -> bool:
        number = data[2:4]
        if number in seen:
            return False
        seen.add(number)
        return int.from_bytes(number) % every == 0

    return drops


async def test_lost_packets_are_sent_again(tmp_path: Path, clip: Path) -> None:
    """Packets that get lost once are asked for and come again: nothing is left out, but for one group of pictures where
    the machine was late once; every fifth packet lost for good would leave out all of them."""
    media = prepared(clip, tmp_path / "clip.mkv", size="640:480", fps=25)
    async with (
        Tape() as tape,
        publishing(tape.answer, media, sending=Sending(kinds=("video",), drops=losing(5))) as publisher,
    ):
        await tape.frames_more(8)
        assert publisher.dropped > 10 and tape.source.stats.drops.get("corrupt", 0) <= 25


async def test_after_a_loss_a_key_frame_is_asked_for(tmp_path: Path, clip: Path) -> None:
    """Pictures that are gone for good cost those up to the next key frame, which is asked for; then all is well."""
    media = prepared(clip, tmp_path / "clip.mkv", size="640:480", fps=25)
    lossy = [False]
    sending = Sending(kinds=("video",), drops=lambda data: lossy[0] and len(data) > 300)
    async with Tape() as tape, publishing(tape.answer, media, sending=sending) as publisher:
        await tape.frames_more(2)
        lossy[0] = True
        await eventually(lambda: publisher.dropped > 20, 10)
        lossy[0] = False
        await eventually(lambda: publisher.asked > 0, 10)
        await tape.frames_more(6)
        assert tape.source.stats.drops["corrupt"] > 0
        assert tape.state == "live"


async def test_what_is_not_decoded_in_time_is_dropped(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that stands still for a while: the queue stays within its bound, the loss is counted, a key frame is
    asked for, and pictures come again."""
    stands_still = threading.Event()
    before = PublishedSource.deliver

    def deliver(self: PublishedSource, *arguments: object) -> bool:
        stands_still.wait(0 if not held[0] else 20)
        return before(self, *arguments)  # type: ignore[arg-type]

    held = [False]
    monkeypatch.setattr(PublishedSource, "deliver", deliver)
    async with Tape() as tape, publishing(tape.answer, clip) as publisher:
        await tape.frames_more(2)
        reader = tape.published._reader
        assert isinstance(reader, Reader) and isinstance(reader._conversation, WhipInput)
        queue = reader._conversation.peer.queue
        held[0] = True
        await asyncio.sleep(3.0)
        held[0] = False
        stands_still.set()
        await eventually(lambda: tape.source.stats.drops.get("overflow", 0) > 0, 10)
        await tape.frames_more(3, timeout=40)
        assert tape.state == "live" and publisher.asked > 0
        assert queue.peak[0] <= Bounds().frames and queue.peak[1] <= Bounds().size and len(tape.epochs) == 1


# -- in a process of its own -------------------------------------------------------------------------------------------


@pytest.fixture
def pool() -> Iterator[ReaderPool]:
    with ReaderPool(1) as pool:
        yield pool


class Pooled:
    """A source whose publishers are received in a process of the pool."""

    def __init__(self, pool: ReaderPool) -> None:
        settings = SourceSettings(frame_size=64, sample_rate=16_000, frames_per_second=2)
        source = open_source("lobby", StreamConfig(source="whip"), settings, HostClock(), pool.reader)
        assert isinstance(source, PublishedSource)
        self.source = source
        self.channel: Channel[SourceEvent] = Channel(4096, droppable)
        self.events: list[SourceEvent] = []
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Pooled:
        self._task = asyncio.create_task(self.source.run(self.channel))
        await eventually(lambda: self.states, 5)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def of(self, kind: type) -> int:
        self.events += self.channel.drain()
        return sum(isinstance(event, kind) for event in self.events)

    @property
    def states(self) -> list[str]:
        self.of(StateChange)
        return [event.state for event in self.events if isinstance(event, StateChange)]

    @property
    def reason(self) -> str:
        self.of(StateChange)
        return [event.reason or "" for event in self.events if isinstance(event, StateChange)][-1]

    async def answer(self, offer: str) -> str:
        return (await self.source.publish(offer)).answer


async def test_a_process_that_dies_costs_its_publisher_the_session(pool: ReaderPool, clip: Path) -> None:
    """Killed, the process's sessions are over and say so; the next publisher is received by another process."""
    async with Pooled(pool) as lobby:
        async with publishing(lobby.answer, clip):
            await eventually(lambda: lobby.of(Frame) > 2, 20)
            assert lobby.source.stats.picture == (320, 240)
            for pid in pool.pids:
                os.kill(pid, signal.SIGKILL)
            await eventually(lambda: lobby.states[-1] == "reconnecting", 10)
        seen = lobby.of(Frame)
        async with publishing(lobby.answer, clip):
            await eventually(lambda: lobby.of(Frame) > seen + 2, 20)
        assert lobby.of(EpochStart) == 2


async def test_a_flood_is_cut(pool: ReaderPool, clip: Path, tmp_path: Path) -> None:
    """A publisher that sends sixty times as much as it should is cut with the reason, and what came is counted."""
    media = prepared(clip, tmp_path / "clip.mkv", size="640:480", fps=30)
    async with Pooled(pool) as lobby, publishing(lobby.answer, media, sending=Sending(speed=60.0)) as publisher:
        await eventually(lambda: "the publisher was cut" in lobby.reason, 30)
        await eventually(lambda: publisher.pc.connectionState == "closed", 10)
        assert lobby.source.stats.drops.get("overflow", 0) + lobby.source.stats.drops.get("preroll", 0) > 0


@pytest.mark.parametrize("cycles", [20, pytest.param(200, marks=pytest.mark.prove)])
async def test_sessions_leave_nothing_behind(pool: ReaderPool, clip: Path, cycles: int) -> None:
    """Publishers that come and go leave no thread and no descriptor in the process that received them."""
    async with Pooled(pool) as lobby:

        async def one() -> None:
            frames = lobby.of(Frame)
            async with publishing(lobby.answer, clip):
                await eventually(lambda: lobby.of(Frame) > frames, 20)
            await eventually(lambda: lobby.states[-1] == "reconnecting", 10)

        await one()
        (process,) = [psutil.Process(pid) for pid in pool.pids]
        await eventually(lambda: not any("reader" in str(thread) for thread in process.threads()), 1)
        settled = await _steady(process)
        for _ in range(cycles):
            await one()
        await eventually(lambda: (process.num_threads(), process.num_fds()) <= settled, 10)


async def _steady(process: psutil.Process) -> tuple[int, int]:
    """Threads and descriptors once they have not changed for a while."""
    found = [(0, 0)] * 20

    def unchanged() -> bool:
        found.append((process.num_threads(), process.num_fds()))
        return len(set(found[-20:])) == 1

    await eventually(unchanged, 10)
    return found[-1]


@pytest.mark.parametrize("cycles", [3, pytest.param(20, marks=pytest.mark.prove)])
async def test_sessions_leave_no_task_behind(clip: Path, cycles: int) -> None:
    """After a session the shared loop has nothing left to do, also where nobody ever connected."""

    def tasks() -> set[str]:
        return {repr(task) for task in asyncio.all_tasks(RtcLoop.get().loop)}

    for at in range(cycles):
        async with Tape() as tape:
            if at % 3 == 2:
                publisher = Publisher(clip, Sending())
                await tape.answer(await publisher.offer())
                await publisher.close()
            else:
                async with publishing(tape.answer, clip):
                    await tape.frames_more(1)
        await eventually(lambda: not tasks(), 10, "the loop's tasks")
        await eventually(lambda: not any(t.name.startswith("reader:") for t in threading.enumerate()), 5)

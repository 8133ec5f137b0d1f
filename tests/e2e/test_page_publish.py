""" "Use this camera" in a real browser with a made-up camera, against a WHIP endpoint that takes its media in."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError
from aiortc.sdp import candidate_from_sdp

from streamer.config import IceServer, StreamConfig
from streamer.errors import ConflictError
from streamer.messages import CoverageBody, Label, Share, StreamMessage
from streamer.status import Publication
from tests.conftest import eventually
from tests.e2e.browser import NEEDS_CHROMIUM
from tests.e2e.opened import Page, opened, segment

pytestmark = NEEDS_CHROMIUM

CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
DENIED = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream=deny")
START = "document.querySelector('.publish .start').click()"
STOP = "document.querySelector('.publish .stop').click()"
TROUBLE = "document.querySelector('.trouble').textContent"


def phase(name: str) -> str:
    return f"document.querySelector('.publish')?.dataset.phase === {json.dumps(name)}"


@dataclass
class Session:
    """A publisher's connection, and what came of it: how many frames, whether they show and sound like something."""

    peer: RTCPeerConnection
    frames: dict[str, int] = field(default_factory=lambda: {"video": 0, "audio": 0})
    size: tuple[int, int] = (0, 0)
    contrast: float = 0.0
    loudness: float = 0.0
    codec: str = ""
    pumps: list[asyncio.Task[None]] = field(default_factory=list)

    async def pump(self, track: MediaStreamTrack) -> None:
        """Take in a track until it ends."""
        while True:
            try:
                frame: Any = await track.recv()
            except MediaStreamError:
                return
            self.frames[track.kind] += 1
            if track.kind == "video":
                self.size = (frame.width, frame.height)
                self.contrast = float(np.std(frame.to_ndarray(format="gray")))
            else:
                self.loudness = max(self.loudness, float(np.abs(frame.to_ndarray()).max()))


class Endpoint:
    """The WebRTC side of a fake service: put in the place of its control's own methods."""

    def __init__(self) -> None:
        self.sessions: dict[str, Session] = {}
        self.ended: list[str] = []
        self.offers: list[str] = []
        self.fragments: list[str] = []

    def serve(self, page: Page) -> None:
        control: Any = page.control
        control.publish, control.unpublish, control.trickle = self.publish, self.unpublish, self.trickle

    async def publish(self, name: str, offer: str) -> Publication:
        if self.sessions:
            raise ConflictError(f"somebody publishes {name} already")
        session = Session(RTCPeerConnection(RTCConfiguration(iceServers=[])))
        name = f"session-{len(self.offers)}"
        self.offers.append(offer)
        self.sessions[name] = session

        @session.peer.on("track")
        def _took(track: MediaStreamTrack) -> None:
            session.pumps.append(asyncio.create_task(session.pump(track)))

        await session.peer.setRemoteDescription(RTCSessionDescription(offer, "offer"))
        await session.peer.setLocalDescription(await session.peer.createAnswer())
        codecs = (line for line in session.peer.localDescription.sdp.splitlines() if "90000" in line)
        session.codec = next(codecs, "")
        return Publication(session=name, answer=session.peer.localDescription.sdp)

    async def unpublish(self, name: str, session: str) -> bool:
        found = self.sessions.pop(session, None)
        if found is None:
            return False
        self.ended.append(session)
        await found.peer.close()
        for pump in found.pumps:
            pump.cancel()
        await asyncio.gather(*found.pumps, return_exceptions=True)
        return True

    async def trickle(self, name: str, session: str, fragment: str) -> bool:
        if session not in self.sessions:
            return False
        self.fragments.append(fragment)
        for line in fragment.splitlines():
            if line.startswith("a=candidate:") and " udp " in line:
                candidate = candidate_from_sdp(line.removeprefix("a=candidate:"))
                candidate.sdpMid = "0"
                await self.sessions[session].peer.addIceCandidate(candidate)
        return True

    async def close(self) -> None:
        for name in list(self.sessions):
            await self.unpublish("", name)


@asynccontextmanager
async def publishing(*names: str, arguments: tuple[str, ...] = CAMERA) -> AsyncIterator[tuple[Page, Endpoint]]:
    """The view in a browser with a camera; the streams `names` are there already."""
    async with opened((), *names, arguments=arguments) as page:
        endpoint = Endpoint()
        endpoint.serve(page)
        # Who holds a camera, or listens, is known from outside of the view.
        await page.tab.evaluate("""(async () => {
          const { context } = await import("/page/context.js");
          const devices = navigator.mediaDevices;
          const [open, listen] = [devices.getUserMedia.bind(devices), context.onMessage.bind(context)];
          window.tracks = [];
          window.listeners = 0;
          devices.getUserMedia = async (wanted) => {
            const media = await open(wanted);
            tracks.push(...media.getTracks());
            return media;
          };
          context.onMessage = (listener) => {
            const leave = listen(listener);
            listeners += 1;
            return () => (leave(), (listeners -= 1));
          };
        })()""")
        await page.tab.evaluate("void (location.hash = '#/publish')")
        await page.tab.until("document.querySelector('.publish select')?.options.length")
        try:
            yield page, endpoint
        finally:
            await endpoint.close()


FREED = "tracks.length > 0 && tracks.every((track) => track.readyState === 'ended') && listeners === 0"


async def live(page: Page, endpoint: Endpoint, count: int = 1) -> Session:
    """Wait until the page says that it is live, and frames and sound have come; `count`: sessions so far."""
    await eventually(lambda: len(endpoint.offers) == count, 15, "an offer came")
    await page.tab.until(phase("live"), 20)
    session = next(iter(endpoint.sessions.values()))
    await eventually(lambda: session.frames["video"] > 5 and session.loudness > 0, 20, f"media came: {session.frames}")
    return session


async def test_a_camera_is_published_and_its_labels_stand_beside_it() -> None:
    """Pictures and sound really arrive; labels and latency are shown; stop ends session, stream and camera."""
    async with publishing("door") as (page, endpoint):
        promise = await page.tab.evaluate("document.querySelector('.promise').innerText")
        assert page.url.split("/")[2] in promise and "nowhere else" in promise
        assert await page.tab.evaluate("tracks.length") == 0
        await page.tab.evaluate(START)
        session = await live(page, endpoint)
        assert session.size == (640, 480)
        assert session.contrast > 5
        assert "H264" in session.codec or "VP8" in session.codec
        assert page.control.entries["webcam"] == StreamConfig(source="whip")
        coverage = CoverageBody(1.0, 0.98, 0.0)
        labels = [Label("Dog", 0.9, Share(0.6, 0.4, 0.0)), Label("Rain", 0.3, Share(0.0, 1.0, 0.0))]
        await page.hub.send(segment("door", labels=[Label("Truck", 0.9, Share(1, 0, 0))]))
        await page.hub.send(segment("webcam", labels=labels, coverage=coverage))
        rows = (
            "[...document.querySelectorAll('.publish .label')].map((row) => row.innerText.replace('\\n', ' ')).join()"
        )
        await page.tab.until(f"{rows} === 'Dog 0.90,Rain 0.30'")
        facts = await page.tab.evaluate("document.querySelector('.publish .facts').innerText")
        assert "212 ms of at most 1000" in facts and "100 % of the picture, 98 % of the sound" in facts
        assert await page.tab.evaluate("document.querySelector('.publish video').srcObject.active")
        assert await page.tab.evaluate("document.querySelector('.publish .detail').textContent") == "as webcam"
        said = "document.querySelector('.publish .detail').textContent"
        await page.hub.send(
            StreamMessage(stream="webcam", state="stalled", reason="nothing for 2 s", cursor="7-0@5f3a")
        )
        await page.tab.until(f"{said} === 'the service says stalled: nothing for 2 s'")
        await page.tab.evaluate(STOP)
        await page.tab.until(phase("stopped"))
        await eventually(lambda: not endpoint.sessions and "webcam" not in page.control.entries, 10, "all was ended")
        assert await page.tab.evaluate(FREED)
        assert page.tab.problems == []


async def test_leaving_the_view_or_the_page_ends_it() -> None:
    """Neither a session nor a stream nor an open camera is left behind, nor when the page is closed; one that was there
    before stays."""
    async with publishing() as (page, endpoint):
        page.control.entries["lobby"] = StreamConfig(source="whip")
        await page.tab.evaluate("document.querySelector('.setup [name=name]').value = 'lobby'")
        await page.tab.evaluate(START)
        await live(page, endpoint)
        await page.tab.evaluate("void (location.hash = '#/')")
        await eventually(lambda: endpoint.ended == ["session-0"], 10, "the session was ended")
        await page.tab.until(FREED)
        assert list(page.control.entries) == ["lobby"]
        await page.tab.evaluate("void (location.hash = '#/publish')")
        await page.tab.until("document.querySelector('.setup [name=name]')")
        await page.tab.evaluate("document.querySelector('.setup [name=name]').value = 'desk'")
        await page.tab.evaluate(START)
        await live(page, endpoint, 2)
        assert "desk" in page.control.entries
        await page.tab.open("about:blank")
        await eventually(lambda: endpoint.ended == ["session-0", "session-1"], 10, "the session was ended")
        await eventually(lambda: list(page.control.entries) == ["lobby"], 10, "the stream was removed")


async def test_a_lost_connection_comes_back_by_itself() -> None:
    """When the service's side breaks off, the page says so and publishes anew, with the same camera."""
    async with publishing() as (page, endpoint):
        await page.tab.evaluate(START)
        await live(page, endpoint)
        lost = endpoint.sessions.pop("session-0")
        await lost.peer.close()
        del page.control.entries["webcam"]
        await page.tab.until(phase("waiting"), 20)
        assert "trying again in" in await page.tab.evaluate("document.querySelector('.publish .detail').textContent")
        await live(page, endpoint, 2)
        assert page.control.entries["webcam"].source == "whip"
        assert await page.tab.evaluate("tracks.length === 2 && tracks.every((track) => track.readyState === 'live')")


async def test_a_camera_that_goes_away_is_told() -> None:
    """When one track ends the rest goes on, without any the session ends; both are said."""
    async with publishing() as (page, endpoint):
        await page.tab.evaluate(START)
        await live(page, endpoint)
        end = "tracks.find(({ kind }) => kind === %r).stop(), tracks.find(({ kind }) => kind === %r).onended()"
        await page.tab.evaluate(end % ("video", "video"))
        assert (await page.tab.evaluate(TROUBLE)).endswith("The rest goes on.")
        assert await page.tab.evaluate(phase("live"))
        await page.tab.evaluate(end % ("audio", "audio"))
        await page.tab.until(phase("stopped"))
        assert "The microphone is gone" in await page.tab.evaluate(TROUBLE)
        await eventually(lambda: endpoint.ended == ["session-0"], 10, "the session was ended")


async def test_a_camera_can_be_changed_and_turned_off() -> None:
    """Another device comes without a new session; without a camera a new session carries sound alone."""
    async with publishing() as (page, endpoint):
        await page.tab.evaluate(START)
        await live(page, endpoint)
        choose = """(kind, value) => {
          const choice = document.querySelector(`.setup [name=${kind}]`);
          choice.value = value ?? choice.options[1].value;
          choice.dispatchEvent(new Event("change"));
        }"""
        await page.tab.until("document.querySelector('.setup [name=camera]').options[1].text.startsWith('fake_device')")
        await page.tab.evaluate(f"({choose})('camera')")
        await page.tab.until("tracks.length === 4 && tracks.slice(0, 2).every((one) => one.readyState === 'ended')")
        assert list(endpoint.sessions) == ["session-0"]
        await page.tab.evaluate(f"({choose})('camera', 'off')")
        await eventually(lambda: list(endpoint.sessions) == ["session-1"], 15, "a new session")
        assert "m=video" not in endpoint.offers[1] and "m=audio" in endpoint.offers[1]
        await page.tab.until("document.querySelector('.no-picture').checkVisibility()")


async def test_what_can_not_be_is_said_with_the_remedy() -> None:
    """A name that no stream can have, another camera's name, and a publisher who is there already are told in words,
    and nothing is changed."""
    async with publishing("door") as (page, endpoint):
        enter = """(name) => {
          const field = document.querySelector(".setup [name=name]");
          field.value = name;
          field.dispatchEvent(new Event("input"));
        }"""
        wrong = "document.querySelector('.wrong').textContent"
        await page.tab.evaluate(f"({enter})('-desk')")
        assert "a letter or digit comes first" in await page.tab.evaluate(wrong)
        await page.tab.evaluate(f"({enter})('My Desk')")
        assert await page.tab.evaluate("document.querySelector('.setup [name=name]').value") == "my-desk"
        assert await page.tab.evaluate(wrong) == ""
        await page.tab.evaluate(f"({enter})('door')")
        assert await page.tab.evaluate(wrong) == "A camera has this name already. Choose another one."
        await page.tab.evaluate(START)
        assert await page.tab.evaluate("tracks.length") == 0
        endpoint.sessions["other"] = Session(RTCPeerConnection(RTCConfiguration(iceServers=[])))
        await page.tab.evaluate(f"({enter})('desk')")
        await page.tab.evaluate(START)
        await page.tab.until(phase("failed"))
        words = await page.tab.evaluate(TROUBLE)
        assert "somebody publishes desk already" in words and "choose another one" in words
        assert await page.tab.evaluate(FREED)
        await eventually(lambda: list(page.control.entries) == ["door"], 10, "what was added was removed")
        for dark in (False, True):
            await page.tab.size(360, 740, dark=dark)
            assert await page.tab.evaluate("document.documentElement.scrollWidth") == 360


async def test_permission_denied_is_said() -> None:
    """Who denies the camera is told how to allow it; a page that may not even ask says what would help."""
    async with publishing(arguments=DENIED) as (page, endpoint):
        await page.tab.evaluate(START)
        await page.tab.until(f"{TROUBLE}.startsWith('Permission for the camera or microphone was denied. Allow it')")
        assert await page.tab.evaluate(phase("idle"))
        assert endpoint.offers == [] and page.control.entries == {}
        insecure = """(async () => {
          const { obstacle } = await import("/page/camera.js");
          Object.defineProperty(navigator, "mediaDevices", { value: undefined, configurable: true });
          Object.defineProperty(window, "isSecureContext", { value: false, configurable: true });
          return obstacle();
        })()"""
        assert "https" in await page.tab.evaluate(insecure)
        assert "http://localhost:" in await page.tab.evaluate(insecure)


async def test_ice_servers_and_late_candidates_follow_the_standard() -> None:
    """ICE servers are read from Link headers, and candidates are sent as the fragments that RFC 8840 describes."""
    async with publishing() as (page, _):
        page.control.servers = [
            IceServer(urls=["turn:127.0.0.1:9?transport=udp"], username='a "b", c', credential="x\\y"),
            IceServer(urls=["stun:127.0.0.1:9"]),
        ]
        read = """(async () => {
          const { iceServers, fragment } = await import("/page/whip.js");
          const headers = { "Content-Type": "application/json" };
          await fetch("v1/streams/lobby", { method: "PUT", body: '{"source": "whip"}', headers });
          const response = await fetch("v1/streams/lobby/whip", { method: "OPTIONS" });
          const sdp = "v=0\\r\\nm=audio 9 UDP/TLS/RTP/SAVPF 111\\r\\na=ice-ufrag:u\\r\\na=ice-pwd:p\\r\\na=mid:0\\r\\n";
          const known = fragment(sdp, [{ candidate: "candidate:1 1 udp 1 10.0.0.1 9 typ host" }, null]);
          return [iceServers(response.headers.get("Link")), iceServers(null), known];
        })()"""
        servers, none, known = await page.tab.evaluate(read)
        turn = {"urls": "turn:127.0.0.1:9?transport=udp", "username": 'a "b", c', "credential": "x\\y"}
        assert servers == [turn, {"urls": "stun:127.0.0.1:9"}]
        assert none == []
        assert known.split("\r\n") == [
            "a=ice-ufrag:u", "a=ice-pwd:p", "m=audio 9 UDP/TLS/RTP/SAVPF 111", "a=mid:0",
            "a=candidate:1 1 udp 1 10.0.0.1 9 typ host", "a=end-of-candidates", "",
        ]  # fmt: skip

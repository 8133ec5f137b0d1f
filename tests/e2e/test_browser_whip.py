"""A real browser publishes a made-up camera into the real service, and shows on all its views what comes of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from streamer.demo.reel import SCENES, reel
from streamer.messages import Label, Share
from streamer.storage.store import EmbeddedStore
from tests.conftest import eventually
from tests.e2e.browser import NEEDS_CHROMIUM, Tab, browser
from tests.e2e.opened import camera_of, drawn, opened, segment, shots_folder
from tests.e2e.pretend import moment
from tests.e2e.running import Running, service
from tests.e2e.watching import Follower, following

pytestmark = NEEDS_CHROMIUM

_SCENE_S = 8
_AWAY_S = 4.5
START = "document.querySelector('.publish .start').click()"
STOP = "document.querySelector('.publish .stop').click()"
# The peer connections that a page makes.
_WATCH_PEERS = """
window.peers = [];
window.RTCPeerConnection = class extends RTCPeerConnection {
  constructor(...wanted) {
    super(...wanted);
    peers.push(this);
  }
};
"""
# The segments as the publisher's page gets them, each with when, in milliseconds since 1970, it came and was drawn.
_WATCH_SEGMENTS = """(async () => {
  const { context } = await import("/page/context.js");
  window.got = [];
  context.onMessage(({ type, stream, end, labels, latency_ms: latency }) => {
    if (type !== "segment" || stream !== "webcam") return;
    const names = labels.map(({ name }) => name);
    got.push({ endMs: Date.parse(end), cameMs: Date.now(), cameAt: performance.now(), total: latency.total, names });
  });
  new MutationObserver(() => got.length && (got.at(-1).drawnMs ??= Date.now()))
    .observe(document.querySelector(".publish .latency"), { childList: true, characterData: true, subtree: true });
})()"""
# All words that canvases were told to draw.
_WATCH_WORDS = """
window.words = new Set();
const write = CanvasRenderingContext2D.prototype.fillText;
CanvasRenderingContext2D.prototype.fillText = function (text, ...rest) {
  words.add(text);
  return write.call(this, text, ...rest);
};
"""
_SENT = """(async () => {
  const all = [...(await peers.at(-1).getStats()).values()];
  return all.find(({ type, kind }) => type === "outbound-rtp" && kind === "video");
})()"""
# When the last offer was sent, in the same clock as performance.now().
_OFFERED_AT = "performance.getEntriesByType('resource').filter(({ name }) => name.endsWith('/whip')).at(-1).startTime"
WHY_READY = "document.querySelector('.why .body')?.getAttribute('aria-busy') === 'false'"


def phase(name: str) -> str:
    return f"document.querySelector('.publish')?.dataset.phase === {json.dumps(name)}"


def shows(label: str, where: str = ".publish .labels") -> str:
    """Whether `label` is among those that the list `where` shows."""
    return f"[...document.querySelectorAll({where + ' .name'!r})].some((one) => one.textContent === {label!r})"


@dataclass
class Publishing:
    """A browser that publishes into a running service."""

    running: Running
    tab: Tab
    follower: Follower

    async def start(self, *, preview: bool) -> None:
        """Through the page's own view, up to live."""
        await self.tab.first_run(_WATCH_PEERS)
        await self.tab.open(f"{self.running.page}/#/publish")
        await self.tab.until("document.querySelector('.publish select')?.options.length")
        await self.tab.evaluate(_WATCH_SEGMENTS)
        if preview:
            await self.tab.evaluate("document.querySelector('.publish [name=preview]').click()")
        await self.tab.evaluate(START)
        await self.tab.until(phase("live"), 20)

    async def report(self) -> None:
        """Print what a person would feel; see README for what is in it."""
        got: list[dict[str, Any]] = await self.tab.evaluate("got")
        sent = await self.tab.evaluate(_SENT)
        first = next(one["cameAt"] for one in got if one["names"]) - await self.tab.evaluate(_OFFERED_AT)
        print(f"offer to first label in the page: {first / 1000:.2f} s")
        settled = [one for one in got[4:] if "drawnMs" in one]
        figures = {
            "capture to label in the page": [one["drawnMs"] - one["endMs"] for one in settled],
            "of it, to the message's arrival": [one["cameMs"] - one["endMs"] for one in settled],
            "latency_ms.total": [one["total"] for one in settled],
        }
        for name, values in figures.items():
            p50, p99 = np.percentile(values, [50, 99])
            print(f"{name}: p50 {p50:.0f}, p99 {p99:.0f}, most {max(values):.0f} ms over {len(values)} segments")
        encoding = 1000 * sent["totalEncodeTime"] / sent["framesEncoded"]
        sending = 1000 * sent["totalPacketSendDelay"] / sent["packetsSent"]
        print(f"in the browser: encoding {encoding:.1f} ms a picture, sending {sending:.1f} ms a packet")


@contextlib.asynccontextmanager
async def publishing(clip: tuple[str, ...], *arguments: str) -> AsyncIterator[Publishing]:
    """A running service, and a browser whose camera is `clip`."""
    async with service(*arguments) as running, browser(clip) as tab, following(running) as follower:
        await tab.size(1280, 800)
        yield Publishing(running, tab, follower)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """A camera that sees and hears the demo's first scene: its pieces may be shown to anybody."""
    return camera_of(reel().path, tmp_path_factory.mktemp("scene"), seconds=_SCENE_S)


@pytest.fixture(scope="module")
def dog(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """A camera that sees and hears a real dog."""
    return camera_of(shared_data / "av_clips" / "dog_bark_2.mp4", tmp_path_factory.mktemp("dog"), seconds=10)


async def test_a_camera_in_the_browser_is_named_on_every_view(scene: tuple[str, ...], tmp_path: Path) -> None:
    """What the camera sees and hears is named, each by its own sense and in time, beside the picture, on the wall, in
    the stream's view and in the past; a label says what it rests on; stop leaves nothing."""
    shots = shots_folder(tmp_path)
    async with publishing(scene) as site, site.tab.another() as other:
        await site.start(preview=True)
        for label in (SCENES[0].seen, SCENES[0].heard):
            await site.tab.until(shows(label))
        await site.tab.screenshot(shots / "real-publish.png")
        await _on_the_wall(site, other, shots)
        await _in_the_stream_view(site, other, shots)
        await _says_why(other, shots)
        await _in_the_past(site, other, shots)
        await _rests_on_the_right_sense(site.follower)
        for dark in (False, True):
            await site.tab.size(390, 900, dark=dark)
            await drawn(site.tab)
            await site.tab.screenshot(shots / f"real-publish-phone-{'dark' if dark else 'light'}.png")
            assert await site.tab.evaluate("document.documentElement.scrollWidth") == 390
        await site.report()
        await _stops(site, other)
        assert site.tab.problems == [] and other.problems == []


async def _on_the_wall(site: Publishing, other: Tab, shots: Path) -> None:
    await other.size(1280, 800)
    await other.open(f"{site.running.page}/")
    await other.until(shows(SCENES[0].seen, ".card[data-stream=webcam] .labels"))
    assert await other.evaluate("document.querySelector('.card[data-stream=webcam]').dataset.state") == "live"
    await other.until("document.querySelectorAll('.event').length >= 1", 20)
    await other.screenshot(shots / "real-wall.png")


async def _in_the_stream_view(site: Publishing, other: Tab, shots: Path) -> None:
    await other.evaluate("void (location.hash = '#/streams/webcam')")
    await other.until(shows(SCENES[0].heard, ".narrow .labels"))
    names = "[...document.querySelectorAll('.names button')].map((one) => one.textContent)"
    await other.until(f"{names}.includes({SCENES[0].seen!r})")
    # Pictures are shown, for whoever publishes has allowed it, and in the camera's shape.
    await other.until("document.querySelector('.preview').checkVisibility()")
    await other.until(
        "(([at]) => at.width / at.height === 640 / 360)(document.querySelectorAll('.preview canvas'))", 10
    )
    colours = (
        """new Set(document.querySelector('.preview canvas').getContext('2d').getImageData(0, 0, 640, 360).data)"""
    )
    await other.until(f"{colours}.size > 50", 10)
    for name, (width, height, dark) in {
        "light": (1280, 860, False), "dark": (1280, 860, True), "phone": (390, 1500, False),
    }.items():  # fmt: skip
        await other.size(width, height, dark=dark)
        await drawn(other)
        await other.screenshot(shots / f"real-stream-{name}.png")
        assert await other.evaluate("document.documentElement.scrollWidth") == width


async def _says_why(other: Tab, shots: Path) -> None:
    await other.size(1280, 860)
    seen = SCENES[0].seen
    await other.evaluate(f"document.querySelector('.narrow .label[data-label={seen}] button').click()")
    await other.until(WHY_READY)
    # Over the picture, and not grey: the map is there.
    assert await other.evaluate("document.querySelector('.why figure').checkVisibility()")
    assert "is mostly" in await other.evaluate("document.querySelector('.why canvas').getAttribute('aria-label')")
    pieces = (
        "[...document.querySelectorAll('.why .strip[data-modality=video] .piece i')].map((one) => one.style.height)"
    )
    heights = await other.evaluate(pieces)
    assert len(heights) >= 3 and "100%" in heights
    assert "video" in await other.evaluate("document.querySelector('.why .share-words').textContent")
    await drawn(other)
    await other.screenshot(shots / "real-why.png")
    await other.size(390, 844, dark=True)
    await drawn(other)
    await other.screenshot(shots / "real-why-phone.png")
    await other.size(1280, 860)
    await other.evaluate("document.querySelector('.why .close').click()")


async def _in_the_past(site: Publishing, other: Tab, shots: Path) -> None:
    await other.evaluate("void (location.hash = '#/past')")
    await other.until("document.querySelector('.question [name=text]')")
    await other.evaluate(f"""(() => {{
      const form = document.querySelector('.question');
      form.elements.text.value = '{SCENES[0].seen}, last hour';
      form.requestSubmit();
    }})()""")
    await other.until("document.querySelectorAll('.hit').length >= 1", 10)
    await drawn(other)
    await other.screenshot(shots / "real-past.png")


async def _rests_on_the_right_sense(follower: Follower) -> None:
    segments = await follower.until_segments("webcam", 16)
    assert [m["seq"] for m in segments] == list(range(len(segments)))
    assert all(m["latency_ms"]["total"] <= m["bound_ms"] for m in segments)
    whole = [m for m in segments[4:] if m["status"] == "ok"]
    assert len(whole) > 0.8 * len(segments[4:])
    for name, sense in ((SCENES[0].seen, "video"), (SCENES[0].heard, "audio")):
        found = [label for m in whole for label in m["labels"] if label["name"] == name]
        assert len(found) > 0.5 * len(whole)
        assert np.mean([label["share"][sense] for label in found]) > 0.8
    coverage = [min(m["coverage"]["video"], m["coverage"]["audio"]) for m in whole]
    assert np.median(coverage) > 0.95


async def _stops(site: Publishing, other: Tab) -> None:
    await other.evaluate("void (location.hash = '#/')")
    await site.tab.evaluate(STOP)
    await site.tab.until(phase("stopped"))
    left = await site.follower.until_turn("webcam", "ended", timeout=10)
    assert left["previous"] is None or left["previous"]["last_seq"] >= 0
    assert (await site.running.call("GET", "/v1/streams/webcam"))[0] == 404
    await other.until("!document.querySelector('.card')", 10)
    assert await site.tab.evaluate("peers.every((peer) => peer.connectionState === 'closed')")


@pytest.mark.prove
async def test_from_capture_to_label_for_two_minutes(dog: tuple[str, ...]) -> None:
    """For two minutes every hop of the browser's camera is answered within the bound; how soon a label stands in the
    page is printed."""
    async with publishing(dog) as site:
        await site.start(preview=False)
        segments = await site.follower.until_segments("webcam", 240, timeout=150)
        assert [m["seq"] for m in segments] == list(range(len(segments)))
        assert all(m["latency_ms"]["total"] <= m["bound_ms"] for m in segments)
        await site.report()
        assert site.tab.problems == []


@pytest.mark.parametrize("number", [15, pytest.param(9, marks=pytest.mark.prove)])
async def test_the_page_survives_a_restart_of_the_service(dog: tuple[str, ...], tmp_path: Path, number: int) -> None:
    """Wall and stream view go on by themselves, the publisher puts its stream again and publishes, the timeline shows
    the time between, and nothing is logged but that the service was not there, or not ready."""
    async with EmbeddedStore() as store, browser(dog) as tab, tab.another() as wall, tab.another() as view:
        shown = {tab: ".publish .labels", wall: ".card .labels", view: ".narrow .labels"}
        for one in shown:
            await one.size(1280, 800)
        async with service("--redis", store.url) as running:
            addresses = {"http": urlsplit(running.page).netloc, "ws": urlsplit(running.websocket).netloc}
            async with following(running) as follower:
                await Publishing(running, tab, follower).start(preview=False)
                await wall.open(f"{running.page}/")
                await view.first_run(_WATCH_WORDS)
                await view.open(f"{running.page}/#/streams/webcam")
                for one, where in shown.items():
                    await one.until(shows("Dog", where))
                before = await follower.until_segments("webcam", 6)
            await running.stop(number)
        for one in shown:
            await one.until("document.body.dataset.link === 'lost'")
        await tab.until(phase("waiting"), 20)
        # So long that on the timeline there is room for words about it.
        await eventually(lambda: time.monotonic() > before[-1]["at_s"] + _AWAY_S, 10)
        async with service("--redis", store.url, **addresses) as running, following(running) as follower:
            began_s = time.monotonic()
            for one in shown:
                await one.until("document.body.dataset.link === 'open'", 20)
            await tab.until(phase("live"), 30)
            print(f"published again {time.monotonic() - began_s:.1f} s after the service was there again")
            segments = await follower.until_segments("webcam", 6)
            assert segments[0]["epoch"] != before[0]["epoch"]
            assert all(m["latency_ms"]["total"] <= m["bound_ms"] for m in segments)
            await view.until("words.has('no segments') && words.has('new epoch')")
            for one, where in shown.items():
                await one.until(shows("Dog", where))
            assert await wall.evaluate("document.querySelector('.card').dataset.state") == "live"
            await drawn(view)
            await view.screenshot(shots_folder(tmp_path) / "real-restart.png")
            for one in shown:
                assert [text for text in one.problems if not _is_away(text)] == []


def _is_away(text: str) -> bool:
    """Whether a problem is that the service was not there, or not ready yet (503)."""
    return any(
        why in text for why in ("status of 503", "ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE")
    )


async def test_a_publisher_whose_place_is_taken_stops(scene: tuple[str, ...], tmp_path: Path) -> None:
    """Where a second publisher may take over, the first one's page says so and gives its camera back, instead of taking
    the stream back and so on for ever."""
    config = tmp_path / "streams.yaml"
    config.write_text("streams: {webcam: {source: whip, takeover: true}}")
    async with (
        service(config=config) as running,
        following(running) as follower,
        browser(scene) as first,
        first.another() as second,
    ):
        await Publishing(running, first, follower).start(preview=False)
        await follower.until_segments("webcam", 1)
        mark = len(follower.messages)
        await Publishing(running, second, follower).start(preview=False)
        await first.until(phase("failed"), 10)
        assert "Somebody else publishes" in await first.evaluate("document.querySelector('.trouble').textContent")
        segments = await follower.until_segments("webcam", 7, mark)
        assert len({m["epoch"] for m in segments[-4:]}) == 1
        assert await second.evaluate(phase("live"))
        assert first.problems == [] and second.problems == []


async def test_fifty_streams_leave_two_views_idle_time() -> None:
    """With fifty streams at two segments a second, and the wall and a stream's view open beside each other, both main
    threads are busy less than half the time, and neither page grows."""
    names = [f"cam-{index:02}" for index in range(50)]
    labels = [Label(f"Label {index}", 0.9 - index / 10, Share(0.5, 0.5, 0)) for index in range(8)]
    async with opened((), *names) as page, page.tab.another() as view:
        await view.size(1280, 800)
        await view.open(f"{page.url}#/streams/cam-07")
        await eventually(lambda: len(page.hub.connections) == 2, 10, "both views subscribed")
        tabs = {"wall": page.tab, "stream": view}
        for tab in tabs.values():
            await tab.call("Performance.enable")
        busy: dict[str, list[float]] = {name: [] for name in tabs}
        elements: dict[str, list[int]] = {name: [] for name in tabs}
        for seq in range(12):
            before = {name: await _counters(tab) for name, tab in tabs.items()}
            for name in names:
                end = datetime.now(UTC)
                start = end - timedelta(seconds=2)
                times = {"start": moment(start), "end": moment(end)}
                await page.hub.send(segment(name, seq, labels=labels, **times))
                await asyncio.sleep(0.5 / len(names))
            for name, tab in tabs.items():
                after = await _counters(tab)
                spent = after["TaskDuration"] - before[name]["TaskDuration"]
                busy[name].append(spent / (after["Timestamp"] - before[name]["Timestamp"]))
                elements[name].append(await tab.evaluate("document.querySelectorAll('*').length"))
        print("busy, at the median: " + ", ".join(f"{name} {np.median(of):.0%}" for name, of in busy.items()))
        for name, tab in tabs.items():
            assert np.median(busy[name]) < 0.5
            assert len(set(elements[name][3:])) == 1
            assert tab.problems == []


async def _counters(tab: Tab) -> dict[str, float]:
    """Chromium's own, among them seconds of main thread work and seconds since some zero."""
    return {entry["name"]: entry["value"] for entry in (await tab.call("Performance.getMetrics"))["metrics"]}

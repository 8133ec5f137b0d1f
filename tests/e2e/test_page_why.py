"""The page's why panel, in a real browser in front of a fake service."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest

from streamer.config import StreamConfig
from streamer.messages import Label, Share, encode
from streamer.status import HeatMap, Moment, Why
from tests.conftest import eventually
from tests.e2e.browser import NEEDS_CHROMIUM
from tests.e2e.opened import Page, opened, segment

pytestmark = NEEDS_CHROMIUM

HOSTILE = "<img src=x onerror=\"document.title='owned'\">"
READY = "document.querySelector('.why .body')?.getAttribute('aria-busy') === 'false'"
TEXT = "document.querySelector('.why').innerText"
HELD = """(async () => {
  const { context } = await import("/page/context.js");
  await context.refresh();
  const { openWhy } = await import("/page/why.js");
  openWhy(context, %s);
})()"""


def at(seconds: float) -> str:
    return f"2026-11-23T04:07:{8.5 + seconds:06.3f}Z"


def grey_jpeg() -> bytes:
    """A grey square picture of 224 pixels, as the service keeps them."""
    frame = av.VideoFrame.from_ndarray(np.full((224, 224, 3), 120, np.uint8), format="rgb24").reformat(
        format="yuvj420p"
    )
    codec = av.CodecContext.create("mjpeg", "w")
    codec.width = codec.height = 224
    codec.pix_fmt = "yuvj420p"
    codec.time_base = Fraction(1, 2)
    return b"".join(bytes(packet) for packet in [*codec.encode(frame), *codec.encode(None)])


def moment(start_s: float, length_s: float, score: float, mass: float) -> Moment:
    return Moment(start=at(start_s), end=at(start_s + length_s), score=score, mass=mass)


def why(seq: int, **changes: Any) -> Why:
    """A dog at the bottom right of the third of four pictures, and in the second of three pieces of sound."""
    video = [moment(i / 2, 0.5, 0.2 + i / 10, mass) for i, mass in enumerate((0.0, 0.2, 0.8, 0.0))]
    audio = [moment(i * 0.48, 0.96, 0.5, mass) for i, mass in enumerate((0.1, 0.6, 0.3))]
    heat = HeatMap(at=at(1.2), rows=2, columns=2, values=[0.0, 0.0, 0.0, 1.0], picture="/v1/streams/door/pictures/0")
    settings: dict[str, Any] = {
        "stream": "door", "epoch": "0192f1c6", "seq": seq, "start": at(0), "end": at(2), "label": "Dog", "score": 0.93,
        "share": Share(0.44, 0.56, 0.0), "video": video, "audio": audio, "heat": heat,
    }  # fmt: skip
    return Why(**(settings | changes))


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    """The page of a service whose stream `door` may show pictures, with four segments, three of them with a dog."""
    async with opened((), "door") as page:
        page.control.entries["door"] = StreamConfig(source="rtsp://10.0.0.7/door", preview=True)
        page.control.pictures = {"door": [grey_jpeg()]}
        page.control.reasons = [
            why(5),
            why(7, share=Share(0.0, 1.0, 0.0), heat=None, note="no picture took part", video=[]),
        ]
        dog = [Label("Dog", 0.9, Share(0.5, 0.5, 0))]
        rain = [Label("Rain", 0.5, Share(0, 1, 0))]
        page.control.past = {
            "door": [
                segment(
                    "door", seq, start=at((seq - 5) / 2), end=at((seq - 5) / 2 + 2), labels=rain if seq == 6 else dog
                )
                for seq in (5, 6, 7, 8)
            ]
        }
        yield page


async def ask(page: Page, seq: int = 5, **more: Any) -> None:
    """Open the panel from the focused filter of the page, and wait until it has its answer."""
    await page.tab.evaluate("document.getElementById('filter').focus()")
    what = {"stream": "door", "epoch": "0192f1c6", "seq": seq, "label": "Dog"} | more
    await page.tab.evaluate(HELD % json.dumps(what))
    await page.tab.until(READY)


async def test_a_label_says_what_it_rests_on(page: Page) -> None:
    """Score, shares and moments are shown, as drawings and as a table."""
    await ask(page)
    text = await page.tab.evaluate(TEXT)
    assert text.startswith("Dog 0.93") and "on door" in text
    assert "Seen and heard alike: 44 % video, 56 % audio." in text
    heights = "[...document.querySelectorAll('.strip[data-modality=%s] .piece i')].map((bar) => bar.style.height)"
    assert await page.tab.evaluate(heights % "video") == ["0%", "25%", "100%", "0%"]
    assert await page.tab.evaluate(heights % "audio") == ["16.6667%", "100%", "50%"]
    shown = (
        "[...document.querySelectorAll('.strip[data-modality=video] .piece')].findIndex((p) => 'shown' in p.dataset)"
    )
    assert await page.tab.evaluate(shown) == 2
    title = "document.querySelectorAll('.strip[data-modality=video] .piece')[2].title"
    assert "80 % of what counts, 0.40 alone" in await page.tab.evaluate(title)
    words = "[...row.cells].map((cell) => cell.textContent).join('|')"
    found = await page.tab.evaluate(f"[...document.querySelectorAll('.why tbody tr')].map((row) => {words})")
    assert found[2] == "picture 3|1.00 to 1.50 s|80 %|0.40"
    assert found[4] == "sound 1|0.00 to 0.96 s|10 %|0.50"
    assert page.tab.problems == []


async def test_the_heat_map_lies_on_the_picture_where_the_label_is(page: Page) -> None:
    """The picture has the camera's shape; it is warm at the bottom right alone, and the slider takes that away."""
    await ask(page)
    canvas = "document.querySelector('.why canvas')"
    width, height = await page.tab.evaluate(f"[{canvas}.width, {canvas}.height]")
    assert width / height == pytest.approx(1280 / 720, rel=0.01)
    pixel = f"[...{canvas}.getContext('2d').getImageData(%s * {width}, %s * {height}, 1, 1).data].slice(0, 3)"
    warm, cold = await page.tab.evaluate(pixel % (0.9, 0.9)), await page.tab.evaluate(pixel % (0.1, 0.1))
    assert warm[0] - warm[2] > 50 and max(cold) - min(cold) < 10
    assert "bottom, right" in await page.tab.evaluate(f"{canvas}.getAttribute('aria-label')")
    slider = "document.querySelector('.why input')"
    await page.tab.evaluate(f"void ({slider}.value = 0, {slider}.dispatchEvent(new Event('input')))")
    plain = await page.tab.evaluate(pixel % (0.9, 0.9))
    assert max(plain) - min(plain) < 10 and abs(plain[0] - 120) < 10


async def test_the_segments_around_it_are_a_step_away(page: Page) -> None:
    """Buttons and arrow keys go to the segments with the same label, over those without; what is not kept is said."""
    await ask(page)
    assert await page.tab.evaluate("document.querySelector('.why .before').disabled")
    await page.tab.key("ArrowRight")
    await page.tab.until(f"{READY} && document.querySelector('.why .place').textContent === 'segment 7'")
    text = await page.tab.evaluate(TEXT)
    assert "No picture took part." in text and "Nearly all heard: 100 % audio." in text
    assert "no pictures in this window" in text
    assert await page.tab.evaluate("document.querySelector('.why figure').hidden")
    await page.tab.evaluate(
        "document.querySelector('.why .after').focus(), document.querySelector('.why .after').click()"
    )
    await page.tab.until(f"{READY} && document.querySelector('.why .place').textContent === 'segment 8'")
    assert "is not kept any more" in await page.tab.evaluate(TEXT)
    assert await page.tab.evaluate("document.querySelector('.why .after').disabled")
    assert await page.tab.evaluate("document.activeElement.closest('.why') !== null")
    await page.tab.evaluate("document.querySelector('.why .before').click()")
    await page.tab.until(f"{READY} && document.querySelector('.why .place').textContent === 'segment 7'")


async def test_escape_closes_it_and_nothing_is_left(page: Page) -> None:
    """Escape gives the focus back; closing frees what is under way; a second panel takes the first one's place."""
    await ask(page)
    await page.tab.call("Input.dispatchKeyEvent", type="keyDown", key="Escape", code="Escape", windowsVirtualKeyCode=27)
    await page.tab.until("!document.querySelector('.why')")
    assert await page.tab.evaluate("document.activeElement.id") == "filter"
    gate, asked, plain = asyncio.Event(), [], page.control.why

    async def slow(*wanted: Any) -> Why | None:
        asked.append(wanted)
        await gate.wait()
        return await plain(*wanted)

    page.control.why = slow  # type: ignore[method-assign]
    await page.tab.evaluate(HELD % json.dumps({"stream": "door", "epoch": None, "seq": 5, "label": "Dog"}))
    await page.tab.evaluate(HELD % json.dumps({"stream": "door", "epoch": None, "seq": 7, "label": "Dog"}))
    await eventually(lambda: len(asked) == 2, 5, "both were asked")
    assert await page.tab.evaluate("document.querySelectorAll('.why').length") == 1
    await page.tab.evaluate("void (location.hash = '#/past')")
    await page.tab.until("!document.querySelector('.why')")
    gate.set()
    await page.tab.evaluate("new Promise((resolve) => setTimeout(resolve, 200))")
    assert not await page.tab.evaluate("document.querySelector('.why')")
    assert page.tab.problems == []


async def test_it_is_a_sheet_on_a_phone_and_names_are_text(page: Page) -> None:
    """At phone width the panel lies at the bottom and nothing scrolls sideways; markup in a label is shown as it is;
    every control has a name."""
    held = encode(segment("door", 9, labels=[Label(HOSTILE, 0.9, Share(1, 0, 0))])).decode()
    await page.tab.size(360, 740, dark=True)
    await ask(page)
    await page.tab.until("Math.round(document.querySelector('.why').getBoundingClientRect().bottom) === 740")
    assert await page.tab.evaluate("document.querySelector('.why').getBoundingClientRect().width") == 360
    body = "document.querySelector('.why .body')"
    assert await page.tab.evaluate(f"{body}.scrollWidth <= {body}.clientWidth")
    nameless = """[...document.querySelectorAll('.why :is(button, input)')].filter((one) =>
      !(one.getAttribute('aria-label') || one.textContent.trim())).length"""
    assert await page.tab.evaluate(nameless) == 0
    await ask(page, 9, label=HOSTILE, segment=json.loads(held))
    assert (await page.tab.evaluate(TEXT)).startswith(HOSTILE)
    assert "the model has no" in await page.tab.evaluate(TEXT)
    assert await page.tab.evaluate("document.querySelectorAll('.why img').length") == 0
    assert await page.tab.evaluate("document.title") != "owned"

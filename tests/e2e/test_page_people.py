"""Who is there, as the page shows it in a real browser: a sentence, and a drawing without a face."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import pytest

from streamer.config import StreamConfig
from streamer.messages import Event, Label, People, Person, Posture, Segment, Share
from streamer.peopleconfig import LABELS, LineConfig, ZoneConfig
from tests.e2e.browser import NEEDS_CHROMIUM, Tab
from tests.e2e.opened import Page, drawn, opened, shots_folder
from tests.e2e.pretend import PastControl, picture
from tests.e2e.stream_view import coming_after, filled, inside, street_service

pytestmark = NEEDS_CHROMIUM

ZONES = {
    "yard": ZoneConfig(area=[[0.05, 0.5], [0.55, 0.45], [0.6, 0.95], [0.05, 0.95]]),
    "steps": ZoneConfig(area=[[0.7, 0.6], [0.95, 0.6], [0.95, 0.95], [0.7, 0.95]]),
}
# Upwards on the screen: who goes in goes to the right.
LINES = {"gate": LineConfig(along=[[0.62, 0.95], [0.62, 0.3]])}
# A body that stands, in fractions of its box.
BODY = (
    (0.5, 0.06), (0.54, 0.04), (0.46, 0.04), (0.58, 0.06), (0.42, 0.06), (0.75, 0.2), (0.25, 0.2), (0.85, 0.36),
    (0.15, 0.36), (0.9, 0.5), (0.1, 0.5), (0.66, 0.52), (0.34, 0.52), (0.66, 0.74), (0.34, 0.74), (0.66, 0.95),
    (0.34, 0.95),
)  # fmt: skip


def person(track: int, left: float, posture: Posture | None, *zones: str) -> Person:
    """Somebody a fifth of the picture wide whose left wrist is not seen."""
    wide, top, tall = 0.2, 0.3, 0.6
    points = [(left + x * wide, top + y * tall, 0.05 if index == 9 else 0.8) for index, (x, y) in enumerate(BODY)]
    return Person(track, 0.81, (left, top, left + wide, top + tall), points, posture, list(zones))


TWO = People(2, [person(3, 0.2, "standing", "yard"), person(4, 0.72, "sitting")])
TWO_WORDS = "2 people: 1 standing in yard, 1 sitting"


def service(people: Literal["off", "presence", "count"] = "presence", *, preview: bool = False) -> PastControl:
    """A service whose stream `door` looks for people, with two zones and a line, and whose stream `yard` does not."""
    control = street_service(40)
    places: dict[str, Any] = {"zones": ZONES, "lines": LINES} if people != "off" else {}
    control.entries["door"] = StreamConfig(
        source="rtsp://10.0.0.7/door", group="front", preview=preview, people=people, **places
    )
    return control


async def seen(page: Page, people: People | None, **changes: Any) -> Segment:
    """The segment after the last, with these people in it; it is in the store too."""
    assert isinstance(page.control, PastControl)
    (segment,) = coming_after(page.control, 1, people=people, **changes)
    page.control.past["door"].append(segment)
    await page.hub.send(segment)
    return segment


async def says(tab: Tab, text: str) -> None:
    await tab.until(f"document.querySelector('.where .who').textContent === {text!r}")


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    """The view of `door`, where people are looked for, before anybody was."""
    async with opened(control=service(), at="#/streams/door") as page:
        await filled(page.tab)
        yield page
        assert page.tab.problems == []


async def test_who_is_there_is_said_and_drawn(page: Page) -> None:
    """The sentence names all, the drawing has each person's box, bones and number, and marks the zone they stand in."""
    await says(page.tab, "People: not known for this moment")
    await seen(page, TWO)
    await says(page.tab, TWO_WORDS)
    assert await page.tab.evaluate("document.querySelector('.scene svg').viewBox.baseVal.width") == 400
    assert await page.tab.evaluate("document.querySelector('.scene svg').viewBox.baseVal.height") == 225
    texts = await page.tab.evaluate("[...document.querySelectorAll('.scene text')].map((text) => text.textContent)")
    assert texts == ["yard · 1", "steps", "gate", "no. 3 standing", "no. 4 sitting"]
    here = "[...document.querySelectorAll('.zone[data-here]')].map((zone) => zone.dataset.place)"
    assert await page.tab.evaluate(here) == ["yard"]
    box = "(({ x, y, width, height }) => [x, y, width, height])(document.querySelector('.person rect').getBBox())"
    assert await page.tab.evaluate(box) == pytest.approx([80, 67.5, 80, 135], abs=0.01)
    # Fourteen bones join points that are seen; the one to the wrist that is not is left out.
    bones = "document.querySelector('.person .bones').getAttribute('d').split('M').length - 1"
    assert await page.tab.evaluate(bones) == 13
    await seen(page, People(0, []))
    await says(page.tab, "nobody")
    assert await page.tab.evaluate("document.querySelectorAll('.person, .zone[data-here]').length") == 0


async def test_a_screen_reader_is_told(page: Page) -> None:
    """The drawing is one picture whose name says who is there and which places there are; the timeline says it too."""
    await seen(page, TWO)
    await says(page.tab, TWO_WORDS)
    nodes: list[dict[str, Any]] = (await page.tab.call("Accessibility.getFullAXTree"))["nodes"]
    named = [node["name"]["value"] for node in nodes if not node.get("ignored") and "name" in node]
    assert f"The scene. {TWO_WORDS}. Zones: yard (1), steps. Lines: gate" in named
    assert "Where" in named
    await page.tab.evaluate("document.querySelector('.stage').focus()")
    await page.tab.key("ArrowLeft")
    await page.tab.until(
        f"document.querySelector('.stage').getAttribute('aria-valuetext').includes({' · ' + TWO_WORDS + ' · '!r})"
    )


async def test_keys_go_back_to_who_was_there(page: Page) -> None:
    """The arrow keys of the timeline lead to the people of the moment before, and back."""
    await seen(page, People(1, [person(3, 0.2, "lying", "yard", "steps")]))
    await seen(page, TWO)
    await says(page.tab, TWO_WORDS)
    await page.tab.evaluate("document.querySelector('.stage').focus()")
    for _ in range(2):
        await page.tab.key("ArrowLeft")
    await says(page.tab, "1 person: lying in yard and steps")
    assert await page.tab.evaluate("document.querySelectorAll('.person[data-posture=lying]').length") == 1
    assert await page.tab.evaluate("document.querySelector('.scene').hasAttribute('data-past')")
    await page.tab.key("ArrowRight")
    await says(page.tab, TWO_WORDS)


async def test_the_arrow_points_where_one_enters(page: Page) -> None:
    """Of a line that goes up the arrow points to the right, wherever in the picture it lies."""
    await seen(page, TWO)
    await says(page.tab, TWO_WORDS)
    tip = """
        (() => {
          const arrow = document.querySelector(".line .arrow");
          const { a, b, e, f } = arrow.transform.baseVal.consolidate().matrix;
          return [a, b, e, f].map((part) => Math.round(part));
        })()
    """
    assert await page.tab.evaluate(tip) == [1, 0, 248, 141]


async def test_a_camera_that_stands_upright(page: Page) -> None:
    """The drawing has the shape of the camera's pictures, and no more height than a screen has room for."""
    found = await inside(
        page.tab,
        """
        const { Scene } = await m("scene");
        const section = document.getElementById("stream").content.querySelector(".where").cloneNode(true);
        const scene = new Scene(section);
        scene.takeStatus({ people: "presence", picture: [1080, 1920], zones: { yard: [[0, 0], [1, 0], [1, 1]] } });
        const corners = section.querySelector(".zone polygon").getAttribute("points");
        return [section.querySelector("svg").getAttribute("viewBox"), corners];
        """,
    )
    assert found == ["0 0 236 420", "0,0 236,0 236,420"]


async def test_the_number_alone() -> None:
    """With `people: count` the number and the zones are shown, and no body; without zones there is no drawing."""
    async with opened(control=service("count"), at="#/streams/door") as page:
        await filled(page.tab)
        await seen(page, People(3))
        await says(page.tab, "3 people")
        assert await page.tab.evaluate("document.querySelectorAll('.zone').length") == 2
        assert await page.tab.evaluate("document.querySelectorAll('.person').length") == 0
        page.control.entries["door"] = StreamConfig(source="rtsp://10.0.0.7/door", people="count")
        await page.tab.until("document.querySelector('.scene').hidden")
        assert await page.tab.evaluate("document.querySelector('.where').checkVisibility()")
        assert page.tab.problems == []


async def test_nothing_where_people_are_off() -> None:
    """Where nobody is looked for neither the view nor the wall says anything of people."""
    async with opened(control=service("off"), at="#/streams/door") as page:
        await filled(page.tab)
        await seen(page, None)
        await page.tab.until("document.querySelector('.facts').innerText.includes(', 40')")
        assert await page.tab.evaluate("document.querySelector('.where').hidden")
        await page.tab.evaluate("void (location.hash = '#/')")
        await page.tab.until("document.querySelector('[data-stream=door][data-answered]')")
        assert await page.tab.evaluate("document.querySelector('[data-stream=door] .people').hidden")
        assert page.tab.problems == []


async def test_the_wall_says_how_many() -> None:
    """A stream's card says who is there, and nobody where nobody is."""
    async with opened(control=service()) as page:
        line = "document.querySelector('[data-stream=door] .people')"
        await seen(page, TWO)
        await page.tab.until(f"{line}.textContent === {TWO_WORDS!r} && {line}.checkVisibility()")
        await seen(page, People(0, []))
        await page.tab.until(f"{line}.textContent === 'nobody'")
        assert await page.tab.evaluate("document.querySelector('[data-stream=yard] .people').hidden")
        assert page.tab.problems == []


async def test_the_picture_behind_holds_no_face() -> None:
    """Where pictures may be shown the newest is behind the drawing, in twenty-four columns; it is asked for once for
    all who show it; behind a moment that was there is none."""
    control = service(preview=True)
    control.pictures["door"] = [picture()]
    async with opened(control=control, at="#/streams/door") as page:
        await page.tab.watch_network()
        await filled(page.tab)
        await seen(page, TWO)
        haze = "document.querySelector('.scene canvas')"
        painted = f"{haze}.getContext('2d').getImageData(3, 3, 1, 1).data[3] === 255"
        await page.tab.until(f"{haze}.checkVisibility() && {painted}")
        assert await page.tab.evaluate(f"[{haze}.width, {haze}.height]") == [24, 14]
        assert "blur" in await page.tab.evaluate(f"getComputedStyle({haze}).filter")
        before = sum("preview" in url for url in page.tab.requested)
        await page.tab.until("(window.waited ??= performance.now()) < performance.now() - 3200")
        assert 1 <= sum("preview" in url for url in page.tab.requested) - before <= 3
        hosts = {urlsplit(url).hostname for url in page.tab.requested if not url.startswith(("data:", "blob:"))}
        assert hosts == {"127.0.0.1"}
        await page.tab.evaluate("document.querySelector('.stage').focus()")
        await page.tab.key("Home")
        await page.tab.until(f"getComputedStyle({haze}).visibility === 'hidden'")
        assert page.tab.problems == []


async def test_no_picture_where_none_may_be_shown(page: Page) -> None:
    """Without leave for pictures the drawing has a plain ground, and none is asked for."""
    await page.tab.watch_network()
    await seen(page, TWO)
    await says(page.tab, TWO_WORDS)
    assert await page.tab.evaluate("document.querySelector('.scene canvas').hidden")
    await page.tab.until("(window.waited ??= performance.now()) < performance.now() - 2000")
    assert not [url for url in page.tab.requested if "preview" in url]


async def test_words_in_both_languages(page: Page) -> None:
    """English by default, Chinese for who prefers it; what is not known of a posture or a place is not said."""
    found = await inside(
        page.tab,
        """
        const { peopleWords, sceneWords, wordsFor } = await m("people");
        const zh = wordsFor(["zh-TW", "en"]), en = wordsFor(["de", "en-GB"]);
        const of = (...list) => ({ count: list.length, list });
        const some = of({ posture: "standing", zones: ["yard"] }, { posture: "sitting" }, { zones: ["yard"] }, {});
        const alike = of({ posture: "standing" }, { posture: "standing" }, { posture: "lying" });
        const all = [null, of(), { count: 1 }, some, alike];
        return [en, zh].flatMap((say) => all.map((people) => peopleWords(people, say)))
          .concat(sceneWords(of(), ["yard"], [], zh));
        """,
    )
    assert found == [
        "People: not known for this moment", "nobody", "1 person",
        "4 people: 1 standing in yard, 1 sitting, 1 in yard", "3 people: 2 standing, 1 lying",
        "此刻人数不详", "无人", "1 人", "4 人：1 人在 yard 站立，1 人坐着，1 人在 yard", "3 人：2 人站立，1 人躺着",
        "画面：无人。区域：yard",
    ]  # fmt: skip


async def test_chinese_readers_are_told_in_chinese() -> None:
    """In a browser that prefers Chinese the panel and the card are in Chinese, and say so to a screen reader."""
    async with opened(control=service(), at="#/streams/door", arguments=("--accept-lang=zh-CN",)) as page:
        await filled(page.tab)
        await seen(page, TWO)
        await says(page.tab, "2 人：1 人在 yard 站立，1 人坐着")
        assert await page.tab.evaluate("document.querySelector('.where').lang") == "zh"
        assert await page.tab.evaluate("document.querySelector('.where h3').textContent") == "位置"
        assert page.tab.problems == []


async def test_a_label_of_people_is_explained(page: Page) -> None:
    """Why of `Person@yard` says where it comes from, with its shares, and asks the service for no heat map."""
    video = Share(1.0, 0.0, 0.0)
    await page.tab.watch_network()
    await seen(page, TWO, labels=[Label("Person", 0.97, video), Label("Person@yard", 0.93, video)])
    button = "document.querySelector('.narrow .label[data-label=\"Person@yard\"] button')"
    await page.tab.until(button)
    await page.tab.evaluate(f"{button}.click()")
    await page.tab.until("document.querySelector('dialog.why .said')?.textContent.startsWith('Person@yard comes from')")
    assert (
        await page.tab.evaluate("document.querySelector('.share-words').textContent") == "Nearly all seen: 100 % video."
    )
    assert not [url for url in page.tab.requested if "/why/" in url]


async def test_which_labels_are_of_people(page: Page) -> None:
    """The page knows the service's labels of people, with and without a place, from those of the model."""
    names = [*LABELS, *(f"{what}@yard" for what in ("Person", "Enter", "Leave", "Dwell")), "Dog", "Personal computer"]
    found = await inside(page.tab, f"return {names!r}.map((await m('people')).isOfPeople);")
    assert found == [True] * (len(names) - 2) + [False, False]


async def test_events_of_people(page: Page) -> None:
    """What people do stands among the events under its name, and a fall stands out."""
    at = page.control.past["door"][-1].end
    for index, label in enumerate(("Person", "Enter@gate", "Dwell@a-yard-with-a-rather-long-name-1", "Fall")):
        await page.hub.send(
            Event(stream="door", id=f"e{index}", label=label, state="open", start=at, end=None, score=0.9)
        )
    await page.tab.evaluate("void (location.hash = '#/')")
    await page.tab.until("document.querySelectorAll('.event').length === 4")
    names = await page.tab.evaluate("[...document.querySelectorAll('.event .what')].map((what) => what.textContent)")
    assert names[:2] == ["Fall", "Dwell@a-yard-with-a-rather-long-name-1"]
    assert await page.tab.evaluate("document.querySelectorAll('.event[data-fall]').length") == 1
    assert await page.tab.evaluate("document.documentElement.scrollWidth") == 1280


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_it_fits_desk_and_phone(tmp_path: Path, scheme: str) -> None:
    """Wall and view fit a desk and a phone in both schemes."""
    shots = shots_folder(tmp_path)
    control = service(preview=True)
    control.pictures["door"] = [picture()]
    async with opened(control=control) as page:
        labels = [Label(name, 0.9, Share(1.0, 0.0, 0.0)) for name in ("Person", "Person@yard", "Enter@gate", "Fall")]
        for name, width, height in (("desk", 1280, 900), ("phone", 390, 1100)):
            await page.tab.size(width, height, dark=scheme == "dark")
            for view in ("#/streams/door", "#/"):
                await page.tab.evaluate(f"void (location.hash = {view!r})")
                if view != "#/":
                    await filled(page.tab)
                await seen(page, TWO, labels=labels)
                await drawn(page.tab)
                await page.tab.screenshot(shots / f"people-{'wall' if view == '#/' else 'view'}-{scheme}-{name}.png")
                assert await page.tab.evaluate("document.documentElement.scrollWidth") == width
                if view != "#/":
                    inside_figure = """
                        (() => {
                          const around = document.querySelector(".scene").getBoundingClientRect();
                          return [...document.querySelectorAll(".scene text")].every((text) => {
                            const { left, right, top, bottom } = text.getBoundingClientRect();
                            return left >= around.left - 1 && right <= around.right + 1
                              && top >= around.top - 2 && bottom <= around.bottom + 2;
                          });
                        })()
                    """
                    assert await page.tab.evaluate(inside_figure)
        assert page.tab.problems == []

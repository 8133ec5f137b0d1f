"""The page about a training."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from models.learning.train import train
from tests.models.learning import tiny


class Page(HTMLParser):
    """What is in a page: its texts, how often each tag is opened and closed, and every reference."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.opened: Counter[str] = Counter()
        self.closed: Counter[str] = Counter()
        self.references: list[str] = []
        self.texts: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.opened[tag] += 1
        self.references += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "srcset")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.closed[tag] += 1

    def handle_endtag(self, tag: str) -> None:
        self.closed[tag] += 1

    def handle_data(self, data: str) -> None:
        self.texts.append(data.strip())


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A page of each task."""
    made = {}
    for task in ("classes", "labels", "numbers", "sequence"):
        folder = tmp_path_factory.mktemp(task)
        balance = 0.5 if task in ("classes", "labels") else 0.0
        recipe = replace(tiny.of_task(tiny.recipe(epochs=2, balance_modalities=balance), task), name="page")
        names = ("speed",) if task == "numbers" else ("<red>", "green", "blue")
        data = replace(tiny.data(task, strength=0.1), names=names)
        made[task] = train(recipe, data, folder).report
    return made


TASKS = pytest.mark.parametrize("task", ["classes", "labels", "numbers", "sequence"])


@TASKS
def test_a_page_needs_nothing_else(pages: dict[str, Path], task: str) -> None:
    """No script, and no reference but within the page: it can be read without a network and mailed as it is."""
    page = Page(pages[task])
    assert page.opened["script"] == page.opened["link"] == page.opened["img"] == 0
    assert all(reference.startswith("#") for reference in page.references)
    text = pages[task].read_text(encoding="utf-8")
    assert set(re.findall(r"https?://[^\"' <]+", text)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }


@TASKS
def test_a_page_is_well_formed(pages: dict[str, Path], task: str) -> None:
    """Every table, row, cell and picture that is opened is closed; names are written as text, whatever is in them."""
    page = Page(pages[task])
    for tag in ("table", "tr", "td", "th", "svg", "g", "div", "figure", "figcaption", "h2", "p", "pre"):
        assert page.opened[tag] == page.closed[tag], tag
    assert page.opened["red"] == 0
    if task != "numbers":
        assert any("<red>" in text for text in page.texts)


@TASKS
def test_a_page_can_be_read_on_both_grounds(pages: dict[str, Path], task: str) -> None:
    """Lines and letters of plots are in the page's own colour, which is another on dark ground; no plot has a ground of
    its own."""
    text = pages[task].read_text(encoding="utf-8")
    assert "prefers-color-scheme: dark" in text
    drawn = "".join(re.findall(r"<svg.*?</svg>", text, re.S))
    assert "currentColor" in drawn
    assert not re.search(r"(fill|stroke): ?(#000000|black|#ffffff|white)", drawn)


@pytest.mark.parametrize(
    ("task", "titles"),
    [
        ("classes", {"Calibration", "Each class", "Confusion"}),
        ("labels", {"Calibration", "Each label"}),
        ("numbers", {"Numbers"}),
        ("sequence", {"Sequences"}),
    ],
)
def test_a_page_shows_what_its_task_is_judged_by(pages: dict[str, Path], task: str, titles: set[str]) -> None:
    """Every page has figures, curves, what each modality is worth, how it was made, its recipe, and its task's own."""
    texts = set(Page(pages[task]).texts)
    assert titles | {"Figures", "With each modality removed", "Curves", "How it was made", "Recipe"} <= texts
    assert {"without audio", "without video", "36", "12"} <= texts  # clips for training, for validation
    assert any("epochs = 2" in text and "[video]" in text for text in texts)


def test_the_confusion_adds_up(pages: dict[str, Path]) -> None:
    """The matrix counts every clip of the test once."""
    text = pages["classes"].read_text(encoding="utf-8")
    matrix = re.search(r"<table class=matrix>.*?</table>", text, re.S)
    assert matrix is not None
    assert sum(int(count) for count in re.findall(r">(\d+)</td>", matrix[0])) == 12

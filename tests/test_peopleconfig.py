"""Zones and lines of the configuration: what is wrong is said once, with its place, in a file and through the API."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.configfile import load, parse_stream_entry, problems
from streamer.errors import UserError
from streamer.peopleconfig import LABELS, LineConfig, ZoneConfig, check_places, is_of_people

SQUARE = [[0.1, 0.1], [0.9, 0.1], [0.9, 0.9], [0.1, 0.9]]
GOOD = """\
streams:
  yard:
    source: whip
    people: presence
    zones:
      gate: {area: [[0, 0.5], [1, 0.5], [1, 1]], dwell: 1m}
      lawn: {area: [[0.0, 0.0], [0.5, 0.0], [0.5, 0.4]]}
    lines:
      fence: {along: [[0.1, 0.2], [0.9, 0.3], [0.9, 0.8]]}
"""


def said(
    zones: dict[str, ZoneConfig] | None = None, lines: dict[str, LineConfig] | None = None
) -> list[tuple[str, str]]:
    """The faults, each with its path as text."""
    return [("/".join(map(str, path)), text) for path, text in check_places(zones or {}, lines or {})]


def entry(**settings_: object) -> bytes:
    """What a caller of the API sends for a stream whose people are looked for."""
    return json.dumps({"source": "whip", "people": "presence", **settings_}).encode()


def test_places_of_a_file(tmp_path: Path) -> None:
    """A file's zones and lines arrive as they were written; a zone has a dwell time where none was."""
    file = tmp_path / "streamer.yaml"
    file.write_text(GOOD)
    stream = load(file, {}).config.streams["yard"]
    assert stream.zones["gate"].area == [[0.0, 0.5], [1.0, 0.5], [1.0, 1.0]]
    assert (stream.zones["gate"].dwell_ns, stream.zones["lawn"].dwell_ns) == (60 * 10**9, 10 * 10**9)
    assert stream.lines["fence"].along[1] == [0.9, 0.3]


def test_places_of_an_entry() -> None:
    """The API takes the same, with durations as the file has them."""
    stream = parse_stream_entry(entry(zones={"gate": {"area": SQUARE, "dwell": "5s"}}))
    assert stream.zones["gate"].dwell_ns == 5 * 10**9


@pytest.mark.parametrize(
    ("old", "new", "place", "words"),
    [
        ("[1, 1]]", "[1, 1.5]]", "6:41:", "from 0 to 1"),
        ("[1, 1]]", "[1, -0.1]]", "6:41:", "from 0 to 1"),
        ("[1, 1]]", "[1, 1, 1]]", "6:41:", "a point is x and y"),
        ("[1, 1]]", "[]]", "6:41:", "a point is x and y"),
        (", [1, 1]]", "]", "6:14:", "3 to 64 corners"),
        ("[[0, 0.5], [1, 0.5], [1, 1]]", "[]", "6:14:", "3 to 64 corners"),
        ("[1, 1]]", "[0.5, 0.5]]", "6:14:", "nobody fits in there"),
        ("[1, 1]]", "[1, 1], [0.5, 0.1]]", "6:14:", "its sides cross"),
        ("dwell: 1m", "dwell: 10", "6:", "expected a duration"),
        ("dwell: 1m", "dwell: -1s", "6:", "expected a duration"),
        ("dwell: 1m", "linger: 1m", "6:", "unknown key `linger`"),
        ("gate:", "Gate:", "6:", "'Gate' can't name a place"),
        ("fence:", "gate:", "9:", "a zone is named 'gate' too"),
        ("[0.9, 0.3], [0.9, 0.8]]", "[0.1, 0.2]]", "9:15:", "a line has two ends"),
        (", [0.9, 0.3], [0.9, 0.8]]", "]", "9:15:", "2 to 64 points"),
        ("people: presence", "people: off", "4:", "zones and lines want people"),
    ],
)
def test_a_fault_in_a_file_is_told_once_with_its_place(
    tmp_path: Path, old: str, new: str, place: str, words: str
) -> None:
    """One mistake is one line that names the place and the remedy."""
    assert GOOD.count(old) == 1
    file = tmp_path / "streamer.yaml"
    file.write_text(GOOD.replace(old, new))
    (line,) = problems(file, {})
    line = line.removeprefix(f"{file}:")
    assert line.startswith(place) and words in line, line


def test_values_of_another_kind_are_told_of(tmp_path: Path) -> None:
    """What is no number in a file, or no list, is told of where it stands."""
    file = tmp_path / "streamer.yaml"
    for wrong, words in (("[1, .nan]]", "6:45: expected a number"), ("1]", "6:41: expected a list")):
        file.write_text(GOOD.replace("[1, 1]]", wrong))
        assert any(words in line for line in problems(file, {}))


@pytest.mark.parametrize(
    ("settings_", "words"),
    [
        ({"zones": {"gate": {"area": SQUARE[:2]}}}, "length >= 3"),
        ({"zones": {"gate": {"area": [[0.1], *SQUARE]}}}, "length >= 2"),
        ({"zones": {"gate": {"area": [[1e999, 0.1], *SQUARE]}}}, "out of range - at `$.zones[...].area[0][0]`"),
        ({"zones": {"gate": {"area": [[7, 0.1], *SQUARE]}}}, "zones: gate: area: 0: a point is x and y"),
        ({"zones": {"gate": {"area": SQUARE, "dwell": "soon"}}}, "zones: gate: dwell: expected a duration"),
        ({"zones": {"a@b": {"area": SQUARE}}}, "can't name a place"),
        ({"lines": {"fence": {"along": [[0.5, 0.5], [0.5, 0.5]]}}}, "a line has two ends"),
        ({"lines": {"fence": {"along": [["a", 0.5], [0.5, 0.5]]}}}, "float"),
        ({"lines": {f"l{i}": {"along": [[0, 0], [1, 1]]} for i in range(33)}}, "at most 32 zones and lines"),
    ],
)
def test_a_fault_in_an_entry_is_one_error(settings_: dict[str, object], words: str) -> None:
    """What a caller of the API sends is refused with the place and the words of the file's reader."""
    body = entry(**settings_).replace(b"Infinity", b"1e999")
    with pytest.raises(UserError) as caught:
        parse_stream_entry(body)
    assert words in str(caught.value)


def test_numbers_that_are_none() -> None:
    """Not a number, and more than any, are outside the picture."""
    for value in (float("nan"), float("inf"), -float("inf")):
        zones = {"gate": ZoneConfig(area=[*SQUARE, [0.5, value]])}
        assert [place for place, _ in said(zones)] == ["zones/gate/area/4"]


def test_names_of_people_are_known() -> None:
    """Labels of bodies and of places are of people; those of a checkpoint are not."""
    assert all(is_of_people(name) for name in (*LABELS, "Person@yard", "Enter@door"))
    assert not is_of_people("Dog")


_numbers = st.one_of(st.floats(), st.sampled_from([0.0, 0.5, 1.0]), st.floats(0, 1))
_points = st.lists(st.lists(_numbers, max_size=3), max_size=70)


@settings(deadline=None, derandomize=True, max_examples=300)
@given(_points, _points, st.text(max_size=40), st.text(max_size=12))
def test_whatever_is_written_is_told_of_and_raises_nothing(
    area: list[list[float]], along: list[list[float]], name: str, dwell: str
) -> None:
    """Any lists, names and words give faults at places that exist, at most one for each, or none."""
    zones, lines = {name: ZoneConfig(area=area, dwell=dwell)}, {"line": LineConfig(along=along)}
    found = list(check_places(zones, lines))
    paths = [path for path, _ in found]
    assert len(set(paths)) == len(paths)
    assert all(text and "\n" not in text for _, text in found)
    for path in paths:
        points = area if path[0] == "zones" else along
        assert len(path) < 4 or path[3] in range(len(points))


@settings(deadline=None, derandomize=True, max_examples=100)
@given(st.lists(st.tuples(st.integers(1, 7), st.integers(0, 359)), min_size=3, max_size=20, unique_by=lambda c: c[1]))
def test_corners_in_order_around_a_point_are_an_area(star: list[tuple[int, int]]) -> None:
    """Whoever gives the corners of a star in their order, with no gap of half a turn, is told nothing of crossing."""
    from math import cos, radians, sin

    star.sort(key=lambda corner: corner[1])
    angles = [angle for _, angle in star]
    gaps = [(b - a) % 360 for a, b in zip(angles, angles[1:] + angles[:1], strict=True)]
    area = [[0.5 + r / 15 * cos(radians(a)), 0.5 + r / 15 * sin(radians(a))] for r, a in star]
    found = [text for _, text in said({"star": ZoneConfig(area=area)})]
    assert max(gaps) >= 180 or not any("cross" in text for text in found)

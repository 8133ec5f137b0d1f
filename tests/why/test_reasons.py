"""What somebody who asks why is told: moments with their times, a heat map where pictures may be shown, or the reason
why not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.data import read_audio, read_frames
from streamer.answer import Answer, segment_of, shed
from streamer.clock import ManualClock, parse_rfc3339
from streamer.decide import labels_of
from streamer.engine import Engine
from streamer.errors import UserError
from streamer.media import AudioChunk, Coverage, EpochStart, Frame, Picture, Progress, Window
from streamer.messages import Label
from streamer.status import Why
from streamer.why.explain import Asked, Explained, Explainer, Graphs
from streamer.why.jpeg import Jpeg
from streamer.why.kept import Kept
from streamer.why.reasons import Reasons
from streamer.window import Windower, WindowPolicy
from tests.builders import MS, S

WALL_NS = parse_rfc3339("2026-11-23T04:00:00Z")
RATE = 16_000


class Direct:
    """Explains in this process; `asked` is what it was asked last."""

    def __init__(self, explainer: Explainer) -> None:
        self._explainer = explainer
        self.asked: Asked | None = None

    async def explain(self, asked: Asked) -> Explained:
        self.asked = asked
        return self._explainer.explain(asked)


class AtOnce:
    """Encodes pictures when they are offered."""

    def __init__(self) -> None:
        self._jpeg = Jpeg()

    def offer(self, rgb: NDArray[np.uint8], done: object) -> None:
        done(self._jpeg.encode(rgb))  # type: ignore[operator]


@pytest.fixture(scope="module")
def explainer(graphs: Graphs) -> Explainer:
    return Explainer(graphs)


class Room:
    """An engine, what is kept of its windows, and who answers why."""

    def __init__(self, engine: Engine, explainer: Explainer, *, shows: bool) -> None:
        self.engine, self.shows = engine, shows
        self.names = [label.name for label in engine.labels]
        self.direct = Direct(explainer)
        self.kept = Kept(ManualClock(), lambda _: self.shows, AtOnce())  # type: ignore[arg-type]
        labels = [(label.name, label.modalities) for label in engine.labels]
        self.reasons = Reasons(self.kept, self.direct, labels, engine.geometry, lambda _: self.shows)

    def label(self, window: Window) -> list[Label]:
        """Score and keep `window`; the labels that it is published with."""
        answer = Answer(window, "ok", None, self.engine.run([window])[0], 0, 0)
        assert answer.scores is not None
        labels = labels_of(self.names, answer.scores)
        self.kept.answered(answer, segment_of(answer, labels, S, 0, 0), 0)
        self.engine.forget(window.stream)
        return labels

    async def why(self, label: str, seq: int = 0) -> Why:
        told = await self.reasons.why("door", seq, None, label)
        assert told is not None
        return told


@pytest.fixture
def shown(engine: Engine, explainer: Explainer) -> Room:
    """Pictures may be shown."""
    return Room(engine, explainer, shows=True)


@pytest.fixture
def hidden(engine: Engine, explainer: Explainer) -> Room:
    """Pictures may not be shown."""
    return Room(engine, explainer, shows=False)


def cut(engine: Engine, sound: NDArray[np.float32] | None, pictures: list[NDArray[np.uint8]]) -> Window:
    """The window of the first two seconds of sound and of pictures half a second apart, cut as the service does."""
    windower = Windower("door", engine.geometry, WindowPolicy(bound_ns=S, grace_ns=None))
    windower.begin("e1", EpochStart("start", 0, WALL_NS))
    for number, rgb in enumerate(pictures):
        windower.feed(Frame(number * 500 * MS, 500 * MS, 0, rgb))
    if sound is not None:
        windower.feed(AudioChunk(0, 0, sound))
    windower.feed(Progress(2 * S if pictures else None, 2 * S if sound is not None else None, 0))
    return replace(windower.poll(0)[-1], seq=0)


def window_of(pictures: list[NDArray[np.uint8]]) -> Window:
    held = tuple(Picture(number, number * 500 * MS, rgb) for number, rgb in enumerate(pictures))
    return Window("door", "e1", 0, 0, 2 * S, 2 * S, 3 * S, WALL_NS, held, (), Coverage(1.0, 0.0))


def noise(seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (224, 224, 3), dtype=np.uint8)


async def test_moments_have_the_times_of_what_they_stand_for(hidden: Room) -> None:
    """A picture stands for the time nearest to it, but for no more than half a second either way across a hole; a patch
    for what it spans. All of it in wall time, and within the window."""
    sound = np.random.default_rng(1).normal(0, 0.1, 2 * RATE).astype(np.float32)
    window = cut(hidden.engine, sound, [noise(number) for number in range(4)])
    window = replace(window, pictures=(window.pictures[0], *window.pictures[3:]))
    hidden.label(window)
    told = await hidden.why("Dog")
    assert (told.start, told.end) == ("2026-11-23T04:00:00.000Z", "2026-11-23T04:00:02.000Z")
    assert [(moment.start[17:], moment.end[17:]) for moment in told.video] == [
        ("00.000Z", "00.500Z"),
        ("01.000Z", "02.000Z"),
    ]
    assert [(moment.start[17:], moment.end[17:]) for moment in told.audio] == [
        ("00.000Z", "00.975Z"),
        ("00.480Z", "01.455Z"),
        ("00.960Z", "01.935Z"),
    ]


async def test_pictures_share_the_window_among_them(hidden: Room) -> None:
    """Four pictures half a second apart, and a fifth a nanosecond before the end, leave no gap, do not overlap, and
    have a time each."""
    window = window_of([noise(number) for number in range(5)])
    window = replace(window, pictures=(*window.pictures[:4], replace(window.pictures[4], media_ns=2 * S - 1)))
    hidden.label(window)
    spans = [(moment.start[17:], moment.end[17:]) for moment in (await hidden.why("Dog")).video]
    assert spans == [
        ("00.000Z", "00.250Z"),
        ("00.250Z", "00.750Z"),
        ("00.750Z", "01.250Z"),
        ("01.250Z", "01.749Z"),
        ("01.749Z", "02.000Z"),
    ]


async def test_a_published_label_is_told_as_it_was_published(shared_data: Path, hidden: Room) -> None:
    """Score and shares are the segment's own to the last figure; so near are those of labels that were not published,
    worked out anew from the tokens in half precision (a thousandth)."""
    picture = read_frames(shared_data / "images" / "beagle.jpg", 1)[0]
    sound = read_audio(sorted((shared_data / "esc10" / "dog_bark").glob("*.opus"))[2])[: 2 * RATE]
    window = cut(hidden.engine, sound, [picture] * 4)
    scores = hidden.engine.run([window])[0]
    labels = hidden.label(window)
    assert labels[0].name == "Dog" and labels[0].share.video > 0 and labels[0].share.audio > 0
    told = await hidden.why("Dog")
    assert (told.score, told.share) == (labels[0].score, labels[0].share)
    assert sum(moment.mass for moment in told.video) == pytest.approx(1.0, abs=1e-4)
    assert sum(moment.mass for moment in told.audio) == pytest.approx(1.0, abs=1e-4)
    for place, name in enumerate(hidden.names):
        if place % 40 == 0:
            anew = await hidden.direct.explain(replace_label(hidden.direct, place))
            assert anew.score == pytest.approx(float(scores.scores[place]), abs=1e-3), name


def replace_label(direct: Direct, place: int) -> Asked:
    assert direct.asked is not None
    return Asked(place, direct.asked.video, direct.asked.audio, direct.asked.pictures)


async def test_a_modality_without_a_say_has_no_mass(hidden: Room) -> None:
    """Of a label that can only be heard, the pictures are listed without score and mass, and the note says so."""
    hidden.label(cut(hidden.engine, np.zeros(2 * RATE, np.float32), [noise()] * 4))
    told = await hidden.why("Glass")
    assert len(told.video) == 4 and all(moment.mass == 0 == moment.score for moment in told.video)
    assert sum(moment.mass for moment in told.audio) == pytest.approx(1.0, abs=1e-4)
    assert told.heat is None and told.note is not None and "heard only" in told.note


async def test_without_preview_nothing_of_pictures_is_told(hidden: Room) -> None:
    """Neither a heat map nor a path of a picture, and the note names the setting that would show them."""
    hidden.label(window_of([noise()]))
    told = await hidden.why("Dog")
    assert told.heat is None and told.note is not None and "preview: true" in told.note
    assert hidden.direct.asked is not None and hidden.direct.asked.pictures == [None]


async def test_the_heat_map_lies_over_the_picture_that_counts_most(shared_data: Path, shown: Room) -> None:
    """Of three pictures of nothing and one of a dog, the map is over the dog's, which can be fetched by its path, and
    is highest within the picture's middle, where the dog is."""
    dog = read_frames(shared_data / "images" / "golden_retriever.jpg", 1)[0]
    blank = np.full_like(dog, 90)
    labels = shown.label(window_of([blank, blank, dog, blank]))
    assert labels[0].name == "Dog"
    told = await shown.why("Dog")
    assert told.note is None and told.heat is not None
    assert told.video[2].mass > 0.8
    assert told.heat.at == "2026-11-23T04:00:01.000Z" and told.heat.picture == "v1/streams/door/pictures/2"
    jpeg = shown.kept.picture("door", 2)
    assert jpeg is not None and jpeg[:2] == b"\xff\xd8"
    assert (told.heat.rows, told.heat.columns, len(told.heat.values)) == (7, 7, 49)
    assert max(told.heat.values) == 1.0 and min(told.heat.values) >= 0.0
    row, column = divmod(int(np.argmax(told.heat.values)), 7)
    assert 1 <= row <= 5 and 1 <= column <= 5


async def test_what_can_be_wrong_with_a_question_is_told(shown: Room) -> None:
    """An unknown label names its nearest, an unknown segment is nothing, and one that was shed says why it has
    none."""
    shown.label(window_of([noise()]))
    with pytest.raises(UserError, match=r"no label 'Dgo'; nearest to it: .*\bDog\b.*; GET /v1/labels"):
        await shown.why("Dgo")
    with pytest.raises(UserError, match="nearest to it: Dog"):
        await shown.why("dog")
    with pytest.raises(UserError, match=r"no label ''; GET /v1/labels"):
        await shown.why("")
    with pytest.raises(UserError) as raised:
        await shown.why("x" * 10_000)
    assert len(str(raised.value)) < 300
    assert await shown.reasons.why("door", 1, None, "Dog") is None
    assert await shown.reasons.why("gate", 0, None, "Dog") is None
    assert await shown.reasons.why("door", 0, "e0", "Dog") is None
    answer = shed(replace(window_of([noise()]), seq=1), "overload", 0)
    shown.kept.answered(answer, segment_of(answer, [], S, 0, 0), 0)
    with pytest.raises(UserError, match=r"segment 1 of door was shed \(overload\)"):
        await shown.why("Dog", 1)


async def test_each_thing_that_keeps_a_heat_map_away_has_its_note(engine: Engine, explainer: Explainer) -> None:
    """No picture in the window, and a picture that was not encoded (yet), are told apart."""
    room = Room(engine, explainer, shows=True)
    room.label(cut(engine, np.zeros(2 * RATE, np.float32), []))
    told = await room.why("Dog")
    assert told.heat is None and told.note is not None and "no picture took part" in told.note
    room.kept.forget("door")
    room.shows = False
    room.label(window_of([noise()]))
    room.shows = True
    told = await room.why("Dog")
    assert told.heat is None and told.note is not None and "is not kept" in told.note


def loudest(sound: NDArray[np.float32], seconds: float) -> NDArray[np.float32]:
    """The stretch of that length with the most energy."""
    count = int(seconds * RATE)
    energy = np.convolve(sound.astype(np.float64) ** 2, np.ones(count), mode="valid")
    begin = int(np.argmax(energy))
    return sound[begin : begin + count]


@pytest.mark.parametrize(("at_s", "moment"), [(0.05, 0), (1.5, 2)])
async def test_the_moment_of_greatest_mass_is_where_the_sound_is(
    at_s: float, moment: int, shared_data: Path, hidden: Room
) -> None:
    """In two seconds of silence with a dog's bark of 0.4 s at a known place, nine tenths of what Dog rests on, on
    average, is the patch that holds the bark, and it has the greatest mass for every one of ten dogs."""
    masses = []
    for path in sorted((shared_data / "esc10" / "dog_bark").glob("*.opus"))[:10]:
        sound = np.zeros(2 * RATE, np.float32)
        bark = loudest(read_audio(path), 0.4)
        sound[int(at_s * RATE) : int(at_s * RATE) + len(bark)] = bark
        hidden.label(cut(hidden.engine, sound, []))
        told = await hidden.why("Dog")
        centre = WALL_NS + int((at_s + 0.2) * 1e9)
        most = max(told.audio, key=lambda found: found.mass)
        assert parse_rfc3339(most.start) <= centre < parse_rfc3339(most.end), path.name
        masses.append(told.audio[moment].mass)
        hidden.kept.forget("door")
    print(f"mass at the bark: mean {np.mean(masses):.3f}, least {min(masses):.3f}")
    assert np.mean(masses) > 0.9

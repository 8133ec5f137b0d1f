"""Which fusion, or which modality alone, is best for a task: all trained alike, several times, and judged in pairs.

Every training is a run in a folder of its own, named after what made it (the recipe and the clips): one that is there
already is not made again, so a comparison that was stopped goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from models.learning import answers, judge, keep
from models.learning.advice import Advice, Cost, Entry, Metric, Standing, recommend, stand
from models.learning.answers import Answers
from models.learning.batch import Batch
from models.learning.clips import Clip, marks
from models.learning.errors import LearningError
from models.learning.predict import only
from models.learning.recipe import FusionKind, Recipe, as_document
from models.learning.sets import Data, Split
from models.learning.train import Hooks, Progress, train

KINDS: tuple[FusionKind, ...] = ("concat", "hierarchical", "attention")
RUNS = "runs"
_RUN, _ANSWERS = "run.json", "answers.npz"
_UNIT = {"mae_ms": "ms"}


@dataclass(frozen=True, slots=True)
class Plan:
    """The budget of each training: epochs and minutes (0: the recipe's), and one training a seed."""

    seeds: Sequence[int] = (0, 1, 2)
    epochs: int = 0
    minutes: float = 0.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """What is compared, by the name people read, and the recipe that makes it."""

    label: str
    recipe: Recipe


@dataclass(frozen=True, slots=True)
class Watch:
    """What the caller wants to know and say. began: called before each training with its name, number from 1, and of
    how many. progress: as train's. stop: whether to end; the training under way is then given up."""

    began: Callable[[str, int, int], None] = lambda name, number, total: None
    progress: Callable[[Progress], None] = lambda at: None
    stop: Callable[[], bool] = lambda: False


@dataclass(frozen=True, slots=True)
class Run:
    """One training's outcome. without: the main figure with each modality taken away. milliseconds: of a clip, see
    judge.latency."""

    label: str
    seed: int
    checkpoint: Path
    said: Answers
    without: dict[str, float]
    parameters: int
    milliseconds: float


@dataclass(frozen=True)
class Comparison:
    """standings: best first. missing: trainings that were not made because the user stopped."""

    recipe: str
    folder: str
    split: str
    clips: int
    metric: Metric
    plan: Plan
    standings: Sequence[Standing]
    advice: Advice
    checkpoints: dict[str, list[str]] = field(default_factory=dict)
    missing: Sequence[str] = ()

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "recipe": self.recipe,
            "data": self.folder,
            "split": self.split,
            "n": self.clips,
            "metric": self.metric.name,
            "lower_is_better": self.metric.lower_is_better,
            "seeds": list(self.plan.seeds),
            "timed_by": "torch, eager, 1 thread of this machine",
            "candidates": [self._candidate(one) for one in self.standings],
            "recommendation": asdict(self.advice),
            "missing": list(self.missing),
        }

    def _candidate(self, one: Standing) -> dict[str, Any]:
        return {
            "name": one.label,
            "fusion": one.fusion,
            "modalities": list(one.modalities),
            self.metric.name: one.figure,
            "interval": [one.low, one.high],
            "by_seed": list(one.seeds),
            "behind_best": one.behind,
            "behind_interval": [one.behind_low, one.behind_high],
            "parameters": one.parameters,
            "ms_a_window": one.milliseconds,
            "without": dict(one.without),
            "checkpoints": self.checkpoints.get(one.label, []),
        }


def candidates(recipe: Recipe, plan: Plan) -> list[Candidate]:
    """Every single modality (joined in time by the recipe's own fusion) and the three fusions of them all, under one
    budget. Of a recipe with one modality: the three fusions, which then differ in how they pool over time."""
    changed: dict[str, Any] = {}
    if plan.epochs:
        changed["epochs"] = plan.epochs
    if plan.minutes:
        changed["minutes"] = plan.minutes
    base = replace(recipe, train=replace(recipe.train, **changed))
    found = [Candidate(kind, replace(base, fusion=replace(base.fusion, kind=kind))) for kind in KINDS]
    if len(recipe.modalities) > 1:
        for kept in recipe.modalities:
            gone = {name: None for name in recipe.modalities if name != kept}
            found.append(Candidate(f"{kept} alone", replace(base, **gone)))  # type: ignore[arg-type]
    return found


def compare(recipe: Recipe, data: Data, out: Path, plan: Plan, watch: Watch | None = None) -> Comparison:
    """Trains what isn't there yet, judges all on the test clips (without any: on those for validation), and says which
    to use. In `out`: comparison.json, .md and .html, and the runs.

    LearningError where recipe and data don't fit, or it was stopped before anything could be compared.
    """
    from models.learning.compared import as_html, as_markdown

    watch = watch or Watch()
    judged, split = (data.test, "test") if len(data.test) else (data.validation, "validation")
    wanted = [(one, seed) for seed in plan.seeds for one in candidates(recipe, plan)]
    runs: list[Run] = []
    missing: list[str] = []
    for number, (one, seed) in enumerate(wanted, 1):
        made = None
        if not watch.stop():
            watch.began(f"{one.label}, seed {seed}", number, len(wanted))
            made = _run(one, seed, data, judged, out / RUNS, watch)
        if made is None:
            missing.append(f"{one.label}, seed {seed}")
        else:
            runs.append(made)
    if len({run.label for run in runs}) < 2:
        raise LearningError(f"stopped before two candidates were trained; what is done is kept in {out}: go on later")
    result = _compared(recipe, data, split, plan, runs, missing)
    _write(out / "comparison.json", json.dumps(result.document(), indent=1, ensure_ascii=False) + "\n")
    _write(out / "comparison.md", as_markdown(result))
    _write(out / "comparison.html", as_html(result))
    return result


def _compared(
    recipe: Recipe, data: Data, split: str, plan: Plan, runs: Sequence[Run], missing: Sequence[str]
) -> Comparison:
    labels = list(dict.fromkeys(run.label for run in runs))
    recipes = {one.label: one.recipe for one in candidates(recipe, plan)}
    entries = [_entry(recipes[label], [run for run in runs if run.label == label]) for label in labels]
    name, lower = runs[0].said.main()
    unit = _UNIT.get(name, "" if recipe.task == "numbers" else "%")
    metric = Metric(name, lower, unit)
    clips = len(runs[0].said)
    standings = stand(entries, clips, metric, np.random.default_rng(0))
    advice = recommend(standings, metric, clips)
    doubts = list(advice.doubts)
    if split == "validation":
        doubts.append(
            "Judged on the clips that chose each checkpoint, as there are no test clips: expect less on others."
        )
    if missing:
        doubts.append(f"Stopped before all was trained; missing: {'; '.join(missing)}.")
    return Comparison(
        recipe=recipe.name,
        folder=str(data.note.get("folder", "")),
        split=split,
        clips=clips,
        metric=metric,
        plan=plan,
        standings=standings,
        advice=replace(advice, doubts=doubts),
        checkpoints={label: [str(run.checkpoint) for run in runs if run.label == label] for label in labels},
        missing=missing,
    )


def _entry(recipe: Recipe, runs: Sequence[Run]) -> Entry:
    """Its runs as one candidate; figures with a modality taken away are means over the seeds."""

    def figure(run: int, picks: NDArray[np.int64]) -> float:
        return runs[run].said.main_figure(picks)

    return Entry(
        label=runs[0].label,
        fusion=recipe.fusion.kind,
        modalities=recipe.modalities,
        runs=len(runs),
        figure=figure,
        cost=Cost(runs[0].parameters, float(np.median([run.milliseconds for run in runs]))),
        without={name: float(np.mean([run.without[name] for run in runs])) for name in runs[0].without},
    )


# -- one run -----------------------------------------------------------------------------------------------------------


def _run(one: Candidate, seed: int, data: Data, judged: Split, folder: Path, watch: Watch) -> Run | None:
    """The run from its folder, or made now; None where it was stopped."""
    recipe = replace(one.recipe, train=replace(one.recipe.train, seed=seed))
    out = folder / f"{one.label.replace(' ', '-')}-{seed}-{digest(recipe, data)}"
    if (out / _RUN).is_file():
        return _kept(one.label, seed, out)
    narrow = replace(
        data,
        train=Narrow(data.train, recipe.modalities),
        validation=Narrow(data.validation, recipe.modalities),
        test=Narrow(data.test, recipe.modalities),
    )
    done = train(recipe, narrow, out, Hooks(watch.progress, watch.stop, resume=True))
    if done.ended == "stopped":
        return None
    loaded = keep.load_network(done.checkpoint)
    clips = Narrow(judged, recipe.modalities)
    chosen = judge.subsets(recipe.modalities)
    said = judge.predict(loaded, clips, chosen)
    whole = said[recipe.modalities]
    everyone = np.arange(len(whole))
    without = {
        name: said[tuple(other for other in recipe.modalities if other != name)].main_figure(everyone)
        for name in recipe.modalities
        if len(recipe.modalities) > 1
    }
    document = {
        "checkpoint": done.checkpoint.name,
        "without": without,
        "parameters": sum(parameter.numel() for parameter in loaded.network.parameters()),
        "milliseconds": judge.latency(loaded, clips)["p50"],
        "seconds": done.seconds,
    }
    whole.save(out / _ANSWERS)
    _write(out / _RUN, json.dumps(document) + "\n")  # last: a run that has it is whole
    return _kept(one.label, seed, out)


def _kept(label: str, seed: int, out: Path) -> Run:
    try:
        document = json.loads((out / _RUN).read_text(encoding="utf-8"))
        return Run(
            label=label,
            seed=seed,
            checkpoint=out / document["checkpoint"],
            said=answers.load(out / _ANSWERS),
            without=dict(document["without"]),
            parameters=int(document["parameters"]),
            milliseconds=float(document["milliseconds"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LearningError(f"{out}: damaged; remove the folder and it is made again ({error})") from error


def digest(recipe: Recipe, data: Data) -> str:
    """What makes a run: the recipe but its name, and which clips it is trained, chosen and judged by."""
    known = {name: value for name, value in as_document(recipe).items() if name != "name"}
    clips = [marks(split.clips) for split in (data.train, data.validation, data.test)]
    text = json.dumps([known, clips], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


class Narrow:
    """Clips with some of their modalities alone."""

    def __init__(self, split: Split, modalities: Sequence[str]) -> None:
        self._split = split
        self._modalities = tuple(modalities)

    @property
    def clips(self) -> Sequence[Clip]:
        """See sets.Split."""
        return self._split.clips

    def __len__(self) -> int:
        return len(self._split)

    def targets(self) -> Tensor:
        """See sets.Split."""
        return self._split.targets()

    def batch(self, indices: Sequence[int], rng: np.random.Generator | None) -> Batch:
        """See sets.Split."""
        return only(self._split.batch(indices, rng), self._modalities)


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)
